"""The ufuncs of activations of every kind do what NumPy's own ufuncs do, on every kind of array.

Expected values are float64 formulas that are written here a second time.
"""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from representatives import REPRESENTATIVES

import fastact as fa
import fastact.ufuncs

Array = NDArray[Any]

DTYPES = [np.float16, np.float32, np.float64]
OUTPUTS = {
    "forward": ["value"],
    "derivative": ["derivative"],
    "value_and_derivative": ["value", "derivative"],
    "backward": ["gradient"],
    "forward_backward": ["value", "gradient"],
    "backward_from_output": ["gradient"],
}
NOT_COMPUTED = 77.0  # what outputs hold before a call


class Formulas:
    """The value and the derivative of each activation."""

    @staticmethod
    def sigmoid(x: Array) -> tuple[Array, Array]:
        """Go by the negative side, where no exponential overflows."""
        e = np.exp(-np.abs(x))
        return np.where(x < 0, e, 1) / (1 + e), e / (1 + e) ** 2

    @staticmethod
    def tanh(x: Array) -> tuple[Array, Array]:
        """Take the derivative from cosh, without cancellation."""
        return np.tanh(x), np.cosh(np.clip(x, -300, 300)) ** -2.0

    @staticmethod
    def relu(x: Array) -> tuple[Array, Array]:
        """Cut the negative side off."""
        return np.maximum(x, 0), np.where(x > 0, 1.0, 0.0)

    @staticmethod
    def leaky_relu(x: Array, negative_slope: Array) -> tuple[Array, Array]:
        """Bend at 0."""
        slope = np.where(x > 0, 1.0, negative_slope)
        return slope * x, slope

    prelu = leaky_relu

    @staticmethod
    def elu(x: Array, alpha: Array) -> tuple[Array, Array]:
        """Saturate at -alpha."""
        low = np.minimum(x, 0)
        return np.where(x > 0, x, alpha * np.expm1(low)), np.where(x > 0, 1, alpha * np.exp(low))


class FromOutput:
    """The derivative of each activation as a function of its value."""

    sigmoid = staticmethod(lambda y: y * (1 - y))
    tanh = staticmethod(lambda y: (1 - y) * (1 + y))
    relu = staticmethod(lambda y: np.where(y > 0, 1.0, 0.0))
    leaky_relu = staticmethod(lambda y, negative_slope: np.where(y > 0, 1.0, negative_slope))
    prelu = leaky_relu
    elu = staticmethod(lambda y, alpha: np.where(y > 0, 1, y + alpha))


@dataclass(frozen=True)
class Case:
    """One ufunc."""

    activation: str
    operation: str

    def __str__(self) -> str:
        return f"{self.activation}.{self.operation}"

    @property
    def ufunc(self) -> np.ufunc:
        """The ufunc itself."""
        return fa.get(self.activation).ufuncs[self.operation]

    @property
    def inputs(self) -> list[str]:
        """The names of its inputs."""
        parameters = inspect.signature(self.ufunc).parameters.values()
        return [each.name for each in parameters if each.kind is each.POSITIONAL_ONLY]

    def arrays(self, dtype: Any, shape: Any, seed: int = 0) -> list[Array]:
        """Return an array for each input, no two the same."""
        rng = np.random.default_rng(seed)
        parameters = fa.get(self.activation).parameters
        return [
            np.asarray(
                rng.uniform(0.1, 1.5, shape) if name in parameters else rng.normal(0, 3, shape)
            ).astype(dtype)
            for name in self.inputs
        ]

    def expected(self, *inputs: Any) -> list[Array]:
        """Return the outputs in float64."""
        named = {
            name: np.asarray(value, np.float64)
            for name, value in zip(self.inputs, inputs, strict=True)
        }
        dy, x, y = (named.pop(name, None) for name in ("dy", "x", "y"))
        results = {}
        if x is None:
            results["derivative"] = getattr(FromOutput, self.activation)(y, *named.values())
        else:
            formula = getattr(Formulas, self.activation)
            results["value"], results["derivative"] = formula(x, *named.values())
        if dy is not None:
            results["gradient"] = dy * results["derivative"]
        return [results[name] for name in OUTPUTS[self.operation]]

    def check(self, outputs: Any, inputs: Any, dtype: Any) -> None:
        """Compare what the ufunc gave for these inputs with the formula."""
        for output, wanted in zip(as_tuple(outputs), self.expected(*inputs), strict=True):
            assert output.dtype == dtype
            assert_close(output, np.broadcast_to(wanted, output.shape), dtype)

    def __call__(self, *inputs: Any, **options: Any) -> tuple[Any, ...]:
        """Call the ufunc and return a tuple in any case."""
        return as_tuple(self.ufunc(*inputs, **options))


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_close(actual: Any, expected: Array, dtype: Any) -> None:
    """Compare within a few roundings of a type."""
    limits = np.finfo(dtype)
    np.testing.assert_allclose(
        np.asarray(actual, np.float64),
        expected,
        rtol=16 * float(limits.eps),
        atol=2 * float(limits.smallest_subnormal),
    )


