"""The NumPy baseline: for each activation, the fastest careful implementation in plain NumPy.

It is the yardstick of all benchmarks, and part of the package so that anybody can run it::

    from fastact import baseline

    y = baseline.sigmoid.forward(x)
    dx = baseline.sigmoid.backward(dy, x)
    y, dx = baseline.sigmoid.forward_backward(x, dy)
    y, dx = baseline.softmax.forward_backward(x, dy)
    loss, dlogits = baseline.softmax_cross_entropy.forward_backward(logits, labels)

A yardstick must be right and must not be slow on purpose:

- NaN gives NaN, in value and derivative; infinities give the mathematical limits; -0.0 stays -0.0
  where the function does; float32 stays float32; there are no warnings.
- The derivative at kinks is PyTorch's: 0 for `relu`, the slope for `leaky_relu` and `prelu`,
  `alpha` for `elu`.
- Accuracy is lost only where preserving it would cost far more than the function; the docstrings
  say where.
- Every pass writes to an existing array (``out=``), and ``forward_backward`` computes common
  subexpressions of value and derivative once.

The alternatives were timed on 10^6 float32 normal deviates times 4 (NumPy 2.4, AVX-512, one core,
ns an element), and the code is the winner. Three results shaped all of it. A random mask makes
`numpy.where`, ``copyto(where=)`` and ``array[mask] =`` mispredict branches (4 to 5); multiplying by
a mask of 0.0 and 1.0 costs 0.3. `numpy.clip` with scalar bounds is vectorized (0.15);
`numpy.maximum` with a scalar is not (0.5), nor are `numpy.sign` (0.6), `numpy.copysign` (0.8) and
`numpy.heaviside` (6). And a Python loop over blocks that fit in cache loses more to calls than it
gains.

An ``out`` must have the result's shape and dtype, and must not share memory with an input. `dy`
must be finite: infinity times a derivative of 0 is NaN.
"""

from types import ModuleType

from fastact.baseline import layers, normalizations, pointwise, rows
from fastact.baseline.base import Baseline, IndexedBaseline
from fastact.baseline.cells import gru_cell, lstm_cell
from fastact.baseline.layers import (
    bilinear,
    crelu,
    geglu,
    gelu,
    glu,
    reglu,
    softmax_cross_entropy,
    swiglu,
)
from fastact.baseline.normalizations import batch_norm, layer_norm, rms_norm
from fastact.baseline.pointwise import elu, leaky_relu, maxout, prelu, relu, sigmoid, tanh
from fastact.baseline.rows import log_softmax, softmax, softmin

__all__ = [
    "Baseline",
    "IndexedBaseline",
    "batch_norm",
    "bilinear",
    "crelu",
    "elu",
    "geglu",
    "gelu",
    "get",
    "glu",
    "gru_cell",
    "layer_names",
    "layer_norm",
    "leaky_relu",
    "log_softmax",
    "lstm_cell",
    "maxout",
    "names",
    "normalization_names",
    "prelu",
    "reglu",
    "relu",
    "rms_norm",
    "row_names",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "swiglu",
    "tanh",
]


def names() -> tuple[str, ...]:
    """Return the names of all activations that have a baseline."""
    return _names_in(pointwise)


def row_names() -> tuple[str, ...]:
    """Return the names of all functions of rows that have a baseline."""
    return _names_in(rows)


def layer_names() -> tuple[str, ...]:
    """Return the names of all layers that have a baseline."""
    return tuple(name for name in _names_in(layers) if name != "gelu")


def normalization_names() -> tuple[str, ...]:
    """Return the names of all normalizations that have a baseline."""
    return _names_in(normalizations)


def get(name: str) -> Baseline:
    """Return the baseline of an activation; the ValueError for an unknown name lists all names."""
    if name not in names():
        raise ValueError(f"no baseline is called {name!r}; there are {', '.join(names())}")
    found: Baseline = getattr(pointwise, name)
    return found


def _names_in(module: ModuleType) -> tuple[str, ...]:
    return tuple(item.name for item in vars(module).values() if isinstance(item, Baseline))
