"""Functions that return a value and a cache, and take the cache to return gradients, as in Stanford's course CS231n.

Every function has a pair: ``out, cache = gelu_forward(x)`` and ``dx = gelu_backward(dout, cache)``, with the options of the
function, and one that follows an affine layer: ``out, cache = affine_gelu_forward(x, w, b)``, whose bias and activation are
one pass. The course's own names have its signatures: `affine_forward`, `batchnorm_forward`, `layernorm_forward`,
`dropout_forward`, `softmax_loss`. Nothing but NumPy is needed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastact.functions.registry import aliases, get, names

_FORWARD, _BACKWARD, _AFFINE = "_forward", "_backward", "affine_"
_BATCH_NORM, _LAYER_NORM = get("batch_norm"), get("layer_norm")
_DROPOUT, _LOSS = get("dropout"), get("softmax_cross_entropy")


def affine_forward(x: NDArray[Any], w: NDArray[Any], b: NDArray[Any]) -> tuple[Any, Any]:
    """Return ``x @ w + b`` and the cache; what follows the first axis of `x` is flattened.

    Examples
    --------
    >>> import numpy as np
    >>> from fastact.backends.functional import affine_backward, affine_forward
    >>> out, cache = affine_forward(np.ones((2, 3)), np.ones((3, 4)), np.zeros(4))
    >>> dx, dw, db = affine_backward(np.ones((2, 4)), cache)
    >>> db
    array([2., 2., 2., 2.])
    """
    return x.reshape(len(x), -1) @ w + b, (x, w, None)


def affine_backward(dout: NDArray[Any], cache: Any) -> tuple[Any, Any, Any]:
    """Return the gradients with respect to the input, the weights and the bias.

    Parameters
    ----------
    dout : ndarray
        The gradient with respect to the output.
    cache : tuple
        What an ``affine_..._forward`` returned.
    """
    x, w, vjp = cache
    found = dout if vjp is None else vjp(dout)
    da, db = found if isinstance(found, tuple) else (found, found.sum(axis=0))
    return (da @ w.T).reshape(x.shape), x.reshape(len(x), -1).T @ da, db


def batchnorm_forward(
    x: NDArray[Any], gamma: NDArray[Any], beta: NDArray[Any], bn_param: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the normalized batch and the cache.

    Parameters
    ----------
    x : ndarray
        The batch, of shape (n, d), or (n, c, h, w) for `spatial_batchnorm_forward`.
    gamma, beta : ndarray
        The weight and the bias of each channel.
    bn_param : dict
        ``"mode"`` is ``"train"`` or ``"test"``. ``"eps"``, 1e-5 by default, is added to the variance. ``"momentum"``,
        0.9 by default, is the share that a batch leaves of ``"running_mean"`` and ``"running_var"``, which begin at 0
        and are updated in training. The running variance is that of the batches, without Bessel's correction.
    """
    mode, momentum = bn_param["mode"], bn_param.get("momentum", 0.9)
    if mode not in ("train", "test"):
        raise ValueError(f'batchnorm_forward: mode must be "train" or "test", got {mode!r}')
    channels = x.shape[1]
    mean = bn_param.get("running_mean", np.zeros(channels, x.dtype))
    var = bn_param.get("running_var", np.zeros(channels, x.dtype))
    options = {"weight": gamma, "bias": beta, "eps": bn_param.get("eps", 1e-5)}
    if mode == "test":
        options |= {"running_mean": mean, "running_var": var, "training": False}
        *others, cache = _BATCH_NORM.vjp(x, **options)
        out = others[0]
    else:
        # The running averages with the momentum 1 are the statistics of the batch.
        options |= {"running_mean": mean, "running_var": var, "momentum": 1.0}
        out, batch_mean, batch_var, cache = _BATCH_NORM.vjp(x, **options)
        count = x.size // channels
        mean = momentum * mean + (1 - momentum) * batch_mean
        var = momentum * var + (1 - momentum) * (count - 1) / count * batch_var
    bn_param |= {"running_mean": mean, "running_var": var}
    return out, cache


