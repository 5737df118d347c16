"""Shrunk whitening: features with mean 0 and a covariance near 1.

Mahalanobis distances are Euclidean distances of whitened features. A multiple of the mean variance
is added to all variances (Ledoit and Wolf, 2004, shrink towards the same target), or directions
that hardly vary in the good images would drown out the rest.
"""

from dataclasses import dataclass
from typing import Self

import torch

CHUNK = 16_384


@dataclass(frozen=True)
class Whitening:
    """`(x - mean) @ matrix`; float32 (C,) and (C, C)."""

    mean: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, vectors: torch.Tensor, shrinkage: float) -> Self:
        """Learn the whitening of vectors, floating (N, C).

        Parameters
        ----------
        shrinkage : added to every variance, as a multiple of their mean.
        """
        width = vectors.shape[1]
        mean = torch.zeros(width, dtype=torch.float64, device=vectors.device)
        for chunk in vectors.split(CHUNK):
            mean += chunk.float().sum(0)
        mean = (mean / len(vectors)).float()
        products = torch.zeros(width, width, dtype=torch.float64, device=vectors.device)
        for chunk in vectors.split(CHUNK):
            centred = chunk.float() - mean
            products += centred.T @ centred
        variances, axes = torch.linalg.eigh(products / len(vectors))
        variances = variances.clamp(min=0)
        added = max(float(shrinkage * variances.mean()), 1e-12)
        matrix = axes * (variances + added).rsqrt() @ axes.T
        return cls(mean, matrix.float())

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Whiten: floating (N, C) to float32 (N, C)."""
        return (vectors.float() - self.mean) @ self.matrix

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything learned, as named tensors."""
        return {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def restore(cls, state: dict[str, torch.Tensor]) -> Self:
        """Rebuild from what `state` returned."""
        return cls(state["mean"], state["matrix"])
