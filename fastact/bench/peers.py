"""The calls of other libraries, as their users write them.

A function here takes a `fastact.bench.contenders.Case` and an operation, and returns a call without arguments
whose result is that of fastact's: the value, the gradient, or both. What a library calls an activation is
taken from its definition. Where it has none, NotImplementedError says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastact.bench.contenders import Case

Call = Callable[..., Any]


def package(name: str) -> Any:
    """Import what need not be installed."""
    return importlib.import_module(name)


def _name_in(library: str, case: Case) -> str:
    """Return what a library calls the activation."""
    name: str | None = case.definition.elsewhere.get(library)
    if name is None:
        raise NotImplementedError(f"{library} has no {case.name}")
    return name


def _found(places: list[Any], name: str, case: Case) -> Any:
    for place in places:
        if hasattr(place, name):
            return getattr(place, name)
    raise NotImplementedError(f"there is no function {name} for {case.name}")


# PyTorch ----------------------------------------------------------------------------------------


def set_torch_threads(number: int) -> None:
    """Let PyTorch use as many threads as fastact."""
    package("torch").set_num_threads(number)


def _torch_function(case: Case) -> Callable[..., Any]:
    torch = package("torch")
    if case.name == "maxout":  # not there, but easily written
        return lambda x, pieces: x.unflatten(-1, (-1, pieces)).max(-1).values
    if case.name == "gelu_tanh":  # there, as a choice
        return partial(torch.nn.functional.gelu, approximate="tanh")
    return _found([torch, torch.nn.functional], _name_in("pytorch", case), case)  # type: ignore[no-any-return]


def torch(case: Case, operation: str, transform: Callable[[Any], Any] = lambda f: f) -> Call:
    """Return what a user of PyTorch writes, with its automatic differentiation."""
    torch = package("torch")
    function = transform(_torch_function(case))
    x, dy = torch.from_numpy(case.x).requires_grad_(), torch.from_numpy(case.dy)
    learnable = [
        x.new_tensor([value], requires_grad=True)
        for name, value in case.parameters.items()
        if name in case.definition.learnable
    ]
    numbers = [v for n, v in case.parameters.items() if n not in case.definition.learnable]
    forward = partial(function, x, *numbers, *learnable)

    def forward_alone() -> Any:
        with torch.no_grad():
            return forward()

    def forward_backward() -> Any:
        y = forward()
        return y.detach(), *torch.autograd.grad(y, (x, *learnable), dy)

    if operation == "forward":
        return forward_alone
    if operation == "forward_backward":
        return forward_backward
    backward = partial(torch.autograd.grad, forward(), (x, *learnable), dy, retain_graph=True)
    return backward if learnable else lambda: backward()[0]


def torch_compile(case: Case, operation: str) -> Call:
    """Return the same, compiled by PyTorch; the first call compiles, and is not measured."""
    return torch(case, operation, package("torch").compile)


@cache
def _torch_kernels() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Return PyTorch's own kernels: the value of x, and the gradient of dy, x and y."""
    a = package("torch").ops.aten
    return {
        "relu": (a.relu, lambda dy, x, y: a.threshold_backward(dy, x, 0.0)),
        "leaky_relu": (
            lambda x: a.leaky_relu(x, 0.01),
            lambda dy, x, y: a.leaky_relu_backward(dy, x, 0.01, False),
        ),
        "relu6": (a.relu6, lambda dy, x, y: a.hardtanh_backward(dy, x, 0.0, 6.0)),
        "hardtanh": (a.hardtanh, lambda dy, x, y: a.hardtanh_backward(dy, x, -1.0, 1.0)),
        "hardsigmoid": (a.hardsigmoid, lambda dy, x, y: a.hardsigmoid_backward(dy, x)),
        "hardswish": (a.hardswish, lambda dy, x, y: a.hardswish_backward(dy, x)),
        "hardshrink": (a.hardshrink, lambda dy, x, y: a.hardshrink_backward(dy, x, 0.5)),
        "softshrink": (a.softshrink, lambda dy, x, y: a.softshrink_backward(dy, x, 0.5)),
        "sigmoid": (a.sigmoid, lambda dy, x, y: a.sigmoid_backward(dy, y)),
        "tanh": (a.tanh, lambda dy, x, y: a.tanh_backward(dy, y)),
        "elu": (a.elu, lambda dy, x, y: a.elu_backward(dy, 1.0, 1.0, 1.0, False, x)),
        "celu": (a.celu, lambda dy, x, y: a.elu_backward(dy, 1.0, 1.0, 1.0, False, x)),
        "selu": (
            a.selu,
            lambda dy, x, y: a.elu_backward(
                dy, 1.6732632423543772, 1.0507009873554805, 1.0, False, x
            ),
        ),
        "silu": (a.silu, lambda dy, x, y: a.silu_backward(dy, x)),
        "mish": (a.mish, lambda dy, x, y: a.mish_backward(dy, x)),
        "gelu": (a.gelu, lambda dy, x, y: a.gelu_backward(dy, x)),
        "gelu_tanh": (
            lambda x: a.gelu(x, approximate="tanh"),
            lambda dy, x, y: a.gelu_backward(dy, x, approximate="tanh"),
        ),
        "softplus": (a.softplus, lambda dy, x, y: a.softplus_backward(dy, x, 1.0, 20.0)),
    }


