"""Nearest neighbours by matrix products of parts of the queries and of the bank."""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch.nn import functional

TILE = 1024  # rows of both sides of a product, which then fits into the processor's cache
QUERIES, BANK = 4096, 2048  # the same in bfloat16; either takes at most 100 MiB


OWN = -1e30  # similarity of a vector that must not be found, above that of a missing one
FAR = 1e30
BOUNDED, BOUNDS, GROUP = 256, 8192, 64  # queries, bank vectors and groups of these: 8 MiB
KEPT = 0.97  # share of the variance that bounds see
MOST_KEPT = 0.5  # of the dimensions; where more are needed for that share, bounds do not pay
BASIS_FROM = 8192  # bank vectors, enough for a basis, which need not be the best one
COMPARED = 512  # pairs at once
SLACK = 1e-5  # parts of a squared length, above the rounding of float32 products
ROUNDING = 1e-5  # of differences of places, in parts of the image


@dataclass(frozen=True)
class Apart:
    """Which image each query and each bank vector is from: int64 (Q,) and (M,)."""

    queries: torch.Tensor
    bank: torch.Tensor

    def same(self, query: int, count: int, row: int, rows: int = TILE) -> torch.Tensor:
        """Return which queries and bank vectors of a product share an image: bool."""
        return self.queries[query : query + count, None] == self.bank[row : row + rows]

    def hide(self, likeness: torch.Tensor, query: int, row: int) -> None:
        """Write `OWN` where a query and a bank vector, the few of them, share an image."""
        queries = self.queries[query : query + len(likeness)]
        bank = self.bank[row : row + likeness.shape[1]]
        for image in queries.unique():
            own = (bank == image).nonzero()[:, 0]
            likeness[(queries == image).nonzero(), own] = OWN


