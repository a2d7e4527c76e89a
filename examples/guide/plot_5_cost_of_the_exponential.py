"""
What the exponential costs
==========================

In plain NumPy an activation with an exponential takes many times as long as a ReLU. Where value and gradient are one pass over
memory, most of that time is spent waiting for memory anyway.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

import fastact as fa
from fastact import baseline

names = ["relu", "leaky_relu", "elu", "sigmoid", "tanh"]
SIZES = {"a batch, 32 x 100": (32, 100), "large, 1000 x 1000": (1000, 1000)}


def nanoseconds(function, x, dy):
    """Return the least time of value and gradient for each element."""
    function.forward_backward(x, dy)
    best, until = np.inf, time.perf_counter() + 0.15
    while time.perf_counter() < until:
        begin = time.perf_counter()
        for _ in range(5):
            function.forward_backward(x, dy)
        best = min(best, (time.perf_counter() - begin) / 5)
    return 1e9 * best / x.size


# %%
# ``fastact.baseline`` is the fastest plain NumPy that we know.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
for ax, (size, shape) in zip(axes, SIZES.items()):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype("f")
    times = {
        "NumPy": [nanoseconds(baseline.get(name), x, dy) for name in names],
        "fastact": [nanoseconds(fa.get(name), x, dy) for name in names],
    }
    print(f"{size}: ns an element, value and gradient")
    for library, found in times.items():
        cells = "".join(f"{name:>12} {each:5.2f}" for name, each in zip(names, found))
        print(f"  {library:8}{cells}   sigmoid / relu {found[3] / found[0]:.1f}")
    for k, (library, found) in enumerate(times.items()):
        ax.bar(np.arange(len(names)) + 0.4 * k - 0.2, found, 0.38, label=library)
    ax.set(title=size, ylabel="ns an element", xticks=range(len(names)), xticklabels=names)
axes[0].legend()
plt.show()
