"""Benchmarks of fastact beside its peers: the code behind ``fastact bench``.

`workloads` makes the arrays, `contenders` the calls of fastact and of the NumPy baseline, and
`peers` those of other libraries; `limit` measures what the memory allows, `timing` takes the
samples, `report` compares and prints tables, `layers` does so for rows, layers and a bias, and
`chart` draws.
"""
