"""Gated linear units: one half of the features times an activation of the other half."""

from __future__ import annotations

from fastact.catalogue.definition import gated_unit
from fastact.catalogue.gated import gelu, gelu_tanh, silu
from fastact.catalogue.rectified import identity, relu, squared_relu
from fastact.catalogue.sigmoidal import sigmoid

_SHAZEER = "N. Shazeer, GLU Variants Improve Transformer, arXiv:2002.05202 (2020)."

# The gate is the second half in PyTorch's glu and in its paper. In Shazeer's paper the activated product comes first,
# and so it does in the packed weights of the models that followed.
glu = gated_unit(
    "glu",
    sigmoid,
    gate="second",
    said="""Gated linear unit: one half of the features times the sigmoid of the other.

    Examples
    --------
    >>> fa.glu([1.0, -1.0, 3.0, 4.0])
    array([ 0.95257413, -0.98201379])
    """,
    good_for="convolutional sequence models, and gates in general",
    not_for="feed-forward blocks of transformers, where swiglu and geglu have replaced it",
    reference="Y. Dauphin, A. Fan, M. Auli, D. Grangier, Language Modeling with Gated Convolutional Networks, ICML 2017.",
)
reglu = gated_unit(
    "reglu",
    relu,
    said="""Gated linear unit with a relu gate.

    Examples
    --------
    >>> fa.reglu([1.0, -1.0, 3.0, 4.0])
    array([3., 0.])
    """,
    good_for="feed-forward blocks where an exponential costs too much",
    not_for="models trained with swiglu or geglu",
    reference=_SHAZEER,
)
geglu = gated_unit(
    "geglu",
    gelu,
    said="""Gated linear unit with a gelu gate; `fastact.geglu_tanh` approximates it.

    Examples
    --------
    >>> fa.geglu([1.0, -1.0, 3.0, 4.0])
    array([ 2.52403424, -0.63462102])
    """,
    good_for="feed-forward blocks of transformers such as ModernBERT",
    not_for="models trained with the tanh approximation: geglu_tanh",
    reference=_SHAZEER,
)
geglu_tanh = gated_unit(
    "geglu_tanh",
    gelu_tanh,
    said="""Gated linear unit with a gate of gelu's tanh approximation, as in Gemma.

    Examples
    --------
    >>> fa.geglu_tanh([1.0, -1.0, 3.0, 4.0])
    array([ 2.52357597, -0.63523204])
    """,
    good_for="models trained with it, such as Gemma and T5 1.1",
    not_for="new models: geglu is exact and costs about the same here",
    reference=f"{_SHAZEER} Gemma Team, Gemma: Open Models Based on Gemini Research and Technology, arXiv:2403.08295 (2024).",
)
swiglu = gated_unit(
    "swiglu",
    silu,
    said="""Gated linear unit with a silu gate, as in the feed-forward blocks of most language models.

    Examples
    --------
    >>> fa.swiglu([1.0, -1.0, 3.0, 4.0])
    array([ 2.19317574, -1.07576569])
    >>> fa.swiglu([1.0, -1.0], [3.0, 4.0])
    array([ 2.19317574, -1.07576569])
    """,
    good_for="feed-forward blocks of language models such as Llama",
    not_for="small nets: it needs a third weight matrix, which plain silu does not",
    reference=_SHAZEER,
)
bilinear = gated_unit(
    "bilinear",
    identity,
    said="""Bilinear layer: the product of the two halves.

    Examples
    --------
    >>> fa.bilinear([1.0, -1.0, 3.0, 4.0])
    array([ 3., -4.])
    """,
    good_for="interactions of two sets of features without a nonlinearity of each",
    not_for="deep stacks without normalization: values grow with the square",
    reference=_SHAZEER,
)
squared_reglu = gated_unit(
    "squared_reglu",
    squared_relu,
    said="""Gated linear unit with a squared relu gate: most of its values are exactly 0.

    Examples
    --------
    >>> fa.squared_reglu([1.0, -1.0, 3.0, 4.0])
    array([3., 0.])
    """,
    good_for="language models whose sparse activations make inference cheaper",
    not_for="nets without normalization: values grow with the cube",
    reference="Z. Zhang et al., ReLU^2 Wins: Discovering Efficient Activation Functions for Sparse LLMs, arXiv:2402.03804 (2024).",
)
