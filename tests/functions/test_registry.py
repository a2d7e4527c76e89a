"""The registry, the objects' metadata, and what help shows: all of it for every activation."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastact as fa
import fastact.math
import fastact.ufuncs
from fastact.functions import Function

every_activation = pytest.mark.parametrize("name", fa.names("activation"))


def test_names_are_names() -> None:
    assert fa.names("activation")
    assert len(set(fa.names("activation"))) == len(fa.names("activation"))
    assert all(name.isidentifier() and name == name.lower() for name in fa.names("activation"))


def test_names_returns_a_list_of_its_own() -> None:
    fa.names("activation").clear()
    assert fa.names("activation")


@every_activation
def test_get(name: str) -> None:
    activation = fa.get(name)
    assert isinstance(activation, Function)
    assert activation is fa.get(name) is getattr(fa, name)
    assert activation.name == activation.__name__ == name
    assert name in repr(activation)


@every_activation
def test_aliases(name: str) -> None:
    activation = fa.get(name)
    assert isinstance(activation.aliases, tuple)
    for alias in activation.aliases:
        assert fa.get(alias) is activation
        assert alias not in fa.names("activation")


def test_no_alias_is_taken_twice() -> None:
    aliases = [alias for name in fa.names("activation") for alias in fa.get(name).aliases]
    assert len(set(aliases)) == len(aliases)


def test_dir_lists_what_there_is() -> None:
    listed = dir(fa)
    assert set(fa.names("activation")) <= set(listed)
    assert all(hasattr(fa, name) for name in listed)
    for name in fa.names("activation"):
        getattr(fa, name)
    assert len(set(dir(fa))) == len(dir(fa))


def test_everything_in_the_ufuncs_module_is_a_ufunc() -> None:
    expected = [
        ufunc.__name__ for name in fa.names("activation") for ufunc in fa.get(name).ufuncs.values()
    ]
    assert set(expected) <= set(dir(fastact.ufuncs))  # and those in other conventions
    assert len(set(expected)) == len(expected)
    for name in dir(fastact.ufuncs):
        assert isinstance(getattr(fastact.ufuncs, name), np.ufunc)
        assert getattr(fastact.ufuncs, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        fastact.ufuncs.nonsense  # noqa: B018


@pytest.mark.parametrize("name", sorted(set(dir(fastact.math)) - {"where"}))
def test_everything_in_the_math_module_is_a_ufunc(name: str) -> None:
    ufunc = getattr(fastact.math, name)
    assert isinstance(ufunc, np.ufunc)
    assert ufunc is getattr(fastact.math, name)
    assert (ufunc.nin, ufunc.nout) == (1, 1)
    assert ufunc.__name__ == name
    assert ufunc.__module__ == "fastact.math"
    assert ufunc.types == ["e->e", "f->f", "d->d"]
    assert ufunc.__doc__


@every_activation
def test_metadata(name: str) -> None:
    activation = fa.get(name)
    for text in (activation.formula, activation.derivative_formula, *activation.limits):
        assert isinstance(text, str)
        assert text.strip()
        assert text.count("{") == text.count("}")
    assert len(activation.limits) == 2
    assert all(isinstance(text, str) and text for pair in activation.kinks.items() for text in pair)


@every_activation
def test_parameters(name: str) -> None:
    activation = fa.get(name)
    for parameter, default in activation.parameters.items():
        assert parameter.isidentifier()
        assert default is inspect.Parameter.empty or isinstance(default, int | float)
    with pytest.raises(TypeError):
        activation.parameters["nonsense"] = 1  # type: ignore[index]


@every_activation
def test_docstring(name: str) -> None:
    activation = fa.get(name)
    text = inspect.getdoc(activation)
    assert text is not None
    lines = text.splitlines()
    summary, flowing = " ".join(text.split("\n\n")[0].split()), " ".join(text.split())
    assert summary.endswith(".")
    assert len(summary) < 110
    assert activation.formula in flowing
    assert activation.derivative_formula in flowing
    assert "Parameters\n----------\n" in text
    for parameter, default in activation.parameters.items():
        heading = next(line for line in lines if line.startswith(f"{parameter} : "))
        assert (default is inspect.Parameter.empty) or f"default {default:g}" in heading
        meaning = lines[lines.index(heading) + 1]
        assert meaning.startswith("    ")
        assert meaning.strip()
    for at, chosen in activation.kinks.items():
        assert at in flowing
        assert chosen in flowing
    for limit in activation.limits:
        assert limit in flowing
    assert "Notes\n-----\n" in text
    references = text.split("References\n----------\n")
    assert len(references) == 2
    assert references[1].strip()
    assert all(len(line) < 130 for line in lines if not line.startswith(".. math::"))


@every_activation
def test_methods_have_docstrings_and_signatures(name: str) -> None:
    activation = fa.get(name)
    for operation in activation.ufuncs:
        method: Any = activation if operation == "forward" else getattr(activation, operation)
        assert inspect.getdoc(method)
        assert inspect.signature(method).parameters
    shown = inspect.signature(activation).parameters
    for parameter, default in activation.parameters.items():
        assert shown[parameter].default == default


@every_activation
def test_ufuncs_are_a_mapping(name: str) -> None:
    ufuncs = fa.get(name).ufuncs
    assert "forward" in ufuncs
    assert "nonsense" not in ufuncs
    assert ufuncs.get("nonsense") is None
    assert len(ufuncs) == len(list(ufuncs)) == len(dict(ufuncs))
    with pytest.raises(KeyError):
        ufuncs["nonsense"]
    with pytest.raises(TypeError):
        ufuncs["forward"] = None  # type: ignore[index]


@every_activation
def test_limits_are_what_is_computed(name: str) -> None:
    """The stated limits, expressions in the parameters, are the values at infinity."""
    activation = fa.get(name)
    if activation.ufuncs["forward"].signature is not None:
        options: dict[str, Any] = dict.fromkeys(activation.parameters, 1)
    else:
        options = {
            key: 0.25 if default is inspect.Parameter.empty else default
            for key, default in activation.parameters.items()
        }
    # Of groups, the value; of the others what `test_accuracy` has compiled.
    method = getattr(activation, "value_and_derivative", activation)
    results = method(np.array([-np.inf, np.inf], np.float32), **options)
    values = results[0] if isinstance(results, tuple) else results
    for limit, value in zip(activation.limits, values, strict=True):
        if limit == "none":
            assert np.isnan(value)
        else:
            stated = eval(limit, {"inf": np.inf, "nan": np.nan}, options)
            np.testing.assert_allclose(value, stated, rtol=1e-6)


def test_importing_compiles_nothing() -> None:
    """Import the package, list and look at everything: Numba stays out."""
    program = (
        "import sys, fastact as fa; fa.names(); dir(fa);"
        "[fa.get(name).__doc__ for name in fa.names()];"
        "[list(fa.get(name).ufuncs) for name in fa.names()];"
        "sys.exit('numba' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