# The second derivative is one more ufunc of one input: `test_catalogue` has it.
ALL = [
    Case(name, operation)
    for name in REPRESENTATIVES
    for operation in fa.get(name).ufuncs
    if operation != "second_derivative"
]
ELEMENTWISE = [case for case in ALL if case.ufunc.signature is None]
UNARY = [case for case in ELEMENTWISE if case.ufunc.nin == 1]
FORWARD = [case for case in ELEMENTWISE if case.operation == "forward"]
SINGLE = [case for case in ELEMENTWISE if case.ufunc.nout == 1]
PAIRS = [case for case in ELEMENTWISE if case.operation == "forward_backward"]

# The object of a learnable parameter returns that parameter's gradient too; it has a test of its own.
SAME_RESULTS_BY_OBJECT = [
    case
    for case in ELEMENTWISE
    if not bool(fa.get(case.activation).learnable)
    or case.operation not in ("backward", "forward_backward")
]

every_ufunc = pytest.mark.parametrize("case", ALL, ids=str)
every_elementwise_ufunc = pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


@pytest.fixture(params=[1, 2], ids=["one_thread", "two_threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set the number of threads."""
    before = fa.get_num_threads()
    if request.param > len(os.sched_getaffinity(0)):
        pytest.skip("this process has one CPU")
    fa.set_num_threads(request.param)
    yield request.param
    fa.set_num_threads(before)


# What help and an editor show, and what pickle needs.


@every_ufunc
def test_is_a_numpy_ufunc(case: Case) -> None:
    assert isinstance(case.ufunc, np.ufunc)
    assert case.ufunc is fa.get(case.activation).ufuncs[case.operation]


@every_elementwise_ufunc
def test_has_an_input_for_each_array_and_parameter(case: Case) -> None:
    arrays = [name for name in ("dy", "x", "y") if name in case.inputs]
    assert case.inputs[len(arrays) :] == list(fa.get(case.activation).parameters)
    assert case.ufunc.nin == len(case.inputs)
    assert case.ufunc.nout == len(OUTPUTS[case.operation])
    assert ("dy" in case.inputs) == ("back" in case.operation)
    assert ("y" in case.inputs) == (case.operation == "backward_from_output")


def test_forward_backward_has_two_inputs_and_two_outputs() -> None:
    ufunc = fa.sigmoid.ufuncs["forward_backward"]
    assert isinstance(ufunc, np.ufunc)
    assert (ufunc.nin, ufunc.nout) == (2, 2)


def test_gradient_first_in_backward_and_input_first_in_forward_backward() -> None:
    assert Case("sigmoid", "backward").inputs == ["dy", "x"]
    assert Case("sigmoid", "forward_backward").inputs == ["x", "dy"]
    assert Case("sigmoid", "backward_from_output").inputs == ["dy", "y"]


@every_elementwise_ufunc
def test_types(case: Case) -> None:
    parameters = len(fa.get(case.activation).parameters)
    arrays, nout = case.ufunc.nin - parameters, case.ufunc.nout
    assert case.ufunc.types == [
        f"{letter * arrays}{wide * parameters}->{letter * nout}"
        for letter, wide in ("ef", "ff", "dd")  # parameters are not rounded to half types
    ]


@every_ufunc
def test_name_and_module(case: Case) -> None:
    name = case.activation if case.operation == "forward" else f"{case.activation}_{case.operation}"
    assert case.ufunc.__name__ == name
    assert case.ufunc.__module__ == "fastact.ufuncs"
    assert getattr(fastact.ufuncs, name) is case.ufunc
    assert name in dir(fastact.ufuncs)


@every_ufunc
def test_docstring_says_what_it_computes(case: Case) -> None:
    assert case.ufunc.__doc__ is not None
    assert repr(case.activation) in case.ufunc.__doc__


@every_ufunc
def test_signature(case: Case) -> None:
    signature = inspect.signature(case.ufunc)
    options = list(signature.parameters)[case.ufunc.nin :]
    assert len(case.inputs) == case.ufunc.nin
    assert options[0] == "out"
    assert {"dtype", "casting", "order", "subok"} <= set(options)
    assert ("where" in options) == (case.ufunc.signature is None)
    outputs = signature.parameters["out"].default
    assert outputs == (None if case.ufunc.nout == 1 else (None,) * case.ufunc.nout)


@every_ufunc
def test_pickles(case: Case) -> None:
    assert pickle.loads(pickle.dumps(case.ufunc)) is case.ufunc
    assert copy.deepcopy(case.ufunc) is case.ufunc


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_activations_pickle(name: str) -> None:
    assert pickle.loads(pickle.dumps(fa.get(name))) is fa.get(name)
    assert copy.deepcopy(fa.get(name)) is fa.get(name)


def test_pickles_load_in_a_fresh_process() -> None:
    activations = [fa.get(name) for name in REPRESENTATIVES]
    cargo = pickle.dumps(([case.ufunc for case in ALL], activations))
    program = (
        "import pickle, sys; ufuncs, activations = pickle.load(sys.stdin.buffer);"
        "print(*(ufunc.__name__ for ufunc in ufuncs)); print(*(each.name for each in activations))"
    )
    done = subprocess.run([sys.executable, "-c", program], input=cargo, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    ufuncs, names = (line.split() for line in done.stdout.decode().splitlines())
    assert ufuncs == [case.ufunc.__name__ for case in ALL]
    assert names == list(REPRESENTATIVES)


# Layouts of the inputs.


def _strided(step: int) -> Callable[[Array], Array]:
    def layout(array: Array) -> Array:
        wide = np.full((*array.shape[:-1], array.shape[-1] * abs(step)), np.nan, array.dtype)
        view = wide[..., ::step]
        view[...] = array
        return view

    return layout


def _slice_of_3d(array: Array) -> Array:
    box = np.full([n + 2 for n in array.shape], np.nan, array.dtype)
    view = box[tuple(slice(1, -1) for _ in array.shape)]
    view[...] = array
    return view


def _moved_axes(array: Array) -> Array:
    return np.moveaxis(np.moveaxis(array, 0, -1).copy(), -1, 0)


def _unaligned(array: Array) -> Array:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def _swapped(array: Array) -> Array:
    return array.astype(array.dtype.newbyteorder())


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


def _column(array: Array) -> Array:
    matrix = np.full((*array.shape, 5), np.nan, array.dtype)
    matrix[..., 2] = array
    return matrix[..., 2]


def _field(align: bool) -> Callable[[Array], Array]:
    def layout(array: Array) -> Array:
        kind = np.dtype([("a", "u1"), ("b", array.dtype), ("c", "u1")], align=align)
        records = np.zeros(array.shape, kind)
        records["b"] = array
        return records["b"]

    return layout


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "contiguous": np.copy,
    "fortran": np.asfortranarray,
    "every_second": _strided(2),
    "every_seventh": _strided(7),
    "reversed": _strided(-1),
    "reversed_every_third": _strided(-3),
    "all_reversed": lambda array: np.flip(np.flip(array).copy()),
    "slice": _slice_of_3d,
    "moved_axes": _moved_axes,
    "column": _column,
    "unaligned": _unaligned,
    "packed_field": _field(align=False),
    "aligned_field": _field(align=True),
    "swapped": _swapped,
    "read_only": _read_only,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_dtype
@every_elementwise_ufunc
def test_layouts(case: Case, dtype: Any, layout: str) -> None:
    arrays = case.arrays(dtype, (3, 4, 37))
    inputs = [LAYOUTS[layout](array) for array in arrays]
    outputs = case(*inputs)
    for output in outputs:
        assert output.shape == (3, 4, 37)
    case.check(outputs, arrays, dtype)


@every_dtype
@every_elementwise_ufunc
def test_a_different_layout_for_each_input(case: Case, dtype: Any) -> None:
    layouts = list(LAYOUTS.values())
    for first in range(len(layouts)):
        arrays = case.arrays(dtype, (3, 4, 37), seed=first)
        inputs = [
            layouts[(first + 5 * number) % len(layouts)](array)
            for number, array in enumerate(arrays)
        ]
        case.check(case(*inputs), arrays, dtype)


@every_elementwise_ufunc
def test_the_result_keeps_the_order(case: Case) -> None:
    c = case.arrays(np.float32, (4, 5, 6))
    f = [np.asfortranarray(array) for array in c]
    for output in case(*f):
        assert output.flags.f_contiguous
        assert not output.flags.c_contiguous
    for output in case(*c):
        assert output.flags.c_contiguous
    for output in case(*c, order="F"):
        assert output.flags.f_contiguous
    for output in case(*f, order="C"):
        assert output.flags.c_contiguous
    transposed = [array.transpose(1, 0, 2) for array in c]
    for output in case(*transposed):
        assert output.transpose(1, 0, 2).flags.c_contiguous


@every_dtype
@every_elementwise_ufunc
def test_0d_arrays_and_scalars_give_scalars(case: Case, dtype: Any) -> None:
    arrays = case.arrays(dtype, ())
    for inputs in (arrays, [array[()] for array in arrays]):
        outputs = case(*inputs)
        case.check(outputs, arrays, dtype)
        for output in outputs:
            assert type(output) is dtype
    out = tuple(np.empty((), dtype) for _ in range(case.ufunc.nout))
    for result, given in zip(case(*arrays, out=out), out, strict=True):
        assert result is given
    case.check(out, arrays, dtype)


@every_elementwise_ufunc
def test_python_numbers_and_lists(case: Case) -> None:
    numbers = [float(array) for array in case.arrays(np.float64, ())]
    for output in case(*numbers):
        assert type(output) is np.float64
    case.check(case(*numbers), numbers, np.float64)
    lists = [array.tolist() for array in case.arrays(np.float64, (3, 5))]
    case.check(case(*lists), lists, np.float64)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 5)], ids=str)
