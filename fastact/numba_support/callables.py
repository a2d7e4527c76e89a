"""Calls of fastact from compiled code, under Numba's ``@njit`` and ``@vectorize``.

``fa.gelu(x)``, ``fa.gelu.derivative(x)`` and ``fa.math.exp(x)`` take scalars and arrays there, and inside an activation
of one's own also SIMD vectors and dual numbers. A scalar call is inlined, and LLVM vectorizes the loop around it; a
call on an array runs the ufunc's own loop on the calling thread. Arguments broadcast as far as Numba's types tell:
arrays must have one shape, and scalars go with any. Beside an array, scalars are weak.

Every other object of fastact has a type whose calls fail with a message of one line.

Numba finds these types by the attribute ``_numba_type_``, and by `fastact.numba_support.extension`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.core.errors import NumbaError, TypingError
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate, infer_getattr, signature
from numba.extending import lower_builtin, lower_getattr_generic, models, register_model
from numba.np.numpy_support import as_dtype

from fastact.functions import Function
from fastact.functions.pointwise import OPERATIONS, UFUNC_OPTIONS
from fastact.functions.pointwise import compute as compute_of
from fastact.kernels.elementwise import elementwise
from fastact.simd.compilable import internal
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import Mask, Vector, coerce, constant
from fastact.simd.operands import Operands
from fastact.simd.storage import BYTE, INDEX, Storage
from fastact.system.target import TARGET

_NUMBERS = types.Integer | types.Float | types.Boolean
_IN_KERNELS = Vector | Dual | Mask


class Operation(types.Callable, types.Opaque):
    """The Numba type of one operation of an activation, or of an elementary function.

    Parameters
    ----------
    name : str
        Unique to the operation, the definition and the defaults.
    label : str
        The name in error messages.
    compute : callable
        Returns the function of vectors that gives a tuple of outputs.
    inputs : tuple of str
        The names of the inputs.
    parameters : dict of str to Any
        The parameters with their defaults.
    outputs : int
        The number of outputs.
    scalars : tuple of str
        The parameters that may not be arrays.
    options : collection of str
        The keywords that only Python's calls take.
    explain : callable, optional
        Turns an error of the compilation into a message.
    """

    def __init__(
        self,
        name: str,
        label: str,
        compute: Callable[[], Callable[..., Any]],
        inputs: tuple[str, ...],
        parameters: dict[str, Any],
        outputs: int,
        scalars: tuple[str, ...] = (),
        options: Any = (),
        explain: Callable[[BaseException], str] | None = None,
    ) -> None:
        super().__init__(f"fastact.{name}")
        self.label = label
        self.outputs = outputs
        self.inputs = len(inputs)
        self.compute = cache(compute)
        self.explain = explain
        self._scalars = scalars
        self._options = set(options) - parameters.keys()
        self._parameters = parameters
        kinds = inspect.Parameter
        self.signature = inspect.Signature(
            [kinds(each, kinds.POSITIONAL_OR_KEYWORD) for each in inputs]
            + [
                kinds(each, kinds.POSITIONAL_OR_KEYWORD, default=value)
                for each, value in parameters.items()
            ]
        )
        self._implement()

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        for keyword in dict(kws):
            if keyword in self._options:
                raise self._error(f"{keyword}= is not available in compiled code")
            if keyword not in self.signature.parameters:
                known = ", ".join(self._parameters) or "none"
                raise self._error(f"unknown parameter {keyword!r}; its parameters: {known}")
        try:
            given = self.signature.bind(*args, **dict(kws)).arguments
        except TypeError as error:
            raise self._error(str(error)) from None
        kinds = {
            name: given.get(name, types.Omitted(parameter.default))
            for name, parameter in self.signature.parameters.items()
        }
        result = self._result(kinds)
        if self.outputs > 1 or isinstance(result, types.BaseTuple):
            result = types.UniTuple(result, self.outputs)
        return signature(result, *kinds.values()).replace(pysig=self.signature)

    def _error(self, text: str) -> TypingError:
        return TypingError(f"fastact.{self.label}: {text}")

    def _result(self, kinds: dict[str, Any]) -> Any:
        """Return the type of each output."""
        for name, kind in kinds.items():
            self._check(name, kind)
        for each in (Dual, Vector):
            found = [kind for kind in kinds.values() if isinstance(kind, each)]
            if found:
                return found[0]
        for kind in kinds.values():
            if isinstance(kind, Mask):
                return Vector(kind.dtype, kind.lanes)
        arrays = {name: kind for name, kind in kinds.items() if isinstance(kind, types.Array)}
        dimensions = {kind.ndim for kind in arrays.values()}
        if len(dimensions) > 1:
            shapes = ", ".join(f"{name} has ndim {kind.ndim}" for name, kind in arrays.items())
            raise self._error(f"arrays must have the same shape in compiled code; {shapes}")
        decisive = [kind.dtype for kind in arrays.values()] or list(kinds.values())[: self.inputs]
        common = np.result_type(*(as_dtype(types.unliteral(each)) for each in decisive))
        dtype = types.float32 if common == np.float32 else types.float64
        return types.Array(dtype, dimensions.pop(), "C") if arrays else dtype

    def _check(self, name: str, kind: Any) -> None:
        """Refuse an argument of a type that the operation does not take."""
        value = kind.value if isinstance(kind, types.Omitted) else None
        if isinstance(kind, types.Omitted) and not isinstance(value, int | float | np.number):
            raise self._error(f"{name} is bound to {value!r}, which compiled code does not take")
        if isinstance(kind, types.Array) and name in self._scalars:
            raise self._error(f"{name} must be one number in compiled code, got an array")
        element = kind.dtype if isinstance(kind, types.Array) else kind
        if element == types.float16:
            raise self._error(f"{name}: float16 is not available in compiled code")
        is_number = isinstance(element, _NUMBERS)
        if not (is_number or isinstance(kind, types.Omitted | _IN_KERNELS)):
            raise self._error(
                f"{name} must be real numbers, a scalar or an array; got {_described(kind)}"
            )

    def get_call_signatures(self) -> Any:
        """Return what an error message lists."""
        return (), True

    def get_impl_key(self, call: Any) -> Any:
        """Return the key of the implementation."""
        return self.name

    def _implement(self) -> None:
        """Register the code of a call."""
        emitters = {types.Array: _on_arrays, types.Float: _on_scalars}

        def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
            result = call.return_type[0] if self.outputs > 1 else call.return_type
            on = next(
                (on for kind, on in emitters.items() if isinstance(result, kind)), _on_vectors
            )
            try:
                pairs = list(zip(call.args, values, strict=True))
                outputs = on(context, builder, self, result, pairs)
            except NumbaError as error:
                if self.explain is None:
                    raise
                raise TypingError(self.explain(error)) from error
            if self.outputs == 1:
                return outputs[0]
            return context.make_tuple(builder, call.return_type, outputs)

        lower_builtin(self.name, types.VarArg(types.Any))(emit)


def _described(kind: Any) -> str:
    """Name a Numba type in Python's words."""
    names = {types.NoneType: "None", types.UnicodeType: "a string", types.BaseTuple: "a tuple"}
    kind = types.unliteral(kind)
    return next((text for each, text in names.items() if isinstance(kind, each)), str(kind))


