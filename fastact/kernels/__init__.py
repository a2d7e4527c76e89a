"""Loops over arrays: they know strides and tails, and nothing of what is computed or of threads.

Each is an inner loop as NumPy's ufuncs call it, ``loop(args, dimensions, steps, data)``, for one thread.
"""

from fastact.kernels.algorithms.cross_entropy import dense_cross_entropy, label_cross_entropy
from fastact.kernels.algorithms.softmax import normalized
from fastact.kernels.algorithms.sparse import one_hot, projected
from fastact.kernels.channels import channel_sums
from fastact.kernels.contiguous import neighbours
from fastact.kernels.elementwise import elementwise
from fastact.kernels.maxout import groups
from fastact.kernels.packed import halves

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
