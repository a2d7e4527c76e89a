"""Kernels: how loops pass over arrays, and what is computed in each pass of a row.

`fastact.kernels.kernel` declares a kernel without Numba. The schedules, a file each, know strides and tails and
nothing of what is computed or of threads: each is an inner loop as NumPy's ufuncs call it,
``loop(args, dimensions, steps, data)``, for one thread. `fastact.kernels.algorithms` are the passes over a row.
"""
