"""Activations and elementary functions in other people's compiled code: what Numba has to know of them.

In a function under ``@njit`` or ``@vectorize``, ``fa.gelu(x)``, ``fa.gelu.derivative(x)`` and
``fa.math.exp(x)`` take scalars and arrays, and in a definition also SIMD vectors and dual numbers. A scalar
call is inlined arithmetic that LLVM puts into vectors where it stands in a loop; a call on an array runs
the ufunc's own loop on the thread that calls.

Numba finds the types here by the attribute ``_numba_type_`` of activations, and by `fastact.numba_support.extension`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate, infer_getattr, signature
from numba.extending import lower_builtin, lower_getattr_generic, models, register_model
from numba.np.numpy_support import as_dtype

from fastact.functions.pointwise import OPERATIONS
from fastact.functions.pointwise import compute as compute_of
from fastact.kernels.elementwise import elementwise
from fastact.simd.compilable import internal
from fastact.simd.differentiation import Dual
from fastact.simd.lowering import Vector, coerce
from fastact.simd.operands import Operands
from fastact.simd.storage import BYTE, INDEX, Storage
from fastact.system.target import TARGET

_NUMBERS = types.Integer | types.Float | types.Boolean


class Operation(types.Callable, types.Opaque):
    """One operation, as a type that compiled code can call.

    Parameters
    ----------
    name : str
        It must tell the operation, the definition and the defaults.
    compute : callable
        Returns the function of vectors that gives a tuple of outputs.
    inputs : tuple of str
        The names of the arrays.
    parameters : dict of str to Any
        The parameters with their defaults.
    outputs : int
        How many outputs there are.
    """

    def __init__(
        self,
        name: str,
        compute: Callable[[], Callable[..., Any]],
        inputs: tuple[str, ...],
        parameters: dict[str, Any],
        outputs: int,
    ) -> None:
        super().__init__(f"fastact.{name}")
        self.outputs = outputs
        self.inputs = len(inputs)
        self.compute = cache(compute)
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
        try:
            given = self.signature.bind(*args, **dict(kws)).arguments
        except TypeError as error:
            raise TypingError(f"{self.name}: {error}") from None
        kinds = [
            given.get(name, types.Omitted(parameter.default))
            for name, parameter in self.signature.parameters.items()
        ]
        result = self._result(kinds[: self.inputs])
        if self.outputs > 1 or isinstance(result, types.BaseTuple):
            result = types.UniTuple(result, self.outputs)
        return signature(result, *kinds).replace(pysig=self.signature)

    def _result(self, kinds: list[Any]) -> Any:
        """Return the type of each output."""
        for kind in (Dual, Vector):
            found = [each for each in kinds if isinstance(each, kind)]
            if found:
                return found[0]
        arrays = [each for each in kinds if isinstance(each, types.Array)]
        elements = [each.dtype if isinstance(each, types.Array) else each for each in kinds]
        if not all(isinstance(each, _NUMBERS) and each != types.float16 for each in elements):
            raise TypingError(f"{self.name} takes real numbers and arrays of them, got {kinds}")
        in_float32 = all(each == types.float32 for each in elements)
        dtype = types.float32 if in_float32 else types.float64
        if not arrays:
            return dtype
        if len({each.ndim for each in arrays}) > 1 or len(arrays) < len(kinds):
            raise TypingError(f"{self.name}: the arrays must have the same shape, got {kinds}")
        return types.Array(dtype, arrays[0].ndim, "C")

    def get_call_signatures(self) -> Any:
        """Return what an error message lists."""
        return (), True

    def get_impl_key(self, call: Any) -> Any:
        """Return what the implementation is registered under."""
        return self.name

    def _implement(self) -> None:
        """Register what a call compiles to."""
        emitters = {types.Array: _on_arrays, types.Float: _on_scalars}

        def emit(context: Any, builder: Any, call: Any, values: Any) -> Any:
            result = call.return_type[0] if self.outputs > 1 else call.return_type
            on = next(
                (on for kind, on in emitters.items() if isinstance(result, kind)), _on_vectors
            )
            outputs = on(context, builder, self, result, list(zip(call.args, values, strict=True)))
            if self.outputs == 1:
                return outputs[0]
            return context.make_tuple(builder, call.return_type, outputs)

        lower_builtin(self.name, types.VarArg(types.Any))(emit)


def _on_vectors(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Call an operation on vectors or dual numbers; numbers among them are constants."""
    vector = result
    while isinstance(vector, Dual):
        vector = vector.part
    pairs = [
        pair
        if isinstance(pair[0], Vector | Dual)
        else (vector, coerce(context, builder, *_number(context, builder, *pair), vector))
        for pair in operands
    ]
    compute = internal(of.compute())

    @internal
    def apply(operands: Any) -> Any:
        return compute(*operands)

    inputs = types.Tuple([kind for kind, _ in pairs])
    together = context.make_tuple(builder, inputs, [value for _, value in pairs])
    # By the dispatcher, and not by `compile_internal`, whose functions are not always inlined.
    called = types.Dispatcher(apply)
    call = called.get_call_type(context.typing_context, (inputs,), {})
    outputs = context.get_function(called, call)(builder, [together])
    return list(cgutils.unpack_tuple(builder, outputs))


