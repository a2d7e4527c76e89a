"""Every function on PyTorch's tensors: against PyTorch's own functions, gradcheck, opcheck, compilers and transforms."""

from __future__ import annotations

import copy
import itertools
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from cases import POINTWISE
from own_activations import pair, swishy
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

import fastact as fa
import fastact.backends.torch as backend
from fastact.backends.torch import functional

X = torch.linspace(-2.3, 2.6, 24, dtype=torch.double).reshape(4, 6)
LABELS = torch.tensor([0, 5, 2, 3])
MASK = torch.arange(6) < 4


def leaf(x: Any = X) -> Any:
    return x.detach().clone().requires_grad_()


def parameters(name: str) -> dict[str, Any]:
    function = fa.get(name)
    given = function._definition.required_parameters
    return {n: torch.tensor(v) if n in function.learnable else v for n, v in given.items()}


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    **{name: ((abs(X),), parameters(name)) for name in POINTWISE},
    **{name: ((X,), {}) for name in fa.names("row", "packed", "normalization")},
    "gumbel_softmax": ((X,), {"rng": 3}),
    "maxout": ((X,), {"pieces": 3}),
    "lstm_cell": ((X[:, :4], X[:, 4:5]), {}),
    "gru_cell": ((X[:, :3], X[:, 3:], X[:, :1]), {}),
    "dropout": ((X,), {"rng": 3}),
    "alpha_dropout": ((X,), {"rng": 3}),
    "cross_entropy": ((X.softmax(-1), LABELS), {}),
    "linear_cross_entropy": ((X, X.flip(0), LABELS % 4), {}),
    **{name: ((X, LABELS), {}) for name in ("softmax_cross_entropy", "nll")},
    **{name: ((X, X.sigmoid()), {}) for name in ("sigmoid_binary_cross_entropy", "mse", "huber")},
}


