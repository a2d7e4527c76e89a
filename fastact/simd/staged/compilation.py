"""From a function to a module of LLVM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba.core import types

from fastact.simd.staged import calls
from fastact.simd.staged.frame import Frame
from fastact.simd.staged.values import Value, converted, is_known, kind_of, llvm_of, lowered
from fastact.system.target import TARGET, target_machine

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
    module.triple = TARGET.triple
    module.data_layout = str(target_machine().target_data)
    code = _Code(module, SYMBOL, signature.args, signature.return_type)
    code.define(function, code.arguments)
    return str(module)


class _Code:
    """A function of the machine in the making; what it calls is inlined.

    Parameters
    ----------
    module : llvmlite.ir.Module
        Where it is defined.
    name : str
        Its symbol.
    kinds : sequence of Numba types
        Those of its arguments.
    returned : Numba type
        That of its result.

    Attributes
    ----------
    arguments : list of Value
        Its arguments.
    """

    def __init__(self, module: Any, name: str, kinds: Sequence[Any], returned: Any) -> None:
        self._returned = returned
        result = ir.VoidType() if returned == types.void else llvm_of(returned)
        kind = ir.FunctionType(result, [llvm_of(each) for each in kinds])
        self.function = ir.Function(module, kind, name)
        self.function.attributes.add("nounwind")
        # The first block reserves stack space only.
        stack, body = map(self.function.append_basic_block, ("stack", "body"))
        ir.IRBuilder(stack).branch(body)
        self.builder = ir.IRBuilder(body)
        self.arguments = list(map(Value, kinds, self.function.args))

    def define(self, function: Any, arguments: Sequence[Any]) -> None:
        """Let it do what a Python function does."""
        result = calls.call(self, function, tuple(arguments))
        if self._returned == types.void:
            self.builder.ret_void()
        else:
            self.builder.ret(converted(self.builder, result, self._returned))

    def inline(self, function: FunctionType, arguments: tuple[Any, ...], keywords: Any) -> Any:
        """Evaluate a call of a Python function."""
        return Frame(self, function).run(arguments, keywords)

    def outline(self, function: FunctionType, arguments: tuple[Any, ...]) -> None:
        """Call a Python function without a result that becomes a function; known arguments are built into it."""
        module, varying = self.builder.module, [each for each in arguments if not is_known(each)]
        name = module.get_unique_name(function.__name__)
        code = _Code(module, name, list(map(kind_of, varying)), types.void)
        given = iter(code.arguments)
        code.define(function, [each if is_known(each) else next(given) for each in arguments])
        code.function.linkage = "internal"
        code.function.attributes.add("noinline")
        self.builder.call(code.function, [lowered(self.builder, each) for each in varying])
