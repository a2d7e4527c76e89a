"""A variational autoencoder with batch normalization, on a tape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from benchmarks.nets.net import Gradients, Net, Parameters
from benchmarks.nets.numpy_parts import Array, NumpyParts, Vjp
from benchmarks.nets.tape import Tape, add, product, product_with


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Net):
    """Pixels, a normal distribution of a few variables, and the pixels that a sample of it gives."""

    pixels: int
    hidden: int
    latent: int
    tiny: ClassVar[dict[str, Any]] = {"batch_size": 6, "pixels": 7, "hidden": 5, "latent": 2}

    def parameters(self, random: np.random.Generator) -> Parameters:
        return {
            "encoder.w": self.weights(random, self.pixels, self.hidden),
            "encoder.scale": self.zeros(self.hidden) + 1,
            "encoder.shift": self.zeros(self.hidden),
            "latent.w": self.weights(random, 9 * self.hidden, 2 * self.latent)[::9].copy(),
            "latent.b": self.zeros(2 * self.latent),
            "decoder.w": self.weights(random, self.latent, self.hidden),
            "decoder.scale": self.zeros(self.hidden) + 1,
            "decoder.shift": self.zeros(self.hidden),
            "pixels.w": self.weights(random, self.hidden, self.pixels),
            "pixels.b": self.zeros(self.pixels),
        }

    def batch(self, random: np.random.Generator) -> tuple[Array, ...]:
        pixels = random.random((self.batch_size, self.pixels)).astype(self.dtype)
        return pixels, self.normal(random, self.batch_size, self.latent)

    def build(self, parts: NumpyParts, parameters: Parameters) -> Gradients:
        def gradients(pixels: Array, noise: Array) -> tuple[float, Parameters]:
            tape = Tape(parameters)
            x = tape(product_with(pixels), tape["encoder.w"])
            x = tape(parts.batch_norm, x, tape["encoder.scale"], tape["encoder.shift"])
            x = tape(product, tape(parts.relu, x), tape["latent.w"])
            latent = tape(add, x, tape["latent.b"])
            x = tape(product, tape(sample, latent, noise=noise), tape["decoder.w"])
            x = tape(parts.batch_norm, x, tape["decoder.scale"], tape["decoder.shift"])
            x = tape(product, tape(parts.relu, x), tape["pixels.w"])
            logits = tape(add, x, tape["pixels.b"])
            loss, dlogits = parts.binary_cross_entropy(logits.value, pixels)
            divergence, latent.gradient = divergence_from_normal(latent.value, pixels.size)
            return loss + divergence, tape.backward(logits, dlogits)

        return gradients

    def torch_loss(self, p: dict[str, Any], dropout: Callable[..., Any], *batch: Any) -> Any:
        import torch
        from torch.nn import functional as F

        pixels, noise = batch

        def hidden(x: Any, name: str) -> Any:
            u = x @ p[f"{name}.w"]
            scale, shift = p[f"{name}.scale"], p[f"{name}.shift"]
            return F.relu(F.batch_norm(u, None, None, scale, shift, training=True))

        latent = torch.addmm(p["latent.b"], hidden(pixels, "encoder"), p["latent.w"])
        mean, log_variance = latent.chunk(2, dim=1)
        z = mean + noise * torch.exp(log_variance / 2)
        logits = torch.addmm(p["pixels.b"], hidden(z, "decoder"), p["pixels.w"])
        divergence = -0.5 * torch.sum(1 + log_variance - mean**2 - log_variance.exp())
        return F.binary_cross_entropy_with_logits(logits, pixels) + divergence / pixels.numel()


def sample(latent: Array, noise: Array) -> tuple[Array, Vjp]:
    """Return a sample of the normal distribution, from its mean and the logarithm of its variance."""
    mean, log_variance = np.split(latent, 2, axis=1)
    deviation = noise * np.exp(log_variance / 2)
    return mean + deviation, lambda dz: np.concatenate([dz, dz * deviation / 2], axis=1)


def divergence_from_normal(latent: Array, pixels: int) -> tuple[float, Array]:
    """Return the divergence from the standard normal distribution for each pixel, and its gradient."""
    mean, log_variance = np.split(latent, 2, axis=1)
    variance = np.exp(log_variance)
    divergence = np.sum(variance + mean * mean - 1 - log_variance) / (2 * pixels)
    return float(divergence), np.concatenate([mean, (variance - 1) / 2], axis=1) / pixels
