"""Benchmarks of fastact beside plain NumPy, and of how that changes.

- ``fastact dashboard`` draws the history, commit by commit, which asv measures with `history`;
  ``.ci/compare`` compares two commits.
- ``pytest benchmarks/test_side_by_side.py -k gelu`` prints tables for code reviews: NumPy's time, and how many times as
  fast fastact and other libraries are. With ``--benchmark-disable`` it only checks that they compute the same.
- ``fastact bench``, part of the package, compares all activations with all peers, each in a
  process of its own; with ``--layers`` it compares rows, layers and a bias.
- ``python -m benchmarks.nets`` trains ten small nets in plain NumPy, with fastact and in PyTorch.
- ``python -m benchmarks.small_calls`` compares calls on small arrays with plain NumPy and ``np.tanh``,
  and with what is asked of them.
- ``python -m benchmarks.thresholds`` sweeps around the sizes from which threads, reuse of memory and
  stores past the caches pay, ``python -m benchmarks.ratios`` the ratios of calls that should cost the
  same, and ``python -m benchmarks.magnitudes`` how times depend on the magnitude of the elements.
- ``python -m benchmarks.cold_start`` measures the first calls of a process, and ``python -m benchmarks.schedule`` simulates
  calls on up to 128 threads.
- ``python -m benchmarks.throughput`` counts the instructions of each function's inner loop, and LLVM's estimates of their
  cycles, for processors that need not be at hand.

All are run from the root of the repository.
"""
