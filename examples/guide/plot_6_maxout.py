"""
Maxout contains the others
==========================

A maxout unit is the largest of several linear functions of its input, which it learns: with two pieces a ReLU, a leaky ReLU or
an absolute value, with more any convex curve. The price is that many times the weights.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastact as fa

x = np.linspace(-3, 3, 301)


def maxout(slopes, offsets):
    """Return a maxout unit of x: each piece is a slope and an offset."""
    pieces = x[:, None] * np.array(slopes) + np.array(offsets)
    return fa.maxout(pieces, pieces=len(slopes))[:, 0]


parabola = np.linspace(-2.4, 2.4, 5)
units = {
    "relu": (maxout([0, 1], [0, 0]), fa.relu(x)),
    "leaky_relu": (maxout([0.01, 1], [0, 0]), fa.leaky_relu(x)),
    "|x|": (maxout([-1, 1], [0, 0]), abs(x)),
    # Tangents of x**2 / 2 at five points.
    "x² / 2, five pieces": (maxout(parabola, -(parabola**2) / 2), x**2 / 2),
}

# %%
# Two pieces are exactly what they stand for; five are near a parabola.
figure, axes = plt.subplots(1, 4, figsize=(11, 2.9), sharey=True, layout="constrained")
for ax, (name, (y, target)) in zip(axes, units.items()):
    print(f"{name:20} largest difference {abs(y - target).max():.2g}")
    ax.plot(x, target, color="0.5", linewidth=5, alpha=0.4)
    ax.plot(x, y)
    ax.set(title=name, xlabel="x", ylim=(-0.3, 3.2))

# %%
# The weights of a layer from 784 to 256 units.
for pieces in (1, 2, 5):
    print(
        f"a layer from 784 to 256 units, {pieces} piece{'s' * (pieces > 1):1}: {(784 + 1) * 256 * pieces:9,} weights"
    )
plt.show()
