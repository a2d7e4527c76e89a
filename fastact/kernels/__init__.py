"""Kernels: the loops over memory, and the algorithms that make several passes over a row.

`fastact.kernels.kernel` declares kernels and needs no Numba. Each schedule, in a file of its own, handles strides and
tails but knows neither the mathematics nor the threads: it is a single-threaded inner loop with the signature that NumPy
expects of a ufunc's, ``loop(args, dimensions, steps, data)``. `fastact.kernels.algorithms` holds the row algorithms.
"""
