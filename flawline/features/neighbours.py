"""Exact nearest neighbours by chunked matrix products."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

CHUNK_BYTES = 256 * 1024**2


def nearest(
    queries: "torch.Tensor", bank: "torch.Tensor", count: int = 1
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Euclidean distances to, and row numbers of, the `count` nearest bank vectors, nearest first.

    Parameters
    ----------
    queries : float32 (Q, C).
    bank : float32 (M, C).

    Returns
    -------
    distances float32 (Q, count), rows int64 (Q, count).
    """
    import torch

    count = min(count, len(bank))
    half_squares = bank.square().sum(1) / 2
    distances, rows = [], []
    for part in queries.split(max(CHUNK_BYTES // (4 * len(bank)), 1)):
        similarity = torch.addmm(half_squares, part, bank.T, beta=-1)
        found = similarity.max(1, keepdim=True) if count == 1 else similarity.topk(count)
        squared = part.square().sum(1, keepdim=True) - 2 * found[0]
        distances.append(squared.clamp_(min=0).sqrt_())
        rows.append(found[1])
    return torch.cat(distances), torch.cat(rows)
