"""Activations for the layers of numpy-ml: with the value, the derivative and the second derivative.

Every activation of elements has a class, named after it, for ``act_fn=``: ``FullyConnected(10, act_fn=Gelu())``. Within
``patched()``, or after ``patch()``, names will do: ``act_fn="gelu"`` or ``act_fn="elu(alpha=0.5)"``, and layers of
numpy-ml's own ``"relu"``, ``"tanh"`` and ``"sigmoid"`` get fastact's too.
"""

from __future__ import annotations

import re
from ast import literal_eval
from typing import Any

import numpy as np

from fastact.backends._exports import class_name, exports
from fastact.backends._requirements import require
from fastact.backends._switch import Switch
from fastact.functions.registry import aliases, get, names

require(__name__)

try:
    from numpy_ml.neural_nets.activations import ActivationBase
    from numpy_ml.neural_nets.initializers import ActivationInitializer
except ImportError as error:
    raise ImportError(
        f"{__name__}: numpy-ml fails to import ({error}); its releases to 0.1.2 need collections.Hashable, which "
        "Python 3.10 removed: set it to collections.abc.Hashable first, or install numpy-ml from its repository"
    ) from error

_DERIVATIVE, _SECOND = "derivative", "second_derivative"
_NAMED = re.compile(r"(\w+)\s*(?:\((.*)\))?")


class Activation(ActivationBase):
    """An activation for ``act_fn=``.

    Parameters
    ----------
    function : str or Function
        A name, or a function of elements such as ``fa.get("elu", alpha=0.5)`` or one of your own.
    **parameters
        Its parameters, and choices such as ``approximate="tanh"``.
    """

    def __init__(self, function: Any, **parameters: Any) -> None:
        super().__init__()
        function = get(function) if isinstance(function, str) else function
        self.function = function.choose(parameters).bind(**parameters)
        if _DERIVATIVE not in self.function.operations:
            raise TypeError(f"{self.function.name} is no function of elements, which act_fn= takes")

    def fn(self, z: Any) -> Any:
        """Return the value."""
        return self.function(z)

    def grad(self, x: Any, **kwargs: Any) -> Any:
        """Return the derivative with respect to `x`."""
        return self.function.derivative(x)

    def grad2(self, x: Any) -> Any:
        """Return the second derivative with respect to `x`, where the derivative jumps that of the sides."""
        if _SECOND in self.function.operations:
            return self.function.second_derivative(x)
        x = np.asarray(x)
        kind = np.result_type(x, np.float16)
        numbers = [np.asarray(each, kind) for each in self.function.parameters.values()]
        return self.function.kernels[_SECOND](x, *numbers)

    def __str__(self) -> str:
        parameters = ", ".join(f"{name}={each!r}" for name, each in self.function._bound.items())
        return f"{self.function.name}({parameters})" if parameters else self.function.name


def _class_of(function: Any) -> type[Activation]:
    """Return the class of an activation in the registry."""

    def __init__(self: Activation, **parameters: Any) -> None:
        Activation.__init__(self, function, **parameters)

    summary = (
        f"`fastact.{function.name}` for ``act_fn=``; the parameters are its own. See `Activation`."
    )
    content = {"__init__": __init__, "__doc__": summary, "__module__": __name__}
    return type(class_name(function.name), (Activation,), content)


_their_own = ActivationInitializer.init_from_str


def _from_str(self: Any, act_str: str) -> Any:
    """Return the activation of a name, with parameters in brackets."""
    found = _NAMED.fullmatch(act_str.strip().lower())
    if found is None or aliases().get(found[1], found[1]) not in names("activation"):
        return _their_own(self, act_str)
    pairs = [each.split("=") for each in (found[2] or "").split(",") if each]
    return Activation(found[1], **{name.strip(): literal_eval(each) for name, each in pairs})


_switch = Switch(lambda: [(ActivationInitializer, "init_from_str", _from_str)])
patch, unpatch, patched = _switch.patch, _switch.unpatch, _switch.patched

__getattr__, __dir__ = exports(__name__, _class_of, "activation", spell=class_name)
