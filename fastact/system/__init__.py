"""What the machine and the process have: processors, memory, signals and forks, NumPy's C API."""
