"""Every activation of every element by itself that six libraries have is in the catalogue.

What has been left out takes whole axes (softmax and its like), halves (glu), or is no activation.
"""

from __future__ import annotations

import pytest

import fastact as fa
from fastact.catalogue import catalogue

LISTS = {
    library: names.split()
    for library, names in {
        "keras": """
            celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu
            linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign
            sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink threshold
        """,
        "onnx": """
            Celu Clip Elu Exp Gelu HardSigmoid HardSwish Identity LeakyRelu Mish PRelu Relu Selu Shrink
            Sigmoid Sin Softplus Softsign Swish Tanh ThresholdedRelu
        """,
        "thinc": """
            clipped_linear dish gelu gelu_approx hard_sigmoid hard_swish hard_swish_mobilenet hard_tanh
            maxout mish relu relu_k sigmoid swish
        """,
        "chainer": """
            clipped_relu elu exp hard_sigmoid identity leaky_relu maxout prelu relu relu6 rrelu selu
            sigmoid sin softplus swish tanh
        """,
    }.items()
}

# Of whole axes, of halves, of several arrays, and helpers.
NOT_OF_ELEMENTS = {
    "GLU",
    "LogSoftmax",
    "MultiheadAttention",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "dot_product_attention",
    "get_scaled_dot_general_config",
    "glu",
    "initializers",
    "log_softmax",
    "logmeanexp",
    "logsumexp",
    "one_hot",
    "scaled_dot_general",
    "scaled_matmul",
    "softmax",
    "standardize",
}


def assert_covered(library: str, names: list[str]) -> None:
    """Check that each name finds an activation that says it is in this library."""
    missing = []
    for name in names:
        claimed = [
            key
            for key, each in catalogue("activation").items()
            if each.elsewhere.get(library) == name
        ]
        try:
            found = claimed or [fa.get(name).name]
        except ValueError:
            found = []
        if not found or library not in catalogue("activation")[found[0]].elsewhere:
            missing.append(name)
    assert not missing


@pytest.mark.parametrize("library", LISTS)
def test_lists(library: str) -> None:
    """The lists are of Keras 3.16, ONNX 1.23, thinc 9.1 and Chainer 7.8."""
    assert_covered(library, LISTS[library])


def test_pytorch() -> None:
    """All the modules of ``torch.nn.modules.activation``, by their functions."""
    torch = pytest.importorskip("torch")
    modules = set(torch.nn.modules.activation.__all__) - NOT_OF_ELEMENTS
    functions = {name.lower(): name for name in dir(torch.nn.functional)}
    functions["leakyrelu"] = "leaky_relu"
    assert_covered("pytorch", [functions[module.lower()] for module in sorted(modules)])


def test_jax() -> None:
    """All that ``jax.nn`` has."""
    nn = pytest.importorskip("jax").nn
    names = {name for name in dir(nn) if not name.startswith("_")} - NOT_OF_ELEMENTS
    assert_covered("jax", sorted(names))


@pytest.mark.parametrize("name", fa.names("activation"))
def test_claims_about_pytorch_and_jax_are_true(name: str) -> None:
    """A name given for a library that is installed is there."""
    elsewhere = catalogue("activation")[name].elsewhere
    if "pytorch" in elsewhere:
        nn = pytest.importorskip("torch").nn
        assert hasattr(nn.functional, elsewhere["pytorch"]) or hasattr(nn, elsewhere["pytorch"])
    if "jax" in elsewhere:
        assert hasattr(pytest.importorskip("jax").nn, elsewhere["jax"])


@pytest.mark.parametrize("library", LISTS)
def test_claims_about_others_are_true(library: str) -> None:
    """A name given for a library is in its list."""
    claimed = {
        each.elsewhere[library]
        for each in catalogue("activation").values()
        if library in each.elsewhere
    }
    assert claimed <= set(LISTS[library])
