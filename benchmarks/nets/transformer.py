"""A small GPT: causal attention, gelu, layer normalization and dropout, on a tape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts, Vjp
from benchmarks.nets.tape import Tape, Variable, add, product


@dataclass(frozen=True, kw_only=True)
class Transformer(Net):
    """Blocks of attention and a perceptron, each on normalized features and beside a shortcut."""

    tokens: int
    length: int
    features: int
    heads: int
    blocks: int
    dropout: float
    tiny: ClassVar[dict[str, Any]] = {
        "batch_size": 2,
        "tokens": 7,
        "length": 5,
        "features": 8,
        "heads": 2,
        "blocks": 2,
    }

    def parameters(self, random: np.random.Generator) -> Parameters:
        d = self.features
        p = {
            "tokens": self.normal(random, self.tokens, d) * 0.5,
            "positions": self.normal(random, self.length, d) * 0.5,
        }
        for i in range(self.blocks):
            p |= {
                f"{i}.norm1.w": self.zeros(d) + 1,
                f"{i}.norm1.b": self.zeros(d),
                f"{i}.qkv": self.weights(random, d, 3 * d) * 0.5,
                f"{i}.projection": self.weights(random, d, d) * 0.5,
                f"{i}.norm2.w": self.zeros(d) + 1,
                f"{i}.norm2.b": self.zeros(d),
                f"{i}.w1": self.weights(random, d, 4 * d),
                f"{i}.b1": self.zeros(4 * d),
                f"{i}.w2": self.weights(random, 4 * d, d) * 0.5,
            }
        p |= {"norm.w": self.zeros(d) + 1, "norm.b": self.zeros(d)}
        return p | {"head": self.weights(random, d, self.tokens)}

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        text = random.integers(0, self.tokens, (self.batch_size, self.length + 1))
        return text[:, :-1].copy(), text[:, 1:].reshape(-1)

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        def gradients(tokens: Array, labels: Array) -> tuple[float, Parameters]:
            tape = Tape(parameters)
            x = tape(self.embed(tokens), tape["tokens"], tape["positions"])
            x = tape(parts.dropout, x, p=self.dropout)
            for i in range(self.blocks):
                x = self.block(tape, parts, x, i)
            x = tape(parts.layer_norm, x, tape["norm.w"], tape["norm.b"])
            logits = tape(product, x, tape["head"])
            loss, dlogits = parts.cross_entropy(logits.value, labels)
            return loss, tape.backward(logits, dlogits)

        return gradients

    def embed(self, tokens: Array) -> Callable[[Array, Array], tuple[Array, Vjp]]:
        """Return the part that looks up the features of tokens and positions: a row for each."""

        def part(of_tokens: Array, of_positions: Array) -> tuple[Array, Vjp]:
            def vjp(dx: Array) -> tuple[Array, Array]:
                dtokens = np.zeros_like(of_tokens)
                np.add.at(dtokens, tokens.reshape(-1), dx)
                return dtokens, dx.reshape(*tokens.shape, -1).sum(axis=0)

            return (of_tokens[tokens] + of_positions).reshape(-1, self.features), vjp

        return part

    def block(self, tape: Tape, parts: NumpyParts, x: Variable, i: int) -> Variable:
        """Return the features after a block."""
        y = tape(parts.layer_norm, x, tape[f"{i}.norm1.w"], tape[f"{i}.norm1.b"])
        y = tape(product, y, tape[f"{i}.qkv"])
        y = tape(self.attention, y, parts=parts)
        y = tape(product, y, tape[f"{i}.projection"])
        x = tape(add, x, tape(parts.dropout, y, p=self.dropout))
        y = tape(parts.layer_norm, x, tape[f"{i}.norm2.w"], tape[f"{i}.norm2.b"])
        y = tape(parts.gelu, tape(product, y, tape[f"{i}.w1"]), tape[f"{i}.b1"])
        y = tape(product, y, tape[f"{i}.w2"])
        return tape(add, x, tape(parts.dropout, y, p=self.dropout))

    def attention(self, qkv: Array, parts: NumpyParts) -> tuple[Array, Vjp]:
        """Return the features that each head gathers, beside each other."""
        n, t, h = self.batch_size, self.length, self.heads
        width = self.features // h
        q, k, v = qkv.reshape(n, t, 3, h, width).transpose(2, 0, 3, 1, 4)
        weights, softmax_vjp = parts.causal_softmax(q @ k.swapaxes(2, 3), 1 / math.sqrt(width))
        dropped, dropout_vjp = parts.dropout(weights, self.dropout)
        y = (dropped @ v).swapaxes(1, 2).reshape(n * t, -1)

        def vjp(dy: Array) -> Array:
            dy = dy.reshape(n, t, h, width).swapaxes(1, 2)
            dscores = softmax_vjp(dropout_vjp(dy @ v.swapaxes(2, 3)))
            dqkv = np.empty((n, t, 3, h, width), qkv.dtype)
            dq, dk, dv = dqkv.transpose(2, 0, 3, 1, 4)
            np.matmul(dscores, k, out=dq)
            np.matmul(dscores.swapaxes(2, 3), q, out=dk)
            np.matmul(dropped.swapaxes(2, 3), dy, out=dv)
            return dqkv.reshape(n * t, -1)

        return y, vjp

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        tokens, labels = batch
        n, t, d, h = self.batch_size, self.length, self.features, self.heads
        no_future = torch.ones(t, t, dtype=torch.bool).triu(1)

        def norm(x: Any, name: str) -> Any:
            return F.layer_norm(x, (d,), p[f"{name}.w"], p[f"{name}.b"])

        x = dropout((F.embedding(tokens, p["tokens"]) + p["positions"]).flatten(0, 1), self.dropout)
        for i in range(self.blocks):
            qkv = norm(x, f"{i}.norm1") @ p[f"{i}.qkv"]
            q, k, v = qkv.view(n, t, 3, h, d // h).permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(2, 3) / math.sqrt(d // h)
            weights = dropout(
                F.softmax(scores.masked_fill(no_future, -math.inf), dim=-1), self.dropout
            )
            y = (weights @ v).transpose(1, 2).reshape(n * t, d)
            x = x + dropout(y @ p[f"{i}.projection"], self.dropout)
            y = torch.addmm(p[f"{i}.b1"], norm(x, f"{i}.norm2"), p[f"{i}.w1"])
            y = F.gelu(y, approximate="tanh")
            x = x + dropout(y @ p[f"{i}.w2"], self.dropout)
        return F.cross_entropy(norm(x, "norm") @ p["head"], labels)