def nearest(
    queries: torch.Tensor,
    bank: torch.Tensor,
    count: int = 1,
    apart: "Apart | None" = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the `count` nearest bank vectors, nearest first: Euclidean distances and rows.

    Parameters
    ----------
    queries : floating (Q, C).
    bank : float32 (M, C).
    apart : if given, bank vectors of a query's own image are not its neighbours, unless the whole
        bank is of that image.

    Returns
    -------
    distances float32 (Q, count), rows int64 (Q, count).
    """
    count = min(count, len(bank))
    half_squares = bank.square().sum(1) / 2
    # one buffer for all products: allocating each costs a sixth of the time
    buffer = bank.new_empty(min(len(queries), TILE) * min(len(bank), TILE))
    distances, rows = [], []
    for number, part in enumerate(queries.split(TILE)):
        batch = part.float()
        best = batch.new_full((len(batch), 0), torch.inf)
        nearest_rows = best.long()
        for start in range(0, len(bank), TILE):
            piece = bank[start : start + TILE]
            similarity = buffer[: len(batch) * len(piece)].view(len(batch), len(piece))
            offsets = half_squares[start : start + TILE]
            torch.addmm(offsets, batch, piece.T, beta=-1, out=similarity)
            if apart is not None:
                similarity.masked_fill_(apart.same(number * TILE, len(batch), start), OWN)
            values, columns = _largest(similarity, count)
            best, order = _largest(torch.cat([best, values], 1), count)
            nearest_rows = torch.cat([nearest_rows, columns + start], 1).gather(1, order)
        # not from the products, whose difference loses digits for near neighbours
        distances.append((batch[:, None] - bank[nearest_rows]).square_().sum(2).sqrt_())
        rows.append(nearest_rows)
    return torch.cat(distances), torch.cat(rows)


def nearest_by_candidates(
    queries: torch.Tensor, bank: torch.Tensor, apart: "Apart | None" = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the nearest bank vector in bfloat16 and compute its distance in float32.

    Each block of `BANK` rows proposes its nearest. Rounding may miss the true one, so a distance
    can only be overestimated. On real features that happened for one query in a hundred, and made
    distances 0.004 % larger on average.

    Parameters, Returns
    -------------------
    As for `nearest`, with a count of 1.
    """
    # rounding costs least once the common mean is subtracted
    centre = bank.mean(0)
    keys = _augmented(bank - centre)
    distances, rows = [], []
    for number, part in enumerate(queries.split(QUERIES)):
        batch = part.float()
        ones = batch.new_ones(len(batch), 2)
        products = torch.cat([batch - centre, ones], 1).bfloat16()
        best = batch.new_full((len(batch),), torch.inf)
        nearest_rows = torch.zeros_like(best, dtype=torch.int64)
        for start in range(0, len(bank), BANK):
            similarity = products @ keys[start : start + BANK].T
            own = None
            if apart is not None:
                own = apart.same(number * QUERIES, len(batch), start, BANK)
                similarity.masked_fill_(own, OWN)
            row = similarity.max(1).indices + start
            distance = (batch - bank[row]).square_().sum(1)
            if own is not None:
                distance[own.all(1)] += FAR
            nearer = distance < best
            best[nearer], nearest_rows[nearer] = distance[nearer], row[nearer]
        if apart is not None:
            best = (batch - bank[nearest_rows]).square_().sum(1)
        distances.append(best.sqrt_()[:, None])
        rows.append(nearest_rows[:, None])
    return torch.cat(distances), torch.cat(rows)


@dataclass(frozen=True)
class Shortening:
    """A map to vectors of fewer dimensions that are never farther apart than their originals.

    It keeps the leading principal components and the length of the rest: by the triangle inequality
    two rests are at least as far apart as their lengths.

    Attributes
    ----------
    centre, axes : float32 (C,) and, with orthonormal columns, (C, k).
    """

    centre: torch.Tensor
    axes: torch.Tensor

    @classmethod
    def of(cls, bank: torch.Tensor) -> Self | None:
        """Choose the components of a bank, float32 (M, C); None where all are much the same."""
        sample = bank[:: math.ceil(len(bank) / BASIS_FROM)]
        centre = sample.mean(0)
        centred = sample - centre
        variances, axes = torch.linalg.eigh(centred.T @ centred)
        left_out = variances.clamp(min=0).cumsum(0)  # ascending
        count = max(len(axes) - int((left_out <= (1 - KEPT) * left_out[-1]).sum()), 1)
        if count > MOST_KEPT * len(axes):
            return None
        return cls(centre, axes[:, -count:].contiguous())

    def __call__(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shorten: float32 (N, C) to float32 (N, k + 1); and squared lengths, float32 (N,)."""
        centred = vectors - self.centre
        leading = centred @ self.axes
        squares = centred.square_().sum(1)
        rest = (squares - leading.square().sum(1)).clamp_(min=0).sqrt_()
        return torch.cat([leading, rest[:, None]], 1), squares


def nearest_by_bounds(
    queries: torch.Tensor,
    bank: torch.Tensor,
    shorten: Shortening,
    apart: "Apart | None" = None,
) -> torch.Tensor:
    """Find the distances to the nearest bank vectors, those of `nearest`, from lower bounds.

    Each query is compared with the bank vector of the lowest bound, and then only with those whose
    bound is below that distance: 5 to 20 of 5000 on real features.

    Parameters
    ----------
    queries, bank, apart : as for `nearest`.

    Returns
    -------
    float32 (Q,).
    """
    keys, key_squares = shorten(bank)
    slack = SLACK * float(key_squares.max())
    missing = -len(keys) % GROUP
    keys = functional.pad(keys, (0, 0, 0, missing))
    halves = functional.pad(key_squares / 2, (0, missing), value=FAR)
    buffer = bank.new_empty(min(len(queries), BOUNDED) * min(len(keys), BOUNDS))
    found = []
    for number, part in enumerate(queries.split(BOUNDED)):
        batch = part.float()
        short, squares = shorten(batch)
        best = torch.full_like(squares, torch.inf)
        for start in range(0, len(keys), BOUNDS):
            piece = keys[start : start + BOUNDS]
            likeness = buffer[: len(batch) * len(piece)].view(len(batch), len(piece))
            torch.addmm(halves[start : start + BOUNDS], short, piece.T, beta=-1, out=likeness)
            if apart is not None:
                apart.hide(likeness, number * BOUNDED, start)
            groups = likeness.view(len(batch), -1, GROUP)
            highest = groups.amax(2)
            group = highest.argmax(1)
            column = groups[torch.arange(len(batch)), group].argmax(1)
            likeliest = (start + group * GROUP + column).clamp_(max=len(bank) - 1)
            torch.minimum(best, (batch - bank[likeliest]).square_().sum(1), out=best)
            # |q - k|**2 = |q|**2 - 2 likeness
            least = ((squares - best) / 2).sub_(SLACK * squares + slack)[:, None]
            query, group = (highest > least).nonzero(as_tuple=True)
            pair, column = (groups[query, group] > least[query]).nonzero(as_tuple=True)
            rows, query = start + group[pair] * GROUP + column, query[pair]
            for some, others in zip(query.split(COMPARED), rows.split(COMPARED), strict=True):
                distances = (batch[some] - bank[others]).square_().sum(1)
                best.scatter_reduce_(0, some, distances, "amin")
        found.append(best.sqrt_())
    return torch.cat(found)


def nearest_around(
    queries: torch.Tensor,
    bank: torch.Tensor,
    places: torch.Tensor,
    bank_places: torch.Tensor,
    reach: float,
    apart: "Apart | None" = None,
) -> torch.Tensor:
    """Find the distances to the nearest bank vectors that are from around a query's place.

    A query without any, because nothing is remembered from there or only what must not be found,
    is compared with the whole bank.

    Parameters
    ----------
    queries : floating (N, P, C), at P places.
    bank : float32 (M, C).
    places, bank_places : float32 (P, 2) and (M, 2).
    reach : how far away a bank vector may be, along each of the two axes.
    apart : as for `nearest`, of N P queries.

    Returns
    -------
    float32 (N, P).
    """
    own = None if apart is None else apart.queries.reshape(queries.shape[:2])
    distances = bank.new_empty(queries.shape[:2])
    alone = torch.ones_like(distances, dtype=torch.bool)
    for number, place in enumerate(places):
        rows = within(place, bank_places, reach).nonzero()[:, 0]
        if not len(rows):
            continue
        among, alone[:, number] = None, False
        if apart is not None and own is not None:
            among = Apart(own[:, number], apart.bank[rows])
            alone[:, number] = among.same(0, len(queries), 0, len(rows)).all(1)
        distances[:, number] = nearest(queries[:, number], bank[rows], apart=among)[0][:, 0]
    if alone.any():
        rest = None if apart is None or own is None else Apart(own[alone], apart.bank)
        distances[alone] = nearest(queries[alone], bank, apart=rest)[0][:, 0]
    return distances


def within(place: torch.Tensor, others: torch.Tensor, reach: float) -> torch.Tensor:
    """Check which others are at most `reach` away along both axes: (..., 2) each, to bool."""
    return ((others - place).abs() <= reach + ROUNDING).all(-1)


def _largest(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `count` largest of every row, or all there are, and their columns."""
    if count == 1:
        return values.max(1, keepdim=True)  # several times faster than topk
    return values.topk(min(count, values.shape[1]))


def _augmented(vectors: torch.Tensor) -> torch.Tensor:
    """Append half the squared norms in two columns, so that one product ranks the vectors."""
    half_squares = vectors.square().sum(1, keepdim=True) / -2
    high = half_squares.bfloat16()
    low = (half_squares - high.float()).bfloat16()
    return torch.cat([vectors.bfloat16(), high, low], 1)
