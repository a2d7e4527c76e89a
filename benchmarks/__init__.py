"""The benchmarks: how fast fastact is beside plain NumPy, and how that changes.

- ``asv run`` and ``asv publish`` draw the history, commit by commit: ``operations``, ``layers``,
  ``calls``, ``startup`` and ``accuracy``. Nothing but these and what they import is needed for it.
- ``pytest benchmarks/test_side_by_side.py`` prints one table for each operation, with all
  implementations in it: the thing to look at when a change is reviewed.
- ``fastact bench``, which is part of the package, compares all activations with all peers; with
  ``--layers`` rows, layers and a bias.
- ``python -m benchmarks.thread_threshold`` measures from which size on threads pay.

All are run from the root of the repository. asv imports every file here, in an environment that has
fastact and nothing else: what needs another package imports it when it runs.
"""