@every_dtype
@every_elementwise_ufunc
def test_empty(case: Case, dtype: Any, shape: tuple[int, ...]) -> None:
    for output in case(*case.arrays(dtype, shape)):
        assert output.shape == shape
        assert output.dtype == dtype
    for output in case(*(array[::-1] for array in case.arrays(dtype, shape))):
        assert output.shape == shape


BROADCAST = [
    [(4, 1, 33), (1, 5, 1), (33,)],
    [(33,), (5, 33), (4, 1, 1)],
    [(), (7, 40), (40,)],
    [(7, 40), (), ()],
    [(7, 40), (40,), (7, 1)],
    [(7, 40), (7, 1), (40,)],
    [(2, 1), (1, 3), (1, 1)],
    [(1, 1), (1, 70), (50, 1)],
]


@pytest.mark.parametrize("shapes", BROADCAST, ids=str)
@every_dtype
@every_elementwise_ufunc
def test_broadcasting(case: Case, dtype: Any, shapes: list[tuple[int, ...]]) -> None:
    arrays = [
        case.arrays(dtype, shape, seed)[seed]
        for seed, shape in zip(range(case.ufunc.nin), shapes, strict=False)
    ]
    outputs = case(*arrays)
    assert outputs[0].shape == np.broadcast_shapes(*(array.shape for array in arrays))
    case.check(outputs, arrays, dtype)


