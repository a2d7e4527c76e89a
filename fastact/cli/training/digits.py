"""The data: scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fastact.cli.training.layers import Array
from fastact.cli.training.net import Settings


@dataclass(frozen=True)
class Digits:
    """Images of 8 x 8 pixels with mean 0, and their labels."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array

    def batches(self, order: Array, size: int) -> Iterator[tuple[Array, Array]]:
        """Yield images and labels in some order; a last batch that is not full is left out."""
        for start in range(0, len(order) - size + 1, size):
            batch = order[start : start + size]
            yield self.images[batch], self.labels[batch]


def load_digits(settings: Settings) -> Digits:
    """Load the digits, with a random fifth held out as the test set.

    Raises
    ------
    ValueError
        If there is not one full batch.
    """
    from sklearn import datasets

    pixels, labels = datasets.load_digits(return_X_y=True)
    images = (pixels / 16 - 0.5).astype(settings.dtype)
    order = np.random.default_rng(settings.seed).permutation(len(images))
    test, train = np.split(order, [len(images) // 5])
    if settings.batch_size > len(train):
        raise ValueError(f"--batch-size: there are only {len(train)} images to train with")
    return Digits(images[train], labels[train], images[test], labels[test])
