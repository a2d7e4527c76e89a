"""
What the exponential costs
==========================

In plain NumPy the value of an activation with an exponential takes several times as long as that of a ReLU. With the gradient
the ratio is smaller, and where both are one pass over memory, smaller still: the time is that of the memory.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import fastact as fa
from fastact import baseline  # the fastest plain NumPy that we know

NAMES = ["relu", "leaky_relu", "elu", "sigmoid", "tanh"]
SHAPES = (32, 100), (1000, 1000)


def value(f, x, dy):
    """Compute the value."""
    f(x)


def value_and_gradient(f, x, dy):
    """Compute both."""
    f.forward_backward(x, dy)


def nanoseconds(operation, f, x, dy):
    """Return the least time for each element."""
    operation(f, x, dy)
    best, until = np.inf, time.perf_counter() + 0.1
    while time.perf_counter() < until:
        begin = time.perf_counter()
        for _ in range(5):
            operation(f, x, dy)
        best = min(best, (time.perf_counter() - begin) / 5)
    return 1e9 * best / x.size


# %%
# Nanoseconds per element, of a batch in a small net and of a large array.
figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
print(
    f"{'ns per element':27}"
    + "".join(f"{name:>{len(name) + 2}}" for name in NAMES)
    + f"{'sigmoid:relu':>13}"
)
for row, shape in zip(axes, SHAPES):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype("f")
    for ax, operation in zip(row, (value, value_and_gradient)):
        title = f"{'both' if operation is value_and_gradient else 'value'}, {shape[0]} x {shape[1]}"
        for k, (library, functions) in enumerate([("NumPy", baseline.get), ("fastact", fa.get)]):
            found = [nanoseconds(operation, functions(name), x, dy) for name in NAMES]
            cells = "".join(f"{each:{len(name) + 2}.2f}" for each, name in zip(found, NAMES))
            print(f"{title:18} {library:8}{cells}{found[3] / found[0]:13.1f}")
            ax.bar(np.arange(len(NAMES)) + 0.4 * k - 0.2, found, 0.38, label=library)
        ax.set(title=title, xticks=range(len(NAMES)), xticklabels=NAMES)
    row[0].set_ylabel("ns per element")
axes[0, 0].legend()
plt.show()