@every_dtype
@every_elementwise_ufunc
def test_stride_0(case: Case, dtype: Any) -> None:
    for repeated in range(case.ufunc.nin):
        arrays = case.arrays(dtype, (3, 41), seed=repeated)
        arrays[repeated] = np.broadcast_to(arrays[repeated][:1, :1], (3, 41))
        case.check(case(*arrays), arrays, dtype)
    arrays = [np.broadcast_to(array, (3, 41)) for array in case.arrays(dtype, ())]
    case.check(case(*arrays), arrays, dtype)


@every_dtype
@every_elementwise_ufunc
def test_parameters_of_every_kind(case: Case, dtype: Any) -> None:
    parameters = fa.get(case.activation).parameters
    full = case.arrays(dtype, (5, 67))
    kinds: dict[str, Callable[[Array], Any]] = {
        "contiguous": lambda array: array,
        "strided": _strided(2),
        "reversed": _strided(-1),
        "row": lambda array: array[0],
        "strided_row": lambda array: _strided(3)(array)[0],
        "column": lambda array: array[:, :1],
        "0-d": lambda array: array[0, 0].reshape(()),
        "scalar": lambda array: array[0, 0],
        "repeated": lambda array: np.broadcast_to(array[0, 0], array.shape),
        "swapped": _swapped,
        "unaligned": _unaligned,
    }
    for kind in kinds.values() if parameters else ():
        inputs = [
            kind(array) if name in parameters else array
            for name, array in zip(case.inputs, full, strict=True)
        ]
        case.check(case(*inputs), inputs, dtype)


# Types.

