"""``fastact verify``: it finds what is wrong, and says what it was compared with."""

from __future__ import annotations

import json
import math
import re
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fresh_process import finish, start_python
from typer.testing import CliRunner, Result

import fastact as fa
from fastact.bench import verification
from fastact.bench.contenders import IMPLEMENTATIONS
from fastact.bench.verification import DTYPES, numbers
from fastact.bench.workloads import Workload
from fastact.cli import app

SPARSE = ("--points", "40")


def run(*arguments: str, columns: int = 80) -> Result:
    """Run ``fastact verify`` as in a pipe."""
    result = CliRunner().invoke(app, ["verify", *arguments], env={"COLUMNS": str(columns)})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def results(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
    """Return what ``--json`` says of each function."""
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    content = json.loads(result.stdout)
    assert content["is_wrong"] == bool(code)
    return content["results"]  # type: ignore[no-any-return]


def row(output: str, name: str) -> list[str]:
    """Return the first row of a function in the tables: found and allowed of value and derivative."""
    found = re.search(rf"^{name} +(\S+)/(\S+) +(\S+)/(\S+)$", output, re.MULTILINE)
    assert found is not None, output
    return list(found.groups())


def test_errors_beside_those_stated() -> None:
    result = run("silu", "swish", "relu", "--dtype", "float32", *SPARSE)
    assert result.exit_code == 0, result.output
    value, stated_value, derivative, stated_derivative = map(float, row(result.stdout, "silu"))
    assert (stated_value, stated_derivative) == fa.silu._definition.errors
    assert 0.5 <= value <= stated_value
    assert 0.5 <= derivative <= stated_derivative
    assert row(result.stdout, "relu") == ["0.00", "0", "0.00", "0"]
    assert result.stdout.startswith("float32 ")
    assert "float64" not in result.stdout
    assert "Compared with their formulas in 50 digits: 2 functions." in result.stdout


def test_functions_without_a_formula() -> None:
    """They are compared with NumPy in a wider type; what is random is not compared, which is said."""
    found = results("maxout", "swiglu", "geglu", "mse", "dropout", "gumbel_softmax")
    by_name = {each["name"]: each for each in found if each["dtype"] == "float32"}
    for name in ("maxout", "swiglu", "geglu", "mse"):
        assert by_name[name]["reference"] == "NumPy in float64"
        assert [each["what"] for each in by_name[name]["errors"]] == ["value", "derivative"]
        assert all(each["found"] < 4 for each in by_name[name]["errors"])
    assert by_name["maxout"]["errors"][0] | {"found": 0.0} == by_name["maxout"]["errors"][0]
    for name in ("dropout", "gumbel_softmax"):
        assert by_name[name]["reference"] == ""
        assert "random" in by_name[name]["why_not"]


@pytest.mark.long
@pytest.mark.parametrize("name", fa.names())
def test_this_installation(name: str) -> None:
    """Nothing is wrong here, and every function without random numbers is compared."""
    for found in results(name):
        assert bool(found["errors"]) != ("random" in found["why_not"])


def test_a_wrong_result_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value that is off by 3 units at one number."""
    right = fa.silu.value_and_derivative

    def off(x: Any, **parameters: float) -> Any:
        y, derivative = right(x, **parameters)
        y[x == 1] += 3 * np.spacing(y[x == 1])
        return y, derivative

    monkeypatch.setattr(
        type(fa.silu), "value_and_derivative", lambda self, x, **given: off(x, **given)
    )
    result = run("silu", "--dtype", "float32", *SPARSE)
    assert result.exit_code == 1, result.output
    said = re.sub(r"\s+", " ", result.stdout)
    assert re.search(r"wrong: silu in float32: the value is off by [34]\.?\d* at x=1\.0", said)
    assert "2.5 are allowed" in said
    value, derivative = results("silu", "--dtype", "float32", *SPARSE, code=1)[0]["errors"]
    assert (value["is_exceeded"], derivative["is_exceeded"]) == (True, False)


@pytest.mark.parametrize("special", [math.nan, math.inf, -0.0])
def test_a_lost_special_value_is_found(special: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN and the infinities are compared, and small numbers that vanish."""
    right = fa.silu.value_and_derivative

    def off(x: Any, **parameters: float) -> Any:
        y, derivative = right(x, **parameters)
        lost = np.isnan(x) if special != special else np.isinf(x) if special else abs(x) < 1e-38
        return np.where(lost & (x != 0), 1 if special else 0, y), derivative

    monkeypatch.setattr(
        type(fa.silu), "value_and_derivative", lambda self, x, **given: off(x, **given)
    )
    (found,) = results("silu", "--dtype", "float32", *SPARSE, code=1)
    assert found["errors"][0]["is_exceeded"]


def test_a_smaller_stated_error_is_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = fa.silu._definition
    monkeypatch.setattr(fa.silu, "_definition", replace(definition, errors=(0.1, 4.2)))
    assert run("silu", "--dtype", "float32", *SPARSE).exit_code == 1


@pytest.mark.parametrize("factor", [1.0001, math.nan])
def test_a_wrong_gradient_is_found(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    original = IMPLEMENTATIONS["fastact"].make

    def different(work: Workload, operation: str) -> Any:
        y, dx = original(work, operation)()
        return lambda: (y, dx * np.float32(factor))

    monkeypatch.setitem(
        IMPLEMENTATIONS, "fastact", replace(IMPLEMENTATIONS["fastact"], make=different)
    )
    value, derivative = results("swiglu", "--dtype", "float32", code=1)[0]["errors"]
    assert (value["is_exceeded"], derivative["is_exceeded"]) == (False, True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_of_all_kinds(dtype: str) -> None:
    x = numbers(dtype, 500, (2.5,))
    limits = np.finfo(x.dtype)
    assert x.dtype == dtype
    assert np.isnan(x).any()
    for sign in (1, -1):
        some = np.copysign(x, sign * np.copysign(1, x))
        assert (some == np.inf).any()
        assert ((some > 0) & (some < limits.tiny)).any()
        assert (some > 1e30).any()
        assert (some == 2.5).any()
        assert (some == np.nextafter(x.dtype.type(2.5), x.dtype.type(3))).any()
        assert ((some == 0) & ~np.signbit(some)).any()


def test_references_are_in_a_wider_type() -> None:
    """The bits that float32 loses are there."""
    work = verification._of_all_magnitudes("sigmoid", "float32")
    (y, _), wide = verification._wide_results(work, "float32")
    assert wide == np.float64
    assert (y != y.astype(np.float32)).any()


def test_a_reference_that_is_no_wider(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on machines whose longdouble is float64: its own errors are allowed for."""
    monkeypatch.setitem(verification._WIDER, "float64", np.dtype(np.float64))
    (found,) = results("maxout", "--dtype", "float64")
    assert found["reference"] == "NumPy in float64"
    assert [each["bound"] for each in found["errors"]] == [verification.TOLERANCE] * 2


def test_wide_and_narrow() -> None:
    """The tables fit in 40 columns."""
    result = run("silu", "sigmoid_binary_cross_entropy", *SPARSE, columns=40)
    assert max(map(len, result.stdout.splitlines())) <= 40
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["silo"], "there is no function 'silo'. Did you mean 'silu'?"),
        (["silu", "--dtype", "int8"], "there is no type 'int8' here; there are float32, float64"),
    ],
)
def test_wrong_arguments_of_verify(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_mpmath(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "mpmath", None)
    result = run("silu")
    assert result.exit_code == 1
    assert result.stderr.startswith("fastact: this needs the package mpmath")
    assert "fastact[cli]" in result.stderr


def test_interrupted_verification() -> None:
    """What was finished is printed."""
    slow = """
        import time
        from fastact.bench import verification
        from fastact.bench.verification import Error, Verdict
        def verify(name, dtype, points):
            if dtype == "float64":
                print("waiting", flush=True)
                time.sleep(100)
            return Verdict(name, dtype, "nothing", 1, (Error("value", 1, 2), Error("derivative", 3, 4)))
        verification.verify = verify
        from fastact.cli import app
        app(["verify", "relu"])
    """
    with start_python(slow) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        done = finish(process)
    assert done.returncode == 130
    assert re.search(r"^relu +1\.00/2 +3\.00/4$", done.stdout, re.MULTILINE)
    assert done.stderr == "fastact: interrupted\n"
