"""The machine and the process: CPUs, memory, signals, forks, and NumPy's C API."""
