"""PyTorch's OpInfo samples, the inputs that it tests its own functions with: ``python -m tools.foreign_suites.torch``.

For each function that PyTorch has too, by the names that the registry declares, all samples in float32 and float64 with
gradients are called as PyTorch's tests call them. Arguments are passed under fastact's names. A sample passes if value and
gradient agree with PyTorch's to PyTorch's own tolerances; it is skipped if it asks for what fastact does not have, such as
``dtype=``. Prints the counts, and the samples that fail; exits with 1 if any does.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

import fastact as fa
from fastact.backends.torch import functional

# Names of PyTorch's arguments that differ from those of fastact's.
_RENAMED = {"dim": "axis", "keepdim": "keepdims"}
# Arguments that only say how PyTorch computes.
_IGNORED = ("inplace", "_stacklevel", "training")


def _functions() -> dict[str, str]:
    """Return fastact's function of each name of PyTorch's."""
    found = {}
    for name in fa.names():
        theirs = fa.get(name)._definition.elsewhere.get("pytorch")
        if theirs:
            found[theirs] = name
    return found


def _translated(
    name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[Any, dict[str, Any]] | None:
    """Return a call in fastact's terms, or None if it has no equivalent there."""
    function = fa.get(name)
    known = function.operations["forward"].arguments
    given = {_RENAMED.get(key, key): value for key, value in options.items() if key not in _IGNORED}
    if function.kind == "row" and args:
        given |= dict(zip(("axis", "keepdims"), args, strict=False))
        args = ()
    axis = given.get("axis")
    if isinstance(axis, tuple | list):
        given["axis"] = axis[0] if len(axis) == 1 else tuple(axis)
    if function._definition.drawn_between and options.get("training"):
        return None  # random
    if given.get("approximate") == "none" or not given.keys() <= known.keys():
        given.pop("approximate", None)
    if not given.keys() <= known.keys() or any(isinstance(v, torch.dtype) for v in given.values()):
        return None
    return tuple(args), given


def _compared(info: Any, name: str, sample: Any) -> str | None:
    """Return "passed", or what differs, or None if the sample is skipped."""
    call = _translated(name, sample.args, sample.kwargs)
    if call is None or not isinstance(sample.input, torch.Tensor):
        return None
    calls = (info.op, sample.args, sample.kwargs), (getattr(functional, name), *call)
    results = []
    for function, args, options in calls:
        x: Any = sample.input.detach().clone().requires_grad_()
        others = [
            each for each in (*sample.args, *call[1].values()) if isinstance(each, torch.Tensor)
        ]
        y = function(x, *args, **options)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        differentiable = [x, *(each for each in others if each.requires_grad)]
        results.append((y.detach(), torch.autograd.grad(y, differentiable, weights)))
    try:
        torch.testing.assert_close(results[1], results[0], equal_nan=True)
    except AssertionError as error:
        return str(error).strip().splitlines()[0]
    return "passed"


def main() -> int:
    """Run all samples and return the exit status."""
    warnings.simplefilter("ignore")
    functions = _functions()
    print(f"{'function':<16}{'passed':>8}{'failed':>8}{'skipped':>8}")
    total = [0, 0, 0]
    for info in op_db:
        theirs = info.name.removeprefix("nn.functional.").removeprefix("special.")
        if theirs not in functions or info.name in _done:
            continue
        _done.add(info.name)
        counts, said = [0, 0, 0], []
        for dtype in (torch.float32, torch.float64):
            for k, sample in enumerate(info.sample_inputs("cpu", dtype, requires_grad=True)):
                found = _compared(info, functions[theirs], sample)
                counts[2 if found is None else 0 if found == "passed" else 1] += 1
                if found not in (None, "passed"):
                    said.append(f"    {dtype}, sample {k} {sample.args} {sample.kwargs}: {found}")
        print(
            f"{info.name.rpartition('.')[2]:<16}{counts[0]:>8}{counts[1]:>8}{counts[2]:>8}",
            *said,
            sep="\n" if said else "",
        )
        total = [a + b for a, b in zip(total, counts, strict=True)]
    passed, failed, skipped = total
    print(f"without fastact: {passed + failed} passed, 0 failed, {skipped} skipped")
    print(f"with fastact: {passed} passed, {failed} failed, {skipped} skipped")
    return int(total[1] > 0)


_done: set[str] = set()

if __name__ == "__main__":
    sys.exit(main())