def test_all_functions_are_there() -> None:
    assert set(CALLS) == set(fa.names()) <= set(dir(functional))
    assert functional.swish is not None
    assert {"Mish", "Swiglu", "replace", "functional"} <= set(dir(backend))


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients(name: str) -> None:
    """Eager calls, operators and compilers see the same function, whose values are fastact's."""
    args, options = CALLS[name]
    function = getattr(functional, name)
    as_numpy = [each.numpy() for each in args]
    plain = {n: v.numpy() if isinstance(v, torch.Tensor) else v for n, v in options.items()}
    expected = getattr(fa, name)(*as_numpy, **plain)
    with torch.no_grad():
        found = function(*args, **options)
    for one, other in zip(
        *(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other)
    inputs = [leaf(each) if each.is_floating_point() else each for each in args]
    wanted = [k for k, each in enumerate(args) if each.is_floating_point()]
    arguments = list(fa.get(name).operations["forward"].arguments.values())
    wanted = [k for k in wanted if arguments[k].is_differentiable]
    inputs = [each if k in wanted else each.detach() for k, each in enumerate(inputs)]
    assert gradcheck(lambda *each: function(*each, **options), inputs, nondet_tol=0.0)


def second_order(name: str) -> bool:
    return name in POINTWISE or getattr(fa.get(name)._definition, "second_order", None) is not None


@pytest.mark.parametrize("name", [name for name in CALLS if second_order(name)])
def test_second_order(name: str) -> None:
    (x,), options = CALLS[name]
    assert gradgradcheck(lambda x: getattr(functional, name)(x, **options), [leaf(x)])


@pytest.mark.parametrize("name", ["gelu", "relu", "prelu"])
def test_several_inputs(name: str) -> None:
    def fused(x: Any, bias: Any, residual: Any) -> Any:
        bound = backend.wrap(fa.get(name, **dict.fromkeys(fa.get(name).learnable, 0.3)))
        return bound(x, bias=bias, residual=residual, scale=0.5, dropout=0.4, rng=3)

    inputs = [leaf(), leaf(X[0]), leaf()]
    assert gradcheck(fused, inputs)
    assert gradgradcheck(fused, inputs)


def test_learnable_parameters() -> None:
    weight = leaf(X[0])
    assert gradcheck(functional.prelu, [leaf(), weight])
    dx, dweight = torch.autograd.grad(
        functional.prelu(X.requires_grad_(), weight).sum(), [X, weight]
    )
    expected = torch.autograd.grad(nn.functional.prelu(X, weight).sum(), [X, weight])
    X.requires_grad_(False)
    torch.testing.assert_close((dx, dweight), expected)
    x = leaf()
    (dx,) = torch.autograd.grad(functional.prelu(x, weight).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="prelu: there is no derivative of its gradient"):
        dx.sum().backward()


# PyTorch's own functions, under their names.
THEIRS = {
    name: definition.elsewhere["pytorch"]
    for name, definition in ((name, fa.get(name)._definition) for name in POINTWISE)
    if hasattr(nn.functional, definition.elsewhere.get("pytorch", ""))
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_against_pytorch(name: str, dtype: str) -> None:
    x = X.to(getattr(torch, dtype))
    options = parameters(name)
    options = {n: v.to(x) if isinstance(v, torch.Tensor) else v for n, v in options.items()}
    a, b = leaf(x), leaf(x)
    y, expected = (
        getattr(functional, name)(a, **options),
        getattr(nn.functional, THEIRS[name])(b, **options),
    )
    y.backward(x)
    expected.backward(x)
    # PyTorch rounds some intermediate results to half precision.
    tolerances = {"rtol": 0.03, "atol": 0.01} if dtype.endswith("16") else {}
    torch.testing.assert_close(y, expected, **tolerances)
    torch.testing.assert_close(a.grad, b.grad, **tolerances)


def test_masked_softmax() -> None:
    scores = leaf(torch.randn(2, 3, 4, 6))
    y = functional.softmax(scores, where=MASK, scale=0.5, axis=-1)
    expected = torch.softmax((scores * 0.5).masked_fill(~MASK, -torch.inf), -1)
    torch.testing.assert_close(y, expected)
    weights = torch.randn(2, 3, 4, 6)
    (dx,), (expected_dx,) = (torch.autograd.grad(each, scores, weights) for each in (y, expected))
    torch.testing.assert_close(dx, expected_dx)


# Memory ------------------------------------------------------------------------------------------


def test_memory_is_shared() -> None:
    x = torch.randn(4, 6)
    out = torch.empty(4, 6)
    assert functional.gelu(x, out=out) is out
    torch.testing.assert_close(out, nn.functional.gelu(x))
    y = leaf(x)
    with pytest.raises(TypeError, match="gelu: out takes no gradient"):
        functional.gelu(y, out=out)
    saved: list[Any] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        functional.hardswish(y)
    assert all(each.data_ptr() == y.data_ptr() for each in saved)


@pytest.mark.parametrize("name", ["hardswish", "mish", "tanh", "softmax", "maxout", "sparsemax"])
@pytest.mark.parametrize("step", [1, 2])
def test_modified_tensors_are_noticed(name: str, step: int) -> None:
    """Of what the gradient needs; what it does not need may change."""
    options = {"pieces": 3} if name == "maxout" else {}
    for at in ("x", "y"):
        base = torch.randn(4, 6 * step, requires_grad=True)
        x = (base * 1)[:, ::step]
        y = getattr(functional, name)(x, **options)
        loss = y.sum()
        (expected,) = torch.autograd.grad(loss, base, retain_graph=True)
        pointers = {each.data_ptr() for each in y.grad_fn.saved_tensors if each is not None}
        changed = x if at == "x" else y
        is_needed = changed.data_ptr() in pointers
        with torch.no_grad():
            changed.mul_(2)
        if is_needed:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(loss, base)
        else:
            torch.testing.assert_close(torch.autograd.grad(loss, base)[0], expected)


def test_a_modified_bias_is_noticed() -> None:
    bias, weight = leaf(X[0]), leaf(X[0])
    for y in (functional.gelu(X, bias=bias), functional.layer_norm(X, weight=weight, bias=bias)):
        with torch.no_grad():
            bias.mul_(2)
            weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T,
        lambda x: x[::2, 1::2],
        lambda x: x[:0],
        lambda x: x[0, 0],
        lambda x: x[:1].expand(3, 6),
        lambda x: x.as_strided((3, 3), (6, 0)),
        lambda x: x.reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
    ],
)
@pytest.mark.parametrize("name", ["mish", "softmax", "relu"])
def test_layouts(name: str, view: Any) -> None:
    x = leaf(view(X))
    y = getattr(functional, name)(x)
    expected = getattr(nn.functional, name)(x, *([-1] if name == "softmax" else []))
    torch.testing.assert_close(y, expected)
    weights = torch.rand(y.shape, dtype=y.dtype)
    (dx,), (expected_dx,) = (torch.autograd.grad(each, x, weights) for each in (y, expected))
    torch.testing.assert_close(dx, expected_dx)