def layernorm_forward(
    x: NDArray[Any], gamma: NDArray[Any], beta: NDArray[Any], ln_param: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the rows normalized and the cache; `ln_param` may have ``"eps"``, 1e-5 by default."""
    result: tuple[Any, Any] = _LAYER_NORM.vjp(
        x, weight=gamma, bias=beta, eps=ln_param.get("eps", 1e-5)
    )
    return result


def dropout_forward(x: NDArray[Any], dropout_param: dict[str, Any]) -> tuple[Any, Any]:
    """Return the value and the cache.

    Parameters
    ----------
    x : ndarray
        The input.
    dropout_param : dict
        ``"p"`` is the probability that an element is kept, and ``"mode"`` is ``"train"`` or ``"test"``. With ``"seed"``,
        every call drops the same elements; without, ``numpy.random.seed`` determines them.
    """
    mode = dropout_param["mode"]
    if mode not in ("train", "test"):
        raise ValueError(f'dropout_forward: mode must be "train" or "test", got {mode!r}')
    if mode == "test":
        return x, None
    rng = dropout_param.get("seed", np.random.mtrand._rand)
    result: tuple[Any, Any] = _DROPOUT.vjp(x, p=1 - dropout_param["p"], rng=rng)
    return result


def dropout_backward(dout: NDArray[Any], cache: Any) -> Any:
    """Return the gradient with respect to the input."""
    return dout if cache is None else cache(dout)


def softmax_loss(x: NDArray[Any], y: NDArray[Any]) -> tuple[Any, Any]:
    """Return the mean cross-entropy of the labels `y` of scores `x`, and its gradient."""
    result: tuple[Any, Any] = _LOSS.forward_backward(x, y)
    return result


def _backward(*arguments: Any) -> Any:
    """Return the gradients: ``dx = ..._backward(dout, cache)``, with a gradient for each value of the forward pass."""
    *gradients, cache = arguments
    return cache(*gradients)


batchnorm_backward = batchnorm_backward_alt = layernorm_backward = _backward
spatial_batchnorm_forward, spatial_batchnorm_backward = batchnorm_forward, batchnorm_backward


def adds_bias(function: Any) -> bool:
    """Whether a function adds a bias to its input in the same pass, and returns its gradient."""
    bias = function.operations["vjp"].arguments.get("bias")
    return function.kind == "activation" and bias is not None and bias.is_differentiable


def _after_affine(function: Any) -> Callable[..., tuple[Any, Any]]:
    """Return the forward pass of an affine layer and a function, which adds the bias if it can."""
    is_fused = adds_bias(function)

    def forward(
        x: NDArray[Any], w: NDArray[Any], b: NDArray[Any], **options: Any
    ) -> tuple[Any, Any]:
        """Return the value and the cache of an affine layer and the function that its name says."""
        product = x.reshape(len(x), -1) @ w
        if is_fused:
            out, vjp = function.vjp(product, bias=b, **options)
        else:
            out, vjp = function.vjp(product + b, **options)
        return out, (x, w, vjp)

    return forward


def _function(name: str) -> Any:
    """Return the function of a name, or None."""
    name = aliases().get(name, name)
    return get(name) if name in names() else None


def _find(name: str) -> Any:
    """Return the function of a module attribute, or None."""
    base, _, suffix = name.rpartition("_")
    if f"_{suffix}" not in (_FORWARD, _BACKWARD):
        return None
    is_forward = f"_{suffix}" == _FORWARD
    if (function := _function(base)) is not None:
        return function.vjp if is_forward else _backward
    if (function := _function(base.removeprefix(_AFFINE))) is not None:
        return _after_affine(function) if is_forward else affine_backward
    return None


def __getattr__(name: str) -> Any:
    found = None if name.startswith("__") else _find(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found  # which later look-ups find without this function
    return found


def __dir__() -> list[str]:
    pairs = [f"{each}{suffix}" for each in names() for suffix in (_FORWARD, _BACKWARD)]
    return sorted({*vars(sys.modules[__name__]), *pairs, *(_AFFINE + each for each in pairs)})
