"""Dropout and alpha dropout: random elements are left out, the same ones in value and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastact.arrays.arguments import as_real_array, as_returned, outputs_for
from fastact.arrays.contiguous import dtype_computed, make_on_neighbours, run_on_neighbours
from fastact.arrays.dtypes import inner_type
from fastact.arrays.random_numbers import Chance, chance_of, drawing, key_of
from fastact.functions.layer import Layer
from fastact.functions.pointwise import weak_for_integers
from fastact.simd import at_least, fma, select


@dataclass(frozen=True)
class _Operation:
    """One of the things that a dropout does, with numbers that depend on the chance."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    numbers: tuple[str, ...]
    compute: Callable[..., Any]


def _scaled(words: Any, threshold: Any, x: Any, scale: Any) -> Any:
    return (select(at_least(words, threshold), x * scale, 0),)


def _both_scaled(words: Any, threshold: Any, x: Any, dy: Any, scale: Any) -> Any:
    is_kept = at_least(words, threshold)
    return select(is_kept, x * scale, 0), select(is_kept, dy * scale, 0)


def _shifted(words: Any, threshold: Any, x: Any, scale: Any, shift: Any, dropped: Any) -> Any:
    return (select(at_least(words, threshold), fma(x, scale, shift), dropped),)


def _shifted_and_scaled(
    words: Any, threshold: Any, x: Any, dy: Any, scale: Any, shift: Any, dropped: Any
) -> Any:
    is_kept = at_least(words, threshold)
    return select(is_kept, fma(x, scale, shift), dropped), select(is_kept, dy * scale, 0)


_BACKWARD = _Operation(("dy",), ("dx",), ("scale",), _scaled)
_SHIFTING = ("scale", "shift", "dropped")


