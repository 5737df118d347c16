"""Tests whether detectors differ: on the same images, and over categories."""

import math
from dataclasses import dataclass

import numpy as np

from flawline.evaluation.intervals import CHUNK, newcombe


@dataclass(frozen=True)
class PairedTest:
    """A test of two areas under the ROC curve on the same images."""

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p: float


def delong(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, confidence: float = 0.95
) -> PairedTest:
    """Run DeLong's test of two correlated areas under the ROC curve, with midranks.

    Its variance is meaningless if one of the areas is 1, or if no image differs from another. Then
    the p-value is that of a test that exchanges the two detectors' ranks image by image, and the
    interval is combined from those of the two areas.

    Parameters
    ----------
    labels : int (N,), 1 = defective; at least two of each class.
    scores_a, scores_b : float (N,), of the same images.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, *Biometrics* 44, 1988; Sun and Xu, *IEEE Signal Processing
    Letters* 21, 2014.
    """
    from scipy.stats import norm, rankdata

    defective = labels == 1
    scores = np.stack([scores_a, scores_b]).astype(float)
    positive, negative = scores[:, defective], scores[:, ~defective]
    m, n = positive.shape[1], negative.shape[1]
    ranks = rankdata(scores, axis=1)
    # the chance that one good image scores below each defective one, and the other way round
    v_positive = (ranks[:, defective] - rankdata(positive, axis=1)) / n
    v_negative = 1 - (ranks[:, ~defective] - rankdata(negative, axis=1)) / m
    areas = v_positive.mean(axis=1)
    difference = float(areas[0] - areas[1])
    spread = np.var(np.diff(v_positive, axis=0), ddof=1) / m
    spread += np.var(np.diff(v_negative, axis=0), ddof=1) / n
    deviation = math.sqrt(float(spread))
    a, b = areas.tolist()
    if not deviation or 1 in (a, b):
        (low_a, high_a), (low_b, high_b) = (newcombe(area, m, n, confidence) for area in (a, b))
        low = difference - math.hypot(a - low_a, high_b - b)
        high = difference + math.hypot(high_a - a, b - low_b)
        return PairedTest(a, b, difference, low, high, _exchanged(ranks, defective, difference))
    reach = float(norm.ppf((1 + confidence) / 2)) * deviation
    p = float(2 * norm.sf(abs(difference) / deviation))
    return PairedTest(a, b, difference, difference - reach, difference + reach, p)


EXCHANGES = 9_999


def _exchanged(ranks: np.ndarray, defective: np.ndarray, difference: float) -> float:
    """Return how often exchanging two detectors' ranks by image makes as large a difference.

    Venkatraman and Begg, *Biometrika* 83, 1996, with ties of exchanged ranks broken at random.
    """
    from scipy.stats import rankdata

    if not difference:
        return 1.0
    rng = np.random.default_rng(0)
    m, n = int(defective.sum()), int((~defective).sum())
    as_large = 0
    for start in range(0, EXCHANGES, CHUNK):
        times = min(CHUNK, EXCHANGES - start)
        swap = rng.integers(0, 2, (times, ranks.shape[1])).astype(bool)
        pair = np.stack([np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])])
        sums = rankdata(pair, axis=2)[..., defective].sum(axis=2)
        areas = (sums - m * (m + 1) / 2) / (m * n)
        as_large += int((np.abs(areas[0] - areas[1]) >= abs(difference) - 1e-12).sum())
    return (as_large + 1) / (EXCHANGES + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values for their number (Holm, *Scandinavian Journal of Statistics*, 1979)."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """Return the p-value of the signed-rank test that two detectors differ over categories.

    Parameters
    ----------
    a, b : float (C,), one metric per category. Categories without a difference are left out.
    """
    from scipy.stats import wilcoxon as signed_rank

    differences = np.asarray(a, float) - np.asarray(b, float)
    if not differences.any():
        return 1.0
    return float(signed_rank(differences[differences != 0]).pvalue)


PERMUTATIONS = 9_999


@dataclass(frozen=True)
class RankTest:
    """Ranks of detectors over categories, and their distances to be expected by chance.

    Attributes
    ----------
    mean_ranks : float (D,), 1 = best; ties share their ranks.
    p : of Friedman's test that all detectors are alike.
    critical_difference : least distance of mean ranks that differ; None if p is not below alpha,
        with two detectors, or with too few categories for such a distance.
    needed : least number of categories without ties that allows such a distance.
    """

    mean_ranks: np.ndarray
    p: float
    critical_difference: float | None
    needed: int


def friedman(metrics: np.ndarray, alpha: float = 0.05) -> RankTest:
    """Run Friedman's test and, if it finds a difference, Nemenyi's: which mean ranks differ.

    The distributions of both statistics, the spread of the rank sums and the largest difference of
    two mean ranks, come from permuting the ranks within each category, so neither needs many
    categories (Nemenyi's tables are the limit for many).

    Parameters
    ----------
    metrics : float (C, D), higher is better, no NaN.

    References
    ----------
    Friedman, *JASA* 32, 1937; Nemenyi, *Distribution-free Multiple Comparisons*, 1963; Demsar,
    *JMLR* 7, 2006, for the order of the two.
    """
    from scipy.stats import rankdata

    ranks = rankdata(-np.asarray(metrics, float), axis=1)
    categories, detectors = ranks.shape
    rng = np.random.default_rng(0)
    sums = np.zeros((PERMUTATIONS, detectors))
    for row in ranks:
        sums += rng.permuted(np.tile(row, (PERMUTATIONS, 1)), axis=1)
    sums = np.concatenate([sums, ranks.sum(axis=0, keepdims=True)])  # as one of them
    spread = sums.var(axis=1)
    p = float((spread >= spread[-1] - 1e-9).mean())
    apart, times = np.unique((np.ptp(sums, axis=1) / categories).round(9), return_counts=True)
    rare = apart[np.cumsum(times[::-1])[::-1] <= alpha * len(sums)]
    # some detector is first and another last in every category
    needed = math.ceil(1 - math.log(alpha) / math.log(detectors * (detectors - 1)))
    shown = detectors > 2 and p <= alpha and len(rare)
    return RankTest(ranks.mean(axis=0), p, float(rare[0]) if shown else None, needed)


def categories_needed(pairs: int, alpha: float = 0.05) -> int:
    """Return the number of differing categories that signed-rank tests of several pairs need.

    The least p-value of n differences is 2^(1 - n), which Holm's correction multiplies by `pairs`.
    """
    return math.ceil(1 + math.log2(pairs / alpha))
