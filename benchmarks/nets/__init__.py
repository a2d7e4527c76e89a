"""Ten small nets written from scratch: in plain NumPy, with fastact, and in PyTorch.

Each net is written once, in one of the styles that people use (layer classes, values and caches, a
tape), and gets its activations, normalizations, cells, losses and optimizer from `NumpyParts` or
`FastactParts`. Beside it stands the same net in PyTorch. ``python -m benchmarks.nets`` trains all of
them and compares.
"""

from benchmarks.nets.autoencoder import Autoencoder
from benchmarks.nets.columns import Columns
from benchmarks.nets.convnet import Convnet
from benchmarks.nets.language_model import LanguageModel
from benchmarks.nets.net import Net
from benchmarks.nets.perceptron import Perceptron
from benchmarks.nets.transformer import Transformer

NETS: dict[str, Net] = {
    "MLP, sigmoid, batch 1": Columns(batch_size=1, inputs=784, hidden=100, dtype="float64"),
    "MLP, relu, batch 32": Perceptron(
        batch_size=32,
        inputs=64,
        width=100,
        activations=("relu",) * 3,
        optimizer="momentum",
        rate=0.01,
    ),
    "MLP, sigmoid, batch 100": Perceptron(
        batch_size=100, inputs=784, width=100, activations=("sigmoid",) * 4, dtype="float64"
    ),
    "MLP, gelu, batch 1000": Perceptron(
        batch_size=1000,
        inputs=64,
        width=256,
        activations=("gelu",) * 3,
        optimizer="adam",
        rate=1e-3,
    ),
    "MLP, elu, dropout": Perceptron(
        batch_size=128,
        inputs=64,
        width=256,
        activations=("leaky_relu", "elu", "elu"),
        dropout=0.2,
        optimizer="momentum",
        rate=0.01,
    ),
    "convnet": Convnet(batch_size=32, side=28, filters=16, filter_side=5, hidden=100),
    "LSTM language model": LanguageModel(
        cell="lstm", batch_size=20, tokens=100, features=64, hidden=128, length=32, rate=0.5
    ),
    "GRU language model": LanguageModel(
        cell="gru", batch_size=20, tokens=100, features=64, hidden=128, length=32, rate=0.5
    ),
    "transformer": Transformer(
        batch_size=8,
        tokens=100,
        length=64,
        features=64,
        heads=4,
        blocks=2,
        dropout=0.1,
        optimizer="adam",
        rate=1e-3,
    ),
    "VAE": Autoencoder(
        batch_size=128, pixels=784, hidden=256, latent=16, optimizer="adam", rate=1e-3
    ),
}