def test_channels_last_is_kept() -> None:
    x = leaf(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
    y = functional.mish(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, torch.autograd.grad(nn.functional.mish(x).sum(), x)[0])


def test_gradients_share_no_memory() -> None:
    """A gradient of PyTorch's may be modified in place: that of a residual is `dy`, of which there is another user."""
    x, residual, other = leaf(), leaf(), leaf()
    (functional.gelu(x, residual=residual) + other).backward(torch.ones_like(X))
    pairs = itertools.combinations([x.grad, residual.grad, other.grad], 2)
    assert all(one.data_ptr() != two.data_ptr() for one, two in pairs)


def test_checkpoint_and_threads() -> None:
    from torch.utils.checkpoint import checkpoint

    x = leaf()
    y = checkpoint(lambda x: functional.mish(functional.tanh(x)), x, use_reentrant=False)
    expected = nn.functional.mish(torch.tanh(x))
    torch.testing.assert_close(*(torch.autograd.grad(each.sum(), x)[0] for each in (y, expected)))


# Random numbers ----------------------------------------------------------------------------------


def test_random_numbers_are_pytorchs() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(1)
        draws.append(
            (functional.dropout(X), functional.gelu(X, dropout=0.5), functional.gumbel_softmax(X))
        )
    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert not torch.equal(functional.dropout(X), functional.dropout(X))
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    torch.testing.assert_close(
        *(functional.dropout(X, rng=each) for each in generators), rtol=0, atol=0
    )
    x = leaf()
    y = functional.dropout(x, 0.5)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx, torch.where(y == 0, 0.0, 2.0).double())


# Operators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_operators(name: str) -> None:
    args, options = CALLS[name]
    getattr(functional, name)
    operators = torch.ops.fastact
    options = {n: torch.tensor(v) if n == "rng" else v for n, v in options.items()}
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if name in ("gelu", "softmax", "lstm_cell", "prelu"):
        checks.append("test_aot_dispatch_dynamic")
    differentiable = fa.get(name).operations["forward"].arguments
    inputs = tuple(
        leaf(each) if each.is_floating_point() and differentiable[n].is_differentiable else each
        for n, each in zip(differentiable, args, strict=False)
    )
    operator = getattr(operators, name).default
    torch.library.opcheck(operator, inputs, options, test_utils=checks)
    results = operator(*args, **options)
    results = [results] if isinstance(results, torch.Tensor) else results
    count = sum(each.is_gradient for each in fa.get(name).operations["backward"].arrays)
    backward = getattr(operators, f"{name}_backward").default
    gradients = [torch.ones_like(each) for each in results[:count]]
    torch.library.opcheck(
        backward, (gradients, *args), options, test_utils=["test_schema", "test_faketensor"]
    )
    if second_order(name) and name != "prelu":
        second = getattr(operators, f"{name}_double_backward").default
        found = backward(gradients, *args, **options)
        torch.library.opcheck(
            second,
            (found, gradients, *args),
            options,
            test_utils=["test_schema", "test_faketensor"],
        )


@pytest.mark.filterwarnings("ignore")
def test_compiled_without_graph_breaks() -> None:
    weight, bias = leaf(torch.randn(6, 6)), leaf(torch.randn(6))

    def net(x: Any, compiled: bool) -> Any:
        f, mask = functional if compiled else None, MASK
        if f is None:
            hidden = nn.functional.mish(x @ weight + bias)
            return torch.softmax((hidden * 0.5).masked_fill(~mask, -torch.inf), -1)
        return f.softmax(f.mish(x @ weight, bias=bias), where=mask, scale=0.5)

    results = []
    for function in (
        torch.compile(lambda x: net(x, True), fullgraph=True),
        lambda x: net(x, False),
    ):
        y = function(X.float())
        results.append((y, *torch.autograd.grad(y.square().sum(), [weight, bias])))
    torch.testing.assert_close(*results)
    dropped = torch.compile(lambda x: functional.elu(x, alpha=0.5, dropout=0.5), fullgraph=True)(X)
    assert 0 < (dropped == 0).sum() < X.numel()
    model = backend.replace(nn.Sequential(nn.Linear(6, 6), nn.Mish(), nn.ELU(0.5), nn.Softmax(-1)))
    x = torch.randn(4, 6)
    torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), backend.restore(model)(x))


