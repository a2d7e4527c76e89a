"""What the compiler made of the kernels: the widest vectors that the CPU has, and no calls."""

from __future__ import annotations

import re
from functools import partial

import pytest

import fastact as fa
from fastact import kernels
from fastact.activations import PointwiseActivation
from fastact.activations.pointwise import build_loop
from fastact.definitions import catalogue
from fastact.target import TARGET

POINTWISE = [name for name in fa.names() if isinstance(fa.get(name), PointwiseActivation)]
# So long that LLVM leaves some of their functions on vectors to be called.
NOT_INLINED = ("serf", "sine", "snake")
REGISTER = {64: "zmm", 32: "ymm", 16: "xmm"}


@pytest.mark.skipif(not TARGET.is_x86, reason="reads x86 assembly")
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, "float32") for name in POINTWISE] + [(name, "float64") for name in ("elu", "tanh")],
)
def test_widest_vectors_and_no_call(name: str, dtype: str) -> None:
    code = kernels.assembly(partial(build_loop, catalogue()[name], "forward_backward", dtype))
    register = REGISTER[TARGET.vector_bytes]
    packed = re.findall(rf"\tv?\w+p[sd]\t.*%{register}\d+", code)
    assert len(packed) > 10
    # The few calls are those of the entry to the loop and, in long kernels, of the loop for other
    # strides, by their addresses.
    assert re.findall(r"\tcall\w*\t(?!\*)(.*)", code) == []
    assert len(re.findall(r"\tcall\w*\t", code)) <= (7 if name in NOT_INLINED else 3)
    scalar = re.findall(r"\tv?(?:cvtss2sd|cvtsd2ss|exp|div)s[sd]\t.*", code)
    assert scalar == []
