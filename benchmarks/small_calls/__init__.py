"""Calls on small arrays, where most of the time is not arithmetic, beside plain NumPy.

`plain` holds what a careful person writes, `rows` the pairs of calls; ``python -m benchmarks.small_calls`` measures them.
"""
