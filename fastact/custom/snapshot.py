"""A snapshot of a user's function and its dependencies, from which all its kernels are compiled.

Python looks up a global name on every use; a compiler looks it up once. So the compiler gets a copy of the function
whose globals, closure and defaults hold only what the snapshot found, with mutable values copied, and the digest covers
exactly these. A cached kernel therefore cannot be stale: the compiler sees nothing that the digest has not seen. (A
name that the snapshot missed is undefined in the copy, which is an error rather than a wrong result.) All dtypes and
operations of an activation are compiled from one snapshot, even if a constant changes in between.

Code of fastact, NumPy, Numba and Python itself is identified by name, because the cache key contains their versions. A
dependency that cannot be described, such as the address of a C function, leaves the snapshot without a digest, and its
kernels are not cached.
"""

from __future__ import annotations

import builtins
import dis
import enum
import hashlib
import math
import operator
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from types import CellType, CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from fastact.functions import Function
from fastact.simd import PerDtype
from fastact.simd.references import names_in

_OWN_PACKAGES = ("fastact", "numba", "numpy")
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MODULES_OF_C = (builtins, math, operator)
# *args, **kwargs and generators; the other flags do not affect the result.
_FLAGS = 0x04 | 0x08 | 0x20


class Snapshot:
    """A function together with its dependencies.

    Parameters
    ----------
    function : function
        The function to copy.

    Attributes
    ----------
    function : function
        The copy.
    digest : str or None
        Equal for two functions only if they compile to the same code. None if a dependency may change unnoticed.
    """

    def __init__(self, function: FunctionType) -> None:
        self._hash = hashlib.sha256()
        self._is_constant = True
        self._functions: dict[FunctionType, FunctionType] = {}
        self._namespaces: dict[int, ModuleType] = {}
        self._originals: list[Any] = []  # kept alive: their ids are keys
        self.function = self._copy_function(function)
        self.digest = self._hash.hexdigest() if self._is_constant else None

    def _note(self, *facts: Any) -> None:
        """Add facts to the digest, by their unambiguous `repr`."""
        self._hash.update(repr(facts).encode() + b"\n")

    def _copy(self, value: Any, names: Iterable[str] = ()) -> Any:
        """Return the value's copy for the compiler, and add it to the digest.

        Parameters
        ----------
        value : Any
            A global, a closure variable, a default or an attribute.
        names : iterable of str
            The attributes that the code may access.
        """
        for kinds, copy in _COPIES:
            if isinstance(value, kinds):
                return copy(self, value, names)
        if is_dataclass(value):
            return self._copy_namespace(value, names)
        if _is_of(type(value), "numba") and hasattr(value, "py_func"):
            return self._copy_jitted(value)
        return self._copy_callable(value)

    def _leave(self, value: Any) -> Any:
        """Return a value that cannot be described unchanged; there is no digest then."""
        self._is_constant = False
        return value

    def _copy_number(self, value: Any, names: Any) -> Any:
        if type(value) not in _PLAIN:  # a subclass may have any repr
            return self._leave(value)
        # The bits of a float: there are two zeros and many NaNs.
        told = struct.pack("<d", value) if type(value) is float else repr(value)
        self._note(type(value).__name__, told)
        return value

    def _copy_numpy_scalar(self, value: np.generic, names: Any) -> Any:
        self._note("scalar", repr(value.dtype), value.tobytes())
        return value

    def _copy_array(self, value: np.ndarray[Any, Any], names: Any) -> Any:
        if type(value) is not np.ndarray or value.dtype.hasobject:
            return self._leave(value)
        self._note("array", repr(value.dtype), value.shape, value.tobytes())
        copied = value.copy()
        copied.flags.writeable = False
        return copied

    def _copy_dtype(self, value: np.dtype[Any], names: Any) -> Any:
        self._note("dtype", repr(value))
        return value

    def _copy_sequence(self, value: Any, names: Any) -> Any:
        """Copy a tuple or a list; a list becomes a tuple, which Numba treats as a constant."""
        is_plain = type(value) in (tuple, list)
        if not (is_plain or hasattr(value, "_fields")):
            return self._leave(value)
        self._note("tuple" if is_plain else (type(value).__qualname__, value._fields), len(value))
        copied = [self._copy(each, names) for each in value]
        return tuple(copied) if is_plain else type(value)(*copied)

    def _copy_enum_member(self, value: enum.Enum, names: Any) -> Any:
        self._note("member", type(value).__qualname__, value.name)
        self._copy(value.value)
        return value

    def _copy_class(self, value: type, names: Iterable[str]) -> Any:
        if issubclass(value, enum.Enum):
            self._note("enum", value.__qualname__, len(value.__members__))
            for name, member in value.__members__.items():
                self._note(name)
                self._copy(member.value)
            return value
        if _is_of(value, *_OWN_PACKAGES, "builtins"):
            self._note("class", value.__module__, value.__qualname__)
            return value
        if issubclass(value, tuple) and hasattr(value, "_fields"):
            self._note("namedtuple", value.__qualname__, value._fields)
            return value
        return self._copy_namespace(value, names)

    def _copy_module(self, value: ModuleType, names: Iterable[str]) -> Any:
        if value in _MODULES_OF_C or value.__name__.partition(".")[0] in _OWN_PACKAGES:
            self._note("module", value.__name__)
            asked = [vars(value)[name] for name in names if name in vars(value)]
            self._is_constant &= not any(map(_has_overload, asked))
            return value
        return self._copy_namespace(value, names)

    def _copy_namespace(self, value: Any, names: Iterable[str]) -> ModuleType:
        """Copy a module, class or other namespace as a module that holds only the attributes in use."""
        if id(value) not in self._namespaces:
            self._originals.append(value)
            self._namespaces[id(value)] = ModuleType(getattr(value, "__name__", "namespace"))
        copied = self._namespaces[id(value)]
        self._note("namespace", list(self._namespaces).index(id(value)))
        for name in names:
            if name not in vars(copied) and hasattr(value, name):
                self._note("attribute", name)
                setattr(copied, name, None)  # modules may refer to each other
                setattr(copied, name, self._copy(getattr(value, name), names))
        return copied

    def _copy_callable(self, value: Any, names: Any = ()) -> Any:
        """Return a function unchanged if its name identifies it."""
        module, name = getattr(value, "__module__", None), getattr(value, "__name__", "")
        if isinstance(value, np.ufunc):
            module = "fastact.math" if hasattr(value, "fastact_function") else "numpy"
        if getattr(sys.modules.get(str(module)), name, None) is not value:
            return self._leave(value)
        is_known = module in sys.builtin_module_names or _is_of(value, *_OWN_PACKAGES, "math")
        if not is_known or _has_overload(value):
            return self._leave(value)
        self._note("callable", module, name)
        return value

    def _copy_per_dtype(self, value: PerDtype[Any], names: Any) -> Any:
        self._note("per dtype")
        return PerDtype(self._copy(value.float32), self._copy(value.float64))

    def _copy_activation(self, value: Function, names: Any) -> Any:
        name = value._definition.kernel_name("")
        if name is None:
            return self._leave(value)
        self._note("activation", name)
        for parameter, default in value.parameters.items():
            self._note(parameter)
            self._copy(default)
        return value

    def _copy_function(self, function: FunctionType, names: Any = ()) -> Any:
        if function in self._functions:
            self._note("function", list(self._functions).index(function))
            return self._functions[function]
        if _is_of(function, *_OWN_PACKAGES):
            return self._copy_callable(function)
        if _has_overload(function):
            return self._leave(function)
        code, old = function.__code__, function.__globals__
        own = {"__name__": function.__module__, "__builtins__": builtins}
        cells = tuple(CellType() for _ in code.co_freevars)
        copied = FunctionType(code, own, function.__name__, None, cells)
        copied.__qualname__ = function.__qualname__
        self._functions[function] = copied  # first: the function may be recursive
        names = names_in(code)
        self._note_code(code)
        for name in names:
            if name in old:
                self._note("global", name)
                own[name] = self._copy(old[name], names)
        for name, cell, old_cell in zip(
            code.co_freevars, cells, function.__closure__ or (), strict=True
        ):
            try:
                content = old_cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            self._note("closure", name)
            cell.cell_contents = self._copy(content, names)
        if function.__defaults__:
            copied.__defaults__ = self._copy(function.__defaults__)
        return copied

    def _copy_jitted(self, value: Any) -> Any:
        """Copy a function that the user compiled with Numba."""
        import numba

        self._note("jitted", sorted(value.targetoptions.items()), sorted(value.locals))
        self._is_constant &= not value.locals
        return numba.jit(**value.targetoptions)(self._copy(value.py_func))

    def _note_code(self, code: CodeType) -> None:
        """Add code to the digest, without its position, and without docstrings, which no instruction refers to."""
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount
        variables = code.co_varnames, code.co_cellvars, code.co_freevars
        self._note("code", counts, code.co_flags & _FLAGS, variables, code.co_names)
        self._note(getattr(code, "co_exceptiontable", b""))
        for each in dis.get_instructions(code):
            if each.opcode in dis.hasconst and each.arg is not None:
                self._note(each.opname)
                # Not `argval`: Python 3.11 leaves it unset for the keyword names of a call.
                self._note_constant(code.co_consts[each.arg])
            else:
                self._note(each.opname, each.arg)

    def _note_constant(self, value: Any) -> None:
        if isinstance(value, CodeType):
            self._note_code(value)
        elif isinstance(value, tuple | frozenset):
            self._note(type(value).__name__, len(value))
            for each in sorted(value, key=repr) if isinstance(value, frozenset) else value:
                self._note_constant(each)
        else:
            self._copy_number(value, ())


