"""Record the bits of every result: run before a change that must not alter any, and after it.

    python tools/record_bits.py before.json
    python tools/record_bits.py after.json --against before.json

Each function of the catalogue is called on random bit patterns and on normal numbers, in every dtype, for every
operation, and in float32 on other layouts and with its options; the SHA-256 of what comes back is what is recorded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastact as fa
from fastact import math
from fastact.catalogue.definition import LAYERS, ElementwiseLossDefinition

Case = tuple[str, Callable[[], Any]]

_SIZE = 4099  # prime: blocks, registers and a tail
_DTYPES = ("float16", "float32", "float64", "bfloat16")
_CONVENTIONS = ("jax", "tensorflow", "thinc", "chainer")


def _generator(label: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(label.encode()))


def _dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def _data(label: str, kind: str, shape: tuple[int, ...], dtype: str) -> Any:
    generator, wanted = _generator(label), _dtype(dtype)
    if kind == "normal":
        return (generator.standard_normal(shape) * 3).astype(wanted)
    size = int(np.prod(shape)) * wanted.itemsize
    return np.frombuffer(generator.bytes(size), wanted).reshape(shape)


def _layouts(x: Any) -> Iterator[tuple[str, Any]]:
    """Yield the same elements in other layouts."""
    spread = np.zeros((*x.shape[:-1], 3 * x.shape[-1]), x.dtype)
    spread[..., ::3] = x
    yield "strided", spread[..., ::3]
    yield "reversed", x[..., ::-1].copy()[..., ::-1]
    yield "fortran", np.asfortranarray(x)
    memory = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = memory[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    yield "unaligned", unaligned
    yield "swapped", x.astype(x.dtype.newbyteorder())


def _pointwise(name: str) -> Iterator[Case]:
    f = fa.get(name)
    required = {p: 0.3 for p, value in f.parameters.items() if isinstance(value, type)}
    for operation in f.ufuncs:
        call = f if operation == "forward" else getattr(f, operation)
        arrays = 2 if "backward" in operation else 1
        for dtype in _DTYPES:
            for kind in ("bits", "normal"):
                label = f"{name}.{operation}.{dtype}.{kind}"
                given = [_data(f"{label}.{k}", kind, (_SIZE,), dtype) for k in range(arrays)]
                yield label, partial(call, *given, **required)
        x = _data(f"{name}.{operation}", "normal", (37, 41), "float32")
        y = _data(f"{name}.{operation}.second", "normal", (37, 41), "float32")
        for layout, view in _layouts(x):
            given = [view, y][:arrays]
            yield (
                f"{name}.{operation}.{layout}",
                partial(call, *given, **required),
            )
    x, dy = (_data(f"{name}.{k}", "normal", (6, 7, 300), "float32") for k in range(2))
    for convention in _CONVENTIONS:
        yield (
            f"{name}.convention.{convention}",
            partial(_in_convention, f, x, convention, required),
        )
    for learnable in f.learnable:
        for axis, length in ((0, 6), (1, 7), (2, 300)):
            weight = _data(f"{name}.weight", "normal", (length,), "float32")
            options: dict[str, Any] = {learnable: weight, "axis": axis}
            yield f"{name}.channels.{axis}", partial(f, x, **options)
            yield f"{name}.channels.backward.{axis}", partial(f.backward, dy, x, **options)
            yield (
                f"{name}.channels.forward_backward.{axis}",
                partial(f.forward_backward, x, dy, **options),
            )
        yield f"{name}.one", partial(f.backward, dy, x, **{learnable: 0.3})
        required = {}
    if learnable_or_random(f):
        return
    bias = _data(f"{name}.bias", "normal", (7,), "float32")
    for fused, options in (
        ("bias", {"bias": bias, "axis": 1}),
        ("dropout", {"dropout": 0.3, "rng": 11}),
        ("bias_dropout", {"bias": 0.5, "dropout": 0.3, "rng": 11}),
    ):
        yield f"{name}.{fused}", partial(f, x, **options)
        yield f"{name}.{fused}.backward", partial(f.backward, dy, x, **options)
        yield (
            f"{name}.{fused}.residual",
            partial(f.forward_backward, x, dy, residual=dy, **options),
        )


def _in_convention(f: Any, x: Any, convention: str, required: dict[str, float]) -> Any:
    options = {"convention": convention} | required
    return f(x, **options), f.derivative(x, **options)


def learnable_or_random(f: Any) -> bool:
    """Whether fused options do not go with this function."""
    return bool(f.learnable or f._definition.drawn_between)


def _groups(name: str) -> Iterator[Case]:
    f = fa.get(name)
    for dtype in _DTYPES:
        for kind in ("bits", "normal"):
            for pieces in (1, 2, 3, 4, 7):
                label = f"{name}.{dtype}.{kind}.{pieces}"
                x = _data(label, kind, (19, pieces * 13), dtype)
                dy = _data(f"{label}.dy", kind, (19, 13), dtype)

                def run(x: Any = x, dy: Any = dy, pieces: int = pieces) -> Any:
                    y, which = f.forward_with_index(x, pieces)
                    return (
                        f(x, pieces),
                        y,
                        which,
                        f.backward(dy, which, pieces),
                        f.forward_backward(x, dy, pieces),
                    )

                yield label, run
    x = _data(name, "normal", (6, 8, 10), "float32")
    for layout, view in _layouts(x):
        for axis in (0, 1, 2):
            yield (
                f"{name}.{layout}.{axis}",
                partial(f.forward_with_index, view, 2, axis=axis),
            )


def _rows(name: str) -> Iterator[Case]:
    f = fa.get(name)
    random = {"rng": 5} if name.startswith("gumbel") else {}
    is_reduced = np.ndim(f(np.zeros((2, 3), np.float32), **random)) == 1

    def run(x: Any, dy: Any, **options: Any) -> Any:
        masked = options.pop("where", None)
        mask = {} if masked is None else {"where": masked}
        y = f(x, **options, **mask, **random)
        found = [y, f.forward_backward(x, dy, **options, **mask, **random)]
        found.append(f.backward(dy, x if is_reduced else y, **options))
        return found

    for dtype in _DTYPES:
        for kind in ("bits", "normal"):
            for length in (1, 5, 33, 129, 1000, 40_000):
                label = f"{name}.{dtype}.{kind}.{length}"
                x = _data(label, kind, (3, length), dtype)
                dy = _data(f"{label}.dy", kind, (3,) if is_reduced else x.shape, dtype)
                yield label, partial(run, x, dy)
                if length in (5, 1000):
                    yield f"{label}.T", partial(run, x, dy, temperature=0.7)
    x = _data(name, "normal", (6, 8, 10), "float32")
    masks = _generator(name).random(x.shape) < 0.6
    for axis in (0, 1, 2, (0, 2), None):
        dy = np.asarray(f(x, axis, **random))
        for layout, view in _layouts(x):
            yield f"{name}.{layout}.{axis}", partial(run, view, dy, axis=axis)
        yield (
            f"{name}.where.{axis}",
            partial(f.forward_backward, x, dy, axis=axis, where=masks, **random),
        )
    lengths = [3, 0, 4, 1]
    dy = np.asarray(f(x, 1, lengths=lengths, **random))
    yield f"{name}.lengths", partial(run, x, dy, axis=1, lengths=lengths)


def _layer(name: str) -> Iterator[Case]:
    layer = fa.get(name)
    for dtype in _DTYPES:
        for kind in ("bits", "normal"):
            label = f"{name}.{dtype}.{kind}"
            x = _data(label, kind, (18, 34), dtype)
            dy = _data(f"{label}.dy", kind, (18, 34), dtype)
            yield label, partial(_calls, layer, name, x, dy, dtype)
    x = _data(name, "normal", (18, 34), "float32")
    for layout, view in _layouts(x):
        dy = _data(f"{name}.{layout}", "normal", x.shape, "float32")
        yield f"{name}.{layout}", partial(_calls, layer, name, view, dy, "float32")


def _calls(layer: Any, name: str, x: Any, dy: Any, dtype: str) -> Any:
    """Call a layer in every way that it has."""
    generator = _generator(name)
    if "dropout" in name:
        return (
            layer(x, 0.3, rng=7),
            layer.backward(dy, 0.3, rng=7),
            layer.forward_backward(x, dy, 0.3, rng=7),
        )
    if name == "crelu":
        wide = np.concatenate([dy, dy], axis=-1)
        return layer(x), layer.backward(wide, x), layer.forward_backward(x, wide)
    if name == "sigmoid_binary_cross_entropy":
        targets = generator.random(x.shape).astype(_dtype(dtype))
        weight = generator.random(x.shape[-1])
        return [
            layer.forward_backward(x, targets, reduction=reduction, pos_weight=pos_weight)
            for reduction in ("mean", "sum", "none")
            for pos_weight in (None, weight)
        ]
    if isinstance(layer._definition, ElementwiseLossDefinition):
        targets = generator.random(x.shape).astype(_dtype(dtype))
        return [
            layer.forward_backward(x, targets, reduction=reduction, weight=weight)
            for reduction in ("mean", "sum", "none")
            for weight in (None, targets, targets[:1])
        ]
    if layer.kind == "loss":
        classes = x.shape[-1]
        labels = generator.integers(0, classes, len(x))
        labels[3] = -100
        shares = generator.random((len(x), classes)).astype(_dtype(dtype))
        is_linear = name.startswith("linear")
        arrays = (x, generator.standard_normal((classes, classes)).astype(_dtype(dtype)))
        weight = {"class_weight" if is_linear else "weight": generator.random(classes)}
        return [
            layer.forward_backward(*arrays[: 1 + is_linear], targets, **options)
            for targets in (labels, shares)
            for options in (
                {},
                weight,
                {"label_smoothing": 0.1} | weight,
                {"reduction": "none"},
                {"reduction": "sum"},
            )
        ]
    if layer.kind == "normalization":
        given = {"weight": x[0], "bias": dy[0]}
        given = {
            each: given[each] for each in given if each in layer.operations["forward"].option_names
        }
        return [
            (
                layer(x, **options),
                layer.forward_backward(x, dy, **options),
                layer.backward(dy, x, **options),
            )
            for options in ({}, given)
        ]
    if layer.kind == "cell":
        n = x.shape[-1] // 12
        gates, state, d = x[:, : 12 * n], x[:, 9 * n : 12 * n], dy[:, : 3 * n]
        if name == "lstm_cell":
            return layer(gates, state), layer.backward(d, state, gates, state, order="fgio")
        gates = gates[:, : 9 * n], dy[:, : 9 * n], state
        return layer(*gates), layer.backward(d, *gates, order="zrn")
    half = x.shape[-1] // 2
    first, second, d = x[:, :half], x[:, half:], dy[:, :half]
    return (
        layer(x),
        layer.backward(d, x),
        layer.forward_backward(x, d),
        layer.forward_backward(x, d, interleaved=True),
        layer.forward_backward(first, second, d),
        layer.forward_backward(x, d, gate="second"),
        layer(x, axis=0),
    )


def cases() -> Iterator[Case]:
    """Yield a label and a call for each result."""
    for name in fa.names("activation"):
        f = fa.get(name)
        yield from _groups(name) if "pieces" in f.parameters else _pointwise(name)
    for name in fa.names("row"):
        yield from _rows(name)
    for name in fa.names(*LAYERS):
        yield from _layer(name)
    for name in math.__all__:
        if name == "where":
            continue
        function = getattr(math, name)
        for dtype in _DTYPES:
            x = _data(f"math.{name}.{dtype}", "bits", (_SIZE,), dtype)
            yield f"math.{name}.{dtype}", partial(function, x)


def _digest(result: Any) -> str:
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, tuple | list):
            for each in value:
                add(each)
            return
        array = np.asarray(value)
        digest.update(f"{array.dtype.name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())

    add(result)
    return digest.hexdigest()[:16]


def record() -> dict[str, str]:
    """Return the digest of every result by its label; what raises is recorded by its class."""
    found = {}
    with np.errstate(all="ignore"):
        for label, call in cases():
            try:
                found[label] = _digest(call())
            except (TypeError, ValueError) as error:
                found[label] = f"{type(error).__name__}: {error}"
    return found


def main() -> int:
    """Write the record, and say what differs from another."""
    parser = argparse.ArgumentParser(description="Record the bits of every result.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    found = record()
    options.file.write_text(json.dumps(found, indent=0))
    print(f"{len(found)} results recorded")
    if options.against is None:
        return 0
    before = json.loads(options.against.read_text())
    changed = [label for label in before if found.get(label) != before[label]]
    for label in changed:
        print(f"changed: {label}: {before[label]} -> {found.get(label)}")
    print(f"{len(changed)} of {len(before)} differ")
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main())
