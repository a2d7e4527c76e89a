"""Sources of activations that a user might write, each with one place to edit, and what they then compute.

Every one computes ``value * x``, whatever its way to the value. The test of the cache's keys writes each into a module
of its own, once with one value and once with another.
"""

from __future__ import annotations

# By kind: the source of module `case`, and of a module `beside` that it may import; {v} is the value.
KINDS: dict[str, tuple[str, str]] = {
    "constant": ("def f(x): return x * {v}", ""),
    "global": ("K = {v}\ndef f(x): return x * K", ""),
    "default of a parameter": ("def f(x, k={v}): return x * k", ""),
    "default of a helper": ("def helper(x, k={v}): return x * k\ndef f(x): return helper(x)", ""),
    "closure": (
        "def make(k):\n    def f(x): return x * k\n    return f\nf = make({v})",
        "",
    ),
    "closure of a helper": (
        "def make(k):\n    def helper(x): return x * k\n    return helper\n"
        "helper = make({v})\ndef f(x): return helper(x)",
        "",
    ),
    "nested function": ("def f(x):\n    def inner(z): return z * {v}\n    return inner(x)", ""),
    "global of a nested function": (
        "K = {v}\ndef f(x):\n    def inner(z): return z * K\n    return inner(x)",
        "",
    ),
    "helper of a nested function": (
        "def helper(z): return z * {v}\ndef f(x):\n    def inner(z): return helper(z)\n    return inner(x)",
        "",
    ),
    "closure of a nested function": (
        "def f(x):\n    k = {v}\n    def inner(z): return z * k\n    return inner(x)",
        "",
    ),
    "lambda": ("def f(x):\n    g = lambda z: z * {v}\n    return g(x)", ""),
    "global of a lambda": ("K = {v}\ndef f(x):\n    g = lambda z: z * K\n    return g(x)", ""),
    "lambda at module level": ("helper = lambda z: z * {v}\ndef f(x): return helper(x)", ""),
    "helper": ("def helper(z): return z * {v}\ndef f(x): return helper(x)", ""),
    "helper's helper": (
        "def inmost(z): return z * {v}\ndef helper(z): return inmost(z)\ndef f(x): return helper(x)",
        "",
    ),
    "global of a helper's helper": (
        "K = {v}\ndef inmost(z): return z * K\ndef helper(z): return inmost(z)\n"
        "def f(x): return helper(x)",
        "",
    ),
    "enum": (
        "import enum\nclass Mode(enum.Enum):\n    K = {v}\ndef f(x): return x * float(Mode.K.value)",
        "",
    ),
    "enum's other member": (
        "import enum\nclass Mode(enum.Enum):\n    J = 0.5\n    K = {v}\n"
        "def f(x): return x * float(Mode.K.value)",
        "",
    ),
    "class attribute": ("class Config:\n    K = {v}\ndef f(x): return x * Config.K", ""),
    "attribute of an inner class": (
        "class Config:\n    class Inner:\n        K = {v}\ndef f(x): return x * Config.Inner.K",
        "",
    ),
    "inherited class attribute": (
        "class Base:\n    K = {v}\nclass Config(Base): pass\ndef f(x): return x * Config.K",
        "",
    ),
    "static method": (
        "class Config:\n    @staticmethod\n    def helper(x): return x * {v}\n"
        "def f(x): return Config.helper(x)",
        "",
    ),
    "data class": (
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    k: float\n"
        "config = Config({v})\ndef f(x): return x * config.k",
        "",
    ),
    "namespace": (
        "from types import SimpleNamespace\nconfig = SimpleNamespace(k={v})\n"
        "def f(x): return x * config.k",
        "",
    ),
    "named tuple": (
        "from collections import namedtuple\nConfig = namedtuple('Config', 'k j')\n"
        "config = Config({v}, 1.0)\ndef f(x): return x * config.k",
        "",
    ),
    "tuple element": ("T = (1.0, {v})\ndef f(x): return x * T[1]", ""),
    "element of an inner tuple": ("T = (1.0, (2.0, {v}))\ndef f(x): return x * T[1][1]", ""),
    "list element": ("T = [1.0, {v}]\ndef f(x): return x * T[1]", ""),
    "array element": (
        "import numpy as np\nT = np.array([1.0, {v}])\ndef f(x): return x * T[1]",
        "",
    ),
    "array inside": (
        "import numpy as np\ndef f(x):\n    t = np.array([1.0, {v}])\n    return x * t[1]",
        "",
    ),
    "list inside": ("def f(x):\n    t = [1.0, {v}]\n    return x * t[1]", ""),
    "scalar of NumPy": ("import numpy as np\nK = np.float32({v})\ndef f(x): return x * K", ""),
    "flag": ("FLAG = {v} > 3\ndef f(x): return x * (7.0 if FLAG else 2.0)", ""),
    "text": (
        "MODE = 'a' if {v} > 3 else 'b'\ndef f(x): return x * (7.0 if MODE == 'a' else 2.0)",
        "",
    ),
    "module attribute": ("import {beside} as beside\ndef f(x): return x * beside.K", "K = {v}"),
    "function of a module": (
        "import {beside} as beside\ndef f(x): return beside.helper(x)",
        "def helper(z): return z * {v}",
    ),
    "global of a module's function": (
        "import {beside} as beside\ndef f(x): return beside.helper(x)",
        "K = {v}\ndef helper(z): return z * K",
    ),
    "class of a module": (
        "import {beside} as beside\ndef f(x): return x * beside.Config.K",
        "class Config:\n    K = {v}",
    ),
    "imported name": ("from {beside} import K\ndef f(x): return x * K", "K = {v}"),
    "import alias": (
        "from {beside} import {name} as K\ndef f(x): return x * K",
        "TWO = 2.0\nSEVEN = 7.0",
    ),
    "alias of a module": (
        "import {beside} as m\nnumbers = m.{name}\ndef f(x): return x * numbers.K",
        "class TWO:\n    K = 2.0\nclass SEVEN:\n    K = 7.0",
    ),
    "compiled helper": (
        "from numba import njit\n@njit\ndef helper(z): return z * {v}\ndef f(x): return helper(x)",
        "",
    ),
    "global of a compiled helper": (
        "from numba import njit\nK = {v}\n@njit\ndef helper(z): return z * K\n"
        "def f(x): return helper(x)",
        "",
    ),
    "compilable helper": (
        "from numba.extending import register_jitable\nK = {v}\n@register_jitable\n"
        "def helper(z): return z * K\ndef f(x): return helper(x)",
        "",
    ),
    "other activation": (
        "import fastact as fa\n@fa.activation\ndef other(x): return x * {v}\n"
        "def f(x): return other(x)",
        "",
    ),
    "default of another activation": (
        "import fastact as fa\n@fa.activation\ndef other(x, k={v}): return x * k\n"
        "def f(x): return other(x)",
        "",
    ),
    "bound activation": (
        "import fastact as fa\nslope = fa.leaky_relu.bind(negative_slope={v})\n"
        "def f(x): return -slope(-abs(x))",
        "",
    ),
    "function called": (
        "import fastact as fa\ndef two(x): return 2.0 * x\ndef seven(x): return 7.0 * x\n"
        "def f(x): return {lower}(x)",
        "",
    ),
    "keyword of a call": (
        "def helper(x, two=0.0, seven=0.0): return x * (2.0 * two + 7.0 * seven)\n"
        "def f(x): return helper(x, {lower}=1.0)",
        "",
    ),
    "alias of a function": (
        "def two(x): return 2.0 * x\ndef seven(x): return 7.0 * x\nhelper = {lower}\n"
        "def f(x): return helper(x)",
        "",
    ),
}

VALUES = (2.0, 7.0)
NAMES = {2.0: "TWO", 7.0: "SEVEN"}


def sources(kind: str, number: int, value: float, note: str = "") -> dict[str, str]:
    """Return the files of one case, by name.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    number : int
        Which of the cases it is: it names the modules, and is a number in the function.
    value : float
        One of `VALUES`.
    note : str, optional
        What a comment and the docstring say, which must not matter.
    """
    beside, name = f"beside_{number}", NAMES[value]
    fields = {"v": value, "beside": beside, "name": name, "lower": name.lower()}
    case, other = (text.format(**fields) for text in KINDS[kind])
    case = f"""# {note}
import fastact as fa
{case}
function = f

@fa.activation
def item(x: "{note}"):
    "{note}"
    # {note}
    return function(x) * {number}.0
"""
    return {f"case_{number}.py": case, f"{beside}.py": f"# {note}\n{other}"}
