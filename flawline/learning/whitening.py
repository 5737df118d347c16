"""Shrunk whitening: features with mean 0 and a covariance near 1.

Mahalanobis distances are Euclidean distances of whitened features. A multiple of the mean variance
is added to all variances (Ledoit and Wolf, 2004, shrink towards the same target), or directions
that hardly vary in the good images would drown out the rest.
"""

from dataclasses import dataclass
from typing import Self

import torch

from flawline.learning.moments import Moments


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
        return cls.by(Moments.of(vectors), shrinkage)

    @classmethod
    def by(cls, moments: Moments, shrinkage: float) -> Self:
        """Return the whitening of vectors with these moments."""
        variances, axes = moments.principal()
        added = max(float(shrinkage * variances.mean()), 1e-12)
        matrix = axes * (variances + added).rsqrt() @ axes.T
        return cls(moments.mean.float(), matrix.float())

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
