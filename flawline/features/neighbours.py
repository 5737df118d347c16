"""Nearest neighbours by matrix products, a part of the queries and of the bank at a time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

QUERIES, BANK = 4096, 2048  # rows of one product: whatever the size of both, 100 MiB are enough


def nearest(
    queries: "torch.Tensor", bank: "torch.Tensor", count: int = 1
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Euclidean distances to, and row numbers of, the `count` nearest bank vectors, nearest first.

    Parameters
    ----------
    queries : floating (Q, C).
    bank : float32 (M, C).

    Returns
    -------
    distances float32 (Q, count), rows int64 (Q, count).
    """
    import torch

    count = min(count, len(bank))
    half_squares = bank.square().sum(1) / 2
    distances, rows = [], []
    for part in queries.split(QUERIES):
        asked = part.float()
        best = asked.new_full((len(asked), 0), torch.inf)
        found = best.long()
        for start in range(0, len(bank), BANK):
            piece = slice(start, start + BANK)
            similarity = torch.addmm(half_squares[piece], asked, bank[piece].T, beta=-1)
            top = similarity.topk(min(count, similarity.shape[1]))
            best, order = torch.cat([best, top.values], 1).topk(
                min(count, best.shape[1] + top.values.shape[1])
            )
            found = torch.cat([found, top.indices + start], 1).gather(1, order)
        # not from the products: their difference loses digits where neighbours are near
        distances.append((asked[:, None] - bank[found]).square_().sum(2).sqrt_())
        rows.append(found)
    return torch.cat(distances), torch.cat(rows)


def nearest_by_candidates(
    queries: "torch.Tensor", bank: "torch.Tensor"
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """The nearest bank vector, looked for in bfloat16; its distance is computed in float32.

    Every `BANK` rows propose their nearest, so a distance can only be too large, and is so where
    rounding let a vector pass that is slightly farther away. On real features that was the case for
    one query in a hundred, and made distances 0.004 % larger on average.

    Parameters, Returns
    -------------------
    As for `nearest`, with a count of 1.
    """
    import torch

    # without what all vectors share, rounding costs least
    centre = bank.mean(0)
    keys = _augmented(bank - centre)
    distances, rows = [], []
    for part in queries.split(QUERIES):
        asked = part.float()
        ones = asked.new_ones(len(asked), 2)
        products = torch.cat([asked - centre, ones], 1).bfloat16()
        best = asked.new_full((len(asked),), torch.inf)
        found = torch.zeros_like(best, dtype=torch.int64)
        for start in range(0, len(bank), BANK):
            row = (products @ keys[start : start + BANK].T).max(1).indices + start
            distance = (asked - bank[row]).square_().sum(1)
            nearer = distance < best
            best[nearer], found[nearer] = distance[nearer], row[nearer]
        distances.append(best.sqrt_()[:, None])
        rows.append(found[:, None])
    return torch.cat(distances), torch.cat(rows)


def _augmented(vectors: "torch.Tensor") -> "torch.Tensor":
    """Vectors with half their squared norms in two columns, so that one product ranks them."""
    import torch

    half_squares = vectors.square().sum(1, keepdim=True) / -2
    high = half_squares.bfloat16()
    low = (half_squares - high.float()).bfloat16()
    return torch.cat([vectors.bfloat16(), high, low], 1)
