"""Wrong calls get a TypeError or ValueError that names the activation and the argument.

Whatever was given as output is left as it was.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from representatives import REPRESENTATIVES

import fastact as fa

Array = NDArray[Any]

SHAPE = (3, 4)
PIECES = 2
UNTOUCHED = 77


@dataclass
class Call:
    """A right call of one operation through the activation's object, for tests to spoil."""

    activation: str
    operation: str
    arrays: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        activation = fa.get(self.activation)
        ufunc = activation.ufuncs[self.operation]
        inputs = list(inspect.signature(ufunc).parameters)[: ufunc.nin]
        is_group = "pieces" in activation.parameters
        for name in inputs:
            if name in activation.parameters:
                continue
            shape = (SHAPE[0], SHAPE[1] // PIECES) if is_group and name != "x" else SHAPE
            self.arrays[name] = np.ones(shape, np.intp if name == "which" else np.float32)
        self.parameters = dict.fromkeys(activation.parameters, PIECES if is_group else 0.25)

    def __str__(self) -> str:
        return f"{self.activation}.{self.operation}"

    @property
    def method(self) -> Callable[..., Any]:
        """What a user calls."""
        activation = fa.get(self.activation)
        return activation if self.operation == "forward" else getattr(activation, self.operation)

    @property
    def is_group(self) -> bool:
        """Whether its parameters are not arrays."""
        return "pieces" in fa.get(self.activation).parameters

    def __call__(self, **options: Any) -> Any:
        """Call with these arguments replaced or added."""
        arrays = [options.pop(name, array) for name, array in self.arrays.items()]
        return self.method(*arrays, **(self.parameters | options))

    def outputs(self) -> tuple[Array, ...]:
        """Return fitting outputs, filled with a number that no result has."""
        results = self()
        results = results if isinstance(results, tuple) else (results,)
        return tuple(np.full(np.shape(each), UNTOUCHED, each.dtype) for each in results)

    def fails(self, *words: str, kind: Any = (TypeError, ValueError), **options: Any) -> str:
        """Check that a call with these arguments fails with these words and leaves outputs alone.

        Return the message.
        """
        given = options.pop("out", None)
        outputs = self.outputs() if given is None else given
        arrays = [each for each in outputs if isinstance(each, np.ndarray)]
        before = [each.copy() for each in arrays]
        out = outputs[0] if len(outputs) == 1 else outputs
        with pytest.raises(kind) as caught:
            self(**options, out=out)
        mentions(caught, self.activation, *words)
        for array, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, copy)
        return str(caught.value)


def mentions(caught: pytest.ExceptionInfo[Exception], *words: str) -> None:
    """Check that an error's message has each of these words."""
    for word in words:
        assert re.search(rf"(?<!\w){re.escape(word)}(?!\w)", str(caught.value)), (
            f"{word!r} is missing in {caught.value!r}"
        )


CALLS = [Call(name, operation) for name in REPRESENTATIVES for operation in fa.get(name).ufuncs]
POINTWISE = [call for call in CALLS if not call.is_group]
SEVERAL_ARRAYS = [call for call in CALLS if len(call.arrays) > 1]
# These are ufunc calls through and through, with all the options of one.
PLAIN = [
    call
    for call in POINTWISE
    if not bool(fa.get(call.activation).learnable)
    or call.operation not in ("backward", "forward_backward")
]
FROM_OUTPUT = [
    (call, parameter)
    for call in POINTWISE
    if call.operation == "backward_from_output"
    for parameter in call.parameters
]

every_call = pytest.mark.parametrize("call", CALLS, ids=str)


def arguments(calls: list[Call]) -> Any:
    """Return the mark of a test of each array argument of these calls."""
    pairs = [
        pytest.param(call, name, id=f"{call}-{name}")
        for call in calls
        for name in (*call.arrays, *(() if call.is_group else call.parameters))
    ]
    return pytest.mark.parametrize(("call", "argument"), pairs)


@every_call
def test_right_calls_work(call: Call) -> None:
    outputs = call.outputs()
    call(out=outputs[0] if len(outputs) == 1 else outputs)
    assert not any(np.any(output == UNTOUCHED) for output in outputs)


# What the inputs are.

WRONG_TYPES = {
    "complex": np.ones(SHAPE, np.complex64),
    "longdouble": np.ones(SHAPE, np.longdouble),
    "text": np.full(SHAPE, "1"),
    "bytes": np.full(SHAPE, b"1"),
    "object": np.ones(SHAPE, object),
    "datetime": np.zeros(SHAPE, "M8[s]"),
    "timedelta": np.zeros(SHAPE, "m8[s]"),
    "void": np.zeros(SHAPE, "V4"),
    "structured": np.zeros(SHAPE, [("a", "f4")]),
    "None": None,
    "a_string": "nonsense",
    "a_complex": 1j,
    "a_dict": {},
    "list_of_strings": [["1"] * SHAPE[1]] * SHAPE[0],
}


