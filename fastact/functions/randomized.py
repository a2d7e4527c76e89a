"""Pointwise activations with a random slope for each element while a net is trained."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fastact.arrays.arguments import as_real_array
from fastact.arrays.dtypes import parameters_in
from fastact.arrays.random_numbers import random_types
from fastact.functions.pointwise import PointwiseActivation
from fastact.runtime.output_pool import with_room


class RandomizedActivation(PointwiseActivation):
    """A pointwise activation with a number drawn for each element, such as `rrelu` with its slope.

    Without ``rng`` it takes the mean, as is done once a net is trained. With ``rng`` a call returns the
    numbers drawn as well: ``y, slope = fa.rrelu(x, rng=rng)``, and its gradient is
    ``fa.rrelu.backward(dy, x, slope=slope)``. Every operation takes ``slope``.
    """

    _options: ClassVar[dict[str, Any]] = {"slope": None, "rng": None}

    def __call__(self, x: Any, /, *args: Any, **options: Any) -> Any:
        """Compute the value, with the mean slope or with slopes drawn for this call.

        Parameters
        ----------
        x : array_like
            Of any shape and real type.
        lower, upper : float
            The slopes are drawn uniformly from this interval.
        rng : numpy.random.Generator, optional
            What draws the slopes: one for each element, in the order of the elements in memory, so that
            they depend on the generator's state alone.
        slope : float or array_like, optional
            Take these slopes, drawn before.
        **options
            As for any activation.

        Returns
        -------
        y : ndarray or scalar
            The value.
        slope : ndarray
            Only with `rng`: the slopes, of the shape of `x`, for `backward`.

        Raises
        ------
        TypeError
            If `rng` is no generator, or there are both `rng` and `slope`.
        """
        rng = options.pop("rng", None)
        if rng is None:
            return super().__call__(x, *args, **options)
        _, generator = random_types()
        if not isinstance(rng, generator):
            raise TypeError(f"{self.name}: rng must be a numpy.random.Generator, got {rng!r}")
        if "slope" in options:
            raise TypeError(f"{self.name}: give rng, which draws slopes, or slope; not both")
        chosen: Any = self.choose(options)
        self._bind_positional(self.name, args, options)
        lower, upper = (options.pop(each, self.parameters[each]) for each in self._interval)
        slope = self._draw(as_real_array(self.name, "x", x), lower, upper, rng)
        return chosen(x, slope=slope, **options), slope

    @property
    def _interval(self) -> tuple[str, ...]:
        return self._definition.drawn_between

    def _draw(self, x: Any, lower: Any, upper: Any, rng: np.random.Generator) -> Any:
        """Return a slope for each element, in the type that parameters have beside `x`."""
        kind = self.ufuncs["forward"].resolve_dtypes((x.dtype, float, float, None))[0]
        slope = with_room(rng.random, x.shape, np.dtype(parameters_in(kind.name)))
        low, high = (
            as_real_array(self.name, name, value)
            for name, value in zip(self._interval, (lower, upper), strict=True)
        )
        slope *= (high - low).astype(slope.dtype)
        slope += low.astype(slope.dtype)
        return slope

    def _run(
        self,
        operation: str,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Put slopes drawn before in place of both ends of the interval."""
        slope = options.pop("slope", None)
        if slope is not None:
            options |= dict.fromkeys(self._interval, slope)
        return super()._run(operation, arrays, args, options)
