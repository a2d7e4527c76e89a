"""Dropout and alpha dropout, which drop the same random elements in value and gradient."""

from __future__ import annotations

import math

from fastact.catalogue.definition import define_dropout
from fastact.simd import IntVector, Vector, at_least, fma, select


def _scaled(words: IntVector, threshold: int, x: Vector, scale: Vector) -> Vector:
    return select(at_least(words, threshold), x * scale, 0)


def _scale(p: float) -> tuple[float]:
    return (1 / (1 - p) if p < 1 else 0.0,)


@define_dropout(
    gradient=_scaled,
    numbers=_scale,
    good_for="regularizing fully connected layers and transformers",
    not_for="inference, nets with selu (alpha_dropout), and directly before batch_norm, whose statistics it shifts",
    reference="N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 15, 2014.",
)
def dropout(words: IntVector, threshold: int, x: Vector, scale: Vector) -> Vector:
    """Dropout: each element becomes 0 with probability `p`, and is divided by ``1 - p`` otherwise.

    This preserves the mean. Which elements are dropped depends only on the seed and on their indices in C order, not
    on the dtype, the layout, the number of threads or the machine. The gradient regenerates the mask from the same
    seed; nothing is stored in between::

        y = fa.dropout(x, 0.1, rng=seed)
        dx = fa.dropout.backward(dy, 0.1, rng=seed)

    Use a different seed for each layer and step, such as ``np.random.SeedSequence((seed, layer, step))``. At inference,
    leave the call out.

    Notes
    -----
    Random words come from Philox4x32-10, a function of the key and the index; an element is kept if its word is at least
    ``round(p * 2**32)``. Dropped elements are 0 even where the input is NaN or infinite; the others are within 2 units
    in the last place.

    Examples
    --------
    >>> fa.dropout(np.ones(6), 0.5, rng=0)
    array([0., 2., 0., 2., 2., 0.])
    >>> fa.dropout.backward([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 0.5, rng=0)
    array([ 0.,  4.,  0.,  8., 10.,  0.])
    """
    return _scaled(words, threshold, x, scale)


# The negative of selu's limit at minus infinity: the product of its two constants.
_ALPHA = 1.7580993408473766


def _scale_shift_and_dropped(p: float) -> tuple[float, float, float]:
    if p == 1:
        return 0.0, 0.0, 0.0
    scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
    return scale, _ALPHA * scale * p, -_ALPHA * scale * (1 - p)


@define_dropout(
    gradient=_scaled,
    numbers=_scale_shift_and_dropped,
    good_for="nets of selu units",
    not_for="any other activation: use dropout",
    reference="G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-Normalizing Neural Networks, NeurIPS 2017.",
)
def alpha_dropout(
    words: IntVector, threshold: int, x: Vector, scale: Vector, shift: Vector, dropped: Vector
) -> Vector:
    """Alpha dropout, for networks with selu: each element becomes ``-1.7581`` with probability `p`.

    That is the limit of selu at minus infinity. The result is then scaled and shifted to preserve zero mean and unit
    variance: ``y = a * z + b`` with ``a = 1 / sqrt((1 - p) * (1 + p * 1.7581**2))`` and ``b = 1.7581 * a * p``, as in
    PyTorch. If ``p`` is 1, all elements are 0.

    It is called like `fastact.dropout`, whose notes on seeds apply here too.

    Notes
    -----
    Random words and dropped elements are those of `fastact.dropout`; here too, a dropped element does not depend on its
    input. Errors are within 2 units in the last place, relative to the terms that they sum.

    Examples
    --------
    >>> fa.alpha_dropout(np.ones(4), 0.5, rng=0)
    array([-0.77919393,  1.66559883, -0.77919393,  1.66559883])
    """
    return select(at_least(words, threshold), fma(x, scale, shift), dropped)