@pytest.mark.parametrize("wrong", WRONG_TYPES)
@arguments(CALLS)
def test_inputs_of_a_wrong_type(call: Call, argument: str, wrong: str) -> None:
    value = WRONG_TYPES[wrong]
    if wrong == "longdouble" and np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("a longdouble is a float64 here")
    call.fails(argument, kind=TypeError, **{argument: value})


@arguments(CALLS)
def test_a_ragged_list(call: Call, argument: str) -> None:
    call.fails(argument, **{argument: [[1.0, 2.0], [3.0]]})


@pytest.mark.parametrize("dtype", [np.float32, np.bool_], ids=["float", "bool"])
@pytest.mark.parametrize("call", [call for call in CALLS if "which" in call.arrays], ids=str)
def test_indices_that_are_no_integers(call: Call, dtype: Any) -> None:
    call.fails("which", kind=TypeError, which=call.arrays["which"].astype(dtype))


@pytest.mark.parametrize("call", SEVERAL_ARRAYS, ids=str)
def test_shapes_that_do_not_fit(call: Call) -> None:
    for name, array in call.arrays.items():
        for shape in ((SHAPE[0] - 1, *array.shape[1:]), (SHAPE[0], SHAPE[1] + PIECES)):
            # Which of the two is wrong, nobody can say: the message names at least one.
            message = call.fails(kind=ValueError, **{name: np.ones(shape, array.dtype)})
            assert any(re.search(rf"\b{each}\b", message) for each in call.arrays), message


@arguments([call for call in POINTWISE if call.parameters])
def test_parameters_that_do_not_fit(call: Call, argument: str) -> None:
    call.fails(argument, kind=ValueError, **{argument: np.ones(5, np.float32)})
    if argument in call.parameters:
        call.fails(argument, kind=ValueError, **{argument: np.ones((5, 1, 1, 7), np.float32)})


# Which arguments there are.


@pytest.mark.parametrize("call", POINTWISE, ids=str)
def test_an_unknown_parameter(call: Call) -> None:
    call.fails("nonsense", kind=TypeError, nonsense=1)
    call.fails("nonsense", kind=TypeError, nonsense=np.ones(SHAPE))


@pytest.mark.parametrize("call", POINTWISE, ids=str)
def test_a_parameter_of_another_activation(call: Call) -> None:
    foreign = {name for other in CALLS for name in other.parameters} - set(call.parameters)
    for name in foreign:
        call.fails(name, kind=TypeError, **{name: 1})


@pytest.mark.parametrize("call", POINTWISE, ids=str)
def test_a_parameter_is_missing(call: Call) -> None:
    for name, default in fa.get(call.activation).parameters.items():
        if default is inspect.Parameter.empty:
            with pytest.raises(TypeError) as caught:
                call.method(*call.arrays.values())
            mentions(caught, call.activation, name)


@every_call
def test_an_array_is_missing(call: Call) -> None:
    *some, last = call.arrays
    with pytest.raises(TypeError) as caught:
        call.method(*(call.arrays[name] for name in some))
    mentions(caught, last)


@pytest.mark.parametrize("call", POINTWISE, ids=str)
def test_too_many_arguments(call: Call) -> None:
    values = [*call.arrays.values(), *call.parameters.values()]
    with pytest.raises(TypeError) as caught:
        call.method(*values, np.ones(SHAPE, np.float32))
    mentions(caught, call.activation)


# Outputs.


@every_call
def test_a_read_only_output(call: Call) -> None:
    for number in range(len(call.outputs())):
        outputs = call.outputs()
        outputs[number].flags.writeable = False
        call.fails("out", kind=ValueError, out=outputs)


@pytest.mark.parametrize("dtype", ["i4", "i8", "?", "U3", "M8[s]"])
@every_call
def test_an_output_of_a_wrong_type(call: Call, dtype: str) -> None:
    for number, output in enumerate(call.outputs()):
        outputs = list(call.outputs())
        outputs[number] = np.ones(output.shape).astype("i4").astype(dtype)
        if np.can_cast(output.dtype, outputs[number].dtype, "same_kind"):
            continue  # indices may go to other integers
        call.fails("out", kind=TypeError, out=tuple(outputs))


@every_call
def test_an_output_of_a_wrong_shape(call: Call) -> None:
    for number, output in enumerate(call.outputs()):
        for shape in ((2, 4), (4, 3), (3, 5), (1, 1), (3, 4, 1), ()):
            outputs = list(call.outputs())
            if shape in (output.shape, (1,) * output.ndim):
                continue
            outputs[number] = np.full(shape, UNTOUCHED, output.dtype)
            call.fails("out", kind=ValueError, out=tuple(outputs))


