"""A small PyTorch net on scikit-learn's digits, with Mish by PyTorch and by fastact, which one call swaps in.

Run it: it trains the same net twice from the same weights, compares the losses, and prints the times.
"""

from __future__ import annotations

import time

import torch
from sklearn.datasets import load_digits
from torch import nn

from fastact.backends.torch import replace

EPOCHS, HIDDEN = 30, 256


def make_net() -> nn.Sequential:
    """Return a net with two hidden layers, the same in every call."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Linear(64, HIDDEN), nn.Mish()),
        *(nn.Linear(HIDDEN, HIDDEN), nn.Mish()),
        nn.Linear(HIDDEN, 10),
    )


def train(net: nn.Sequential, x: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Train on all digits at once, and return the last loss and the seconds."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
    return loss.item(), time.perf_counter() - start


def activation_seconds(net: nn.Sequential, rows: int) -> float:
    """Return what one activation takes in an epoch, forward and backward."""
    x = torch.randn(rows, HIDDEN, requires_grad=True)
    times = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        net[1](x).backward(x)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Train both, compare, and print the times."""
    digits = load_digits()
    x = torch.tensor(digits.data / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    nets = {"PyTorch": make_net(), "fastact": replace(make_net())}
    losses = {}
    for _ in range(2):  # the first round compiles kernels and warms up
        for name, net in nets.items():
            net.load_state_dict(make_net().state_dict())
            losses[name], seconds = train(net, x, labels)
            each = activation_seconds(net, len(x))
            print(
                f"{name}: loss {losses[name]:.6f}, {seconds:.3f} s, an activation {1e3 * each:.2f} ms"
            )
        print()
    assert abs(losses["PyTorch"] - losses["fastact"]) < 1e-4 * losses["PyTorch"]
    accuracy = (nets["fastact"](x).argmax(1) == labels).float().mean().item()
    print(f"accuracy on the training data: {accuracy:.3f}")


if __name__ == "__main__":
    main()
