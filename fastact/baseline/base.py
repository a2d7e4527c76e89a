"""The class of all baselines, and checks of inputs and outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[Any]
Out: TypeAlias = Array | tuple[Array | None, ...] | None


@dataclass(frozen=True)
class Baseline:
    """One activation in plain NumPy.

    Attributes
    ----------
    name : str
        The name, as in `fastact.names()`.
    forward : callable
        ``forward(x, out=None, **parameters)`` -> y.
    backward : callable
        ``backward(dy, x, out=None, **parameters)`` -> dx. For `prelu` -> (dx, dweight); `maxout`
        takes the index of the largest piece instead of `x`.
    forward_backward : callable
        ``forward_backward(x, dy, out=None, **parameters)`` -> (y, dx); for `prelu` -> (y, dx,
        dweight).
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    forward_backward: Callable[..., Any]

    def __call__(self, x: ArrayLike, *arguments: Any, **parameters: Any) -> Any:
        """Return the value: the same as `forward`."""
        return self.forward(x, *arguments, **parameters)

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the value, and a function that takes `dy` and returns the gradients: by default from the input."""
        y = self.forward(x, *arguments, out=out, **parameters)
        return y, lambda *dys: self.backward(*dys, x, *arguments, **parameters)


class PointwiseBaseline(Baseline):
    """An activation of elements: `vjp` computes value and derivative at once, and keeps the latter."""

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the value, and a function that takes `dy` and returns its product with the derivative."""
        y, derivative = self.forward_backward(x, 1.0, *arguments, out=(out, None), **parameters)
        return y, partial(np.multiply, derivative)


class ValueBaseline(Baseline):
    """A function whose gradient takes the value: `vjp` keeps it."""

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the value, and a function that takes `dy` and returns the gradient."""
        y = self.forward(x, *arguments, out=out, **parameters)
        return y, lambda dy: self.backward(dy, y, *arguments, **parameters)


@dataclass(frozen=True)
class LossBaseline(Baseline):
    """A loss: `forward_backward` takes predictions and targets, and returns the mean and its gradients."""

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the loss, and a function that takes `dloss`, 1 by default, and returns the gradients."""
        loss, *gradients = self.forward_backward(x, *arguments, **parameters)
        first = gradients[0] if len(gradients) == 1 else tuple(gradients)

        def gradient(dloss: Any = 1.0) -> Any:
            if dloss == 1:
                return first
            found = tuple(each * each.dtype.type(dloss) for each in gradients)
            return found[0] if len(found) == 1 else found

        return loss, gradient


@dataclass(frozen=True)
class IndexedBaseline(Baseline):
    """An activation that selects elements, and whose gradient takes their index.

    Attributes
    ----------
    forward_with_index : callable
        ``forward_with_index(x, pieces, axis=-1, out=None)`` -> (y, which).
    """

    forward_with_index: Callable[..., Any]

    def vjp(self, x: ArrayLike, *arguments: Any, out: Out = None, **parameters: Any) -> Any:
        """Return the value, and a function that takes `dy` and returns the gradient: it keeps the index."""
        y, which = self.forward_with_index(x, *arguments, out=(out, None), **parameters)
        return y, lambda dy: self.backward(dy, which, *arguments, **parameters)


def float_array(x: ArrayLike) -> Array:
    """Return `x` as an array of the float type that NumPy's float ufuncs would choose."""
    x = np.asarray(x)
    dtype = np.exp.resolve_dtypes((x.dtype, None))[1]
    if dtype.kind != "f":
        raise TypeError(f"x must be real, but its dtype is {x.dtype}")
    return x.astype(dtype, copy=False)


def result(out: Out, model: Array, *inputs: Array) -> Array:
    """Return `out` if it fits a result like `model`; without `out`, a new array."""
    if isinstance(out, tuple):
        if len(out) != 1:
            raise ValueError(f"out must hold 1 array, but holds {len(out)}")
        out = out[0]
    if out is None:
        return np.empty_like(model, subok=False)
    if out.shape != model.shape or out.dtype != model.dtype:
        raise ValueError(
            f"out must have shape {model.shape} and dtype {model.dtype}, "
            f"but has {out.shape} and {out.dtype}"
        )
    if any(np.may_share_memory(out, array) for array in (model, *inputs)):
        raise ValueError("out must not share memory with an input")
    return out


def each_of(out: Out, count: int) -> tuple[Array | None, ...]:
    """Return `out` as a tuple of `count` outputs; a single array is the first of them."""
    outs = out if isinstance(out, tuple) else (out, *(None,) * (count - 1))
    if len(outs) != count:
        raise ValueError(f"out must hold {count} arrays, but holds {len(outs)}")
    return outs


def two_results(out: Out, models: tuple[Array, Array], *inputs: Array) -> tuple[Array, Array]:
    """Return the same as `result` for two outputs."""
    first, second = (
        result(array, model, *inputs) for array, model in zip(each_of(out, 2), models, strict=True)
    )
    if np.may_share_memory(first, second):
        raise ValueError("the two arrays of out must not share memory")
    return first, second


def split_last(out: Out, count: int) -> tuple[Out, Array | None]:
    """Split off the last of `count` outputs, which is small and copied at the end."""
    *others, last = each_of(out, count)
    return tuple(others), last


def copied(result: Array, out: Array | None) -> Array:
    """Copy the result to `out`, if given, and return it."""
    if out is None:
        return result
    if out.shape != result.shape:
        raise ValueError(f"out must have shape {result.shape}, but has {out.shape}")
    np.copyto(out, result)
    return out


def gradient_for(dy: ArrayLike, x: Array) -> Array:
    """Return `dy` as an array that broadcasts to the shape of `x`."""
    dy = np.asarray(dy)
    if np.broadcast_shapes(x.shape, dy.shape) != x.shape:
        raise ValueError(f"dy must fit the shape {x.shape} of x, but has {dy.shape}")
    return dy


def prepare(dy: ArrayLike, x: ArrayLike, out: Out) -> tuple[Array, Array, Array]:
    """Return `dy` and `x` as arrays, and an array for dx."""
    x = float_array(x)
    dy = gradient_for(dy, x)
    return dy, x, result(out, x, dy)


def prepare_both(x: ArrayLike, dy: ArrayLike, out: Out) -> tuple[Array, Array, Array, Array]:
    """Return `x` and `dy` as arrays, and arrays for y and dx."""
    x = float_array(x)
    dy = gradient_for(dy, x)
    return x, dy, *two_results(out, (x, x), dy)


def times(dx: Array, dy: Array) -> None:
    """Multiply `dx` by `dy`, unless that is the number 1."""
    if dy.ndim or dy != 1:
        dx *= dy


def restore_nan(x: Array, dx: Array) -> None:
    """Set `dx` to NaN where `x` is NaN: it was computed with comparisons, which are false for NaN."""
    # NaN is rare, and checking for it costs 0.05 ns an element.
    if np.isnan(np.max(x, initial=-np.inf)):
        np.copyto(dx, np.nan, where=np.isnan(x))
