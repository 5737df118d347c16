"""How sure the figures are: bootstrap intervals, paired tests, ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flawline.evaluation.curves import (
    auroc,
    average_precision,
    best_f1,
    log_area,
    overlap_area,
)
from flawline.evaluation.image_metrics import FALSE_ALARM_RATES, count_scores, ranking_figures
from flawline.evaluation.pixel_metrics import PIMO_RANGE, PRO_LIMITS, PixelCounts

CHUNK = 250  # resamples held in memory at once
Interval = tuple[float, float]


def resamples(strata: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """How often each image is drawn, with replacement, within its stratum.

    Parameters
    ----------
    strata : (N,), the stratum of each image.

    Returns
    -------
    int64 (times, N); the sum over each stratum is its size.
    """
    weights = np.zeros((times, len(strata)), np.int64)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        even = np.full(len(members), 1 / len(members))
        weights[:, members] = rng.multinomial(len(members), even, size=times)
    return weights


def image_intervals(
    labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray, confidence: float
) -> dict[str, Interval]:
    """Intervals of the image figures that hold for few images and near perfection too.

    Resampling a perfect ranking gives a perfect one every time, and would call a figure certain
    that is only unrefuted. So the area under the ROC curve has Newcombe's interval; that of the
    average precision is as much wider than the bootstrap's; that of a rate at a given other one has
    its ends moved to those of exact intervals; the figures at the threshold follow from exact
    intervals of proportions. docs/evaluation.md has how often each covers the truth.

    Parameters
    ----------
    labels, scores : (N,); 1 = defective. Both classes present.
    weights : int (B, N), from `resamples`, stratified by label.

    Returns
    -------
    Keys `image.<figure>` and `at_threshold.<figure>`; figures without an interval are absent.
    """
    good, bad, values = count_scores(labels, scores)
    place = np.searchsorted(values, scores)
    one_hot = np.zeros((len(scores), len(values)))
    one_hot[np.arange(len(scores)), place] = 1
    defective = labels == 1
    drawn: dict[str, list[np.ndarray]] = {}
    for part in _chunks(weights):
        figures = ranking_figures(
            part[:, ~defective] @ one_hot[~defective], part[:, defective] @ one_hot[defective]
        )
        for name, found in figures.items():
            drawn.setdefault(f"image.{name}", []).append(found)
    intervals = _percentiles(drawn, confidence)
    m, n = int(bad.sum()), int(good.sum())
    area, precision = (float(ranking_figures(good, bad)[name]) for name in AREAS)
    low, high = newcombe(area, m, n, confidence)
    intervals["image.auroc"] = low, high
    # near perfection, a good image that scores too high costs both figures in proportion
    share = (1 - precision) / (1 - area) if area < 1 else n / (m + n)
    lows, highs = zip(
        intervals["image.average_precision"],
        (max(1 - share * (1 - low), 0.0), 1 - share * (1 - high)),
        strict=True,
    )
    intervals["image.average_precision"] = min(lows), max(highs)
    for name, of in ({"fpr_at_95_tpr": n} | dict.fromkeys(FALSE_ALARM_RATES, m)).items():
        if rate := intervals.get(f"image.{name}"):
            least = clopper_pearson(round(rate[0] * of), of, confidence)
            most = clopper_pearson(round(rate[1] * of), of, confidence)
            intervals[f"image.{name}"] = min(rate[0], least[0]), max(rate[1], most[1])
    return intervals | decision_intervals(labels, scores, threshold, confidence)


AREAS = ("auroc", "average_precision")


def newcombe(area: float, defective: int, good: int, confidence: float) -> Interval:
    """Interval of an area under the ROC curve that is never a point.

    Its ends are the areas from which the one seen lies just as far away as it may, by the standard
    error that such an area would have: method 5 of Newcombe, *Statistics in Medicine* 25, 2006,
    with the variance of Hanley and McNeil for equal samples.

    Parameters
    ----------
    area : between 0 and 1.
    defective, good : numbers of images.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, even = float(norm.ppf((1 + confidence) / 2)), (defective + good) / 2 - 1

    def beyond(true: float) -> float:
        spread = true * (1 - true) * (1 + even * ((1 - true) / (2 - true) + true / (1 + true)))
        return abs(area - true) - z * math.sqrt(spread / (defective * good))

    edge = 1e-9
    low = brentq(beyond, 0, min(area, 1 - edge)) if area > edge else 0.0
    high = brentq(beyond, max(area, edge), 1) if area < 1 - edge else 1.0
    return float(low), float(high)


