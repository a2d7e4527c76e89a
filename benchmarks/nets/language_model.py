"""Recurrent language models: functions that return values and the function for their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts, Vjp

GATES = {"lstm": 4, "gru": 3}


def lstm(parts: NumpyParts, p: Parameters, x: Array) -> tuple[Array, Vjp]:
    """Return the outputs of all time steps (t, n, h); `p` has PyTorch's layout."""
    w = p["w_hh"]
    transposed = w.T.copy()  # a few rows multiply it in two thirds of the time
    gates = x @ p["w_ih"].T
    gates += p["b_ih"] + p["b_hh"]
    outputs = np.zeros((len(x) + 1, x.shape[1], w.shape[1]), x.dtype)  # the first is before all
    c, vjps = outputs[0], []
    for t in range(len(x)):
        gates[t] += outputs[t] @ transposed
        (outputs[t + 1], c), vjp = parts.lstm_cell(gates[t], c)
        vjps.append(vjp)

    def backward(doutputs: Array) -> tuple[Array, Parameters]:
        dgates = np.empty_like(gates)
        dh = dc = np.zeros_like(c)
        for t in reversed(range(len(x))):
            dgates[t], dc = vjps[t](doutputs[t] + dh, dc)
            dh = dgates[t] @ w
        return gradients_of_products(x, dgates, outputs[:-1], dgates, p)

    return outputs[1:], backward


def gru(parts: NumpyParts, p: Parameters, x: Array) -> tuple[Array, Vjp]:
    """Return the outputs of all time steps (t, n, h); `p` has PyTorch's layout."""
    w, b = p["w_hh"], p["b_hh"]
    transposed = w.T.copy()
    from_x = x @ p["w_ih"].T
    from_x += p["b_ih"]
    outputs = np.zeros((len(x) + 1, x.shape[1], w.shape[1]), x.dtype)
    vjps = []
    for t in range(len(x)):
        outputs[t + 1], vjp = parts.gru_cell(from_x[t], outputs[t] @ transposed + b, outputs[t])
        vjps.append(vjp)

    def backward(doutputs: Array) -> tuple[Array, Parameters]:
        dfrom_x, dfrom_h = np.empty_like(from_x), np.empty_like(from_x)
        dh = np.zeros_like(outputs[0])
        for t in reversed(range(len(x))):
            dfrom_x[t], dfrom_h[t], dh = vjps[t](doutputs[t] + dh)
            dh = dh + dfrom_h[t] @ w
        return gradients_of_products(x, dfrom_x, outputs[:-1], dfrom_h, p)

    return outputs[1:], backward


def gradients_of_products(
    x: Array, dfrom_x: Array, h: Array, dfrom_h: Array, p: Parameters
) -> tuple[Array, Parameters]:
    """Return the gradients of the inputs and of all parameters, for all time steps at once."""
    x, h, dfrom_x, dfrom_h = (each.reshape(-1, each.shape[2]) for each in (x, h, dfrom_x, dfrom_h))
    gradients = {
        "w_ih": dfrom_x.T @ x,
        "b_ih": dfrom_x.sum(axis=0),
        "w_hh": dfrom_h.T @ h,
        "b_hh": dfrom_h.sum(axis=0),
    }
    return dfrom_x @ p["w_ih"], gradients


@dataclass(frozen=True, kw_only=True)
class LanguageModel(Net):
    """Embedded tokens, one recurrent layer, and a softmax over the next token."""

    cell: str
    tokens: int
    features: int
    hidden: int
    length: int
    tiny: ClassVar[dict[str, Any]] = {
        "batch_size": 2,
        "tokens": 5,
        "features": 3,
        "hidden": 4,
        "length": 6,
    }

    def parameters(self, random: np.random.Generator) -> Parameters:
        gates = GATES[self.cell] * self.hidden
        return {
            "embedding": self.normal(random, self.tokens, self.features),
            "w_ih": self.weights(random, 2 * self.features, gates)[::2].T.copy(),
            "b_ih": self.zeros(gates),
            "w_hh": self.weights(random, 2 * self.hidden, gates)[::2].T.copy(),
            "b_hh": self.zeros(gates),
            "w": self.weights(random, 2 * self.hidden, self.tokens)[::2].copy(),
            "b": self.zeros(self.tokens),
        }

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        text = random.integers(0, self.tokens, (self.length + 1, self.batch_size))
        return text[:-1], text[1:].reshape(-1)

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        p, layer = parameters, {"lstm": lstm, "gru": gru}[self.cell]

        def gradients(tokens: Array, labels: Array) -> tuple[float, Parameters]:
            outputs, backward = layer(parts, p, p["embedding"][tokens])
            h = outputs.reshape(-1, self.hidden)
            loss, dlogits = parts.cross_entropy(h @ p["w"] + p["b"], labels)
            dx, dp = backward((dlogits @ p["w"].T).reshape(outputs.shape))
            dembedding = np.zeros_like(p["embedding"])
            np.add.at(dembedding, tokens.reshape(-1), dx)
            output = {"w": h.T @ dlogits, "b": dlogits.sum(axis=0)}
            return loss, {"embedding": dembedding} | dp | output

        return gradients

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        tokens, labels = batch
        x = F.embedding(tokens, p["embedding"])
        zeros = x.new_zeros(1, x.shape[1], self.hidden)
        weights = [p[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh")]
        # What torch.nn.LSTM and GRU call: one layer in one direction, in training, without dropout.
        settings: Any = (True, 1, 0.0, True, False, False)
        if self.cell == "lstm":
            outputs = torch.lstm(x, [zeros, zeros], weights, *settings)[0]
        else:
            outputs = torch.gru(x, zeros, weights, *settings)[0]
        return F.cross_entropy(torch.addmm(p["b"], outputs.flatten(0, 1), p["w"]), labels)