_Copy = Callable[[Snapshot, Any, Iterable[str]], Any]
_COPIES: list[tuple[Any, _Copy]] = [
    (enum.Enum, Snapshot._copy_enum_member),
    (np.generic, Snapshot._copy_numpy_scalar),
    (_PLAIN, Snapshot._copy_number),
    (np.ndarray, Snapshot._copy_array),
    (np.dtype, Snapshot._copy_dtype),
    (tuple | list, Snapshot._copy_sequence),
    (PerDtype, Snapshot._copy_per_dtype),
    (Function, Snapshot._copy_activation),
    (FunctionType, Snapshot._copy_function),
    (type, Snapshot._copy_class),
    (ModuleType, Snapshot._copy_module),
    (SimpleNamespace, Snapshot._copy_namespace),
]


def _is_of(value: Any, *packages: str) -> bool:
    """Whether a function or class comes from one of these packages."""
    return str(value.__module__).partition(".")[0] in packages


def _has_overload(function: Any) -> bool:
    """Whether a third party changed a function's meaning in compiled code with Numba's ``overload``."""
    if "numba" not in sys.modules:
        return False
    from numba.core.typing.templates import builtin_registry

    found = [kind for known, kind in builtin_registry.globals if known is function]
    templates = [template for kind in found for template in getattr(kind, "templates", ())]
    meanings = [getattr(template, "_overload_func", template) for template in templates]
    # `register_jitable` registers an overload too, with the function's own meaning.
    return any(not _is_of(meaning, "numba", "fastact") for meaning in meanings)
