"""Greedy k-centre coreset: the next vector is the one farthest from all that were chosen."""

from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

if TYPE_CHECKING:
    import torch

ACTIVE = 4096
CHUNK = 32_768


def project(vectors: "torch.Tensor", dimensions: int, seed: int) -> "torch.Tensor":
    """Random projection that keeps distances (Johnson-Lindenstrauss); identity if it would widen.

    Parameters
    ----------
    vectors : float (N, C).
    """
    import torch

    width = vectors.shape[1]
    if dimensions >= width:
        return vectors.float()
    matrix = np.random.default_rng(seed).standard_normal((width, dimensions), dtype=np.float32)
    onto = torch.from_numpy(matrix / dimensions**0.5).to(vectors.device)
    return torch.cat([chunk.float() @ onto for chunk in vectors.split(CHUNK)])


def greedy_coreset(vectors: "torch.Tensor", count: int, seed: int) -> "torch.Tensor":
    """Choose `count` rows by the greedy k-centre rule (Gonzalez 1985).

    Exact, by blocked lazy updates: a row's distance to the chosen set only falls, so the rows with
    the largest distances are taken as the active set and picks are made inside it for as long as
    the best one there is not below the largest distance left outside. Only then are all rows
    brought up to date with the new picks, in one matrix product.

    Parameters
    ----------
    vectors : float32 (N, d).
    count : rows to choose, at most N.
    seed : chooses the first row.

    Returns
    -------
    int64 (count,), in the order of choice.
    """
    import torch

    total = len(vectors)
    squares = vectors.square().sum(1)
    first = int(np.random.default_rng(seed).integers(total))
    picks = [first]
    nearest = torch.full_like(squares, torch.inf)
    fresh = picks
    with tqdm(total=count, initial=1, desc="coreset", unit="vector", disable=None) as bar:
        while len(picks) < count:
            _bring_up_to_date(nearest, vectors, squares, fresh)
            size = min(ACTIVE, total)
            top = torch.topk(nearest, min(size + 1, total))
            outside = float(top.values[size]) if size < total else -torch.inf
            active = top.indices[:size].sort().values
            fresh = _pick_inside(
                vectors[active], squares[active], nearest[active], outside, count - len(picks)
            )
            fresh = active[fresh].tolist()
            picks += fresh
            bar.update(len(fresh))
    return torch.tensor(picks, device=vectors.device)


def _bring_up_to_date(
    nearest: "torch.Tensor", vectors: "torch.Tensor", squares: "torch.Tensor", picks: list[int]
) -> None:
    import torch

    chosen, chosen_squares = vectors[picks], squares[picks]
    for start in range(0, len(vectors), CHUNK):
        part = slice(start, start + CHUNK)
        products = torch.addmm(chosen_squares, vectors[part], chosen.T, alpha=-2)
        found = products.amin(1).add_(squares[part]).clamp_(min=0)
        torch.minimum(nearest[part], found, out=nearest[part])
    nearest[picks] = 0


def _pick_inside(
    vectors: "torch.Tensor",
    squares: "torch.Tensor",
    nearest: "torch.Tensor",
    outside: float,
    wanted: int,
) -> list[int]:
    picks: list[int] = []
    while len(picks) < wanted:
        distance, best = nearest.max(0)
        # the first pick is the farthest row of all, whatever the value left outside
        if picks and float(distance) <= outside:
            break
        row = int(best)
        picks.append(row)
        found = (squares + squares[row]).sub_(vectors @ vectors[row], alpha=2).clamp_(min=0)
        nearest = nearest.minimum(found)
        nearest[row] = -1
    return picks
