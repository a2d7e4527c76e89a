"""The Gumbel-softmax: a softmax of logits with random numbers added, by which a net learns to choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.arrays.contiguous import make_on_neighbours, run_on_neighbours
from fastact.arrays.dtypes import dtype_of
from fastact.arrays.random_numbers import chance_of, drawing, key_of
from fastact.catalogue import normalized
from fastact.catalogue.definition import RowDefinition
from fastact.functions.base import Ufuncs
from fastact.functions.rows import RowActivation
from fastact.simd import uniform
from fastact.vecmath import log


def _perturbed(words: Any, threshold: Any, x: Any) -> Any:
    return (x - log(-log(uniform(words))),)


def _operation() -> tuple[Callable[..., Any], bool]:

    return _perturbed, False


class GumbelActivation(RowActivation):
    """A function of whole rows of which random numbers are drawn: one for each element, added to it.

    They depend on the seed and on the elements' indices in C order alone, as those of `fastact.dropout`.
    """

    def __init__(self, definition: RowDefinition) -> None:
        super().__init__(definition)
        self.ufuncs = Ufuncs([*self._operations, "perturb"], self._made)

    def __call__(
        self,
        x: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        rng: Any = None,
        temperature: float | None = None,
        hard: bool = False,
        where: Any = None,
        lengths: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute the value.

        Parameters
        ----------
        x : array_like
            Logits, of any shape and real type.
        axis, temperature, where, lengths
            As for `fastact.softmax`.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            What draws the random numbers: a seed, from 0 to ``2**64 - 1``, the same in every call; a generator
            others in each.
        hard : bool, default False
            Whether the result is 1 for the largest number of each row and 0 for the others. `backward` wants the soft
            one: take `forward_backward`.
        out : ndarray, optional
            Where the result goes; it may be `x` itself.

        Returns
        -------
        ndarray
            Of the shape of `x`.

        Raises
        ------
        TypeError
            If `x` is not real, `rng` is missing or of another type, or `axis` is no integer.
        ValueError
            If an argument is out of range, shapes do not fit together, or `out` does not fit.
        """
        y = self._run(
            "forward",
            (x,),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            out=out,
            replace=partial(self._perturb, key_of(self.name, rng)),
        )
        return self._hardened(y, axis, where, lengths) if hard else y

    def forward_backward(
        self,
        x: Any,
        dy: Any,
        /,
        axis: int | Sequence[int] | None = -1,
        *,
        rng: Any = None,
        temperature: float | None = None,
        hard: bool = False,
        where: Any = None,
        lengths: Any = None,
        out: Any = None,
    ) -> Any:
        """Compute value and gradient, ``y, dx``, with the same random numbers; `out` is a pair.

        With ``hard=True`` the gradient is that of the soft value: the straight-through estimator.
        """
        y, dx = self._run(
            "forward_backward",
            (x, dy),
            axis=axis,
            temperature=temperature,
            where=where,
            lengths=lengths,
            out=out,
            replace=partial(self._perturb, key_of(self._where("forward_backward"), rng)),
        )
        return self._hardened(y, axis, where, lengths) if hard else y, dx

    def _perturb(self, key: int, x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        """Put the sums into the array of the result, of which the softmax is then taken in place."""
        dtype = dtype_of(y.dtype.name)
        draws = drawing(key, chance_of(self.name, "p", 0.0))
        run_on_neighbours(self.ufuncs["perturb"], draws, (x,), (), (y,), dtype)
        return y

    def _make(self, name: str) -> np.ufunc:
        if name != "perturb":
            return super()._make(name)
        return make_on_neighbours(
            self._definition.module,
            self.ufunc_name(name),
            "Add standard Gumbel numbers, for blocks of neighbours.",
            ("x",),
            (),
            ("y",),
            True,
            lambda dtype: self._definition.kernel_name(f"perturb.{dtype}"),
            _operation,
        )

    def _hardened(self, y: NDArray[Any], axis: Any, where: Any, lengths: Any) -> NDArray[Any]:
        from fastact.functions.registry import activation

        hardmax: Any = activation(normalized.hardmax)
        hardmax(y, axis, where=where, lengths=lengths, out=y)
        return y
