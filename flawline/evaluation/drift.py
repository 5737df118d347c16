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
    """Check whether good test images score like the calibration images behind the threshold.

    Parameters
    ----------
    calibration, test_good, train : float (n,), scores of good images.
    folds : if several models made the calibration scores, each one's calibration scores and its
        scores of the good test images: scores of different models are not compared.
    higher_only : whether lower scores of good test images are not drift. If calibration images are
        compared with a memory without their own patches, they score a little higher by nature.

    Returns
    -------
    Summaries of the three, `auroc` (chance that a good test image scores above a calibration image
    of the same model), `p_value` (two-sample Kolmogorov-Smirnov; of folds, `_rank_sum`), `drifted`
    and a `verdict` in words.
    """
    summaries: dict[str, Any] = {
        "train": _summary(train),
        "calibration": _summary(calibration),
        "test_good": _summary(test_good),
        "auroc": None,
        "p_value": None,
        "drifted": None,
    }
    if min(len(calibration), len(test_good)) < MIN_SCORES:
        return summaries | {
            "verdict": f"Fewer than {MIN_SCORES} good images in a subset: not tested."
        }
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
            "than necessary, so more defects pass."
        )
    else:
        verdict = "Good test images' scores spread differently from those of calibration images."
    return summaries | {
        "auroc": auroc,
        "p_value": p_value,
        "drifted": p_value < ALPHA,
        "verdict": verdict,
    }


def _rank_sum(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Run a rank-sum test of each model's calibration images against the good test images.

    The good test images are the same for all models, so the Mann-Whitney statistics are dependent.
    The variance of their sum is at most that of one test with all calibration images, which it
    would have if all models ranked alike (Cauchy-Schwarz). This bound is used as the variance.

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
