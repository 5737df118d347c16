"""Check whether new good images score like those that the threshold comes from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import ks_2samp, norm

ALPHA = 0.01
MIN_SCORES = 8  # with fewer, quartiles and tests say nothing


def drift(
    calibration: np.ndarray,
    test_good: np.ndarray,
    train: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    higher_only: bool = False,
) -> dict[str, Any]:
    """Whether good test images score like the calibration images that the threshold comes from.

    Parameters
    ----------
    calibration, test_good, train : float (n,), scores of good images.
    folds : where several models made the calibration scores, those of each and what it gives to the
        good test images: scores of different models are not compared.
    higher_only : whether lower good test images are no drift: where calibration images lack their
        own part of a memory that good test images have all of, they score a little higher by
        nature.

    Returns
    -------
    Summaries of the three, `auroc` (chance that a good test image scores above a calibration image
    of the same model), `p_value` (two-sample Kolmogorov-Smirnov; of folds, `_rank_sum`), `drifted`
    and a `verdict` in words.
    """
    found: dict[str, Any] = {
        "train": _summary(train),
        "calibration": _summary(calibration),
        "test_good": _summary(test_good),
        "auroc": None,
        "p_value": None,
        "drifted": None,
    }
    if min(len(calibration), len(test_good)) < MIN_SCORES:
        return found | {"verdict": f"Fewer than {MIN_SCORES} good images in a subset: not tested."}
    auroc, p_value = _rank_sum(folds or [(calibration, test_good)])
    if not folds:
        way = "greater" if higher_only else "two-sided"
        p_value = float(ks_2samp(calibration, test_good, alternative=way).pvalue)
    if p_value >= ALPHA:
        like = "do not score higher than" if higher_only else "score like"
        verdict = f"No drift seen: good test images {like} calibration images."
    elif auroc > 0.6:
        verdict = (
            "Good test images score higher than calibration images: expect more false alarms "
            "than the threshold promises. Look for changed light, pose or material, or "
            "defects among them."
        )
    elif auroc < 0.4:
        verdict = (
            "Good test images score lower than calibration images: the threshold is higher "
            "than it need be, so more defects pass."
        )
    else:
        verdict = "Good test images' scores spread differently from those of calibration images."
    return found | {
        "auroc": auroc,
        "p_value": p_value,
        "drifted": p_value < ALPHA,
        "verdict": verdict,
    }


def _rank_sum(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Rank-sum test, each model's calibration images against its own scores of the good test
    images.

    The good test images are the same for all models, so their Mann-Whitney statistics depend on
    each other. Their sum has at most the variance that it would have if all models ranked alike,
    which is that of one test with all calibration images (Cauchy-Schwarz); it is taken for it.

    Returns
    -------
    Chance that a good test image scores above a calibration image, and the two-sided p-value.
    """
    n, m = sum(len(own) for own, _ in folds), len(folds[0][1])
    above = 0.0
    for own, test in folds:
        gaps = test[:, None] - own
        above += float((gaps > 0).sum() + 0.5 * (gaps == 0).sum())
    z = (above - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
    return above / (n * m), float(2 * norm.sf(abs(z)))


def _summary(scores: np.ndarray) -> dict[str, float] | None:
    if not len(scores):
        return None
    quartiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
    names = ("min", "q25", "median", "q75", "max")
    mean = float(np.mean(scores))
    return {"n": len(scores), **dict(zip(names, quartiles, strict=True)), "mean": mean}
