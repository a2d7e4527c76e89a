"""Loops over arrays: they know strides and tails, and nothing of what is computed or of threads.

Each is an inner loop as NumPy's ufuncs call it, ``loop(args, dimensions, steps, data)``, for one thread.
"""

from fastact.loops.channels import channel_sums
from fastact.loops.cross_entropy import dense_cross_entropy, label_cross_entropy
from fastact.loops.elementwise import elementwise
from fastact.loops.groups import groups
from fastact.loops.halves import halves
from fastact.loops.neighbours import neighbours
from fastact.loops.normalized import normalized
from fastact.loops.sparse import one_hot, projected

__all__ = [
    "channel_sums",
    "dense_cross_entropy",
    "elementwise",
    "groups",
    "halves",
    "label_cross_entropy",
    "neighbours",
    "normalized",
    "one_hot",
    "projected",
]
