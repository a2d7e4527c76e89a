"""What all activation objects have: metadata, ufuncs, pickling, and errors that name the argument."""

from __future__ import annotations

import operator
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastact.definition import CONVENTIONS, REQUIRED, Definition
from fastact.facts import difference
from fastact.first_use import first_use
from fastact.output_cache import empty

_T = TypeVar("_T")


@cache
@first_use()
def dtypes() -> tuple[str, ...]:
    """Return the names of the types that there are loops for.

    Narrowest first: integers go to the first type that holds them, as in NumPy's own ufuncs.
    """
    from fastact.target import TARGET  # which asks LLVM: not when fastact is imported

    # An x86 without F16C (before 2012) would need a C library's conversions, which are not there.
    half = ("float16",) if TARGET.converts_float16 else ()
    foreign = ("bfloat16",) if find_spec("ml_dtypes") else ()
    return (*half, "float32", "float64", *foreign)


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the dtype among `dtypes` of this name."""
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def parameters_in(name: str) -> str:
    """Return the type of parameters beside arrays of this type: what is computed in."""
    return "float64" if name == "float64" else "float32"


@cache
def inner_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that arrays of this type are computed in."""
    return np.dtype(parameters_in(dtype.name))


@cache
def has_loop(dtype: np.dtype[Any]) -> bool:
    """Whether there are loops for arrays of this very type: among `dtypes`, and not byte-swapped."""
    return dtype.name in dtypes() and dtype.isnative


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
        self.__doc__ = _document(definition)

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
                from fastact.registry import activation

                return activation(known[value]).bind(**self._bound)
        return self

    @first_use()
    def plot(self, x: Any = None, ax: Any = None) -> Any:
        """Draw the value and the derivative with matplotlib; see `fastact.plotting.plot`."""
        from fastact.plotting import plot

        return plot(self, x, ax)

    def ufunc_name(self, operation: str) -> str:
        """Return the name of an operation's ufunc in `fastact.ufuncs`."""
        return self._definition.ufunc_name(operation)

    def _where(self, operation: str) -> str:
        """Return what an error message calls an operation."""
        return self.name if operation == "forward" else f"{self.name}.{operation}"

    @cached_property
    @first_use()
    def _numba_type_(self) -> Any:
        """What it is to Numba, in other people's compiled code."""
        from fastact.compiled import ActivationType

        return ActivationType(self)

    def __repr__(self) -> str:
        values = "".join(f", {name}={value!r}" for name, value in self._bound.items())
        return f"<activation {self.name!r}{values}>"

    def __reduce__(self) -> tuple[Any, ...] | str:
        from fastact.registry import get

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


def as_array(where: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array, or raise an error that names it."""
    try:
        return np.asanyarray(value)
    except ValueError as error:
        raise ValueError(f"{where}: {name} is not an array: {error}") from None


def as_real_array(where: str, name: str, value: Any) -> NDArray[Any]:
    """Return an argument as an array of a type that can be computed with, or raise an error."""
    array = as_array(where, name, value)
    if not (array.dtype.kind in "fiub" and array.dtype.itemsize <= 8) and not is_bfloat16(array):
        raise TypeError(
            f"{where}: {name} has the type {array.dtype}; allowed are {', '.join(dtypes())}, "
            "integers and bools"
        ) from None
    return array


def is_bfloat16(array: Any) -> bool:
    """Whether this is an array of the type of the package ml_dtypes, which NumPy itself lacks."""
    return isinstance(array, np.ndarray | np.generic) and array.dtype.name == "bfloat16"


def check_output(where: str, array: Any, kind: str = "f") -> None:
    """Raise an error unless what was given as ``out`` can take results of this kind of type."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{where}: out must be an array, got {type(array).__name__}") from None
    if not array.flags.writeable:
        raise ValueError(f"{where}: out is read-only") from None
    if array.dtype.kind != kind and not (kind == "f" and is_bfloat16(array)):
        raise TypeError(
            f"{where}: out has the type {array.dtype}; the result is of "
            f"{'a float' if kind == 'f' else 'an integer'} type"
        ) from None