@pytest.mark.parametrize("wrong", [5, "text", [0.0], {}], ids=repr)
@every_call
def test_an_output_that_is_no_array(call: Call, wrong: Any) -> None:
    for number in range(len(call.outputs())):
        outputs: list[Any] = list(call.outputs())
        outputs[number] = wrong
        call.fails("out", kind=TypeError, out=tuple(outputs))


@every_call
def test_a_wrong_number_of_outputs(call: Call) -> None:
    outputs = call.outputs()
    call.fails("out", out=(*outputs, np.full_like(outputs[0], UNTOUCHED)))
    if len(outputs) > 1:
        with pytest.raises((TypeError, ValueError)) as caught:
            call(out=outputs[:1])
        mentions(caught, call.activation, "out")


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_two_arguments_for_the_output(call: Call) -> None:
    outputs = call.outputs()
    with pytest.raises(TypeError) as caught:
        call.method(*call.arrays.values(), *call.parameters.values(), *outputs, out=outputs)
    mentions(caught, call.activation)


# What every ufunc takes.


@pytest.mark.parametrize("dtype", ["i4", complex, "nonsense", object, "U3"], ids=str)
@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_a_wrong_dtype(call: Call, dtype: Any) -> None:
    call.fails("dtype", kind=TypeError, dtype=dtype)


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_a_dtype_too_narrow_for_the_casting(call: Call) -> None:
    x = {name: array.astype(np.float64) for name, array in call.arrays.items()}
    call.fails(kind=TypeError, dtype=np.float32, casting="safe", **x)
    call.fails(kind=TypeError, casting="safe", **x)  # the outputs are float32


@pytest.mark.parametrize("option", ["casting", "order"])
@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_an_option_that_there_is_not(call: Call, option: str) -> None:
    call.fails(option, **{option: "nonsense"})
    call.fails(option, **{option: 3})


@pytest.mark.parametrize("call", PLAIN, ids=str)
def test_a_wrong_mask(call: Call) -> None:
    call.fails("where", kind=TypeError, where=np.ones(SHAPE))
    call.fails("where", kind=ValueError, where=np.ones(5, bool))
    call.fails("where", kind=ValueError, where=np.ones((2, *SHAPE), bool))


# Single activations, and what is theirs alone.


@pytest.mark.parametrize(
    "number", [-0.5, -1, np.float32(-0.1), np.array([0.1, -0.1, 0.2, 0.3])], ids=repr
)
@pytest.mark.parametrize(("call", "parameter"), FROM_OUTPUT, ids=str)
def test_negative_parameters_make_the_output_ambiguous(
    call: Call, parameter: str, number: Any
) -> None:
    call.fails(parameter, kind=ValueError, **{parameter: number})
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is checked below)
        call.method(*call.arrays.values(), number)
    mentions(caught, call.activation, parameter)


PRELU = [call for call in CALLS if bool(fa.get(call.activation).learnable)]


@pytest.mark.parametrize("call", PRELU, ids=str)
class TestPreluWeight:
    """The weight and the axis of prelu."""

    def test_of_a_wrong_length(self, call: Call) -> None:
        """The message says both numbers."""
        call.fails("weight", "3", "4", kind=ValueError, weight=np.ones(3))
        call.fails("weight", "4", "3", kind=ValueError, weight=np.ones(4), axis=0)
        call.fails("weight", "0", "4", kind=ValueError, weight=np.ones(0))

    def test_of_too_many_dimensions(self, call: Call) -> None:
        """A weight varies along one axis of the input, and has no more axes than it."""
        call.fails("weight", kind=ValueError, weight=np.ones(SHAPE))
        call.fails("weight", "4", "3", kind=ValueError, weight=np.ones((4, 1)))
        call.fails("weight", kind=ValueError, weight=np.ones((1, 1, 4)))

    def test_axis_out_of_range(self, call: Call) -> None:
        """Axes count from either end."""
        for axis in (2, 7, -3):
            call.fails("axis", str(axis), kind=ValueError, weight=np.ones(4), axis=axis)

    def test_axis_that_is_no_integer(self, call: Call) -> None:
        """Tuples are no axes either."""
        for axis in (1.0, "1", None, (1,)):
            call.fails("axis", kind=TypeError, weight=np.ones(4), axis=axis)

    def test_a_vector_has_no_second_axis(self, call: Call) -> None:
        """The default axis is 1."""
        vector = dict.fromkeys(call.arrays, np.ones(4))
        call.fails("axis", kind=ValueError, weight=np.ones(4), **vector)