def decision_intervals(
    labels: np.ndarray, scores: np.ndarray, threshold: float, confidence: float
) -> dict[str, Interval]:
    """Intervals of the figures at a threshold, where there are images to measure them on.

    Recall, false-alarm rate and precision are proportions, and F1 is a function of one: theirs are
    Clopper and Pearson's. Accuracy and balanced accuracy are sums of two, whose intervals are put
    together by squares (Zou and Donner, *Statistics in Medicine* 27, 2008).

    Returns
    -------
    Keys `at_threshold.<figure>`.
    """
    called, defective = scores > threshold, labels == 1
    hit, miss = int((called & defective).sum()), int((~called & defective).sum())
    alarm, passed = int((called & ~defective).sum()), int((~called & ~defective).sum())
    found = {}
    if hit + miss:
        found["recall"] = clopper_pearson(hit, hit + miss, confidence)
    if alarm + passed:
        found["false_alarm_rate"] = clopper_pearson(alarm, alarm + passed, confidence)
    if hit + miss and alarm + passed:
        rates = hit / (hit + miss), passed / (alarm + passed)
        low, high = found["false_alarm_rate"]
        ends = found["recall"], (1 - high, 1 - low)
        share = (hit + miss) / len(labels)
        found["accuracy"] = _summed(rates, ends, (share, 1 - share))
        found["balanced_accuracy"] = _summed(rates, ends, (0.5, 0.5))
        if hit + alarm:
            found["precision"] = clopper_pearson(hit, hit + alarm, confidence)
        low, high = clopper_pearson(hit, hit + miss + alarm, confidence)
        found["f1"] = 2 * low / (1 + low), 2 * high / (1 + high)
    return {f"at_threshold.{name}": interval for name, interval in found.items()}


def _summed(
    rates: tuple[float, float], ends: tuple[Interval, Interval], weights: tuple[float, float]
) -> Interval:
    middle = sum(weight * rate for weight, rate in zip(weights, rates, strict=True))
    reach = [
        math.hypot(
            *(w * (rate - end[side]) for w, rate, end in zip(weights, rates, ends, strict=True))
        )
        for side in (0, 1)
    ]
    return max(middle - reach[0], 0.0), min(middle + reach[1], 1.0)


def pixel_intervals(
    images: Sequence[PixelCounts],
    weights: np.ndarray,
    good: np.ndarray | None,
    exact: Mapping[str, float | None],
    confidence: float,
) -> dict[str, Interval]:
    """Bootstrap intervals of the pixel figures; images are drawn, with all their pixels.

    The images' counts are binned to some 1,000 values, which moves a figure by about 0.001; the
    interval is moved back by the difference between the exact and the binned figure.

    Parameters
    ----------
    images : counts per image, all binned with the same edges.
    weights : int (B, N), from `resamples`.
    good : bool (N,), the images that AUPIMO's false-positive rate rests on; None for no AUPIMO.
    exact : the figures to put intervals around; those that are None get none.
    """
    stacked = {
        name: np.stack([getattr(image, name) for image in images]).astype(float)
        for name in ("normal", "defective", "overlap", "recall")
    }
    regions = np.array([image.regions for image in images], float)
    masks = np.array([image.masks for image in images], float)

    def figures(part: np.ndarray) -> dict[str, np.ndarray]:
        normal, defective = part @ stacked["normal"], part @ stacked["defective"]
        found = {
            "auroc": auroc(normal, defective),
            "average_precision": average_precision(normal, defective),
            "f1_oracle": best_f1(normal, defective)[0],
        }
        overlap = part @ stacked["overlap"]
        for name, limit in PRO_LIMITS.items():
            found[name] = overlap_area(normal, overlap, part @ regions, limit)
        if good is not None:
            normal = part[:, good] @ stacked["normal"][good]
            recall = part @ stacked["recall"]
            found["aupimo"] = log_area(normal, recall, part @ masks, *PIMO_RANGE)
        return found

    drawn: dict[str, list[np.ndarray]] = {}
    for part in _chunks(weights):
        for name, found in figures(part).items():
            drawn.setdefault(name, []).append(found)
    whole = figures(np.ones((1, len(images))))
    moved = {}
    for name, (low, high) in _percentiles(drawn, confidence).items():
        figure = exact.get(name)
        if figure is not None:
            shift = figure - float(whole[name][0])
            moved[name] = (max(0.0, low + shift), min(1.0, high + shift))
    return moved


