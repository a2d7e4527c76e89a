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
    """Return the accuracy on the test set of nets that begin with other weights."""
    found = []
    for seed in range(SEEDS):
        net, rng = (
            Net([64, *[60] * depth, 10], name, GAINS[name], seed),
            np.random.default_rng(seed),
        )
        for _ in range(EPOCHS):
            for batch in np.split(rng.permutation(len(x)), len(x) // BATCH):
                net.step(x[batch], labels[batch], RATE)
        found.append(net.accuracy(x_test, labels_test))
    return np.array(found)


# %%
# Median of five nets, and the worst and the best.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
print(f"{'':12}{'2 layers':>23}{'12 layers':>23}")
rows = {name: [accuracies(name, depth) for depth in (2, 12)] for name in GAINS}
for name, row in rows.items():
    print(
        f"{name:12}"
        + "".join(f"{np.median(a):9.0%} ({a.min():4.0%} to {a.max():4.0%})" for a in row)
    )
for ax, k, title in zip(axes, (0, 1), ("two hidden layers", "twelve hidden layers")):
    for place, row in enumerate(rows.values()):
        ax.plot([row[k].min(), row[k].max()], [place, place], color="0.6", linewidth=3)
        ax.plot(np.median(row[k]), place, "o", color="C0")
    ax.set(title=title, xlabel="accuracy", yticks=range(len(rows)), yticklabels=rows)
    ax.grid(alpha=0.3, axis="x")
plt.show()
