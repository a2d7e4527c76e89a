"""Benchmarks of fastact beside its peers: the code behind ``fastact bench``.

`workloads` makes the arrays, `contenders` the calls of fastact and of the NumPy baseline, `numba_loops` and
`peers` those of others; `limit` measures what the memory allows. `competition` measures them in turn, each in a
process of `workers`, with the watch of `timing`. `report` prints tables, `layers` does so for rows, layers and a
bias, and `chart` draws.

`tuning` is behind ``fastact tune``; `verification`, with the formulas of `exact`, behind ``fastact verify``; `checkup`
behind ``fastact doctor``.
"""
