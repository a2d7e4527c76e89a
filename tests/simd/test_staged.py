"""The compiler of kernels' syntax trees: Python's meaning of every construct, and no kernel left to Numba's."""

from __future__ import annotations

import ctypes
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import staged_functions
from fresh_process import assert_clean, run_python
from numba import types

from fastact.runtime import compiler, loading
from fastact.simd.staged import syntax
from fastact.simd.staged.compilation import module_of
from fastact.simd.staged.values import UnsupportedError

_NUMBERS = (-7, -1, 0, 1, 2, 3, 4, 5, 9, 12)
_SIGNATURE = types.int64(types.int64, types.int64)


@pytest.fixture(autouse=True)
def every_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syntax, "_PACKAGE", "")


def compiled(function: Callable[..., Any]) -> Callable[[int, int], int]:
    address = loading.load(None, lambda: function, lambda: _SIGNATURE)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)


@pytest.mark.parametrize("function", staged_functions.FUNCTIONS)
def test_constructs(function: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "_by_numba", None)
    of_machine = compiled(function)
    for a, b in itertools.product(_NUMBERS, repeat=2):
        assert of_machine(a, b) == function(a, b), (a, b)


@pytest.mark.parametrize("function", staged_functions.UNSUPPORTED)
def test_what_it_does_not_know_is_left_to_numba(function: Callable[..., int]) -> None:
    with pytest.raises(UnsupportedError):
        module_of(function, _SIGNATURE)


def test_division_by_zero_is_zero_as_numbas() -> None:
    assert compiled(lambda a, b: a // b + a % b)(5, 0) == 0


def test_a_source_that_has_changed_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "changing_functions.py"
    file.write_text("def function(a, b):\n    return a + b\n")
    monkeypatch.syspath_prepend(tmp_path)
    import changing_functions  # type: ignore[import-not-found]

    file.write_text("def function(a, b):\n    return a - b  \n")
    with pytest.raises(UnsupportedError, match="has changed"):
        module_of(changing_functions.function, _SIGNATURE)
    assert compiled(changing_functions.function)(5, 3) == 8
    del sys.modules["changing_functions"]


def test_nothing_behind_a_false_condition_is_read() -> None:
    function = _last_if_any
    address = loading.load(
        None, lambda: function, lambda: types.int64(types.CPointer(types.int64), types.int64)
    )
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)(address)
    numbers = np.array([4, 5, 6])
    assert call(numbers.ctypes.data, 3) == 6
    assert call(None, 0) == -1


def _last_if_any(numbers: Any, count: int) -> Any:
    if count > 0 and numbers[count - 1] > 5:
        return numbers[count - 1]
    return -1


def test_kernels_do_without_numbas_compiler() -> None:
    """A process that compiles kernels of every schedule never sets up Numba's compiler for the machine."""
    script = """
        import numpy as np
        import fastact as fa
        from numba.core.registry import cpu_target
        x, labels = np.linspace(-3, 3, 40).reshape(4, 10), np.arange(4)
        fa.sigmoid(x), fa.gelu.backward(x, x, bias=x[0]), fa.softmax(x), fa.dropout(x, rng=1), fa.maxout(x, 2)
        fa.glu(x), fa.layer_norm(x), fa.softmax_cross_entropy(x, labels), fa.prelu.backward(x, x, 0.1)
        print("_toplevel_target_context" in vars(cpu_target))
    """
    assert assert_clean(run_python(script, FASTACT_CACHE="")).strip() == "False"


@pytest.mark.long
def test_every_kernel() -> None:
    """The staged compiler knows every kernel, in every type."""
    import guard_pages

    from fastact.kernels.door import _Build
    from fastact.runtime import ufunc

    found: list[_Build] = []
    make = ufunc.make_ufunc

    def making(*arguments: Any) -> Any:
        own = [loop for loop in arguments[5] if not str(loop.name).startswith("custom.")]
        found.extend(loop.build for loop in own)
        return make(*arguments)

    ufunc.make_ufunc = making  # type: ignore[assignment]
    try:
        names = [name for name, _ in guard_pages.ufuncs()]
    finally:
        ufunc.make_ufunc = make
    assert len(found) > len(names)
    for build in found:
        module_of(build(), loading._loop_signature())
