"""
Units that die
==============

A unit whose input is negative for every example gets no gradient from a ReLU: only a change in the layers below can bring it
back. The larger the steps, the more of them. Where the derivative on the left is a constant, none dies; where it falls to zero, as with ELU and GELU, units
can die too, far on the left.
"""

import matplotlib.pyplot as plt
import numpy as np
from _net import Net, digits

x, labels, x_test, labels_test = digits()
names = ["relu", "leaky_relu", "prelu", "elu", "gelu"]
RATES = 0.2, 0.4, 0.6
EPOCHS, BATCH = 20, 50


def dead(net):
    """Return the share of hidden units whose derivative is below 0.01 for all examples."""
    net.forward(x)
    slopes = [{"weight": slope} for slope in net.slopes] or [{}] * len(net.hidden)
    derivatives = [net.f.derivative(z, **slope) for z, slope in zip(net.hidden, slopes)]
    return float(np.mean([(abs(each) < 0.01).all(axis=0).mean() for each in derivatives]))


def train(name, rate):
    """Train a net with two hidden layers of 100 units; return the share of dead units before and after each epoch, and the accuracy."""
    net, rng = Net([64, 100, 100, 10], name, gain=1), np.random.default_rng(1)
    shares = [dead(net)]
    for _ in range(EPOCHS):
        for batch in np.split(rng.permutation(len(x)), len(x) // BATCH):
            net.step(x[batch], labels[batch], rate)
        shares.append(dead(net))
    return shares, net.accuracy(x_test, labels_test)


# %%
# Plain gradient descent at three rates.
figure, axes = plt.subplots(1, len(RATES), figsize=(10, 3.6), sharey=True, layout="constrained")
print("dead units, and accuracy on the test set")
print(f"{'rate':12}" + "".join(f"{rate:>16}" for rate in RATES))
for number, name in enumerate(names):
    cells = []
    for ax, rate in zip(axes, RATES):
        shares, accuracy = train(name, rate)
        cells.append(f"{shares[-1]:6.0%}{accuracy:10.1%}")
        ax.plot(shares, f"-{'osD^v'[number]}", markersize=3, label=name)
    print(f"{name:12}" + "".join(cells))
for ax, rate in zip(axes, RATES):
    ax.set(xlabel="epoch", title=f"rate {rate}")
    ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    ax.grid(alpha=0.3)
axes[0].set_ylabel("dead units")
axes[0].legend()
plt.show()
