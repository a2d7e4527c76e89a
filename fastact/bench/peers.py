"""The calls of other libraries, as their users write them.

Each function takes a workload and an operation, and returns a call without arguments with the same
results as fastact's: the value, the gradients, or both. A library's name for an activation comes
from the activation's definition. A NotImplementedError says that the library lacks the function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import fastact as fa
from fastact.bench.workloads import Workload

Call = Callable[..., Any]


def package(name: str) -> Any:
    """Import an optional package."""
    return importlib.import_module(name)


def _name_in(library: str, work: Workload) -> str:
    """Return a library's name for an activation."""
    name = work.definition.elsewhere.get(library) if work.is_pointwise else None
    if name is None or work.has_bias:
        raise NotImplementedError(f"{library} has no {work.title}")
    return name


def _find(modules: list[Any], library: str, work: Workload) -> Any:
    name = _name_in(library, work)
    for module in modules:
        if hasattr(module, name):
            return getattr(module, name)
    raise NotImplementedError(f"there is no function {name} for {work.name}")


def _cells(sigmoid: Any, tanh: Any, split: Callable[[Any, int], Any]) -> dict[str, Any]:
    """Return recurrent cells between their matrix products, which no library has alone."""

    def lstm_cell(gates: Any, c_prev: Any) -> Any:
        i, f, g, o = split(gates, 4)
        c = sigmoid(f) * c_prev + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru_cell(input_gates: Any, hidden_gates: Any, h_prev: Any) -> Any:
        (r, z, n), (hidden_r, hidden_z, hidden_n) = split(input_gates, 3), split(hidden_gates, 3)
        z, n = sigmoid(z + hidden_z), tanh(n + sigmoid(r + hidden_r) * hidden_n)
        return n + z * (h_prev - n)

    return {"lstm_cell": lstm_cell, "gru_cell": gru_cell}


# PyTorch ----------------------------------------------------------------------------------------


def set_torch_threads(number: int) -> None:
    """Set the number of threads of PyTorch."""
    package("torch").set_num_threads(number)


@cache
def _torch_formulas() -> dict[str, Callable[..., Any]]:
    """Return functions that PyTorch has under other conventions, or that are easily written."""
    torch = package("torch")
    functional = torch.nn.functional

    def swiglu(x: Any) -> Any:
        gate, value = x.chunk(2, -1)
        return functional.silu(gate) * value

    return {
        "maxout": lambda x, pieces: x.unflatten(-1, (-1, pieces)).max(-1).values,
        "gelu_tanh": partial(functional.gelu, approximate="tanh"),
        "softmax": partial(functional.softmax, dim=-1),
        "log_softmax": partial(functional.log_softmax, dim=-1),
        "softmax_cross_entropy": functional.cross_entropy,
        "layer_norm": lambda x: functional.layer_norm(x, x.shape[-1:]),
        "rms_norm": lambda x: functional.rms_norm(x, x.shape[-1:], eps=1e-5),
        "batch_norm": lambda x: functional.batch_norm(x, None, None, training=True),
        **_cells(torch.sigmoid, torch.tanh, lambda x, count: x.chunk(count, -1)),
        "swiglu": swiglu,
        "gelu with bias": lambda x, bias: functional.gelu(x + bias),
    }


def torch_function(work: Workload) -> Callable[..., Any]:
    """Return PyTorch's function: it takes the inputs, then numbers and weights."""
    torch, formulas = package("torch"), _torch_formulas()
    name = f"{work.name} with bias" if work.has_bias else work.name
    return formulas.get(name) or _find([torch, torch.nn.functional], "pytorch", work)


def torch(work: Workload, operation: str, transform: Callable[[Any], Any] = lambda f: f) -> Call:
    """Return eager PyTorch code with automatic differentiation."""
    torch = package("torch")
    function = transform(torch_function(work))
    inputs = [torch.from_numpy(array).requires_grad_() for array in work.inputs]
    constants = [torch.from_numpy(array) for array in work.constants]
    dys = [torch.from_numpy(array) for array in work.dys] or None
    learnable = work.definition.learnable if work.is_pointwise else ()
    numbers = [value for name, value in work.parameters.items() if name not in learnable]
    weights = [
        inputs[0].new_tensor([value], requires_grad=True)
        for name, value in work.parameters.items()
        if name in learnable
    ]
    forward = partial(function, *inputs, *numbers, *weights, *constants)
    variables = (*inputs, *weights)

    def forward_alone() -> Any:
        with torch.no_grad():
            return forward()

    def forward_backward() -> Any:
        y = forward()
        values = y if isinstance(y, tuple) else (y,)
        gradients = torch.autograd.grad(values, variables, dys)
        return *(value.detach() for value in values), *gradients

    if operation == "forward":
        return forward_alone
    if operation == "forward_backward":
        return forward_backward
    backward = partial(torch.autograd.grad, forward(), variables, dys, retain_graph=True)
    return backward if len(variables) > 1 else lambda: backward()[0]


def torch_compile(work: Workload, operation: str) -> Call:
    """Return the same with ``torch.compile``; the first call compiles, and is not measured."""
    return torch(work, operation, package("torch").compile)


@cache
def _torch_kernels() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Return PyTorch's kernels: the value from x, and the gradient from dy, x and y."""
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


def torch_raw(work: Workload, operation: str) -> Call:
    """Return PyTorch's forward and backward kernels, without automatic differentiation."""
    torch = package("torch")
    if work.name not in _torch_kernels():
        raise NotImplementedError(f"PyTorch has no pair of kernels for {work.name}")
    value, gradient = _torch_kernels()[work.name]
    x, dy = torch.from_numpy(work.x), torch.from_numpy(work.dy)
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


