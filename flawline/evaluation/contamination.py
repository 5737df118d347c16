"""Check whether training images look defective."""

from functools import cache
from typing import Any

import numpy as np

from flawline.evaluation.intervals import clopper_pearson

FAR_OUT = 0.05  # chance that any of n clean images is called far out
DRAWS = 2000  # simulated samples of n scores from which the limit is taken
MIN_SCORES = 8  # with fewer, quartiles say nothing


def far_out(scores: np.ndarray) -> float:
    """Return a limit that the largest of n clean scores exceeds with at most chance `FAR_OUT`.

    It is a number of interquartile ranges above the median, taken from simulated samples of n.
    These follow Gumbel's distribution, that of largest values, because an image score is usually
    the largest value of a map; its tail is longer than the normal one. Positive scores are
    compared by their logarithms, whose tails are shorter.

    Parameters
    ----------
    scores : float (n,).
    """
    positive = scores.min() > 0
    values = np.log(scores) if positive else scores
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if low == high:
        return float(scores.max())
    limit = middle + _reach(len(values)) * (high - low)
    return float(np.exp(limit) if positive else limit)


@cache
def _reach(n: int) -> float:
    """Return how far above the median the largest of n comes, in interquartile ranges."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(10):
        drawn = rng.gumbel(size=(DRAWS // 10, n))
        low, middle, high = np.quantile(drawn, [0.25, 0.5, 0.75], axis=1)
        found.append((drawn.max(axis=1) - middle) / (high - low))
    return float(np.quantile(found, 1 - FAR_OUT))


def contamination(calibration: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """Check whether training images look defective.

    Calibration images were drawn from the same good images as training images but not learned.
    Outliers among them estimate how many defective images the training subset has.

    Parameters
    ----------
    calibration : float (n,), scores.
    names : of their images.
    """
    limit = far_out(calibration)
    out = (
        calibration > limit if len(calibration) >= MIN_SCORES else np.zeros(len(calibration), bool)
    )
    count, n = int(out.sum()), len(calibration)
    bound = clopper_pearson(count, n, 0.9)[1]
    if n < MIN_SCORES:
        verdict = f"Fewer than {MIN_SCORES} calibration images: not tested."
    elif count:
        are, them = ("is an outlier", "it") if count == 1 else ("are outliers", "them")
        verdict = (
            f"{count} of {n} calibration images {are}: look at {them}. With 95 % confidence "
            f"under {100 * bound:.0f} % of the training images are like that. Take out what is "
            "defective, and nothing else: without good images that only score high, the "
            "threshold is too low and rejects more than it promises."
        )
    else:
        verdict = (
            f"None of {n} calibration images is an outlier; with 95 % confidence under "
            f"{100 * bound:.0f} % of the training images would be."
        )
    return {
        "calibration_outliers": highest(calibration, names, count),
        "limit": limit,
        "rate": count / n,
        "rate_bound": bound,
        "verdict": verdict,
    }


def highest(scores: np.ndarray, names: np.ndarray, count: int) -> list[dict[str, Any]]:
    rows = np.argsort(-scores, kind="stable")[:count]
    return [{"image_id": str(names[row]), "score": float(scores[row])} for row in rows]
