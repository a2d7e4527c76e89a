"""The class of function objects: a function, its gradients as methods, and its metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property, partial
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from fastact.arrays.arguments import check_real
from fastact.arrays.plans import OUT, RNG, Call, KernelPlan, Plan, plan_key
from fastact.catalogue.definition import CONVENTIONS, Definition, Domain
from fastact.functions.documentation import document, document_method
from fastact.functions.operation import Family, Operation, make_method, replay_key
from fastact.functions.vjp import vjp_operation
from fastact.kernels.door import make_ufunc
from fastact.runtime.replays import Record, Replay, make_replay
from fastact.system import hooks
from fastact.system.first_use import first_use

_T = TypeVar("_T")

# Nets have a few dozen; data of ever new shapes must not fill the memory.
_MAX_PLANS = 1024
# Of one operation: a replay compares its arguments with each, 10 ns a time.
_MAX_RECORDS = 16


def family_of(definition: Definition) -> Family:
    """Return the family of a definition, from the module that its class names; modules are imported on demand."""
    module: Any = import_module(f"fastact.functions.{definition.family}")
    family: Family = module.family(definition)
    return family


class Function:
    """A function of arrays: calling it computes the value, its methods compute gradients.

    Objects are made from the catalogue: ``fastact.get(name)``, ``fastact.sigmoid``. Each has a subclass of its own,
    whose methods are its operations.

    Attributes
    ----------
    name : str
        The name: ``fastact.<name>``.
    kind : str
        ``"activation"``, ``"row"``, ``"packed"``, ``"cell"``, ``"dropout"``, ``"normalization"`` or ``"loss"``.
    operations : mapping of str to Operation
        The operations: their inputs, outputs and options, and what a backward pass needs saved.
    ufuncs : mapping of str to numpy.ufunc
        The ufunc behind each operation, with parameters as further inputs; empty if the function is composed of others.
    kernels : mapping of Any to numpy.ufunc
        The ufuncs of all kernels.
    parameters : mapping of str to Any
        The default of each parameter, or `inspect.Parameter.empty`.
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
        self.constants = LazyDict(family.constants(self))
        self._forget_calls()

    def _forget_calls(self) -> None:
        """Start without plans: they contain the parameters."""
        self._plans: dict[Any, Plan | None] = {}
        self._seen: set[Any] = set()
        self._records: dict[Any, list[Record]] = {}
        self._replays: dict[Any, Replay] = {}

    @cached_property
    def name(self) -> str:
        """The function's name."""
        return self._definition.name

    @property
    def kind(self) -> str:
        """The kind of function."""
        return self._definition.kind

    @property
    def formula(self) -> str:
        """The formula of the value, in TeX."""
        return self._definition.formula

    @property
    def derivative_formula(self) -> str:
        """The formula of the derivative, in TeX."""
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
        """The parameters with gradients."""
        return self._definition.learnable

    @property
    def domains(self) -> Mapping[str, Domain]:
        """The domains of parameters, for those that have one."""
        return self._definition.domains

    @property
    def conventions(self) -> tuple[str, ...]:
        """The values of ``convention=`` that differ from the default."""
        return tuple(self._definition.choices.get("convention", ()))

    @property
    def other_kernels(self) -> tuple[Any, ...]:
        """The keys of `kernels` that are not among `ufuncs`, because their operands are internal."""
        return self._family.others

    @property
    def reference(self) -> str:
        """The publication that proposed it."""
        return self._definition.reference

    def bind(self, **parameters: Any) -> Self:
        """Return the function with other defaults.

        Parameters
        ----------
        **parameters : float or array_like
            New defaults for some of `parameters`.

        Returns
        -------
        Function
            A copy, which shares the kernels; the function itself is unchanged.

        Raises
        ------
        TypeError
            If a parameter is unknown or not real.
        ValueError
            If it is outside its domain.

        Examples
        --------
        >>> elu = fa.elu.bind(alpha=0.5)
        >>> elu
        <activation 'elu', alpha=0.5>
        >>> elu([-1.0, 0.0, 1.0])
        array([-0.31606028,  0.        ,  1.        ])
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
        bound.constants = LazyDict(self._family.constants(bound))
        bound._forget_calls()
        return bound

    def choose(self, options: dict[str, Any]) -> Function:
        """Remove options such as ``convention="jax"``, and return the function that they select.

        Raises
        ------
        ValueError
            If there is no such choice; the message lists the valid ones.
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

    def plot(self, x: Any = None, ax: Any = None, *, derivatives: int = 1) -> Any:
        """Plot the function with matplotlib: `fastact.plot` of this one.

        Parameters
        ----------
        x : array_like, optional
            The points, by default from -5 to 5; for a row function, the row.
        ax : matplotlib.axes.Axes, optional
            The axes to draw into; pyplot's current axes by default.
        derivatives : {0, 1, 2}
            How many derivatives of an activation to draw.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        ModuleNotFoundError
            If matplotlib is not installed.
        TypeError
            If the function has no such picture, or a parameter has no value.

        Examples
        --------
        >>> from matplotlib.figure import Figure
        >>> ax = fa.gelu.plot(ax=Figure().subplots())
        >>> ax.get_title(), ax.get_xlabel()
        ('gelu', 'x')
        """
        return hooks.plot(self, x=x, derivatives=derivatives, ax=ax)

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `fastact.ufuncs`."""
        return self._definition.ufunc_name(operation)

    def caller(self, operation: str) -> str:
        """Return the name of an operation in error messages."""
        return self.name if operation == "forward" else f"{self.name}.{operation}"

    def _make_ufunc(self, key: Any) -> np.ufunc:
        """Return the ufunc of a kernel."""
        definition, kernel, name = self._definition, self._family.kernel(key), str(key)
        see = f" `{self.caller(name)}` documents it." if name in self.operations else ""
        return make_ufunc(
            kernel,
            definition.module,
            definition.ufunc_name(name),
            f"Compute {', '.join(each.name for each in kernel.outputs)} of {self.name!r}.{see}",
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
        """Run a call with options: by the plan of an earlier one, or from the start."""
        called = replay_key(operation.name, len(args), options)
        if args and self._choices.isdisjoint(options):
            operation.bind(self.caller, args, options)
            args = ()
        values = (*arrays, *options.values())
        draws = RNG not in self.parameters
        key = None if args else plan_key(operation.name, values, options, draws)
        plan = None if key is None else self._plans.get(key)
        if plan is not None:
            try:
                results = plan(values)
                if type(plan) is KernelPlan:
                    self._add_replay(called, plan)
            except MemoryError:
                results = None
            if results is not None:
                return results
        names = (*operation.inputs, *options)
        call = self._start(operation, arrays, args, options)
        if not isinstance(call, Call):
            return call
        results = call()
        if key is not None and key not in self._plans:
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            self._plans[key] = call.plan(
                {
                    name: k
                    for k, (name, value) in enumerate(zip(names, values, strict=True))
                    if type(value) is np.ndarray
                    or (name == RNG and draws)
                    or (name == OUT and type(value) is tuple)
                }
            )
        return results

    def _has_repeated(self, operation: str, array: Any) -> bool:
        """Whether this has been asked before for an operation and an array of the same shape and dtype, in C order."""
        if not array.flags.c_contiguous:
            return False
        kind = operation, array.dtype, array.shape
        if kind in self._seen:
            return True
        if len(self._seen) >= _MAX_PLANS:
            self._seen.clear()
        self._seen.add(kind)
        return False

    def _add_replay(self, called: Any, plan: KernelPlan) -> None:
        """Let methods that are called so replay the calls of a plan, if that can be and is not yet the case."""
        if plan.record is None or called in plan.replayed_as:
            return
        records = [*self._records.get(called, ())[1 - _MAX_RECORDS :], plan.record]
        self._replays[called] = make_replay(records)
        self._records[called] = records
        plan.replayed_as.add(called)

    def _start(
        self,
        operation: Operation,
        arrays: tuple[Any, ...],
        args: tuple[Any, ...],
        options: dict[str, Any],
    ) -> Any:
        """Return the checked call, or its results, of this function or the one that an option selects."""
        chosen = self.choose(options)
        operation = chosen.operations[operation.name]
        caller = chosen.caller(operation.name)
        if args:
            operation.bind(chosen.caller, args, options)
        for name in [each for each in options if each not in operation.option_names]:
            others = [
                chosen.caller(each.name)
                for each in chosen.operations.values()
                if name in each.option_names
            ]
            if not others:
                raise TypeError(operation.unknown(caller, name))
            if options.pop(name) is not None:  # None means omitted
                raise TypeError(
                    f"{caller} takes no {name!r}; it is an option of {', '.join(others)}"
                )
        return operation.run(chosen, operation, arrays, options)

    @cached_property
    def _numba_type_(self) -> Any:
        """The function's Numba type, for use in other people's compiled code."""
        return hooks.numba_type(self)

    if not TYPE_CHECKING:  # otherwise type checkers would accept any attribute

        def __getattr__(self, name: str) -> Any:
            # pickle and copy look up special names before any attribute is set.
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
    """Raise an error that names the first parameter outside its domain."""
    for name, domain in function._definition.domains.items():
        if name in parameters:
            value = np.asarray(parameters[name])
            if value.dtype.kind in "fiub" and np.any(domain.excludes(value)):
                shown = value[()] if value.ndim else value.item()
                raise ValueError(f"{caller}: {name} must be {domain.text}, got {shown!r}")


def make_function(definition: Definition, base: type[Function] = Function) -> Function:
    """Return a new object for a definition, with a class of its own."""
    family = family_of(definition)
    operations = family.operations
    if "backward" in operations:
        operations = {**operations, "vjp": vjp_operation(family)}
    # Calls ask the kernel what its operands are.
    family = replace(family, operations=operations, kernel=cache(family.kernel))
    forward = family.operations["forward"]
    names: dict[str, Any] = {
        "__doc__": document(definition, forward),
        "__module__": "fastact",
        "__signature__": forward.signature,
    }
    for operation in family.operations.values():
        method = make_method(operation)
        method.__doc__ = document_method(definition, operation, forward)
        method.__qualname__ = f"{definition.name}.{method.__name__}"
        names[method.__name__] = method
    function: Function = type(definition.name, (base,), names)(definition, family)
    return function


_objects: dict[str, Function] = {}


def function_of(definition: Definition) -> Function:
    """Return the unique object of a definition in the catalogue."""
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
    """The ufuncs of one function, created on first access.

    They are attributes as well: pickle finds the ufuncs of custom activations as ``f.ufuncs.backward``.
    """

    def __init__(self, names: tuple[str, ...], made: LazyDict[np.ufunc]) -> None:
        self._names = names
        self._made = made

    def __getitem__(self, name: str) -> np.ufunc:
        if name not in self._names:
            raise KeyError(name)
        return self._made[name]

    def __getattr__(self, name: str) -> np.ufunc:
        # pickle and copy look up special names before any attribute is set.
        if name.startswith("_") or name not in self._names:
            raise AttributeError(f"there is no ufunc {name!r}")
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
