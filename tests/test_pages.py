"""The code of README and of the page about nets: all of it runs, and the nets learn with the right gradients."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_differences import check_gradients

ROOT = Path(__file__).parents[1]
PAGE = "docs/in-your-own-net.md"
HEADING = r"^#{1,6} (?P<heading>[^\n]+)$"
BLOCK = r"^```python\n(?P<code>.*?)^```$"
PROGRAM = "import fastact as fa\n"


def programs(page: str) -> dict[str, str]:
    """Return the programs of a page by their headings: a block that imports fastact begins one, others go on with it."""
    text, heading, found = (ROOT / page).read_text(encoding="utf-8"), "", {}
    for part in re.finditer(f"{BLOCK}|{HEADING}", text, re.MULTILINE | re.DOTALL):
        if part["code"] is None:
            heading = part["heading"]
        elif PROGRAM in part["code"]:
            title = heading
            found[title] = part["code"]
        else:
            found[title] += part["code"]
    return found


def run(page: str, title: str, dtype: str = "float32") -> dict[str, Any]:
    """Run a program, in another type if wanted, and return its names."""
    names: dict[str, Any] = {"__name__": "__page__"}
    code = programs(page)[title].replace("float32", dtype)
    exec(compile(code, f"{page}: {title}", "exec"), names)
    return names


@pytest.mark.parametrize(
    ("page", "title"), [(page, title) for page in ("README.md", PAGE) for title in programs(page)]
)
def test_code_runs(page: str, title: str) -> None:
    run(page, title)


def gradients_by_tape(names: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    variables = names["parameters"]
    for each in variables.values():
        each.gradient = 0
    loss = names["loss_of"](variables, names["tokens"])
    names["backward"](loss)
    return loss.value, {name: each.gradient for name, each in variables.items()}


# Each: the arrays of the parameters, and the loss with its gradients, from the names of the program.
Names = dict[str, Any]
NETS: dict[str, tuple[Callable[[Names], dict[str, Any]], Callable[[Names], Any]]] = {
    "Layer classes": (
        lambda names: names["net"].params,
        lambda names: names["net"].gradient(names["x"], names["t"]),
    ),
    "Functions and caches": (
        lambda names: names["params"],
        lambda names: names["loss_and_gradients"](names["x"], names["y"], names["params"]),
    ),
    "A tape": (
        lambda names: {name: each.value for name, each in names["parameters"].items()},
        gradients_by_tape,
    ),
}
every_net = pytest.mark.parametrize("title", NETS)


@every_net
def test_net_learns(title: str) -> None:
    names = run(PAGE, title)
    losses = np.array(names["losses"])
    assert losses.dtype == np.float32
    assert losses[-10:].mean() < losses[0] / 4
    parameters, _ = NETS[title]
    assert {each.dtype for each in parameters(names).values()} == {np.dtype(np.float32)}


def test_net_of_layers_infers() -> None:
    """Without dropout, and with the running averages."""
    names = run(PAGE, "Layer classes")
    assert names["accuracy"] > 0.95
    np.testing.assert_array_equal(*(names["net"].predict(names["x"]) for _ in range(2)))


@every_net
def test_gradients_of_net(title: str) -> None:
    """With the same dropout in each call: the generator starts anew."""
    names = run(PAGE, title, "float64")
    parameters, gradients = NETS[title]
    generator = names["rng"].bit_generator
    start = generator.state

    def again() -> Any:
        generator.state = start
        return gradients(names)

    check_gradients(parameters(names), again)


def test_order_of_gates() -> None:
    """The cell of the page is that of CS231n, whose gates are i, f, o, g."""
    names = run(PAGE, "Functions and caches", "float64")
    random = np.random.default_rng(3)
    x, h, c = random.standard_normal((3, 2, 5))
    Wx, Wh, b = (random.standard_normal(shape) for shape in ((5, 20), (5, 20), 20))
    a = x @ Wx + h @ Wh + b
    i, f, o = (1 / (1 + np.exp(-a[:, 5 * k : 5 * k + 5])) for k in range(3))
    next_c = f * c + i * np.tanh(a[:, 15:])
    found = names["lstm_step_forward"](x, h, c, Wx, Wh, b)
    np.testing.assert_allclose(found[0], o * np.tanh(next_c), rtol=1e-12)
    np.testing.assert_allclose(found[1], next_c, rtol=1e-12)