class Dropout(Layer):
    """Dropout: each element becomes 0 with the chance `p`, and is divided by ``1 - p`` otherwise.

    So the mean stays what it is. Which elements are dropped depends on the seed and on their indices in C
    order alone: not on the type, the layout, the number of threads or the machine. The gradient draws them
    again from the same seed; nothing is kept in between::

        y = fa.dropout(x, 0.1, rng=seed)
        dx = fa.dropout.backward(dy, 0.1, rng=seed)

    Take another seed for each layer and each step, such as ``np.random.SeedSequence((seed, layer, step))``; where a
    trained net is used, leave the call out.

    Notes
    -----
    The words are those of Philox4x32-10, see `fastact.arrays.random_numbers`; an element is kept if its word is at least
    ``round(p * 2**32)``. What is dropped is 0 even where it was NaN or infinite.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, Dropout: A Simple Way to Prevent
    Neural Networks from Overfitting, JMLR 15, 2014.
    """

    _operations: ClassVar[dict[str, _Operation]] = {
        "forward": _Operation(("x",), ("y",), ("scale",), _scaled),
        "backward": _BACKWARD,
        "forward_backward": _Operation(("x", "dy"), ("y", "dx"), ("scale",), _both_scaled),
    }

    def __init__(self, name: str) -> None:
        super().__init__(name, tuple(self._operations), self._make)

    def __call__(self, x: Any, /, p: float = 0.5, *, rng: Any = None, out: Any = None) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Of any shape and real type; integers and bools become floats.
        p : float, default 0.5
            The chance of an element to be dropped, from 0 to 1.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            A seed, from 0 to ``2**64 - 1``, drops the same elements in every call. A generator gives a new seed
            for this call: where the gradient is needed too, call `forward_backward`.
        out : ndarray, optional
            Where the result goes; it may be `x` itself.

        Returns
        -------
        ndarray
            Of the shape of `x`.

        Raises
        ------
        TypeError
            If `x` or `p` is not real, or `rng` is missing or of another type.
        ValueError
            If `p` or the seed is out of range, or `out` does not fit.
        """
        return self._run("forward", (x,), p, rng, out)

    def backward(self, dy: Any, /, p: float, *, rng: Any = None, out: Any = None) -> Any:
        """Compute the gradient by the input, of the shape of `dy`, which does not depend on the input.

        Parameters
        ----------
        dy : array_like
            The gradient by the output.
        p : float
            That of the forward call.
        rng : int or numpy.random.SeedSequence
            That of the forward call. A generator raises a TypeError: it would drop other elements.
        out : ndarray, optional
            Where the result goes; it may be `dy` itself.
        """
        return self._run("backward", (dy,), p, rng, out)

    def forward_backward(
        self, x: Any, dy: Any, /, p: float = 0.5, *, rng: Any = None, out: Any = None
    ) -> Any:
        """Compute value and gradient, ``y, dx``, in one pass, with one mask; `out` is a pair."""
        return self._run("forward_backward", (x, dy), p, rng, out)

    def _numbers(self, chance: Chance) -> dict[str, float]:
        """Return what the operations need to know of the chance."""
        return {"scale": chance.scale}

    def _run(self, name: str, arrays: tuple[Any, ...], p: Any, rng: Any, out: Any) -> Any:
        where, operation = self._where(name), self._operations[name]
        named = zip(operation.inputs, arrays, strict=True)
        inputs = [as_real_array(where, *each) for each in named]
        for other in inputs[1:]:
            if other.shape != inputs[0].shape:
                raise ValueError(f"{where}: x has shape {inputs[0].shape}, dy has {other.shape}")
        chance = chance_of(where, "p", p)
        draws = drawing(key_of(where, rng, again=name == "backward"), chance)
        known = self._numbers(chance)
        numbers = weak_for_integers(tuple(inputs), [known[each] for each in operation.numbers])
        ufunc = self.ufuncs[name]
        dtype = dtype_computed(ufunc, inputs, numbers)
        shapes, types = (inputs[0].shape,) * ufunc.nout, (dtype,) * ufunc.nout
        results = outputs_for(where, out, shapes, types)
        inner = inner_type(dtype)
        run_on_neighbours(
            ufunc, draws, inputs, [np.asarray(n, inner) for n in numbers], results, dtype
        )
        return as_returned(results, out)

    def _make(self, name: str) -> np.ufunc:
        operation = self._operations[name]

        def compute() -> tuple[Callable[..., Any], bool]:
            return operation.compute, True

        return make_on_neighbours(
            "fastact.ufuncs",
            self.ufunc_name(name),
            f"Compute {', '.join(operation.outputs)} of {self.name!r} for blocks of neighbours.",
            operation.inputs,
            operation.numbers,
            operation.outputs,
            True,
            lambda dtype: f"{self.name}.{name}.{dtype}",
            compute,
        )


# What selu tends to at minus infinity, with the sign turned: the product of its two constants.
_ALPHA = 1.7580993408473766


class AlphaDropout(Dropout):
    """Alpha dropout, for nets with selu: each element becomes ``-1.7581`` with the chance `p`.

    That is the value of selu at minus infinity. What is kept stays, and all are then scaled and shifted so that the
    mean stays 0 and the variance 1 where they were so: ``y = a * z + b`` with
    ``a = 1 / sqrt((1 - p) * (1 + p * 1.7581**2))`` and ``b = 1.7581 * a * p``, as in PyTorch. Where ``p`` is 1,
    all is 0.

    Calls are those of `fastact.dropout`, whose notes on seeds hold here too.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-Normalizing Neural Networks, NeurIPS 2017.
    """

    _operations: ClassVar[dict[str, _Operation]] = {
        "forward": _Operation(("x",), ("y",), _SHIFTING, _shifted),
        "backward": _BACKWARD,
        "forward_backward": _Operation(("x", "dy"), ("y", "dx"), _SHIFTING, _shifted_and_scaled),
    }

    def _numbers(self, chance: Chance) -> dict[str, float]:
        p = chance.p
        if p == 1:
            return dict.fromkeys(_SHIFTING, 0.0)
        scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
        return {
            "scale": scale,
            "shift": _ALPHA * scale * p,
            "dropped": -_ALPHA * scale * (1 - p),
        }


dropout = Dropout("dropout")
alpha_dropout = AlphaDropout("alpha_dropout")
