"""Layer classes with `forward` and `backward`, as in the book *Deep Learning from Scratch* and in many courses.

Every function has a class, named after it: ``Relu()``, ``LeakyRelu(negative_slope=0.1)``, ``Prelu(weight)``, ``Swiglu()``,
``LayerNorm(weight=gamma, bias=beta)``, ``Mse()``; aliases too, such as ``Swish()``. `Affine`, `BatchNormalization`, `Dropout`
and `SoftmaxWithLoss` have the signatures, defaults and results of the book's, so that its nets take them as they are.
Nothing but NumPy is needed.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from fastact.backends import functional
from fastact.backends._exports import class_name, exports
from fastact.backends._layer import Layer, signature_of

KINDS = ("activation", "row", "packed", "dropout", "normalization", "loss")


class Affine:
    """The product with weights, plus a bias, and an activation in the same pass, if there is one.

    Parameters
    ----------
    W, b : ndarray
        The weights, of shape (inputs, outputs), and the bias.
    activation : str or Function, optional
        What follows: ``Affine(W, b, activation="gelu")``.
    **options
        Its parameters and options, as of `Layer`, such as ``dropout=0.1``.

    Attributes
    ----------
    dW, db : ndarray
        Their gradients.
    """

    def __init__(self, W: Any, b: Any, activation: Any = None, **options: Any) -> None:
        self.W, self.b = W, b
        self.x: Any = None
        self.dW: Any = None
        self.db: Any = None
        layer = None if activation is None else Layer(activation, **options)
        self.activation: Any = layer
        self._is_fused = layer is not None and functional.adds_bias(layer.function)

    def forward(self, x: NDArray[Any], train_flg: bool = True) -> Any:
        """Return the value; images are flattened."""
        self.original_x_shape = x.shape
        self.x = x.reshape(len(x), -1)
        y = self.x @ self.W
        if self._is_fused:
            self.activation.bias = self.b
        else:
            y = y + self.b
        return y if self.activation is None else self.activation.forward(y, train_flg)

    def backward(self, dout: Any) -> Any:
        """Return the gradient with respect to the input."""
        if self.activation is not None:
            dout = self.activation.backward(dout)
        self.db = self.activation.dbias if self._is_fused else dout.sum(axis=0)
        self.dW = self.x.T @ dout
        return (dout @ self.W.T).reshape(self.original_x_shape)


class Dropout(Layer):
    """The book's dropout, which scales by ``1 - dropout_ratio`` in inference instead of by the inverse in training.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        The probability that an element is dropped.
    rng : Generator, RandomState or int, optional
        Where the random numbers come from; by default what ``numpy.random.seed`` seeds.
    """

    def __init__(self, dropout_ratio: float = 0.5, rng: Any = None) -> None:
        # The scale that follows fastact's own dropout, and stays in inference.
        super().__init__("identity", scale=1 - dropout_ratio, dropout=dropout_ratio, rng=rng)
        self.dropout_ratio = dropout_ratio


class SoftmaxWithLoss(Layer):
    """Softmax and the mean cross-entropy of labels, or of rows with a one in the place of the class.

    Attributes
    ----------
    loss : float
        The value of the last `forward`.
    t : ndarray
        Its targets.
    """

    def __init__(self) -> None:
        super().__init__("softmax_cross_entropy")
        self.loss: Any = None
        self.t: Any = None

    def forward(self, x: Any, t: Any) -> Any:  # type: ignore[override]
        """Return the loss."""
        self.t, self.loss = t, super().forward(x, t)
        return self.loss


class BatchNormalization:
    """The book's batch normalization: images are flattened, and the running variance is that of the batches.

    Parameters
    ----------
    gamma, beta : ndarray
        The weight and the bias of each feature.
    momentum : float, default 0.9
        The share of the running averages that a batch leaves as it is.
    running_mean, running_var : ndarray, optional
        The running averages to start with.

    Attributes
    ----------
    dgamma, dbeta : ndarray
        The gradients.
    """

    def __init__(
        self,
        gamma: Any,
        beta: Any,
        momentum: float = 0.9,
        running_mean: Any = None,
        running_var: Any = None,
    ) -> None:
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean, self.running_var = running_mean, running_var
        self.dgamma: Any = None
        self.dbeta: Any = None

    def forward(self, x: NDArray[Any], train_flg: bool = True) -> Any:
        """Return the value."""
        state = {"running_mean": self.running_mean, "running_var": self.running_var}
        state = {name: value for name, value in state.items() if value is not None}
        state |= {"mode": "train" if train_flg else "test", "momentum": self.momentum, "eps": 10e-7}
        rows = x.reshape(len(x), -1)
        out, self.cache = functional.batchnorm_forward(rows, self.gamma, self.beta, state)
        self.running_mean, self.running_var = state["running_mean"], state["running_var"]
        return out.reshape(x.shape)

    def backward(self, dout: Any) -> Any:
        """Return the gradient with respect to the input."""
        rows = dout.reshape(len(dout), -1)
        dx, self.dgamma, self.dbeta = functional.batchnorm_backward(rows, self.cache)
        return dx.reshape(dout.shape)


def _class_of(function: Any) -> type[Layer]:
    """Return the class of a function in the registry."""

    def __init__(self: Layer, *args: Any, **options: Any) -> None:
        Layer.__init__(self, function, *args, **options)

    summary = f"The layer of `fastact.{function.name}`; the parameters are its own. See `Layer`."
    content = {"__init__": __init__, "__doc__": summary, "__module__": __name__}
    content["__signature__"] = signature_of(function.operations["vjp"])
    return type(class_name(function.name), (Layer,), content)


__getattr__, __dir__ = exports(__name__, _class_of, *KINDS, spell=class_name)
