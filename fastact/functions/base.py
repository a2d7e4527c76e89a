"""What all activation objects have: metadata, ufuncs, pickling, and errors that name the argument."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Self, TypeVar

import numpy as np

from fastact.arrays.arguments import as_real_array
from fastact.catalogue.definition import CONVENTIONS, Definition
from fastact.functions.documentation import document
from fastact.system import hooks
from fastact.system.first_use import first_use

_T = TypeVar("_T")


class Activation:
    """An activation function: its operations, each a NumPy ufunc, and what there is to know of it.

    Objects of this class are made from the catalogue: ``fastact.get(name)``, ``fastact.sigmoid``.

    Attributes
    ----------
    ufuncs : mapping of str to numpy.ufunc
        The ufunc behind each operation. It takes the parameters as further inputs.
    parameters : mapping of str to Any
        The default of each parameter; `inspect.Parameter.empty` where there is none.
    """

    def __init__(
        self, definition: Definition, operations: list[str], make: Callable[[str], np.ufunc]
    ) -> None:
        self._definition = definition
        self.parameters: Mapping[str, Any] = definition.parameters
        self.__module__ = definition.function.__module__
        self._bound: dict[str, Any] = {}
        self._choices = frozenset({"convention", *definition.choices})
        self._made = Made(make)
        self.ufuncs: Mapping[str, np.ufunc] = Ufuncs(operations, self._made)
        self.__doc__ = document(definition)

    @property
    def name(self) -> str:
        """The activation's name."""
        return self._definition.name

    @property
    def formula(self) -> str:
        """The value, in TeX."""
        return self._definition.formula

    @property
    def derivative_formula(self) -> str:
        """The derivative, in TeX."""
        return self._definition.derivative

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names of the activation."""
        return self._definition.aliases

    @property
    def kinks(self) -> Mapping[str, str]:
        """The derivative chosen at each point where it jumps."""
        return self._definition.kinks

    @property
    def limits(self) -> tuple[str, str] | None:
        """The values at minus and plus infinity."""
        return self._definition.limits

    @property
    def learnable(self) -> tuple[str, ...]:
        """The parameters that have gradients."""
        return self._definition.learnable

    @property
    def reference(self) -> str:
        """Who proposed it, and where."""
        return self._definition.reference

    def bind(self, **parameters: Any) -> Self:
        """Return this activation with other defaults: ``fa.elu.bind(alpha=0.5)``.

        Raises
        ------
        TypeError
            If a parameter is unknown or not real.
        """
        if not parameters:
            return self
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise TypeError(f"{self.name}: unknown parameter {name!r}; its parameters: {known}")
            as_real_array(self.name, name, value)
        bound = object.__new__(type(self))
        vars(bound).update(vars(self))
        vars(bound).pop("_numba_type_", None)
        bound.parameters = MappingProxyType(dict(self.parameters) | parameters)
        bound._bound = self._bound | parameters
        return bound

    def choose(self, options: dict[str, Any]) -> Activation:
        """Return the activation that keywords such as ``convention="jax"`` mean, and take them out.

        Raises
        ------
        ValueError
            If there is no such choice; the message lists those that there are.
        """
        if self._choices.isdisjoint(options):
            return self
        choices = self._definition.choices
        for keyword in self._choices & options.keys():
            value, known = options.pop(keyword), choices.get(keyword, {})
            allowed = CONVENTIONS if keyword == "convention" else ("none", *known)
            if value not in allowed:
                raise ValueError(f"{self.name}: {keyword} must be one of {allowed}, got {value!r}")
            if value in known:
                from fastact.functions.registry import activation

                return activation(known[value]).bind(**self._bound)
        return self

    def plot(self, x: Any = None, ax: Any = None) -> Any:
        """Draw the value and the derivative with matplotlib; see `fastact.show.plotting.plot`."""
        return hooks.plot(self, x, ax)

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `fastact.ufuncs`."""
        return self._definition.ufunc_name(operation)

    def _where(self, operation: str) -> str:
        """Return what an error message calls an operation."""
        return self.name if operation == "forward" else f"{self.name}.{operation}"

    @cached_property
    def _numba_type_(self) -> Any:
        """What it is to Numba, in other people's compiled code."""
        return hooks.numba_type(self)

    def __repr__(self) -> str:
        values = "".join(f", {name}={value!r}" for name, value in self._bound.items())
        return f"<activation {self.name!r}{values}>"

    def __reduce__(self) -> tuple[Any, ...] | str:
        from fastact.functions.registry import get

        if self._definition.module != "fastact.ufuncs":
            return self._definition.function.__qualname__  # a name in its module, as for a function
        return partial(get, self.name, **self._bound), ()

    @property
    def __name__(self) -> str:
        return self.name


class Made(dict[Any, _T]):
    """What has been made because it was asked for, such as ufuncs by their operations."""

    def __init__(self, make: Callable[[Any], _T]) -> None:
        super().__init__()
        self._make = make

    @first_use()
    def __missing__(self, key: Any) -> _T:
        return self.setdefault(key, self._make(key))


class Ufuncs(Mapping[str, np.ufunc]):
    """The ufuncs of one activation, each made when it is first asked for.

    They are attributes too: ``f.ufuncs.backward``, the name by which pickle finds those of your own activations.
    """

    def __init__(self, operations: list[str], made: Made[np.ufunc]) -> None:
        self._operations = operations
        self._made = made

    def __getitem__(self, operation: str) -> np.ufunc:
        if operation not in self._operations:
            raise KeyError(operation)
        return self._made[operation]

    def __getattr__(self, name: str) -> np.ufunc:
        # What pickle and copy ask for before there is any attribute is none of the operations.
        if name.startswith("_") or name not in self._operations:
            raise AttributeError(f"there is no ufunc {name!r}")
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)