@cache
def _jax_formulas() -> dict[str, Callable[..., Any]]:
    """Return functions that JAX has under other conventions, or that are easily written."""
    jax = package("jax")

    def cross_entropy(x: Any, labels: Any) -> Any:
        chosen = jax.numpy.take_along_axis(x, labels[:, None], axis=-1)[:, 0]
        return (jax.nn.logsumexp(x, axis=-1) - chosen).mean()

    def swiglu(x: Any) -> Any:
        gate, value = jax.numpy.split(x, 2, axis=-1)
        return jax.nn.silu(gate) * value

    def rms_norm(x: Any) -> Any:
        return x * jax.lax.rsqrt(jax.numpy.mean(x * x, axis=-1, keepdims=True) + 1e-5)

    standardize = partial(jax.nn.standardize, epsilon=1e-5)
    gelu = partial(jax.nn.gelu, approximate=False)
    return {
        "gelu": gelu,
        "gelu with bias": lambda x, bias: gelu(x + bias),
        "softmax": jax.nn.softmax,
        "log_softmax": jax.nn.log_softmax,
        "softmax_cross_entropy": cross_entropy,
        "layer_norm": standardize,
        "rms_norm": rms_norm,
        "batch_norm": partial(standardize, axis=0),
        **_cells(jax.nn.sigmoid, jax.numpy.tanh, partial(jax.numpy.split, axis=-1)),
        "swiglu": swiglu,
    }


def jax(work: Workload, operation: str) -> Call:
    """Return one jitted JAX function."""
    jax, formulas = package("jax"), _jax_formulas()
    if work.x.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    name = f"{work.name} with bias" if work.has_bias else work.name
    function = formulas.get(name) or _find([jax.nn, jax.numpy], "jax", work)
    inputs, constants, others = (
        [jax.numpy.asarray(array) for array in arrays]
        for arrays in (work.inputs, work.constants, work.others)
    )

    def both(*arrays: Any) -> Any:
        inputs, others = arrays[: len(work.inputs)], arrays[len(work.inputs) :]
        if work.dys:
            y, gradients = jax.vjp(function, *inputs)
            return (*y, *gradients(others)) if isinstance(y, tuple) else (y, *gradients(*others))
        loss, gradients = jax.vjp(lambda *inputs: function(*inputs, *others), *inputs)
        return loss, *gradients(jax.numpy.ones_like(loss))

    forward, fused = jax.jit(function), jax.jit(both)

    def gradients_alone(*arrays: Any) -> Any:
        found = both(*arrays)[len(work.dys) or 1 :]
        return found[0] if len(found) == 1 else found

    backward = jax.jit(gradients_alone)
    return {
        "forward": lambda: jax.block_until_ready(forward(*inputs, *constants)),
        "backward": lambda: jax.block_until_ready(backward(*inputs, *others)),
        "forward_backward": lambda: jax.block_until_ready(fused(*inputs, *others)),
    }[operation]


# Expressions, and others ------------------------------------------------------------------------

# The value from x, and the gradient from dy, x and y.
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
    """Set the number of threads of numexpr."""
    package("numexpr").set_num_threads(number)


def numexpr(work: Workload, operation: str) -> Call:
    """Return numexpr expressions for value and gradient."""
    if work.name not in _EXPRESSIONS:
        raise NotImplementedError(f"there is no expression for {work.name}")
    evaluate, (value, gradient) = package("numexpr").evaluate, _EXPRESSIONS[work.name]
    arrays = {"x": work.x, "dy": work.dy, "s": work.x.dtype.type(0.01)}
    arrays["y"] = evaluate(value, arrays)

    def forward_backward() -> Any:
        y = evaluate(value, arrays)
        return y, evaluate(gradient, arrays | {"y": y})

    return {
        "forward": lambda: evaluate(value, arrays),
        "backward": lambda: evaluate(gradient, arrays),
        "forward_backward": forward_backward,
    }[operation]


def scipy(work: Workload, operation: str) -> Call:
    """Return SciPy's function; it has no gradients."""
    names = {"sigmoid": "expit", "logsigmoid": "log_expit"}
    if operation != "forward" or work.name not in names:
        raise NotImplementedError(f"SciPy has no {operation} of {work.name}")
    return partial(getattr(package("scipy.special"), names[work.name]), work.x)


def thinc(work: Workload, operation: str) -> Call:
    """Return functions of thinc's NumPy backend."""
    ops, name = package("thinc.api").NumpyOps(), _name_in("thinc", work)
    value, gradient = getattr(ops, name), getattr(ops, f"backprop_{name}")
    if work.name == "maxout" or "slope" in work.definition.parameters:
        raise NotImplementedError(f"thinc's {name} takes other arguments")
    x, dy = work.x.reshape(1, -1), work.others[0].reshape(1, -1)
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


def onnxruntime(work: Workload, operation: str) -> Call:
    """Return the run of an ONNX Runtime session with a model of one node; it has no gradients."""
    name = _name_in("onnx", work)
    if operation != "forward":
        raise NotImplementedError("ONNX Runtime computes no gradients")
    onnx, runtime = package("onnx"), package("onnxruntime")
    kind = onnx.helper.np_dtype_to_tensor_dtype(work.x.dtype)
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
    except Exception as error:  # ONNX Runtime's own: it lacks the operator or the type
        raise NotImplementedError(f"ONNX Runtime refuses {name}: {error}") from None
    return lambda: session.run(None, {"x": work.x})[0]
