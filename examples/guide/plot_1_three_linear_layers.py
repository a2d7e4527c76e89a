r"""
Three linear layers are one
===========================

With :math:`h(x) = c\,x` as activation, :math:`h(h(h(x))) = c^3 x`: depth adds nothing. The same net with a ReLU bends.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastact as fa

rng = np.random.default_rng(0)
x = np.linspace(-3, 3, 200)[:, None]
target = np.sin(2 * x)


def fit(name, steps=4000, rate=0.01):
    """Fit a net of three layers of 30 units to the target; return its output and weights."""
    f = fa.get(name)
    sizes = 1, 30, 30, 1
    draw = np.random.default_rng(1)
    W = [np.sqrt(1 / n) * draw.standard_normal((n, m)) for n, m in zip(sizes, sizes[1:])]
    b = [0.5 * draw.standard_normal(m) for m in sizes[1:]]
    for _ in range(steps):
        h1, vjp1 = f.vjp(x @ W[0] + b[0])
        h2, vjp2 = f.vjp(h1 @ W[1] + b[1])
        y = h2 @ W[2] + b[2]
        _, dy = fa.mse.forward_backward(y, target)
        dz2 = vjp2(dy @ W[2].T)
        dz1 = vjp1(dz2 @ W[1].T)
        for k, (h, dz) in enumerate([(x, dz1), (h1, dz2), (h2, dy)]):
            W[k] -= rate * h.T @ dz
            b[k] -= rate * dz.sum(axis=0)
    return y, W, b


# %%
# The identity, which is linear, and the ReLU.
straight, W, b = fit("identity")
bent, *_ = fit("relu")

# %%
# The product of the three matrices is the whole net.
slope = W[0] @ W[1] @ W[2]
offset = (b[0] @ W[1] + b[1]) @ W[2] + b[2]
print(f"three linear layers are {slope.item():.4f} x + {offset.item():.4f}")
print(f"largest difference: {abs(x @ slope + offset - straight).max():.0e}")
print(
    f"mean squared error: linear {np.mean((straight - target) ** 2):.3f}, relu {np.mean((bent - target) ** 2):.3f}"
)

figure, ax = plt.subplots(figsize=(8, 3.5), layout="constrained")
ax.plot(x, target, color="0.5", linewidth=4, alpha=0.4, label="target")
ax.plot(x, straight, "--", label="three linear layers")
ax.plot(x, bent, label="the same with relu")
ax.set(xlabel="x", title="Without an activation, depth adds nothing")
ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
plt.show()