def torch_raw(case: Case, operation: str) -> Call:
    """Return PyTorch's kernels alone, without its automatic differentiation."""
    torch = package("torch")
    if case.name not in _torch_kernels():
        raise NotImplementedError(f"PyTorch has no pair of kernels for {case.name}")
    value, gradient = _torch_kernels()[case.name]
    x, dy = torch.from_numpy(case.x), torch.from_numpy(case.dy)
    y = value(x)

    def forward_backward() -> Any:
        y = value(x)
        return y, gradient(dy, x, y)

    return {
        "forward": lambda: value(x),
        "backward": lambda: gradient(dy, x, y),
        "forward_backward": forward_backward,
    }[operation]


# JAX --------------------------------------------------------------------------------------------


def jax(case: Case, operation: str) -> Call:
    """Return what a user of JAX writes: one jitted function."""
    jax = package("jax")
    if case.x.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    function = _found([jax.nn, jax.numpy], _name_in("jax", case), case)
    if case.name == "gelu":
        function = partial(function, approximate=False)
    x, dy = jax.numpy.asarray(case.x), jax.numpy.asarray(case.dy)

    def both(x: Any, dy: Any) -> Any:
        y, gradient = jax.vjp(function, x)
        return y, gradient(dy)[0]

    forward, fused = jax.jit(function), jax.jit(both)
    backward = jax.jit(lambda x, dy: both(x, dy)[1])
    return {
        "forward": lambda: forward(x).block_until_ready(),
        "backward": lambda: backward(x, dy).block_until_ready(),
        "forward_backward": lambda: jax.block_until_ready(fused(x, dy)),
    }[operation]


# Expressions, and forward alone -----------------------------------------------------------------

# The value of x, and the gradient of dy, x and y.
_EXPRESSIONS = {
    "relu": ("where(x > 0, x, 0)", "where(x > 0, dy, 0)"),
    "leaky_relu": ("where(x > 0, x, x * s)", "where(x > 0, dy, dy * s)"),
    "elu": ("where(x > 0, x, expm1(x))", "where(x > 0, dy, dy * (y + 1))"),
    "sigmoid": ("1 / (1 + exp(-x))", "dy * y * (1 - y)"),
    "tanh": ("tanh(x)", "dy * (1 - y * y)"),
    "silu": ("x / (1 + exp(-x))", "dy * (1 + (x - y) ) / (1 + exp(-x))"),
    "softplus": ("where(x > 20, x, log1p(exp(x)))", "dy / (1 + exp(-x))"),
}


def set_numexpr_threads(number: int) -> None:
    """Let numexpr use as many threads as fastact."""
    package("numexpr").set_num_threads(number)


def numexpr(case: Case, operation: str) -> Call:
    """Return numexpr's expressions of the value and of the gradient."""
    if case.name not in _EXPRESSIONS:
        raise NotImplementedError(f"there is no expression for {case.name}")
    evaluate, (value, gradient) = package("numexpr").evaluate, _EXPRESSIONS[case.name]
    arrays = {"x": case.x, "dy": case.dy, "s": case.x.dtype.type(0.01)}
    arrays["y"] = evaluate(value, arrays)

    def forward_backward() -> Any:
        y = evaluate(value, arrays)
        return y, evaluate(gradient, arrays | {"y": y})

    return {
        "forward": lambda: evaluate(value, arrays),
        "backward": lambda: evaluate(gradient, arrays),
        "forward_backward": forward_backward,
    }[operation]


def scipy(case: Case, operation: str) -> Call:
    """Return SciPy's function, of which there is the value alone."""
    names = {"sigmoid": "expit", "logsigmoid": "log_expit"}
    if operation != "forward" or case.name not in names:
        raise NotImplementedError(f"SciPy has no {operation} of {case.name}")
    return partial(getattr(package("scipy.special"), names[case.name]), case.x)


def thinc(case: Case, operation: str) -> Call:
    """Return the functions of thinc's NumPy backend."""
    ops, name = package("thinc.api").NumpyOps(), _name_in("thinc", case)
    value, gradient = getattr(ops, name), getattr(ops, f"backprop_{name}")
    if case.name == "maxout" or "slope" in case.definition.parameters:
        raise NotImplementedError(f"thinc's {name} takes other arguments")
    x, dy = case.x.reshape(1, -1), case.dy.reshape(1, -1)
    takes_output = name in ("sigmoid", "relu")

    def arguments(y: Any) -> tuple[Any, ...]:
        return (dy, x, y) if name == "swish" else (dy, y if takes_output else x)

    def forward_backward() -> Any:
        y = value(x)
        return y, gradient(*arguments(y))

    y = value(x)
    return {
        "forward": lambda: value(x),
        "backward": lambda: gradient(*arguments(y)),
        "forward_backward": forward_backward,
    }[operation]


def onnxruntime(case: Case, operation: str) -> Call:
    """Return a session of ONNX Runtime with a model of one node, of which there is the value alone."""
    name = _name_in("onnx", case)
    if operation != "forward":
        raise NotImplementedError("ONNX Runtime computes no gradients")
    import fastact as fa

    onnx, runtime = package("onnx"), package("onnxruntime")
    kind = onnx.helper.np_dtype_to_tensor_dtype(case.x.dtype)
    ends = [onnx.helper.make_tensor_value_info(each, kind, ["n"]) for each in "xy"]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, ["x"], ["y"])], name, ends[:1], ends[1:]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])
    model.ir_version = 9
    options = runtime.SessionOptions()
    options.intra_op_num_threads = fa.get_num_threads()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(model.SerializeToString(), options)
    except Exception as error:  # its own classes of errors: it lacks the node, or the type
        raise NotImplementedError(f"ONNX Runtime refuses {name}: {error}") from None
    return lambda: session.run(None, {"x": case.x})[0]
