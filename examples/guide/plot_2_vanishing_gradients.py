"""
Gradients through twenty layers
===============================

The derivative of the sigmoid is at most 1/4, so each layer takes at least three quarters of the gradient. What the gradient
becomes after twenty layers depends on the activation, and as much on the scale of the weights.
"""

import matplotlib.pyplot as plt
import numpy as np
from _net import Net, digits

import fastact as fa

x, labels, *_ = digits()
sizes = [64, *[100] * 20, 10]


def norms(name, gain):
    """Return the norm of the loss's gradient with respect to each layer's input, relative to the last."""
    net = Net(sizes, name, gain)
    _, dlogits = fa.softmax_cross_entropy.forward_backward(net.forward(x), labels)
    found = [float(np.linalg.norm(each.astype("d"))) for each in net.backward(dlogits)]
    return np.array(found[:-1]) / found[-1]


# %%
# Weights with the variance 1 / fan-in, as by LeCun and (for square layers) Glorot, and 2 / fan-in, as by He.
names = ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu"]
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
print("gradient at the first layer, relative to that of the logits")
print(f"{'':12}{'gain 1':>10}{'gain √2':>10}")
first = {}
for ax, gain, title in zip(
    axes, (1, np.sqrt(2)), ("variance 1 / fan-in", "variance 2 / fan-in (He)")
):
    for number, name in enumerate(names):
        found = norms(name, gain)
        first[name, gain] = found[0]
        ax.semilogy(range(1, 21), found, f"-{'osD^v<'[number]}", markersize=3, label=name)
    ax.set(xlabel="layer", title=title, xticks=[1, 5, 10, 15, 20])
    ax.grid(alpha=0.3)
for name in names:
    print(f"{name:12}{first[name, 1]:10.1e}{first[name, np.sqrt(2)]:10.1e}")
axes[0].set_ylabel("norm of the gradient")
axes[1].legend(ncols=2, fontsize="small")

# %%
# With the gain of 4 that undoes the slope of 1/4 at 0, the sigmoid's gradients reach the first layer for a few layers more, but
# units saturate: the mean of the outputs is 1/2, not 0, which the next layer multiplies by its weights.
for gain in (1, 2, 4, 8):
    print(f"sigmoid, gain {gain}: {norms('sigmoid', gain)[0]:.1e}")
plt.show()
