"""Recurrent cells: the new state from the gates' preactivations, which are packed along an axis."""

from __future__ import annotations

from fastact.catalogue.definition import define_cell
from fastact.simd import Vector, fma
from fastact.vecmath import logistic, logistic_and_derivative, tanh, tanh_and_derivative


def _lstm_gradient(
    dh: Vector, dc: Vector, i: Vector, f: Vector, g: Vector, o: Vector, c_prev: Vector
) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    into, di = logistic_and_derivative(i)
    keep, df = logistic_and_derivative(f)
    candidate, dg = tanh_and_derivative(g)
    out, do = logistic_and_derivative(o)
    bounded, slope = tanh_and_derivative(fma(keep, c_prev, into * candidate))
    dc = fma(dh * out, slope, dc)
    return dc * candidate * di, dc * c_prev * df, dc * into * dg, dh * bounded * do, dc * keep


@define_cell(
    formula=r"(h, c), \quad c = \sigma(f) \, c_0 + \sigma(i) \tanh(g), \quad h = \sigma(o) \tanh(c)",
    gradient=_lstm_gradient,
    signature="gates(4,n), c_prev(n) -> h(n), c(n)",
    gates="ifgo",
    arrays_are={
        "gates": "The preactivations ``x @ W + h_prev @ U + b``, all gates concatenated along `axis`.",
        "c_prev": "The cell state before, with the shape of one gate.",
        "h": "The hidden state, with the shape of one gate.",
        "c": "The cell state, with the shape of one gate.",
    },
    good_for="recurrent nets over long sequences",
    not_for="sequences that may be processed at once, where attention or convolutions parallelize over time",
    reference="S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 9 (1997), 1735-1780; F. Gers, J. Schmidhuber, F. Cummins, Learning to Forget: Continual Prediction with LSTM, Neural Computation 12 (2000), 2451-2471.",
)
def lstm_cell(i: Vector, f: Vector, g: Vector, o: Vector, c_prev: Vector) -> tuple[Vector, Vector]:
    """Step of a long short-term memory (LSTM), after its matrix products: PyTorch's LSTMCell.

    Notes
    -----
    The gates are the input gate i, the forget gate f, the candidate g and the output gate o. Their order is ``"ifgo"`` in
    PyTorch and Keras, ``"igfo"`` in TensorFlow 1, ``"iofg"`` in ONNX and ``"fgio"`` in the book Deep Learning from Scratch.

    The gradient needs only the inputs: it computes the gates again, in the same pass.

    In float32, the error of c is at most ``3 * 2**-23`` of ``abs(sigmoid(f) * c_prev) + abs(sigmoid(i) * tanh(g))``, and
    that of h, for the c returned, at most ``3 * 2**-23`` of itself, unless a gate underflows. NaN gives NaN. Results are
    bitwise identical for any layout, order and number of threads.

    Examples
    --------
    >>> gates, c_prev = np.array([[1.0, 2.0, -1.0, 0.5]]), np.array([[0.5]])
    >>> h, c = fa.lstm_cell(gates, c_prev)
    >>> h, c
    (array([[-0.07211124]]), array([[-0.1163714]]))
    """
    c = fma(logistic(f), c_prev, logistic(i) * tanh(g))
    return logistic(o) * tanh(c), c


def _gru_gradient(
    dh: Vector,
    input_r: Vector,
    input_z: Vector,
    input_n: Vector,
    hidden_r: Vector,
    hidden_z: Vector,
    hidden_n: Vector,
    h_prev: Vector,
) -> tuple[Vector, Vector, Vector, Vector, Vector, Vector, Vector]:
    reset, dr = logistic_and_derivative(input_r + hidden_r)
    update = input_z + hidden_z
    keep, dz = logistic_and_derivative(update)
    candidate, slope = tanh_and_derivative(fma(reset, hidden_n, input_n))
    dn = dh * logistic(-update) * slope
    dr = dn * hidden_n * dr
    dz = dh * (h_prev - candidate) * dz
    return dr, dz, dn, dr, dz, dn * reset, dh * keep


@define_cell(
    formula=r"(1 - z) \, n + z \, h_0, \quad n = \tanh(i_n + r \, h_n), \quad r = \sigma(i_r + h_r), \quad z = \sigma(i_z + h_z)",
    gradient=_gru_gradient,
    signature="input_gates(3,n), hidden_gates(3,n), h_prev(n) -> h(n)",
    gates="rzn",
    arrays_are={
        "input_gates": "The preactivations ``x @ W + b`` from the input, all gates concatenated along `axis`.",
        "hidden_gates": "The preactivations ``h_prev @ U + b`` from the hidden state, likewise.",
        "h_prev": "The hidden state before, with the shape of one gate.",
        "h": "The hidden state, with the shape of one gate.",
    },
    good_for="recurrent nets with fewer weights than an LSTM",
    not_for="tasks that need an exact memory, such as counting, where an LSTM does better",
    reference="K. Cho et al., Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, EMNLP 2014.",
)
def gru_cell(
    input_r: Vector,
    input_z: Vector,
    input_n: Vector,
    hidden_r: Vector,
    hidden_z: Vector,
    hidden_n: Vector,
    h_prev: Vector,
) -> tuple[Vector]:
    """Step of a gated recurrent unit (GRU), after its matrix products: PyTorch's GRUCell.

    Notes
    -----
    The gates are the reset gate r, the update gate z and the candidate n. Their order is ``"rzn"`` in PyTorch, and ``"zrn"`` in
    Keras and ONNX. The reset gate multiplies the product with the hidden state, as in PyTorch and with Keras's default,
    ``reset_after=True``; not the hidden state before the product, as in the paper.

    The gradient needs only the inputs: it computes the gates again, in the same pass.

    In float32, for the sums of both preactivations of r and z as they are rounded, the error of h is at most
    ``3 * 2**-23`` of ``(1 - z) * (abs(n) + (1 - n**2) * (abs(i_n) + abs(r * h_n))) + abs(z * h_prev)``. NaN gives NaN.
    Results are bitwise identical for any layout, order and number of threads.

    Examples
    --------
    >>> input_gates, h_prev = np.array([[1.0, 2.0, -1.0]]), np.array([[0.5]])
    >>> hidden_gates = np.array([[0.5, -1.0, 2.0]])
    >>> fa.gru_cell(input_gates, hidden_gates, h_prev)
    array([[0.51656342]])
    """
    reset, update = logistic(input_r + hidden_r), input_z + hidden_z
    candidate = tanh(fma(reset, hidden_n, input_n))
    return (fma(logistic(update), h_prev, logistic(-update) * candidate),)
