"""What the compiler made of the kernels: the widest vectors that the CPU has, and no calls."""

from __future__ import annotations

import re
from functools import partial

import pytest
from representatives import REPRESENTATIVES

import fastact as fa
from fastact.catalogue import catalogue
from fastact.functions.pointwise import kernel
from fastact.kernels.build import build
from fastact.runtime import loading
from fastact.system.target import TARGET

POINTWISE = [name for name in fa.names("activation") if "derivative" in fa.get(name).operations]
# What a kernel may name: its loop, the copies of what is less than a block, tables, and an instruction that the CPU lacks.
NAMED = re.compile(
    r"_ZN7fastact7kernels|fastact\.copy\.|lookup"
    + ("" if TARGET.has_fma else r"|fastact\.fma\.|fma$")
)
# So long that LLVM leaves some of their functions on vectors to be called.
NOT_INLINED = {"serf", "sine", "snake"}
# Those that stand for all, and those with functions that are easily called instead of inlined.
COMPILED = (*REPRESENTATIVES, "gelu", "mish", "serf", "snake", "softsign")
CASES = [(name, "float32") for name in POINTWISE] + [("elu", "float64"), ("tanh", "float64")]
REGISTER = {64: "zmm", 32: "ymm", 16: "xmm"}


@pytest.mark.skipif(not TARGET.is_x86, reason="reads x86 assembly")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        case if case[0] in COMPILED else pytest.param(*case, marks=pytest.mark.long)
        for case in CASES
    ],
)
def test_widest_vectors_and_no_call(name: str, dtype: str) -> None:
    code = loading.assembly(partial(build, kernel(catalogue()[name], "forward_backward"), dtype))
    register = REGISTER[TARGET.vector_bytes]
    packed = re.findall(rf"\tv?\w+p[sd]\t.*%{register}\d+", code)
    assert len(packed) > 10
    # Calls are by address, of which the names are all there is to see.
    assert re.findall(r"\tcall\w*\t(?!\*)(.*)", code) == []
    named = set(re.findall(r"\$([A-Za-z_][\w.$]*)@", code))
    others = [each for each in named if not NAMED.match(each)]
    assert others == [] or name in NOT_INLINED
    scalar = re.findall(r"\tv?(?:cvtss2sd|cvtsd2ss|exp|div)s[sd]\t.*", code)
    assert scalar == []
