"""Mean and covariance of many vectors, in one or several parts."""

from dataclasses import dataclass
from typing import Self

import torch

CHUNK = 16_384


@dataclass(frozen=True)
class Moments:
    """What a set of vectors has in common.

    Attributes
    ----------
    count : number of vectors.
    mean : float64 (C,).
    covariance : float64 (C, C), divided by the count.

    Examples
    --------
    >>> import torch
    >>> vectors = torch.randn(100, 3)
    >>> halves = Moments.of(vectors[:30]).merged(Moments.of(vectors[30:]))
    >>> torch.allclose(halves.covariance, Moments.of(vectors).covariance, atol=1e-6)
    True
    """

    count: int
    mean: torch.Tensor
    covariance: torch.Tensor

    @classmethod
    def of(cls, vectors: torch.Tensor) -> Self:
        """Compute the moments of vectors, floating (N, C), on their device."""
        width = vectors.shape[1]
        total = torch.zeros(width, dtype=torch.float64, device=vectors.device)
        for chunk in vectors.split(CHUNK):
            total += chunk.float().sum(0)
        mean = total / len(vectors)
        centre = mean.float()
        products = torch.zeros(width, width, dtype=torch.float64, device=vectors.device)
        for chunk in vectors.split(CHUNK):
            centred = chunk.float() - centre
            products += centred.T @ centred
        return cls(len(vectors), mean, products / len(vectors))

    def merged(self, other: Self) -> Self:
        """Return the moments of both sets together (Chan, Golub, LeVeque, 1983)."""
        count = self.count + other.count
        apart = other.mean - self.mean
        share = other.count / count
        covariance = (1 - share) * self.covariance + share * other.covariance
        between = share * (1 - share) * torch.outer(apart, apart)
        return type(self)(count, self.mean + share * apart, covariance + between)

    def principal(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return variances, ascending, float64 (C,), and their axes, the columns of (C, C)."""
        variances, axes = torch.linalg.eigh(self.covariance)
        return variances.clamp(min=0), axes
