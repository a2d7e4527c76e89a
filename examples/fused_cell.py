"""A recurrent cell of one's own, fused: value and gradients by automatic differentiation, each in one pass.

The minimal gated unit has a forget gate and a candidate (G.-B. Zhou, J. Wu, C.-L. Zhang, Z.-H. Zhou, Minimal Gated Unit
for Recurrent Neural Networks, 2016). Its matrix products are NumPy's; everything else is one function. Run this file:
it trains the unit to remember the first input of a sequence, and prints the losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastact as fa


@fa.elementwise
def forget_gate(gate: Any, h: Any) -> Any:
    """Return the gate, and the part of the state that it lets through to the candidate."""
    gate = fa.math.logistic(gate)
    return gate, gate * h


@fa.elementwise
def new_state(gate: Any, candidate: Any, h: Any) -> Any:
    """Mix the old state with the candidate."""
    return (1 - gate) * h + gate * fa.math.tanh(candidate)


class MinimalGatedUnit:
    """A layer that reads sequences of shape (length, batch, inputs), and returns the last state."""

    def __init__(self, inputs: int, size: int, rng: np.random.Generator) -> None:
        self.w = rng.standard_normal((2, inputs, size)) / inputs**0.5
        self.u = rng.standard_normal((2, size, size)) / size**0.5

    def forward(self, sequence: Any) -> Any:
        """Return the last state, and keep what the gradient needs."""
        h = np.zeros((sequence.shape[1], self.w.shape[2]))
        self.steps = []
        for x in sequence:
            gate, kept, gate_vjp = forget_gate.vjp(x @ self.w[0] + h @ self.u[0], h)
            new, state_vjp = new_state.vjp(gate, x @ self.w[1] + kept @ self.u[1], h)
            self.steps.append((x, h, kept, gate_vjp, state_vjp))
            h = new
        return h

    def backward(self, dh: Any) -> tuple[Any, Any]:
        """Return the gradients with respect to both weights."""
        dw, du = np.zeros_like(self.w), np.zeros_like(self.u)
        for x, h, kept, gate_vjp, state_vjp in reversed(self.steps):
            dgate, dcandidate, dh = state_vjp(dh)
            dbefore, dh_by_gate = gate_vjp(dgate, dcandidate @ self.u[1].T)
            dh = dh + dh_by_gate + dbefore @ self.u[0].T
            dw += x.T @ dbefore, x.T @ dcandidate
            du += h.T @ dbefore, kept.T @ dcandidate
        return dw, du


def losses(steps: int = 150) -> Iterator[float]:
    """Train the unit to return the first input of a sequence, and yield the loss of each step."""
    rng = np.random.default_rng(0)
    unit = MinimalGatedUnit(4, 16, rng)
    sequence = rng.uniform(-1, 1, (6, 64, 4))
    for _ in range(steps):
        h = unit.forward(sequence)
        dh = np.zeros_like(h)
        loss, dh[:, :4] = fa.huber.forward_backward(h[:, :4], sequence[0])
        dw, du = unit.backward(dh)
        unit.w -= 8 * dw
        unit.u -= 8 * du
        yield float(loss)


if __name__ == "__main__":
    first, *_, last = losses()
    print(f"loss {first:.4f} -> {last:.4f}")
