"""
Which one learns digits best?
=============================

The same net with each activation, five times from other weights: a shallow one, where nearly any activation will do, and a
deep one, where it matters.
"""

import matplotlib.pyplot as plt
import numpy as np
from _net import Net, digits

x, labels, x_test, labels_test = digits()
#: Each with a gain that about keeps the size of what passes through: 5/3 for tanh and √2 for rectifiers, as PyTorch has them.
GAINS = {
    "sigmoid": 4,
    "tanh": 5 / 3,
    "relu": 2**0.5,
    "leaky_relu": 2**0.5,
    "prelu": 2**0.5,
    "elu": 1.2,
    "gelu": 1.5,
    "silu": 1.6,
}
EPOCHS, BATCH, RATE, SEEDS = 15, 50, 0.05, 5


def accuracies(name, depth):
    """Return the accuracy on the test set after each epoch, of nets that begin with other weights."""
    found = np.empty((SEEDS, EPOCHS))
    for seed in range(SEEDS):
        net = Net([64, *[60] * depth, 10], name, GAINS[name], seed)
        rng = np.random.default_rng(seed)
        for epoch in range(EPOCHS):
            for batch in np.split(rng.permutation(len(x)), len(x) // BATCH):
                net.step(x[batch], labels[batch], RATE)
            found[seed, epoch] = net.accuracy(x_test, labels_test)
    return found


def epochs_to(accuracy, found):
    """Return how many epochs the median of the nets takes to an accuracy."""
    reached = np.flatnonzero(np.median(found, axis=0) >= accuracy)
    return str(reached[0] + 1) if reached.size else "never"


# %%
# How soon the nets reach 90 %, and at the end the median of five, the worst and the best.
rows = {name: [accuracies(name, depth) for depth in (2, 12)] for name in GAINS}
print(f"{'':12}{'2 layers: epochs to 90 %, at the end':>38}{'12 layers':>33}")
for name, row in rows.items():
    print(f"{name:12}", end="")
    for found in row:
        end = found[:, -1]
        print(
            f"{epochs_to(0.9, found):>13}{np.median(end):7.0%} ({end.min():4.0%} to {end.max():4.0%})",
            end="",
        )
    print()

# %%
# By epoch, and at the end.
figure, axes = plt.subplots(2, 2, figsize=(9, 6.6), layout="constrained")
for k, title in enumerate(("two hidden layers", "twelve hidden layers")):
    for place, (name, row) in enumerate(rows.items()):
        curve = np.median(row[k], axis=0)
        style = f"{'-' if place < 4 else '--'}{'osD^'[place % 4]}"
        axes[0, k].plot(range(1, EPOCHS + 1), curve, style, markersize=3, label=name)
        end = row[k][:, -1]
        axes[1, k].plot([end.min(), end.max()], [place, place], color="0.6", linewidth=3)
        axes[1, k].plot(np.median(end), place, "o", color="C0")
    axes[0, k].set(title=title, xlabel="epoch", ylabel="accuracy")
    axes[1, k].set(xlabel="accuracy at the end", yticks=range(len(rows)), yticklabels=rows)
    axes[0, k].grid(alpha=0.3)
    lowest = min(row[k][:, -1].min() for name, row in rows.items() if name != "sigmoid")
    axes[1, k].set_xlim(lowest - 0.02, 1)  # without the sigmoid, which is far on the left
    axes[1, k].grid(alpha=0.3, axis="x")
axes[0, 0].legend(fontsize="small")
plt.show()
