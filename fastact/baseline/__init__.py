"""The NumPy baseline: for each function that has one by hand, the fastest careful implementation in plain NumPy.

It is the yardstick of all benchmarks, and part of the package so that anybody can run it::

    from fastact import baseline

    y = baseline.sigmoid.forward(x)
    dx = baseline.sigmoid.backward(dy, x)
    y, dx = baseline.sigmoid.forward_backward(x, dy)
    y, dx = baseline.softmax.forward_backward(x, dy)
    loss, dlogits = baseline.softmax_cross_entropy.forward_backward(logits, labels)
    y, vjp = baseline.get("snake").vjp(x)  # any function of the catalogue
    dx = vjp(dy)

Activations that nobody has written by hand are their formula, evaluated on arrays: right, and not tuned. For those by
hand, the following holds.

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

from fastact.baseline import (
    cells,
    dropouts,
    elementwise,
    layers,
    losses,
    normalizations,
    other_rows,
    pointwise,
    rows,
)
from fastact.baseline.base import Baseline, IndexedBaseline
from fastact.baseline.cells import gru_cell, lstm_cell
from fastact.baseline.dropouts import alpha_dropout, dropout
from fastact.baseline.elementwise import by_formula, gelu_tanh, mish, silu, squared_relu
from fastact.baseline.layers import (
    bilinear,
    crelu,
    geglu,
    geglu_tanh,
    gelu,
    glu,
    reglu,
    softmax_cross_entropy,
    squared_reglu,
    swiglu,
)
from fastact.baseline.losses import (
    cross_entropy,
    huber,
    linear_cross_entropy,
    mse,
    nll,
    sigmoid_binary_cross_entropy,
)
from fastact.baseline.normalizations import batch_norm, layer_norm, rms_norm
from fastact.baseline.other_rows import (
    entmax15,
    gumbel_softmax,
    hardmax,
    logmeanexp,
    logsumexp,
    sparsemax,
)
from fastact.baseline.pointwise import elu, leaky_relu, maxout, prelu, relu, sigmoid, tanh
from fastact.baseline.rows import log_softmax, softmax, softmin
from fastact.catalogue import catalogue

__all__ = [
    "Baseline",
    "IndexedBaseline",
    "alpha_dropout",
    "batch_norm",
    "bilinear",
    "crelu",
    "cross_entropy",
    "dropout",
    "elu",
    "entmax15",
    "geglu",
    "geglu_tanh",
    "gelu",
    "gelu_tanh",
    "get",
    "glu",
    "gru_cell",
    "gumbel_softmax",
    "hardmax",
    "huber",
    "is_by_hand",
    "layer_names",
    "layer_norm",
    "leaky_relu",
    "linear_cross_entropy",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "lstm_cell",
    "maxout",
    "mish",
    "mse",
    "names",
    "nll",
    "normalization_names",
    "prelu",
    "reglu",
    "relu",
    "rms_norm",
    "row_names",
    "sigmoid",
    "sigmoid_binary_cross_entropy",
    "silu",
    "softmax",
    "softmax_cross_entropy",
    "softmin",
    "sparsemax",
    "squared_reglu",
    "squared_relu",
    "swiglu",
    "tanh",
]


def names() -> tuple[str, ...]:
    """Return the names of the activations whose baseline is right for every input: benchmarks compare with them."""
    return _names_in(pointwise)


def row_names() -> tuple[str, ...]:
    """Return the names of the functions of rows whose baseline is right for every input."""
    return _names_in(rows)


def layer_names() -> tuple[str, ...]:
    """Return the names of all layers that have a baseline."""
    return tuple(name for name in _names_in(layers) if name != "gelu")


def normalization_names() -> tuple[str, ...]:
    """Return the names of all normalizations that have a baseline."""
    return _names_in(normalizations)


def is_by_hand(name: str) -> bool:
    """Return whether a baseline is written by hand, instead of its formula evaluated on arrays."""
    return _by_hand(name) is not None


def get(name: str) -> Baseline:
    """Return the baseline of a function of the catalogue.

    Where none is written by hand, it is the definition's formula, evaluated on arrays.

    Raises
    ------
    ValueError
        If there is none; the message lists all names.
    """
    found = _by_hand(name)
    if found is None and name in catalogue("activation"):
        found = by_formula(catalogue("activation")[name])
    if found is None:
        known = (*names(), *(each for each in catalogue() if each not in names()))
        raise ValueError(f"no baseline is called {name!r}; there are {', '.join(known)}")
    return found


# The activations first: the gelu among the layers takes a bias.
_MODULES = (
    pointwise,
    elementwise,
    rows,
    other_rows,
    layers,
    losses,
    normalizations,
    dropouts,
    cells,
)


def _by_hand(name: str) -> Baseline | None:
    for module in _MODULES:
        found = vars(module).get(name)
        if isinstance(found, Baseline):
            return found
    return None


def _names_in(module: ModuleType) -> tuple[str, ...]:
    return tuple(item.name for item in vars(module).values() if isinstance(item, Baseline))