def clopper_pearson(count: int, n: int, confidence: float) -> Interval:
    """Exact interval of a proportion, `count` of `n` (Clopper and Pearson, *Biometrika*, 1934)."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high


@dataclass(frozen=True)
class PairedTest:
    """Two areas under the ROC curve on the same images, and whether they differ."""

    auroc_a: float
    auroc_b: float
    difference: float
    low: float
    high: float
    p: float


def delong(
    labels: np.ndarray, scores_a: np.ndarray, scores_b: np.ndarray, confidence: float = 0.95
) -> PairedTest:
    """DeLong's test of two correlated areas under the ROC curve, with midranks.

    Its variance says nothing where one of the areas is 1, or where no image differs from another;
    there, the p-value is that of a test which exchanges the two detectors' ranks image by image,
    and the interval is put together from those of the two areas.

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
    """How often an exchange of two detectors' ranks, image by image, makes as large a difference.

    Venkatraman and Begg, *Biometrika* 83, 1996, ranks of exchanged images broken at random.
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
    """P-values adjusted for their number (Holm, *Scandinavian Journal of Statistics*, 1979)."""
    p_values = np.asarray(p_values, float)
    order = np.argsort(p_values, kind="stable")
    steps = p_values[order] * (len(p_values) - np.arange(len(p_values)))
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """P-value of the signed-rank test that two detectors differ over categories.

    Parameters
    ----------
    a, b : float (C,), one figure per category. Categories without a difference count for neither.
    """
    from scipy.stats import wilcoxon as signed_rank

    differences = np.asarray(a, float) - np.asarray(b, float)
    if not differences.any():
        return 1.0
    return float(signed_rank(differences[differences != 0]).pvalue)


PERMUTATIONS = 9_999


@dataclass(frozen=True)
class RankTest:
    """Detectors' ranks over categories, and how far they would lie apart by chance.

    Attributes
    ----------
    mean_ranks : float (D,), 1 = best; ties share their ranks.
    p : of Friedman's test that all detectors are alike.
    critical_difference : mean ranks at least so far apart differ; None where p is not below alpha,
        where there are two detectors, or where so few categories allow no such distance.
    needed : the number of categories without ties from which on there can be such a distance.
    """

    mean_ranks: np.ndarray
    p: float
    critical_difference: float | None
    needed: int


def friedman(figures: np.ndarray, alpha: float = 0.05) -> RankTest:
    """Friedman's test, and if it finds a difference, Nemenyi's: which mean ranks differ.

    Both statistics, the spread of the rank sums and the largest difference of two mean ranks, have
    the distribution that permuting the ranks within each category gives, so neither needs many
    categories (Nemenyi's tables are that distribution in the limit of many).

    Parameters
    ----------
    figures : float (C, D), higher is better, no NaN.

    References
    ----------
    Friedman, *JASA* 32, 1937; Nemenyi, *Distribution-free Multiple Comparisons*, 1963; Demsar,
    *JMLR* 7, 2006, for the order of the two.
    """
    from scipy.stats import rankdata

    ranks = rankdata(-np.asarray(figures, float), axis=1)
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
    # one detector first and one last in every category, whichever they are
    needed = math.ceil(1 - math.log(alpha) / math.log(detectors * (detectors - 1)))
    shown = detectors > 2 and p <= alpha and len(rare)
    return RankTest(ranks.mean(axis=0), p, float(rare[0]) if shown else None, needed)


def categories_needed(pairs: int, alpha: float = 0.05) -> int:
    """How many categories that differ it takes for a signed-rank test of each of several pairs.

    The least p-value of n differences is 2^(1 - n), which Holm's correction multiplies by `pairs`.
    """
    return math.ceil(1 + math.log2(pairs / alpha))


def _chunks(weights: np.ndarray) -> list[np.ndarray]:
    return [weights[start : start + CHUNK].astype(float) for start in range(0, len(weights), CHUNK)]


def _percentiles(drawn: Mapping[str, list[np.ndarray]], confidence: float) -> dict[str, Interval]:
    tail = (1 - confidence) / 2
    found = {}
    for name, parts in drawn.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.quantile(values, [tail, 1 - tail])
            found[name] = (float(low), float(high))
    return found