@pytest.mark.filterwarnings("ignore")
def test_traces_and_modes() -> None:
    traced = torch.jit.trace(functional.mish, X)
    torch.testing.assert_close(traced(X + 1), functional.mish(X + 1))
    with pytest.raises(NotImplementedError, match=r"softmax: torch\.jit\.trace cannot record axes"):
        torch.jit.trace(functional.softmax, X)
    from torch.fx.experimental.proxy_tensor import make_fx

    assert "fastact.mish" in make_fx(functional.mish)(X).code
    with torch.inference_mode():
        torch.testing.assert_close(functional.mish(X), nn.functional.mish(X))


def test_page_and_docstrings() -> None:
    import doctest

    from fastact.backends import _torch_replace

    for module in (backend, _torch_replace):
        assert doctest.testmod(module).failed == 0
    text = (Path(__file__).parents[2] / "docs/backends/torch.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["shares"].shape == (8, 4, 128, 128)


def test_transforms() -> None:
    from torch.func import functional_call, grad, jacrev, vmap

    for ours, theirs in (
        (functional.mish, nn.functional.mish),
        (functional.softmax, lambda x: torch.softmax(x, -1)),
    ):
        torch.testing.assert_close(vmap(ours)(X), vmap(theirs)(X))
        torch.testing.assert_close(
            vmap(ours, in_dims=1, out_dims=1)(X), vmap(theirs, in_dims=1, out_dims=1)(X)
        )
        for of in (
            jacrev,
            lambda f: jacrev(jacrev(f)),
            lambda f: grad(lambda x: f(x).square().sum()),
        ):
            torch.testing.assert_close(of(ours)(X[0]), of(theirs)(X[0]))
        per_sample = [vmap(grad(lambda x, f=f: f(x).square().sum()))(X) for f in (ours, theirs)]
        torch.testing.assert_close(*per_sample)
    shifted = vmap(lambda x, b: functional.gelu(x, bias=b))(X.reshape(2, 2, 6), X[:2])
    torch.testing.assert_close(shifted, nn.functional.gelu(X.reshape(2, 2, 6) + X[:2, None]))
    by_axis = vmap(lambda x: functional.softmax(x, axis=0))(X.reshape(2, 2, 6))
    torch.testing.assert_close(by_axis, torch.softmax(X.reshape(2, 2, 6), 1))
    model = backend.replace(nn.Sequential(nn.Linear(6, 3), nn.Mish()).double())
    loss = lambda p, x: functional_call(model, p, (x,)).sum()  # noqa: E731
    found = vmap(grad(loss), in_dims=(None, 0))(dict(model.named_parameters()), X)
    backend.restore(model)
    torch.testing.assert_close(
        found, vmap(grad(loss), in_dims=(None, 0))(dict(model.named_parameters()), X)
    )


def test_devices_and_layouts_of_others() -> None:
    y = functional.gelu(torch.empty(3, 4, device="meta"))
    assert (y.device.type, y.shape) == ("meta", (3, 4))
    with pytest.raises(
        TypeError, match=r"gelu: fastact takes dense tensors, got torch\.sparse_coo"
    ):
        functional.gelu(X.to_sparse())
    with pytest.raises(TypeError, match="gelu: the first argument must be a tensor"):
        functional.gelu(X.numpy())
    with pytest.raises(TypeError, match="elu: there is no gradient with respect to 'alpha'"):
        functional.elu(X, alpha=leaf(X[0]))
    with pytest.raises(TypeError, match="elu: got an unexpected keyword argument 'beta'"):
        functional.elu(X, beta=1.0)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = functional.nothing
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = backend.Nothing
    with pytest.raises(TypeError, match="wrap takes a function of fastact"):
        backend.wrap(np.tanh)


def test_gradients_that_cannot_be_differentiated() -> None:
    x = leaf()
    (dx,) = torch.autograd.grad(functional.sparsemax(x)[:, 0].sum(), x, create_graph=True)
    with pytest.raises(
        NotImplementedError, match="sparsemax: there is no derivative of its gradient"
    ):
        dx.sum().backward()


def test_own_functions() -> None:
    @fa.elementwise
    def product(a: Any, b: Any, c: Any = 2.0) -> Any:
        return a * b + c

    for each in (swishy, pair):
        assert gradcheck(backend.wrap(each), [leaf()])
        assert gradgradcheck(backend.wrap(each), [leaf()])
    wrapped = backend.wrap(product)
    assert gradcheck(wrapped, [leaf(), leaf(X[0])])
    torch.testing.assert_close(torch.func.vmap(wrapped)(X, X), X * X + 2)


# Modules -----------------------------------------------------------------------------------------


def small_net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(6, 6), nn.Mish(), nn.GELU("tanh"), nn.PReLU(6), nn.Softplus(2), nn.ELU(0.5)),
        *(
            nn.LeakyReLU(0.2, inplace=True),
            nn.Tanh(),
            nn.Hardtanh(-0.5, 0.7),
            nn.Threshold(0.1, 0.2),
        ),
        *(nn.RReLU(), nn.SELU(), nn.LogSoftmax(-1), nn.ReLU(inplace=True)),
    ).eval()