def _on_vectors(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Emit a call on vectors or dual numbers; scalars are broadcast."""
    vector = result
    while isinstance(vector, Dual):
        vector = vector.part
    pairs = [
        pair
        if isinstance(pair[0], Vector | Dual)
        else (vector, _vector(context, builder, pair[0], pair[1], vector))
        for pair in operands
    ]
    compute = internal(of.compute())

    @internal
    def apply(operands: Any) -> Any:
        return compute(*operands)

    inputs = types.Tuple([kind for kind, _ in pairs])
    together = context.make_tuple(builder, inputs, [value for _, value in pairs])
    # Through the dispatcher: functions compiled by `compile_internal` are not always inlined.
    called = types.Dispatcher(apply.dispatcher)
    call = called.get_call_type(context.typing_context, (inputs,), {})
    outputs = context.get_function(called, call)(builder, [together])
    return list(cgutils.unpack_tuple(builder, outputs))


def _on_scalars(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Emit a call on scalars."""
    # By default LLVM vectorizes loops with 256-bit vectors even on AVX-512: half the speed of the ufuncs. `set.add`
    # bypasses llvmlite's check, which does not know attributes of the x86 backend.
    set.add(builder.function.attributes, f'"prefer-vector-width"="{8 * TARGET.vector_bytes}"')
    return _on_vectors(context, builder, of, Vector(result, 0), operands)


def _on_arrays(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Emit a run of the operation's loop over arrays."""
    dtype = as_dtype(result.dtype).type
    message = f"fastact.{of.label}: arrays must have the same shape in compiled code"

    def keep(x: Any) -> Any:
        return x

    def convert(x: Any) -> Any:
        array = np.empty(x.shape, dtype)
        array[...] = x
        return array

    def allocate(x: Any) -> Any:
        return np.empty(x.shape, dtype)

    def check(x: Any, y: Any) -> None:
        if x.shape != y.shape:
            raise ValueError(message)

    # A scalar becomes an operand with stride 0.
    vector = Vector(result.dtype, 0)
    arrays: list[tuple[Any, Any]] = []
    pointers, steps = [], []
    size = ir.Constant(INDEX, Storage(str(result.dtype)).itemsize)
    for kind, value in operands:
        if not isinstance(kind, types.Array):
            number = _vector(context, builder, kind, value, vector)
            pointers.append(cgutils.alloca_once_value(builder, number))
            steps.append(ir.Constant(INDEX, 0))
            continue
        is_plain = kind.dtype == result.dtype and kind.layout == "C"
        plain = kind if is_plain else result
        array = context.compile_internal(
            builder, keep if is_plain else convert, plain(kind), [value]
        )
        if arrays:
            first = arrays[0]
            context.compile_internal(builder, check, types.void(first[0], plain), [first[1], array])
        arrays.append((plain, array))
        pointers.append(context.make_array(plain)(context, builder, array).data)
        steps.append(size)
    kind, x = arrays[0]
    outputs = [
        context.compile_internal(builder, allocate, result(kind), [x]) for _ in range(of.outputs)
    ]
    pointers += [context.make_array(result)(context, builder, array).data for array in outputs]
    steps += [size] * of.outputs
    storages = (Storage(str(result.dtype)),) * len(pointers)
    loop = elementwise(of.compute(), Operands(storages, of.inputs, len(operands) - of.inputs))
    words = types.CPointer(types.intp)
    context.compile_internal(
        builder,
        loop,
        types.void(types.CPointer(types.voidptr), words, words, types.voidptr),
        [
            _in_memory(builder, [builder.bitcast(each, BYTE.as_pointer()) for each in pointers]),
            _in_memory(builder, [context.make_array(kind)(context, builder, x).nitems]),
            _in_memory(builder, steps),
            ir.Constant(BYTE.as_pointer(), None),
        ],
    )
    for kind, array in arrays:
        context.nrt.decref(builder, kind, array)
    return outputs


def _vector(context: Any, builder: Any, kind: Any, value: Any, vector: Vector) -> Any:
    """Return a scalar, a default or a mask as a vector."""
    if isinstance(kind, types.Omitted):
        return constant(vector.llvm, float(kind.value))
    if isinstance(kind, Mask):
        return builder.select(value, constant(vector.llvm, 1.0), constant(vector.llvm, 0.0))
    return coerce(context, builder, kind, value, vector)


def _in_memory(builder: Any, values: list[Any]) -> Any:
    """Store the values in a new array on the stack and return its address."""
    array = cgutils.alloca_once(builder, values[0].type, size=len(values))
    for index, value in enumerate(values):
        builder.store(value, builder.gep(array, [ir.Constant(INDEX, index)]))
    return array


class ActivationType(types.Callable, types.Opaque):
    """The Numba type of an activation: compiled code can call it and its operations."""

    def __init__(self, activation: Function) -> None:
        super().__init__(f"fastact.{_unique_name(activation)}")
        self.label = activation.name
        self.operations = {name: _operation(activation, name) for name in activation.ufuncs}

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        return self.operations["forward"].get_call_type(context, args, kws)

    def get_call_signatures(self) -> Any:
        """Return what an error message lists."""
        return self.operations["forward"].get_call_signatures()

    def get_impl_key(self, call: Any) -> Any:
        """Return the key of the implementation."""
        return self.operations["forward"].get_impl_key(call)


class Unavailable(types.Callable, types.Opaque):
    """The Numba type of a function that compiled code cannot call; a call fails with a message that says so."""

    def __init__(self, name: str, label: str) -> None:
        super().__init__(name)
        self.label = label
        self.operations: dict[str, Any] = {}

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Refuse a call."""
        raise TypingError(f"fastact.{self.label} is not available in compiled code")

    def get_call_signatures(self) -> Any:
        """Return what an error message lists."""
        return (), False

    def get_impl_key(self, call: Any) -> Any:
        """Return a key; no implementation is ever looked up."""
        return self.name


def type_of(function: Any) -> ActivationType | Unavailable:
    """Return the Numba type of a function object of fastact."""
    if function.kind == "activation" and set(function.ufuncs) <= set(OPERATIONS):
        return ActivationType(function)
    return Unavailable(f"fastact.{function.name}@{id(function):x}", function.name)


def _unique_name(activation: Any) -> str:
    """Return a name unique to an activation and its bound parameters; user-defined activations may share a name."""
    return f"{activation!r}@{id(activation._definition):x}"


def _operation(activation: Function, name: str) -> Operation | Unavailable:
    definition, (_, arrays, returns, _) = activation._definition, OPERATIONS[name]
    unique, label = f"{_unique_name(activation)}.{name}", activation.caller(name)
    if definition.learnable and name in ("backward", "forward_backward"):
        return Unavailable(f"fastact.{unique}", label)  # it returns another gradient too
    return Operation(
        unique,
        label,
        partial(compute_of, definition, name),
        tuple(each.name for each in arrays),
        dict(activation.parameters),
        len(returns),
        definition.learnable,
        activation.operations[name].option_names,
        definition.explain,
    )


register_model(Operation)(models.OpaqueModel)
register_model(ActivationType)(models.OpaqueModel)
register_model(Unavailable)(models.OpaqueModel)


def _resolve(self: Any, function: Any, name: str) -> Any:
    if name.startswith("__"):  # Numba asks for `__call__`
        return None
    if name not in function.operations:
        raise TypingError(f"fastact.{function.label}.{name} is not available in compiled code")
    return function.operations[name]


for kind in (ActivationType, Unavailable):
    infer_getattr(
        type("_Operations", (AttributeTemplate,), {"key": kind, "generic_resolve": _resolve})
    )

    @lower_getattr_generic(kind)
    def _(context: Any, builder: Any, kind: Any, value: Any, name: str) -> Any:
        return context.get_dummy_value()


@cache
def type_of_function(function: Callable[..., Any]) -> Operation:
    """Return the Numba type of an elementary function."""

    def compute() -> Callable[..., Any]:
        return lambda x: (function(x),)

    name = f"math.{function.__name__}"
    options = [each.name for each in UFUNC_OPTIONS]
    return Operation(name, name, compute, ("x",), {}, 1, options=options)


_where = njit(lambda condition, x, y: np.where(condition, x, y))


def type_of_where() -> Any:
    """Return the Numba type of `fastact.math.where`: that of a compiled ``np.where``."""
    return types.Dispatcher(_where)


# Numba looks for new registrations when a compilation starts, and this module may be imported during one.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
