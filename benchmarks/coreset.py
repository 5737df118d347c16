"""The coreset against the plain loop with matrix-vector products, and its time against its size.

    python benchmarks/coreset.py FEATURES PLOT

FEATURES is a features .npy of a run (float16 (N, H, W, C)), PLOT the .png or .svg to write.
The plain loop takes minutes.
"""

import sys
import time
from collections.abc import Callable

import matplotlib
import numpy as np
import torch
from machine import describe

from flawline.learning.coreset import greedy_coreset, project

matplotlib.use("Agg")
ROWS, FRACTION = 200_000, 0.1
SIZES = (12_500, 25_000, 50_000, 100_000, 200_000)
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.2)


def main() -> None:
    features, plot = sys.argv[1:]
    patches = torch.from_numpy(np.load(features))
    patches = patches.reshape(-1, patches.shape[-1])[:ROWS]
    vectors = project(patches, 128, 0)
    print(f"{describe()}\n{len(vectors)} vectors of {features}, 128 dimensions")
    sizes = [seconds(len(vectors[:rows]), FRACTION, vectors) for rows in SIZES]
    fractions = [seconds(len(vectors), fraction, vectors) for fraction in FRACTIONS]
    draw(plot, sizes, fractions)
    count = round(len(vectors) * FRACTION)
    ours, picks = timed(lambda: greedy_coreset(vectors, count, 0).tolist())
    plain, expected = timed(lambda: plain_loop(vectors, count, 0))
    same = "the same picks" if picks == expected else "OTHER PICKS"
    print(f"plain loop {plain:.0f} s, flawline {ours:.1f} s: {plain / ours:.1f} times, {same}")


def plain_loop(vectors: torch.Tensor, count: int, seed: int) -> list[int]:
    """Every pick is one matrix-vector product over all rows."""
    squares = vectors.square().sum(1)
    pick = int(np.random.default_rng(seed).integers(len(vectors)))
    distances, picks = torch.full_like(squares, torch.inf), [pick]
    while len(picks) < count:
        found = (squares + squares[pick]).sub_(vectors @ vectors[pick], alpha=2)
        torch.minimum(distances, found, out=distances)
        distances[pick] = -1
        pick = int(distances.argmax())
        picks.append(pick)
    return picks


def timed(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def seconds(rows: int, fraction: float, vectors: torch.Tensor) -> float:
    count = round(rows * fraction)
    found, _ = timed(lambda: greedy_coreset(vectors[:rows], count, 0).tolist())
    print(f"{rows:7} rows, {count:6} picks: {found:6.2f} s", flush=True)
    return found


def draw(path: str, sizes: list[float], fractions: list[float]) -> None:
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    left.plot(SIZES, sizes, "o-")
    left.set(xlabel=f"patches, {FRACTION:.0%} of them kept", ylabel="seconds")
    left.set_xscale("log")
    left.set_xticks(SIZES, [f"{rows:,}" for rows in SIZES])
    right.plot(FRACTIONS, fractions, "o-")
    right.set(xlabel=f"kept of {ROWS:,} patches", ylabel="seconds")
    right.set_xscale("log")
    right.set_xticks(FRACTIONS, [f"{fraction:.0%}" for fraction in FRACTIONS])
    for axes in (left, right):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