@pytest.mark.parametrize("call", [call for call in CALLS if call.is_group], ids=str)
class TestMaxoutPieces:
    """The number of pieces and the axis of maxout."""

    def test_that_do_not_divide(self, call: Call) -> None:
        """The message says both numbers."""
        if "x" in call.arrays:
            call.fails("pieces", "3", "4", kind=ValueError, pieces=3)
            call.fails("pieces", "8", "4", kind=ValueError, pieces=8)
            call.fails("pieces", "2", "3", kind=ValueError, axis=0)

    def test_zero_or_less(self, call: Call) -> None:
        """A group has at least one piece."""
        for pieces in (0, -1, -2, -(10**30), 10**30):
            call.fails("pieces", str(pieces), kind=ValueError, pieces=pieces)

    def test_that_are_no_integer(self, call: Call) -> None:
        """Not even a whole float."""
        for pieces in (2.0, np.float64(2), "2", None, [2], np.ones(2, int)):
            call.fails("pieces", kind=TypeError, pieces=pieces)

    def test_axis_out_of_range(self, call: Call) -> None:
        """Axes count from either end."""
        for axis in (2, 7, -3):
            call.fails("axis", str(axis), kind=ValueError, axis=axis)

    def test_axis_that_is_no_integer(self, call: Call) -> None:
        """Tuples are no axes either."""
        for axis in (1.0, "1", None, (1,)):
            call.fails("axis", kind=TypeError, axis=axis)

    def test_a_number_has_no_axis(self, call: Call) -> None:
        """Groups lie along an axis."""
        call.fails(
            "axis", kind=ValueError, **{name: array[0, 0] for name, array in call.arrays.items()}
        )


def test_a_ufunc_without_groups() -> None:
    """A group of no pieces has no largest: NumPy's max is an error too."""
    for name in fa.names("activation"):
        if "pieces" not in fa.get(name).parameters:
            continue
        for dtype in (np.float16, np.float32, np.float64):
            try:
                result = fa.get(name).ufuncs["forward"](np.zeros((50, 0), dtype))
            except ValueError:
                continue
            assert np.all(np.isnan(result))


# Names and settings.


@pytest.mark.parametrize("wrong", ["rleu", "Relu "])
def test_get_suggests_a_name(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"no function {wrong!r}. Did you mean 'relu'"):
        fa.get(wrong)


@pytest.mark.parametrize("wrong", ["nonsense", ""])
def test_get_lists_the_right_names(wrong: Any) -> None:
    """Where none is near."""
    with pytest.raises(ValueError, match=f"no function {wrong!r}") as caught:
        fa.get(wrong)
    mentions(caught, *fa.names())


@pytest.mark.parametrize("wrong", [3, None])
def test_get_takes_names(wrong: Any) -> None:
    with pytest.raises(TypeError, match=f"name.*{wrong}"):
        fa.get(wrong)


def test_get_suggests_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="Did you mean 'sigmoid'"):
        fa.get("sigmoyd")


def test_there_is_no_such_attribute() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        fa.nonsense  # noqa: B018
    with pytest.raises(KeyError, match="nonsense"):
        fa.relu.ufuncs["nonsense"]


@pytest.mark.parametrize("wrong", [0, -1, 10**6, 10**30], ids=str)
def test_set_num_threads_out_of_range(wrong: int) -> None:
    before = fa.get_num_threads()
    with pytest.raises(ValueError, match=rf"\bn\b.*{wrong}"):
        fa.set_num_threads(wrong)
    assert fa.get_num_threads() == before


@pytest.mark.parametrize("wrong", ["x", None, 1.0, [1]], ids=str)
def test_set_num_threads_to_no_integer(wrong: Any) -> None:
    before = fa.get_num_threads()
    with pytest.raises(TypeError, match=r"\bn\b"):
        fa.set_num_threads(wrong)
    assert fa.get_num_threads() == before


@pytest.mark.parametrize("wrong", [0, -1, -(10**30), 2**63, 10**30], ids=str)
def test_set_parallel_threshold_out_of_range(wrong: int) -> None:
    before = fa.get_parallel_threshold()
    with pytest.raises(ValueError, match=rf"\belements\b.*{wrong}"):
        fa.set_parallel_threshold(wrong)
    assert fa.get_parallel_threshold() == before


@pytest.mark.parametrize("wrong", ["x", None, 1.0, [1]], ids=str)
def test_set_parallel_threshold_to_no_integer(wrong: Any) -> None:
    before = fa.get_parallel_threshold()
    with pytest.raises(TypeError, match=r"\belements\b"):
        fa.set_parallel_threshold(wrong)
    assert fa.get_parallel_threshold() == before
