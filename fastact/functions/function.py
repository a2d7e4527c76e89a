"""The one class of what a user holds: a function, its gradient among its methods, and what there is to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial, singledispatch
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastact.arrays.arguments import check_real
from fastact.catalogue.definition import CONVENTIONS, Definition, Domain
from fastact.functions.documentation import document, document_method
from fastact.functions.operation import Family, Operation, make_method
from fastact.kernels.door import make_ufunc
from fastact.system import hooks
from fastact.system.first_use import first_use

_T = TypeVar("_T")


@singledispatch
def family_of(definition: Definition) -> Family:
    """Return what a definition becomes; each module of a family registers itself for its class of definition."""
    raise TypeError(f"{type(definition).__name__} has no family")


class Function:
    """A function of arrays: a call gives its value, methods its gradients.

    Objects are made from the catalogue: ``fastact.get(name)``, ``fastact.sigmoid``. Each has a class of its own, whose
    methods are the operations that it has.

    Attributes
    ----------
    name : str
        What it is called: ``fastact.<name>``.
    kind : str
        ``"activation"``, ``"row"``, ``"packed"``, ``"dropout"`` or ``"loss"``.
    operations : mapping of str to Operation
        What it can do: for each the inputs, the outputs, the options, and what a backward pass needs saved.
    ufuncs : mapping of str to numpy.ufunc
        The ufunc behind each operation, which takes the parameters as further inputs; none where a function calls
        others.
    kernels : mapping of Any to numpy.ufunc
        The ufuncs of all kernels that operations run.
    parameters : mapping of str to Any
        The default of each parameter; `inspect.Parameter.empty` where there is none.
    """

    def __init__(self, definition: Definition, family: Family) -> None:
        self._definition = definition
        self._family = family
        self.operations: Mapping[str, Operation] = MappingProxyType(dict(family.operations))
        self.parameters: Mapping[str, Any] = definition.parameters
        self.__module__ = definition.function.__module__
        self._bound: dict[str, Any] = {}
        self._choices = frozenset({"convention", *definition.choices})
        self.kernels = LazyDict(self._make_ufunc)
        self.ufuncs: Mapping[str, np.ufunc] = Ufuncs(family.ufuncs, self.kernels)
        self.constants = LazyDict(family.constants(self.parameters))

    @property
    def name(self) -> str:
        """The function's name."""
        return self._definition.name

    @property
    def kind(self) -> str:
        """What kind of function it is."""
        return self._definition.kind

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
        """Other names of the function."""
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
    def domains(self) -> Mapping[str, Domain]:
        """The values that parameters may have, where not all make sense."""
        return self._definition.domains

    @property
    def conventions(self) -> tuple[str, ...]:
        """The libraries whose choices it can follow by ``convention=``, where they differ from the default."""
        return tuple(self._definition.choices.get("convention", ()))

    @property
    def other_kernels(self) -> tuple[Any, ...]:
        """The keys of `kernels` beside those of `ufuncs`, whose operands are not a user's."""
        return self._family.others

    @property
    def reference(self) -> str:
        """Who proposed it, and where."""
        return self._definition.reference

    def bind(self, **parameters: Any) -> Self:
        """Return this function with other defaults: ``fa.elu.bind(alpha=0.5)``.

        Raises
        ------
        TypeError
            If a parameter is unknown or not real.
        ValueError
            If it is outside its domain.
        """
        if not parameters:
            return self
        for name, value in parameters.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise TypeError(f"{self.name}: unknown parameter {name!r}; its parameters: {known}")
            check_real(self.name, name, np.asarray(value))
        check_domains(self, self.name, parameters)
        bound = object.__new__(type(self))
        vars(bound).update(vars(self))
        vars(bound).pop("_numba_type_", None)
        bound.parameters = MappingProxyType(dict(self.parameters) | parameters)
        bound._bound = self._bound | parameters
        bound.constants = LazyDict(self._family.constants(bound.parameters))
        return bound

    def choose(self, options: dict[str, Any]) -> Function:
        """Return the function that options such as ``convention="jax"`` mean, and take them out.

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
                return function_of(known[value]).bind(**self._bound)
        return self

    def plot(self, x: Any = None, ax: Any = None) -> Any:
        """Draw the value and the derivative with matplotlib; see `fastact.show.plotting.plot`."""
        return hooks.plot(self, x, ax)

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `fastact.ufuncs`."""
        return self._definition.ufunc_name(operation)

    def caller(self, operation: str) -> str:
        """Return what an error message calls an operation."""
        return self.name if operation == "forward" else f"{self.name}.{operation}"

    def _make_ufunc(self, key: Any) -> np.ufunc:
        """Return the ufunc of a kernel."""
        definition, kernel, name = self._definition, self._family.kernel(key), str(key)
        return make_ufunc(
            kernel,
            definition.module,
            definition.ufunc_name(name),
            f"Compute {', '.join(each.name for each in kernel.outputs)} of {self.name!r}.",
            lambda dtype: definition.kernel_name(f"{name}.{dtype}"),
            definition.explain,
        )

    def _call(
        self,
        operation: Operation,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Run a call with options, of this function or of the one that an option such as `convention` means."""
        chosen = self.choose(options)
        operation = chosen.operations[operation.name]
        caller = chosen.caller(operation.name)
        if args:
            operation.bind(caller, args, options)
        for name in options:
            if name not in operation.option_names:
                raise TypeError(operation.unknown(caller, name))
        return operation.run(chosen, operation, arrays, options)

    @cached_property
    def _numba_type_(self) -> Any:
        """What it is to Numba, in other people's compiled code."""
        return hooks.numba_type(self)

    if not TYPE_CHECKING:  # whose checkers would take every attribute to be there

        def __getattr__(self, name: str) -> Any:
            # What pickle and copy ask for before there is any attribute is no operation.
            family = vars(self).get("_family")
            if family is not None and name in family.missing:
                raise AttributeError(f"{self.name} has no {name}: {family.missing[name]}")
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __repr__(self) -> str:
        values = "".join(f", {name}={value!r}" for name, value in self._bound.items())
        return f"<{self.kind} {self.name!r}{values}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(hooks.get, self.name, **self._bound), ()

    @property
    def __name__(self) -> str:
        return self.name


def check_domains(function: Function, caller: str, parameters: Mapping[str, Any]) -> None:
    """Raise an error that names the first parameter that is outside its domain."""
    for name, domain in function._definition.domains.items():
        if name in parameters:
            value = np.asarray(parameters[name])
            if value.dtype.kind in "fiub" and np.any(domain.excludes(value)):
                shown = value[()] if value.ndim else value.item()
                raise ValueError(f"{caller}: {name} must be {domain.text}, got {shown!r}")


def make_function(definition: Definition, base: type[Function] = Function) -> Function:
    """Return a new object for a definition, of a class of its own."""
    family = family_of(definition)
    forward = family.operations["forward"]
    names: dict[str, Any] = {
        "__doc__": document(definition),
        "__module__": "fastact",
        "__signature__": forward.signature,
    }
    for operation in family.operations.values():
        method = make_method(operation)
        method.__doc__ = document_method(definition, operation)
        method.__qualname__ = f"{definition.name}.{method.__name__}"
        names[method.__name__] = method
    function: Function = type(definition.name, (base,), names)(definition, family)
    return function


_objects: dict[str, Function] = {}


def function_of(definition: Definition) -> Function:
    """Return the one object of a definition of fastact's own."""
    if definition.name not in _objects:
        _objects.setdefault(definition.name, make_function(definition))
    return _objects[definition.name]


class LazyDict(dict[Any, _T]):
    """A dict whose missing values a factory creates on first access."""

    def __init__(self, make: Callable[[Any], _T]) -> None:
        super().__init__()
        self._make = make

    @first_use()
    def __missing__(self, key: Any) -> _T:
        return self.setdefault(key, self._make(key))


class Ufuncs(Mapping[str, np.ufunc]):
    """The ufuncs of one function, each made when it is first asked for.

    They are attributes too: ``f.ufuncs.backward``, the name by which pickle finds those of your own activations.
    """

    def __init__(self, names: tuple[str, ...], made: LazyDict[np.ufunc]) -> None:
        self._names = names
        self._made = made

    def __getitem__(self, name: str) -> np.ufunc:
        if name not in self._names:
            raise KeyError(name)
        return self._made[name]

    def __getattr__(self, name: str) -> np.ufunc:
        # What pickle and copy ask for before there is any attribute is none of the names.
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"there is no ufunc {name!r}")
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