def _on_scalars(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Call an operation on numbers."""
    # LLVM takes 256-bit vectors for loops where it may take 512-bit ones: half the speed of the ufuncs.
    # llvmlite knows only LLVM's own attributes, and this is one of the x86 backend: hence not `add`.
    set.add(builder.function.attributes, f'"prefer-vector-width"="{8 * TARGET.vector_bytes}"')
    return _on_vectors(context, builder, of, Vector(result, 0), operands)


def _on_arrays(context: Any, builder: Any, of: Operation, result: Any, operands: Any) -> list[Any]:
    """Run the loop of an operation on arrays."""
    dtype = as_dtype(result.dtype).type

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
            raise ValueError("the arrays must have the same shape")

    inputs = []
    for kind, value in operands[: of.inputs]:
        is_plain = kind.dtype == result.dtype and kind.layout == "C"
        plain = kind if is_plain else result
        prepare = keep if is_plain else convert
        inputs.append((plain, context.compile_internal(builder, prepare, plain(kind), [value])))
    (first, x), *others = inputs
    for kind, value in others:
        context.compile_internal(builder, check, types.void(first, kind), [x, value])
    outputs = [
        context.compile_internal(builder, allocate, result(first), [x]) for _ in range(of.outputs)
    ]

    vector = Vector(result.dtype, 0)
    places = [context.make_array(kind)(context, builder, value) for kind, value in inputs]
    pointers = [place.data for place in places]
    for pair in operands[of.inputs :]:
        number = coerce(context, builder, *_number(context, builder, *pair), vector)
        pointers.append(cgutils.alloca_once_value(builder, number))
    pointers += [context.make_array(result)(context, builder, array).data for array in outputs]
    storages = (Storage(str(result.dtype)),) * len(pointers)
    loop = elementwise(of.compute(), Operands(storages, of.inputs, len(operands) - of.inputs))
    size = ir.Constant(INDEX, Storage(str(result.dtype)).itemsize)
    is_parameter = range(of.inputs, len(operands))
    steps = [ir.Constant(INDEX, 0) if k in is_parameter else size for k in range(len(pointers))]
    words = types.CPointer(types.intp)
    context.compile_internal(
        builder,
        loop,
        types.void(types.CPointer(types.voidptr), words, words, types.voidptr),
        [
            _in_memory(builder, [builder.bitcast(each, BYTE.as_pointer()) for each in pointers]),
            _in_memory(builder, [places[0].nitems]),
            _in_memory(builder, steps),
            ir.Constant(BYTE.as_pointer(), None),
        ],
    )
    for kind, value in inputs:
        context.nrt.decref(builder, kind, value)
    return outputs


def _number(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any]:
    """Return type and value of a number that may have been left out."""
    if not isinstance(kind, types.Omitted):
        return kind, value
    return types.float64, context.get_constant(types.float64, float(kind.value))


def _in_memory(builder: Any, values: list[Any]) -> Any:
    """Return the address of a new array on the stack."""
    array = cgutils.alloca_once(builder, values[0].type, size=len(values))
    for index, value in enumerate(values):
        builder.store(value, builder.gep(array, [ir.Constant(INDEX, index)]))
    return array


class ActivationType(types.Callable, types.Opaque):
    """An activation, as a type that compiled code can call and whose operations it can."""

    def __init__(self, activation: Any) -> None:
        super().__init__(f"fastact.{_unique_name(activation)}")
        self.operations = {name: _operation(activation, name) for name in activation.ufuncs}

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """Return the signature of a call."""
        return self.operations["forward"].get_call_type(context, args, kws)

    def get_call_signatures(self) -> Any:
        """Return what an error message lists."""
        return self.operations["forward"].get_call_signatures()

    def get_impl_key(self, call: Any) -> Any:
        """Return what the implementation is registered under."""
        return self.operations["forward"].get_impl_key(call)


def _unique_name(activation: Any) -> str:
    """Name an activation with what is bound to it; two of a user's own may share its name."""
    return f"{activation!r}@{id(activation._definition):x}"


def _operation(activation: Any, name: str) -> Operation:
    _, arrays, returns, _ = OPERATIONS[name]
    return Operation(
        f"{_unique_name(activation)}.{name}",
        partial(compute_of, activation._definition, name),
        tuple(each.name for each in arrays),
        dict(activation.parameters),
        len(returns),
    )


register_model(Operation)(models.OpaqueModel)
register_model(ActivationType)(models.OpaqueModel)


@infer_getattr
class _Operations(AttributeTemplate):
    key = ActivationType

    def generic_resolve(self, activation: ActivationType, name: str) -> Any:
        return activation.operations.get(name)


@lower_getattr_generic(ActivationType)
def _(context: Any, builder: Any, kind: Any, value: Any, name: str) -> Any:
    return context.get_dummy_value()


@cache
def type_of_function(function: Callable[..., Any]) -> Operation:
    """Return the type of an elementary function."""

    def compute() -> Callable[..., Any]:
        return lambda x: (function(x),)

    return Operation(f"math.{function.__name__}", compute, ("x",), {}, 1)


# Numba looks for new registrations when it starts to compile; this file may be imported in the midst of it.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