def test_replace() -> None:
    net, x = small_net(), X.float()
    seen: list[Any] = []
    names = [type(each).__name__ for each in net]
    state, expected = copy.deepcopy(net.state_dict()), net(x)
    hook = net[1].register_forward_hook(lambda *_: seen.append(1))
    assert backend.replace(net, functions=fa.names()) is net
    assert {type(each).__module__ for each in net[1:]} == {"fastact.backends.torch"}
    assert [type(each).__name__ for each in net] == names
    torch.testing.assert_close(net(x), expected)
    assert seen
    hook.remove()
    net.load_state_dict(state)
    assert all(
        isinstance(each, kind) for each, kind in zip(net, map(type, small_net()), strict=True)
    )
    for again in (pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert type(again[2]) is backend.GELU
        torch.testing.assert_close(again(x), expected)
    assert backend.restore(net) is net
    assert [type(each) for each in net] == [type(each) for each in small_net()]


def test_replace_chooses() -> None:
    net = backend.replace(small_net())
    assert isinstance(net[1], backend.Mish)
    assert type(net[-1]) is nn.ReLU
    net = backend.replace(small_net().train(), X.float())
    assert all(each.training for each in net.modules())
    assert all(type(each).__name__ in dir(nn) for each in net)
    only = backend.replace(small_net(), functions=["swish", "tanh"])
    ours = [type(each).__name__ for each in only if type(each).__module__ == backend.__name__]
    assert ours == ["Tanh"]
    with pytest.raises(ValueError, match="there is no function 'nothing'"):
        backend.replace(net, functions=["nothing"])


def test_modules() -> None:
    x = X.float()
    torch.testing.assert_close(backend.Mish()(x), nn.Mish()(x))
    torch.testing.assert_close(backend.Softmax(dim=1)(x, scale=0.5), nn.Softmax(1)(x / 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(backend.Softmax()(x), nn.Softmax()(x))
    assert backend.Swiglu()(x).shape == (4, 3)
    assert repr(backend.Squareplus(b=2.0)) == "Squareplus(b=2.0)"
    np.testing.assert_array_equal(backend.Squareplus(2.0)(x), fa.squareplus(x.numpy(), b=2.0))
    snake = backend.Snake(a=1.5)
    assert list(snake.state_dict()) == ["a"]
    snake(x).sum().backward()
    assert snake.a.grad is not None
    dropout = backend.Dropout(0.5)
    assert (dropout(x) == 0).any()
    torch.testing.assert_close(dropout.eval()(x), x)
    mish = backend.Mish()
    assert (mish(x, dropout=0.5) == 0).any()
    torch.testing.assert_close(mish.eval()(x, dropout=0.5, bias=x[0]), nn.Mish()(x + x[0]))
    slopes = torch.full((4, 6), -1.0)
    drawn = backend.RReLU()(slopes)
    assert ((drawn > -1 / 3 - 1e-6) & (drawn < -1 / 8 + 1e-6)).all()
    assert drawn.unique().numel() > 1
    with pytest.raises(TypeError, match="Squareplus takes b"):
        backend.Squareplus(c=1.0)
    with pytest.raises(TypeError, match="Maxout: missing the argument 'pieces'"):
        backend.Maxout()
