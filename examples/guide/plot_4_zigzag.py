r"""
Activations that are all positive
=================================

If all inputs of a unit are positive, as those behind a sigmoid are, the gradient of its weights has one sign for all of them:
:math:`\partial L / \partial w_i = x_i \, \partial L / \partial a`. To raise one weight and lower another, steps must zigzag.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastact as fa

rng = np.random.default_rng(0)
source = rng.standard_normal((200, 2))
best = np.array([2.0, -2.0])
STEPS, RATE = 600, 0.1

#: What comes in: behind a sigmoid, all positive; the same, shifted; and behind others.
inputs = {
    "sigmoid": fa.sigmoid(source),
    "sigmoid - 1/2": fa.sigmoid(source) - 0.5,
    "tanh": fa.tanh(source),
    "relu": fa.relu(source),
    "elu": fa.elu(source),
}


def descend(h):
    """Learn the best weights of a unit from one example after the other; return the path, and the share of gradients of one sign."""
    w, path, one_sign = np.zeros(2), [np.zeros(2)], 0
    order = np.random.default_rng(1).integers(0, len(h), STEPS)
    for example in order:
        error = h[example] @ w - h[example] @ best
        gradient = h[example] * error
        one_sign += np.all(gradient >= 0) or np.all(gradient <= 0)
        w = w - RATE / np.mean(np.sum(h**2, axis=1)) * gradient  # as large for all activations
        path.append(w)
    return np.array(path), one_sign / STEPS


# %%
# The target has weights of opposite signs. How many gradients are of one sign, how long the path is, and how far from the target
# it ends.
figure, axes = plt.subplots(2, 3, figsize=(10, 6.6), layout="constrained")
*panels, last = axes.flat
print(f"{'':15}{'mean output':>12}{'of one sign':>13}{'path / distance':>17}{'off at the end':>16}")
for ax, (name, h) in zip(panels, inputs.items()):
    path, one_sign = descend(h)
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    covered, left = np.linalg.norm(path[-1]), np.linalg.norm(path[-1] - best)
    print(f"{name:15}{h.mean():12.2f}{one_sign:13.0%}{length / covered:17.1f}{left:16.2f}")
    ax.plot(*path.T, "-", linewidth=1)
    ax.plot(*best, "*", markersize=12)
    ax.set(
        title=f"{name}: {length / covered:.1f} times the distance", xlim=(-0.5, 3), ylim=(-3, 0.5)
    )
    ax.set(xlabel="first weight", ylabel="second weight")
    ax.grid(alpha=0.3)

# How far outputs are from zero on average, where inputs are standard normal.
last.barh(list(inputs), [h.mean() for h in inputs.values()])
last.axvline(0, color="0.5", linewidth=0.8)
last.invert_yaxis()
last.set(title="mean output")
plt.show()