def as_axis(where: str, axis: Any, dimensions: int) -> int:
    """Return an axis as an index from the front, or raise an error that names it."""
    try:
        number = operator.index(axis)
    except TypeError:
        raise TypeError(f"{where}: axis must be an integer, got {axis!r}") from None
    if not -dimensions <= number < dimensions:
        raise ValueError(f"{where}: axis {number} is out of bounds for {dimensions} dimensions")
    return number % dimensions


def outputs_for(
    where: str, out: Any, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[np.dtype[Any], ...]
) -> tuple[NDArray[Any], ...]:
    """Return the arrays that results go to: what the caller gave, or new ones."""
    given = out if isinstance(out, tuple) else (out,) + (None,) * (len(shapes) - 1)
    if len(given) != len(shapes):
        raise ValueError(f"{where}: out must have {len(shapes)} entries, got {len(given)}")
    outputs = []
    for array, shape, dtype in zip(given, shapes, dtypes, strict=True):
        if array is None:
            array = empty(shape, dtype)
        else:
            check_output(where, array, dtype.kind)
        if array.shape != shape:
            raise ValueError(f"{where}: out has shape {array.shape}, the result has {shape}")
        outputs.append(array)
    return tuple(outputs)


def as_returned(results: Sequence[NDArray[Any]], out: Any) -> Any:
    """Return what a call gives back for its results, of which the caller may have given some.

    One result or a tuple; new ones of no dimension are scalars, as those of NumPy's functions are.
    """
    given = out if isinstance(out, tuple) else (out,)
    found = tuple(
        each if each.ndim or any(each is one for one in given) else each[()] for each in results
    )
    return found[0] if len(found) == 1 else found


def float_type(values: tuple[Any, ...], arrays: list[NDArray[Any]]) -> np.dtype[Any]:
    """Return the type of results: what NumPy's own float functions would choose.

    Parameters
    ----------
    values : tuple
        What was given. Python's own numbers are weak.
    arrays : list of ndarray
        The same as arrays.
    """
    kinds = [array.dtype for array in arrays]
    if len(kinds) == 1 and kinds[0].kind not in "iub":
        return _one_object_of(kinds[0])
    if all(kind.kind in "iub" for kind in kinds):
        kinds.append(np.dtype(np.float16))
    weak = [
        value if type(value) in (int, float) else kind
        for value, kind in zip(values, kinds, strict=False)
    ]
    return _one_object_of(np.result_type(*weak, *kinds[len(values) :]))


@cache
def _one_object_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the native type: NumPy copies overlapping operands whose types are merely equal."""
    return dtype_of(dtype.name)


def _document(definition: Definition) -> str:
    """Write an activation's docstring from its definition."""
    sections = [definition.summary]
    if definition.parameters:
        lines = ["Parameters", "----------"]
        for name, default in definition.parameters.items():
            note = "" if default is REQUIRED else f", default {default}"
            lines.append(f"{name} : float or array_like{note}")
            if name in definition.parameters_are:
                lines.append(f"    {definition.parameters_are[name]}")
        sections.append("\n".join(lines))
    sections.append("\n".join(["Notes", "-----", *_notes(definition)]))
    if definition.reference:
        sections.append(
            "\n".join(["References", "----------", *textwrap.wrap(definition.reference, 88)])
        )
    return "\n\n".join(sections) + "\n"


def _notes(definition: Definition) -> list[str]:
    """Return the lines that say how an activation behaves."""
    formulas = [
        f".. math:: {left} = {right}"
        for left, right in (("f(x)", definition.formula), ("f'(x)", definition.derivative))
        if right
    ]
    said = ["NaN gives NaN."]
    if definition.limits:
        said.append("It goes to {} and {} at minus and plus infinity.".format(*definition.limits))
    said += [f"The derivative at {at} is {chosen}." for at, chosen in definition.kinks.items()]
    for library, other in definition.choices.get("convention", {}).items():
        said.append(f"With convention={library!r}: {difference(definition, other)}.")
    if definition.errors:
        said.append(
            "Errors in float32: at most {} units in the last place in the value, {} in the "
            "derivative.".format(*definition.errors)
        )
    if definition.roots:
        roots = ", ".join(map(str, definition.roots))
        said.append(f"Within 0.4 of its roots ({roots}), the derivative's error is at most 2**-23.")
    said.append("The same bits wherever an element stands, whatever the number of threads.")
    return [line for formula in formulas for line in (formula, "")] + textwrap.wrap(
        " ".join(said), 88
    )
