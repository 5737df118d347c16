"""Greedy k-centre coreset: always pick the vector farthest from those already chosen."""

import math
from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from flawline.logs import hide_bar

LEVELS = (65_536, 4096)  # rows of the active sets, each inside the one before
CHUNK = 16_384
TILE = {"cpu": (4096, 256), "cuda": (16_384, 1024)}  # of a product; 4 MiB fit into the cache
CHOSEN = -1.0  # below every distance, so that no row is chosen twice
EXACT = 1 << 24  # up to here float32 holds every whole number


def project(
    vectors: torch.Tensor,
    dimensions: int,
    seed: int,
    prepared: "Callable[[torch.Tensor], torch.Tensor] | None" = None,
) -> torch.Tensor:
    """Project vectors at random to whole numbers, keeping distances (Johnson-Lindenstrauss).

    Distances are kept up to a factor, the largest that keeps squared distances below 2**24:
    float32 computes these exactly in any order, so picks depend neither on the number of threads
    nor on the device. Rounding (to 363 steps for 128 dimensions) changes distances far less than
    the projection does.

    Parameters
    ----------
    vectors : floating (N, C).
    dimensions : of the projection; with C or more, vectors are only rounded.
    prepared : applied to the vectors first, in parts.

    Returns
    -------
    float32 (N, min(C, dimensions)), whole numbers.
    """
    rows, width = vectors.shape
    projected = torch.empty(rows, min(width, dimensions), device=vectors.device)
    onto = torch.eye(width)
    if dimensions < width:
        matrix = np.random.default_rng(seed).standard_normal((width, dimensions), dtype=np.float32)
        onto = torch.from_numpy(matrix)
    onto = onto.to(vectors.device)
    for chunk, place in zip(vectors.split(CHUNK), projected.split(CHUNK), strict=True):
        chunk = chunk if prepared is None else prepared(chunk)
        torch.mm(chunk.float(), onto, out=place)
    projected -= projected.mean(0)
    largest = math.isqrt(EXACT // 4 // projected.shape[1])
    reach = torch.maximum(projected.amax(), -projected.amin()).clamp(min=1e-12)
    return projected.mul_(largest / reach).round_()


def greedy_coreset(vectors: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Choose `count` rows by the greedy k-centre rule (Gonzalez 1985).

    Exact, by blocked lazy updates: a row's distance to the chosen set only falls, so the rows with
    the largest distances are taken as the active set and picks are made inside it for as long as
    the best one there is not below the largest distance left outside. Only then are all rows
    brought up to date with the new picks, in one matrix product. The active set has another one.

    Parameters
    ----------
    vectors : float32 (N, d), whole numbers from `project`. Others work too, but among vectors
        whose distances differ by rounding alone, the pick depends on the machine.
    count : rows to choose, at most N.
    seed : chooses the first row.

    Returns
    -------
    int64 (count,), in the order of choice; among equally far rows, the first.
    """
    squares = torch.einsum("nd,nd->n", vectors, vectors)
    first = int(np.random.default_rng(seed).integers(len(vectors)))
    with tqdm(total=count, initial=1, desc="coreset", unit="vector", disable=hide_bar()) as bar:
        distances = torch.full_like(squares, torch.inf)
        _bring_up_to_date(distances, vectors, squares, torch.tensor([first]))
        picks = _pick(vectors, squares, distances, -math.inf, count - 1, LEVELS, bar)
    return torch.tensor([first, *picks], device=vectors.device)


def _pick(
    vectors: torch.Tensor,
    squares: torch.Tensor,
    distances: torch.Tensor,
    outside: float,
    count: int,
    levels: tuple[int, ...],
    bar: tqdm,
) -> list[int]:
    """Pick rows in order, at least one, until the farthest is not above `outside`."""
    levels = tuple(size for size in levels if size < len(vectors))
    if not levels:
        return _pick_one_by_one(vectors, squares, distances, outside, count, bar)
    picks: list[int] = []
    while len(picks) < count:
        farthest = distances.argmax()
        # the first pick is the farthest of all rows, whatever is left outside
        if picks and float(distances[farthest]) <= outside:
            break
        top = torch.topk(distances, levels[0] + 1)
        # topk may leave out some of many equally far rows, but the first must be kept
        active = torch.cat([farthest[None], top.indices[:-1]]).unique()
        fresh = _pick(
            vectors[active],
            squares[active],
            distances[active],
            max(float(top.values[-1]), outside),
            count - len(picks),
            levels[1:],
            bar,
        )
        picked = active[fresh]
        _bring_up_to_date(distances, vectors, squares, picked)
        picks += picked.tolist()
    return picks


def _bring_up_to_date(
    distances: torch.Tensor,
    vectors: torch.Tensor,
    squares: torch.Tensor,
    picks: torch.Tensor,
) -> None:
    rows, width = TILE[vectors.device.type]
    chosen, chosen_squares = vectors[picks].split(width), squares[picks].split(width)
    room = vectors.new_empty(min(rows, len(vectors)) * min(width, len(picks)))
    parts = zip(vectors.split(rows), squares.split(rows), distances.split(rows), strict=True)
    for part, part_squares, nearest in parts:
        for some, some_squares in zip(chosen, chosen_squares, strict=True):
            products = room[: len(part) * len(some)].view(len(part), len(some))
            torch.addmm(some_squares, part, some.T, alpha=-2, out=products)
            to_picks = products.amin(1).add_(part_squares).clamp_(min=0)
            torch.minimum(nearest, to_picks, out=nearest)
    distances[picks] = CHOSEN


def _pick_one_by_one(
    vectors: torch.Tensor,
    squares: torch.Tensor,
    distances: torch.Tensor,
    outside: float,
    count: int,
    bar: tqdm,
) -> list[int]:
    picks: list[int] = []
    while len(picks) < count:
        farthest = int(distances.argmax())
        if picks and float(distances[farthest]) <= outside:
            break
        picks.append(farthest)
        to_farthest = (squares + squares[farthest]).sub_(vectors @ vectors[farthest], alpha=2)
        distances = distances.minimum(to_farthest.clamp_(min=0))
        distances[farthest] = CHOSEN
        bar.update()
    return picks
