"""From a function to a module of LLVM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from fastact.simd.staged.evaluator import Evaluator
from fastact.simd.staged.values import CONTEXT, Value, is_known, kind_of, llvm_of, lowered
from fastact.system.target import llvm, target_machine

SYMBOL = "fastact_kernel"


def module_of(function: Callable[..., Any], signature: Any) -> str:
    """Return a module in LLVM's language that defines the function `SYMBOL`.

    Parameters
    ----------
    function : callable
        A function of fastact's own.
    signature : numba signature
        Its types.

    Raises
    ------
    fastact.simd.staged.values.UnsupportedError
        If only Numba compiles it.
    """
    module = ir.Module()
    module.triple = llvm.get_default_triple()
    module.data_layout = str(target_machine().target_data)
    _define(module, SYMBOL, function, signature.args, signature.return_type)
    return str(module)


def _define(module: Any, name: str, function: Any, kinds: Any, returned: Any, known: Any = None) -> Any:
    """Define a function of the machine; return it."""
    has_result = returned.name != "none"
    kind = ir.FunctionType(llvm_of(returned) if has_result else ir.VoidType(), [llvm_of(each) for each in kinds])
    defined = ir.Function(module, kind, name)
    defined.attributes.add("nounwind")
    entry = defined.append_basic_block("entry")  # of stack space only
    body = defined.append_basic_block("body")
    ir.IRBuilder(entry).branch(body)
    builder = ir.IRBuilder(body)
    values = [Value(*pair) for pair in zip(kinds, defined.args, strict=True)]
    arguments = known(values) if known else values
    result = Evaluator(builder, _outline).call(function, *arguments)
    if has_result:
        builder.ret(CONTEXT.cast(builder, lowered(builder, result), kind_of(result), returned))
    else:
        builder.ret_void()
    return defined


def _outline(evaluator: Evaluator, function: Any, arguments: tuple[Any, ...]) -> None:
    """Emit a call of a function without a result; known arguments are built into it."""
    builder = evaluator.builder
    varying = [each for each in arguments if not is_known(each)]
    module = builder.module

    def restored(values: list[Value]) -> list[Any]:
        given = iter(values)
        return [each if is_known(each) else next(given) for each in arguments]

    name = module.get_unique_name(function.__name__)
    kinds = [kind_of(each) for each in varying]
    defined = _define(module, name, function, kinds, types.void, restored)
    defined.linkage = "internal"
    defined.attributes.add("noinline")
    builder.call(defined, [lowered(builder, each) for each in varying])
