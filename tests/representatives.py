"""The activations that stand for all where the machinery around them is tested.

These seven cover every kind of ufunc: with no parameter, with one, with a learnable one, on groups, with
and without a derivative from the output. The others are made by the same code, and `test_catalogue` sees
to it that they are there.
"""

from __future__ import annotations

REPRESENTATIVES = ("sigmoid", "tanh", "relu", "leaky_relu", "prelu", "elu", "maxout")