INTEGERS = [np.bool_, *(np.dtype(f"{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8))]


def integers(dtype: Any) -> Array:
    """Return small whole numbers, negative ones too where the type has them."""
    low = -6 if np.dtype(dtype).kind == "i" else 0
    return np.arange(low, low + 13).astype(dtype)


@pytest.mark.parametrize("integer", INTEGERS, ids=lambda integer: np.dtype(integer).name)
@every_elementwise_ufunc
def test_integers_become_the_float_type_of_numpy(case: Case, integer: Any) -> None:
    x = integers(integer)
    parameters = fa.get(case.activation).parameters
    same = (x,) * case.ufunc.nin
    case.check(case(*same), same, np.tanh(x).dtype)
    # NumPy takes the smallest float that holds integers, but float64 beside a Python float.
    inputs = [0.5 if name in parameters else x for name in case.inputs]
    dtype = np.arctan2(x, 0.5).dtype if parameters else np.tanh(x).dtype
    case.check(case(*inputs), inputs, dtype)
    for output in case(*(0.5 if name in parameters else x[1] for name in case.inputs)):
        assert type(output) is dtype.type


@pytest.mark.parametrize("integer", INTEGERS, ids=lambda integer: np.dtype(integer).name)
@pytest.mark.parametrize("case", FORWARD, ids=str)
def test_parameters_at_their_defaults_do_not_change_what_integers_become(
    case: Case, integer: Any
) -> None:
    x = integers(integer)
    activation = fa.get(case.activation)
    numbers = {
        name: 0.25 if default is inspect.Parameter.empty else default
        for name, default in activation.parameters.items()
    }
    needed = {
        name: numbers[name]
        for name, default in activation.parameters.items()
        if default is inspect.Parameter.empty
    }
    case.check(activation(x, **needed), (x, *numbers.values()), np.tanh(x).dtype)


@pytest.mark.parametrize("first", [*DTYPES, *INTEGERS], ids=lambda dtype: np.dtype(dtype).name)
def test_mixed_types_go_to_the_type_of_numpy(first: Any) -> None:
    case = Case("sigmoid", "backward")
    for second in (*DTYPES, *INTEGERS):
        inputs = [np.array([0, 1, 3], first), np.array([1, 0, 2], second)]
        case.check(case(*inputs), inputs, np.arctan2(*inputs).dtype)


@every_elementwise_ufunc
def test_dtype_option(case: Case) -> None:
    for given in DTYPES:
        for wanted in DTYPES:
            if wanted is np.float16 is not given and fa.get(case.activation).parameters:
                continue  # in loops of mixed types NumPy casts inputs only to wider types
            inputs = case.arrays(given, (3, 21))
            outputs = case(*inputs, dtype=wanted)
            case.check(outputs, [array.astype(wanted) for array in inputs], wanted)


@pytest.mark.parametrize("casting", ["no", "equiv", "safe", "same_kind", "unsafe"])
def test_casting_option(casting: Any) -> None:
    out = np.empty(9, np.float16)
    for dtype in (np.dtype("f4"), np.dtype("f4").newbyteorder(), np.dtype("i2"), np.dtype("f8")):
        for options in ({}, {"out": out}, {"dtype": np.float32}):
            x = np.arange(9).astype(dtype)
            answers = []
            for ufunc in (np.tanh, fa.tanh.ufuncs["forward"], fa.tanh):
                try:
                    answers.append(ufunc(x, casting=casting, **options).dtype)  # type: ignore[operator]
                except TypeError:
                    answers.append(TypeError)
            assert answers == answers[:1] * 3


@pytest.mark.parametrize("signature", ["e->e", "f->f", "d->d", (np.float32, np.float32)])
def test_signature_option(signature: Any) -> None:
    x = np.linspace(-3, 3, 20)
    expected = np.tanh(x, signature=signature, casting="same_kind").dtype
    assert fa.tanh(x, signature=signature, casting="same_kind").dtype == expected


@every_dtype
@every_elementwise_ufunc
def test_python_numbers_are_weak(case: Case, dtype: Any) -> None:
    parameters = fa.get(case.activation).parameters
    arrays = case.arrays(dtype, (20,))
    for number in (0.3, 1):
        inputs = [
            number if name in parameters else array
            for name, array in zip(case.inputs, arrays, strict=True)
        ]
        rounded = [dtype(value) if value is number else value for value in inputs]
        case.check(case(*inputs), rounded, dtype)
        scalars = [
            number if name in parameters else array[0]
            for name, array in zip(case.inputs, arrays, strict=True)
        ]
        for output in case(*scalars):
            assert type(output) is dtype
    for name in parameters:
        inputs[case.inputs.index(name)] = np.float64(0.3)
        for output in case(*inputs):
            assert output.dtype == np.float64


@every_dtype
@pytest.mark.parametrize("case", SAME_RESULTS_BY_OBJECT, ids=str)
def test_the_object_calls_its_ufunc(case: Case, dtype: Any) -> None:
    activation = fa.get(case.activation)
    arrays = dict(zip(case.inputs, case.arrays(dtype, (3, 20)), strict=True))
    parameters = dict.fromkeys(activation.parameters, 0.25)
    first = [array for name, array in arrays.items() if name not in parameters]
    method = activation if case.operation == "forward" else getattr(activation, case.operation)
    rounded = [dtype(value) for value in parameters.values()]
    case.check(method(*first, **parameters), (*first, *rounded), dtype)
    # Defaults.
    defaults = {
        name: default
        for name, default in activation.parameters.items()
        if default is not inspect.Parameter.empty
    }
    if len(defaults) == len(parameters):
        rounded = [dtype(value) for value in defaults.values()]
        case.check(method(*first), (*first, *rounded), dtype)
    # What every ufunc takes.
    out = tuple(np.full((3, 20), NOT_COMPUTED, dtype) for _ in range(case.ufunc.nout))
    mask = np.arange(60).reshape(3, 20) % 3 == 0
    results = method(*first, **parameters, out=out if len(out) > 1 else out[0], where=mask)
    for result, given, whole in zip(
        as_tuple(results), out, as_tuple(method(*first, **parameters)), strict=True
    ):
        assert result is given
        assert_same_bits(given, np.where(mask, whole, dtype(NOT_COMPUTED)))
    assert as_tuple(method(*first, **parameters, dtype=np.float64))[0].dtype == np.float64


def assert_same_bits(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


# Outputs.


@every_dtype
@every_elementwise_ufunc
def test_where_leaves_the_rest_alone(case: Case, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    shape = (5, 143)
    arrays = case.arrays(dtype, shape)
    masks: list[Any] = [
        rng.random(shape) < 0.5,
        rng.random(shape) < 0.02,
        rng.random(shape) < 0.98,
        rng.random(shape[1]) < 0.5,
        rng.random((shape[0], 1)) < 0.5,
        (rng.random((shape[1], shape[0])) < 0.5).T,
        np.zeros(shape, bool),
        np.ones(shape, bool),
        np.array(True),
        np.array(False),
        True,
        False,
    ]
    whole = case.expected(*arrays)
    for mask in masks:
        for order in ("C", "F"):
            out = tuple(np.full(shape, NOT_COMPUTED, dtype, order=order) for _ in whole)  # type: ignore[call-overload]
            results = case(*arrays, out=out, where=mask)
            for result, given, expected in zip(results, out, whole, strict=True):
                assert result is given
                assert_close(given, np.where(mask, expected, NOT_COMPUTED), dtype)
                assert np.all(given[~np.broadcast_to(mask, shape)] == NOT_COMPUTED)


@every_dtype
@every_elementwise_ufunc
def test_out(case: Case, dtype: Any) -> None:
    arrays = case.arrays(dtype, (6, 23))
    nout = case.ufunc.nout
    for layout in LAYOUTS.values():
        if layout is _read_only:
            continue
        out = tuple(layout(np.full((6, 23), NOT_COMPUTED, dtype)) for _ in range(nout))
        for result, given in zip(case(*arrays, out=out), out, strict=True):
            assert result is given
        case.check(out, arrays, out[0].dtype)
    out = tuple(np.full((6, 23), NOT_COMPUTED, dtype) for _ in range(nout))
    case(*arrays, *out)  # by position
    case.check(out, arrays, dtype)
    if nout == 1:
        single = np.full((6, 23), NOT_COMPUTED, dtype)
        assert case.ufunc(*arrays, out=single) is single
        case.check(single, arrays, dtype)
    else:
        second = np.full((6, 23), NOT_COMPUTED, dtype)
        first, result = case(*arrays, out=(None, second))
        assert result is second
        case.check((first, second), arrays, dtype)


@every_elementwise_ufunc
def test_out_of_another_type(case: Case) -> None:
    arrays = case.arrays(np.float32, (6, 23))
    expected = case(*arrays)
    for dtype in DTYPES:
        out = tuple(np.full((6, 23), NOT_COMPUTED, dtype) for _ in expected)
        case(*arrays, out=out)
        for given, wanted in zip(out, expected, strict=True):
            np.testing.assert_array_equal(given, wanted.astype(dtype))


@every_elementwise_ufunc
def test_out_that_the_inputs_broadcast_to(case: Case) -> None:
    arrays = case.arrays(np.float32, (23,))
    out = tuple(np.full((6, 23), NOT_COMPUTED, np.float32) for _ in range(case.ufunc.nout))
    case(*arrays, out=out)
    case.check(out, arrays, np.float32)


@every_dtype
@every_elementwise_ufunc
def test_in_place(case: Case, dtype: Any, threads: int) -> None:
    for shape in ((37,), (5, 33), (fa.get_parallel_threshold() + 1001,)):
        arrays = case.arrays(dtype, shape)
        for replaced in range(len(arrays)):
            for number in range(case.ufunc.nout):
                inputs = [array.copy() for array in arrays]
                out = [None] * case.ufunc.nout
                out[number] = inputs[replaced]  # type: ignore[call-overload]
                case.check(case(*inputs, out=tuple(out)), arrays, dtype)
    if case.ufunc.nout == 2 <= case.ufunc.nin:
        for order in (0, 1), (1, 0):
            inputs = [array.copy() for array in arrays]
            case.check(case(*inputs, out=tuple(inputs[k] for k in order)), arrays, dtype)


SHIFTS = range(-33, 34)


@every_elementwise_ufunc
def test_out_overlaps_an_input(case: Case, threads: int) -> None:
    """An output that lies anywhere about an input gets what it would get from a copy."""
    margin = max(SHIFTS)
    for n in (5, 100, fa.get_parallel_threshold() + 1001):
        arrays = case.arrays(np.float32, (n,))
        expected = case(*arrays)
        case.check(expected, arrays, np.float32)
        # Above the threshold a few shifts, about the widths of vectors, must do.
        shifts = SHIFTS if n < 1000 else (-33, -16, -1, 0, 1, 8, 15, 17, 32)
        for overlapped in range(case.ufunc.nin):
            for number in range(case.ufunc.nout):
                for shift in shifts:
                    memory = np.full(n + 2 * margin, NOT_COMPUTED, np.float32)
                    inputs = list(arrays)
                    inputs[overlapped] = memory[margin : margin + n]
                    inputs[overlapped][...] = arrays[overlapped]
                    before = memory.copy()
                    out: list[Any] = [None] * case.ufunc.nout
                    written = slice(margin + shift, margin + shift + n)
                    out[number] = memory[written]
                    for result, wanted in zip(case(*inputs, out=tuple(out)), expected, strict=True):
                        assert_same_bits(result, wanted)
                    memory[written] = before[written]
                    assert_same_bits(memory, before)


@every_dtype
@pytest.mark.parametrize("case", UNARY, ids=str)
def test_out_overlaps_the_input_at_other_strides(case: Case, dtype: Any, threads: int) -> None:
    steps = (1, 2, 3, -1, -2)
    for n in (50, fa.get_parallel_threshold() + 1001):
        memory = case.arrays(dtype, (3 * n + 80,))[0]
        expected = case(memory)
        case.check(expected, (memory,), dtype)
        places = [(step, first) for step in steps for first in (0, 1, 7, 16, 33, 64)]
        for place, (in_step, in_first) in enumerate(places):
            for out_step, out_first in places if n == 50 else places[place % 7 :: 7]:
                here = memory.copy()
                x, out = (
                    array[first : first + abs(step) * n : abs(step)][:: 1 if step > 0 else -1]
                    for array, step, first in (
                        (here, in_step, in_first),
                        (here, out_step, out_first),
                    )
                )
                wanted = expected[0][in_first : in_first + abs(in_step) * n : abs(in_step)]
                wanted = wanted[:: 1 if in_step > 0 else -1]
                outs = (out,) + (None,) * (case.ufunc.nout - 1)
                assert case(x, out=outs)[0] is out
                assert_same_bits(out.copy(), wanted.copy())


@pytest.mark.parametrize("case", PAIRS, ids=str)
def test_both_outputs_overlap_both_inputs(case: Case, threads: int) -> None:
    for n in (70, fa.get_parallel_threshold() + 1001):
        arrays = case.arrays(np.float32, (n,))
        expected = case(*arrays)
        shifts = (-17, -16, -1, 0, 1, 15, 16) if n == 70 else (-16, 1)
        for first in shifts:
            for second in shifts:
                for crossed in (False, True):
                    memories = [np.resize(array, n + 40) for array in arrays[:2]]
                    inputs = [memory[20 : n + 20] for memory in memories]
                    for view, array in zip(inputs, arrays, strict=False):
                        view[...] = array
                    outs = [
                        memory[20 + shift : n + 20 + shift]
                        for memory, shift in zip(memories, (first, second), strict=True)
                    ]
                    out = tuple(outs[::-1] if crossed else outs)
                    results = case(*inputs, *arrays[2:], out=out)
                    for result, wanted in zip(results, expected, strict=True):
                        assert_same_bits(result, wanted)


@every_elementwise_ufunc
def test_out_overlaps_an_input_by_bytes(case: Case) -> None:
    expected = case.arrays(np.float32, (90,))
    for offset in (1, 2, 3, 5, 66, 127):
        memory = np.zeros(4 * 90 + 130, np.uint8)
        inputs = [array.copy() for array in expected]
        inputs[0] = memory[: 4 * 90].view(np.float32)
        inputs[0][...] = expected[0]
        out = memory[offset : offset + 4 * 90].view(np.float32)
        results = case(*inputs, out=(out,) + (None,) * (case.ufunc.nout - 1))
        case.check(results, expected, np.float32)


@every_elementwise_ufunc
def test_out_overlaps_an_input_of_other_shape(case: Case) -> None:
    for overlapped in range(case.ufunc.nin):
        arrays = case.arrays(np.float64, (41, 41), seed=overlapped)
        memory = arrays[overlapped]
        original = memory.copy()
        views: list[tuple[Array, Array]] = [
            (memory.T, original.T),
            (memory[::-1], original[::-1]),
            (memory[:, ::-1], original[:, ::-1]),
            (memory[0], original[0]),
            (memory[:, 3:4], original[:, 3:4]),
            (memory[7, 5], original[7, 5]),
        ]
        for view, wanted in views:
            memory[...] = original
            inputs = [view if k == overlapped else array for k, array in enumerate(arrays)]
            copies = [wanted if k == overlapped else array for k, array in enumerate(arrays)]
            results = case(*inputs, out=(memory,) + (None,) * (case.ufunc.nout - 1))
            case.check(results, copies, np.float64)


@every_elementwise_ufunc
def test_the_same_array_as_every_input(case: Case) -> None:
    x = Case(case.activation, "forward").arrays(np.float32, (100,))[0]
    inputs = (np.abs(x),) * case.ufunc.nin
    case.check(case(*inputs), inputs, np.float32)


# Lengths, and the memory about an array; `test_guard_pages` has more of it.


@every_dtype
@every_elementwise_ufunc
def test_every_length(case: Case, dtype: Any) -> None:
    margin, longest = 40, 130
    arrays = case.arrays(dtype, (longest,))
    expected = case.expected(*arrays)
    for step in (1, 2, -1):
        memories = [np.empty(2 * longest + 2 * margin, dtype) for _ in expected]
        for n in range(longest + 1):
            outs = []
            for memory in memories:
                memory[...] = NOT_COMPUTED
                outs.append(memory[margin : margin + n * abs(step)][::step])
            inputs = [array[:n] for array in arrays]
            case(*inputs, out=tuple(outs))
            for out, memory, wanted in zip(outs, memories, expected, strict=True):
                assert_close(out, wanted[:n], dtype)
                out[...] = NOT_COMPUTED
                assert np.all(memory == NOT_COMPUTED)


# The rest of what NumPy's ufuncs do.


@every_dtype
@every_elementwise_ufunc
def test_raises_no_floating_point_errors(case: Case, dtype: Any, threads: int) -> None:
    limits = np.finfo(dtype)
    values = [0.0, 1.0, limits.max, limits.tiny, limits.smallest_subnormal, np.inf, np.nan, 100.0]
    x = np.array([sign * value for value in values for sign in (1, -1)], dtype)
    inputs = np.broadcast_arrays(*np.ix_(*(x,) * case.ufunc.nin))
    large = [np.resize(each, fa.get_parallel_threshold() + 1) for each in inputs]
    with np.errstate(all="raise"):
        case(*inputs)
        case(*large)


def test_keeps_the_floating_point_status_of_the_caller() -> None:
    """A flag raised before a call is NumPy's to report, after it as before it."""
    with np.errstate(all="raise"):
        with pytest.raises(FloatingPointError):
            np.exp(np.float32(1000))
        fa.sigmoid(np.linspace(-1e4, 1e4, 100))
        with pytest.raises(FloatingPointError):
            np.divide(1.0, 0.0)


@pytest.mark.parametrize("case", [case for case in SINGLE if case in UNARY], ids=str)
def test_at(case: Case) -> None:
    x = case.arrays(np.float64, (50,))[0]
    chosen = [3, 7, 49, 0]
    changed = x.copy()
    case.ufunc.at(changed, chosen)
    expected = x.copy()
    expected[chosen] = case.expected(x[chosen])[0]
    assert_close(changed, expected, np.float64)


@pytest.mark.parametrize("case", [case for case in ELEMENTWISE if case.ufunc.nin == 2], ids=str)
def test_outer(case: Case) -> None:
    first, second = case.arrays(np.float32, (37,))
    first = first[:5]
    case.check(case.ufunc.outer(first, second), (first[:, None], second), np.float32)


def one_after_the_other(case: Case, numbers: Array) -> Array:
    """Return the results of calls with the last result and the next number."""
    results = [numbers[0]]
    for number in numbers[1:]:
        results.append(case.ufunc(results[-1], number))
    return np.array(results)


@every_dtype
@pytest.mark.parametrize("case", [case for case in SINGLE if case.ufunc.nin == 2], ids=str)
def test_reduce_and_accumulate(case: Case, dtype: Any) -> None:
    """Each step takes the result of the one before, however many a vector holds."""
    if dtype is np.float16 and fa.get(case.activation).parameters:
        pytest.skip("reductions need operands of one type, and parameters are float32")
    for n in (1, 2, 3, 15, 16, 17, 100):
        numbers = np.linspace(-2, 2, n).astype(dtype)
        expected = one_after_the_other(case, numbers)
        assert_close(case.ufunc.accumulate(numbers), expected.astype(np.float64), dtype)
        assert_close(case.ufunc.reduce(numbers), expected[-1].astype(np.float64), dtype)
        assert_close(
            case.ufunc.reduceat(numbers, [0, n // 2]),
            np.array(
                [
                    one_after_the_other(case, part)[-1]
                    for part in (numbers[: n // 2 or 1], numbers[n // 2 :])
                ],
                np.float64,
            ),
            dtype,
        )
    matrix = np.linspace(-2, 2, 200).astype(dtype).reshape(10, 20)
    for axis in (0, 1):
        expected = np.apply_along_axis(lambda row: one_after_the_other(case, row), axis, matrix)
        expected = expected.astype(np.float64)
        assert_close(case.ufunc.accumulate(matrix, axis=axis), expected, dtype)
        assert_close(case.ufunc.reduce(matrix, axis=axis), expected.take(-1, axis), dtype)


class Wrapped:
    """An array type of somebody else's, as small as can be."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.calls: list[tuple[np.ufunc, str, dict[str, Any]]] = []

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        self.calls.append((ufunc, method, options))
        results = getattr(ufunc, method)(
            *(each.array if isinstance(each, Wrapped) else each for each in inputs), **options
        )
        return tuple(map(Wrapped, results)) if isinstance(results, tuple) else Wrapped(results)


@every_elementwise_ufunc
def test_array_ufunc_is_asked(case: Case) -> None:
    arrays = case.arrays(np.float32, (3, 20))
    for position in range(case.ufunc.nin):
        inputs: list[Any] = list(arrays)
        inputs[position] = wrapped = Wrapped(arrays[position])
        results = case(*inputs, dtype=np.float64)
        assert wrapped.calls == [(case.ufunc, "__call__", {"dtype": np.float64})]
        assert all(isinstance(result, Wrapped) for result in results)
        case.check(tuple(result.array for result in results), arrays, np.float64)


@pytest.mark.parametrize("case", FORWARD, ids=str)
def test_array_ufunc_is_asked_by_the_object(case: Case) -> None:
    x, *parameters = case.arrays(np.float32, (3, 20))
    named = {key: array[0, 0] for key, array in zip(case.inputs[1:], parameters, strict=True)}
    wrapped = Wrapped(x)
    result = fa.get(case.activation)(wrapped, **named)
    assert [call[0] for call in wrapped.calls] == [case.ufunc]
    case.check(result.array, (x, *named.values()), np.float32)


class Refusing:
    """A type that takes part in no ufunc."""

    __array_ufunc__ = None


def test_a_type_that_opts_out_gets_a_type_error() -> None:
    with pytest.raises(TypeError, match="sigmoid"):
        fa.sigmoid(Refusing())


class Labelled(np.ndarray):  # type: ignore[type-arg]
    """An array with a label that results inherit."""

    label: str

    def __array_finalize__(self, origin: Any) -> None:
        self.label = getattr(origin, "label", "none")


@every_elementwise_ufunc
def test_subclasses(case: Case) -> None:
    arrays = case.arrays(np.float32, (3, 20))
    inputs = list(arrays)
    inputs[0] = arrays[0].view(Labelled)
    inputs[0].label = "mine"  # type: ignore[attr-defined]
    for result in case(*inputs):
        assert type(result) is Labelled
    for result in case(*inputs, subok=False):
        assert type(result) is np.ndarray
    case.check(case(*inputs), arrays, np.float32)


@every_elementwise_ufunc
def test_masked_arrays(case: Case) -> None:
    arrays = case.arrays(np.float32, (3, 20))
    mask = np.arange(60).reshape(3, 20) % 4 == 1
    inputs: list[Any] = list(arrays)
    inputs[0] = np.ma.masked_array(arrays[0], mask)
    expected = case.expected(*arrays)
    for result, wanted in zip(case(*inputs), expected, strict=True):
        assert isinstance(result, np.ma.MaskedArray)
        np.testing.assert_array_equal(np.ma.getmaskarray(result), mask)
        assert_close(result.data[~mask], wanted[~mask], np.float32)


@pytest.mark.parametrize("case", SINGLE, ids=str)
def test_dask(case: Case) -> None:
    dask_array = pytest.importorskip("dask.array")
    arrays = case.arrays(np.float32, (40, 50))
    parameters = fa.get(case.activation).parameters
    inputs = [
        array[0, 0] if name in parameters else dask_array.from_array(array, chunks=(16, 17))
        for name, array in zip(case.inputs, arrays, strict=True)
    ]
    result = case.ufunc(*inputs)
    assert isinstance(result, dask_array.Array)
    given = [
        array[0, 0] if name in parameters else array
        for name, array in zip(case.inputs, arrays, strict=True)
    ]
    case.check(result.compute(scheduler="threads", num_workers=2), given, np.float32)
