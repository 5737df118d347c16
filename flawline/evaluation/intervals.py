"""Intervals of the metrics: bootstrap and exact ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from flawline.evaluation.curves import (
    auroc,
    average_precision,
    best_f1,
    log_area,
    overlap_area,
)
from flawline.evaluation.image_metrics import FALSE_ALARM_RATES, count_scores, ranking_values
from flawline.evaluation.pixel_metrics import PIMO_RANGE, PRO_LIMITS, PixelCounts

CHUNK = 250  # resamples held in memory at once
Interval = tuple[float, float]


def resamples(strata: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """Draw resamples: how often each image is drawn, with replacement, within its stratum.

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
    """Compute intervals of the image metrics that also hold for few images and near perfection.

    Resampling a perfect ranking always gives a perfect one, and would call a metric certain that
    is only unrefuted. So the area under the ROC curve has Newcombe's interval, and the interval of
    the average precision is widened from the bootstrap's as much. Rates at a given other rate have
    their ends moved to those of exact intervals, and metrics at the threshold follow from exact
    intervals of proportions. docs/evaluation.md shows how often each covers the truth.

    Parameters
    ----------
    labels, scores : (N,); 1 = defective. Both classes present.
    weights : int (B, N), from `resamples`, stratified by label.

    Returns
    -------
    Keys `image.<metric>` and `at_threshold.<metric>`; metrics without an interval are absent.
    """
    good, bad, values = count_scores(labels, scores)
    place = np.searchsorted(values, scores)
    one_hot = np.zeros((len(scores), len(values)))
    one_hot[np.arange(len(scores)), place] = 1
    defective = labels == 1
    drawn: dict[str, list[np.ndarray]] = {}
    for part in _chunks(weights):
        metrics = ranking_values(
            part[:, ~defective] @ one_hot[~defective], part[:, defective] @ one_hot[defective]
        )
        for name, of_part in metrics.items():
            drawn.setdefault(f"image.{name}", []).append(of_part)
    intervals = _percentiles(drawn, confidence)
    m, n = int(bad.sum()), int(good.sum())
    area, precision = (float(ranking_values(good, bad)[name]) for name in AREAS)
    low, high = newcombe(area, m, n, confidence)
    intervals["image.auroc"] = low, high
    # near perfection, a good image that scores too high lowers both metrics in proportion
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
    """Return an interval of an area under the ROC curve that is never a point.

    Its ends are the areas that just do not reject the observed one, given the standard error of
    each: method 5 of Newcombe, *Statistics in Medicine* 25, 2006, with the variance of Hanley and
    McNeil for equal samples.

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
    """Compute intervals of the metrics at a threshold that could be measured.

    Recall, false-alarm rate and precision are proportions, and F1 is a function of one: they have
    Clopper and Pearson's intervals. Accuracy and balanced accuracy are sums of two proportions,
    whose intervals are combined by squares (Zou and Donner, *Statistics in Medicine* 27, 2008).

    Returns
    -------
    Keys `at_threshold.<metric>`.
    """
    called, defective = scores > threshold, labels == 1
    hit, miss = int((called & defective).sum()), int((~called & defective).sum())
    alarm, passed = int((called & ~defective).sum()), int((~called & ~defective).sum())
    intervals = {}
    if hit + miss:
        intervals["recall"] = clopper_pearson(hit, hit + miss, confidence)
    if alarm + passed:
        intervals["false_alarm_rate"] = clopper_pearson(alarm, alarm + passed, confidence)
    if hit + miss and alarm + passed:
        rates = hit / (hit + miss), passed / (alarm + passed)
        low, high = intervals["false_alarm_rate"]
        ends = intervals["recall"], (1 - high, 1 - low)
        share = (hit + miss) / len(labels)
        intervals["accuracy"] = _summed(rates, ends, (share, 1 - share))
        intervals["balanced_accuracy"] = _summed(rates, ends, (0.5, 0.5))
        if hit + alarm:
            intervals["precision"] = clopper_pearson(hit, hit + alarm, confidence)
        low, high = clopper_pearson(hit, hit + miss + alarm, confidence)
        intervals["f1"] = 2 * low / (1 + low), 2 * high / (1 + high)
    return {f"at_threshold.{name}": interval for name, interval in intervals.items()}


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
    """Compute bootstrap intervals of the pixel metrics by drawing images with all their pixels.

    The images' counts are binned to some 1,000 values, which moves a metric by about 0.001; the
    interval is moved back by the difference between the exact and the binned metric.

    Parameters
    ----------
    images : counts per image, all binned with the same edges.
    weights : int (B, N), from `resamples`.
    good : bool (N,), the good images, for AUPIMO's false-positive rate; None for no AUPIMO.
    exact : the metrics to put intervals around; None has no interval.
    """
    stacked = {
        name: np.stack([getattr(image, name) for image in images]).astype(float)
        for name in ("normal", "defective", "overlap", "recall")
    }
    regions = np.array([image.regions for image in images], float)
    masks = np.array([image.masks for image in images], float)

    def metrics(part: np.ndarray) -> dict[str, np.ndarray]:
        normal, defective = part @ stacked["normal"], part @ stacked["defective"]
        values = {
            "auroc": auroc(normal, defective),
            "average_precision": average_precision(normal, defective),
            "f1_oracle": best_f1(normal, defective)[0],
        }
        overlap = part @ stacked["overlap"]
        for name, limit in PRO_LIMITS.items():
            values[name] = overlap_area(normal, overlap, part @ regions, limit)
        if good is not None:
            normal = part[:, good] @ stacked["normal"][good]
            recall = part @ stacked["recall"]
            values["aupimo"] = log_area(normal, recall, part @ masks, *PIMO_RANGE)
        return values

    drawn: dict[str, list[np.ndarray]] = {}
    for part in _chunks(weights):
        for name, values in metrics(part).items():
            drawn.setdefault(name, []).append(values)
    whole = metrics(np.ones((1, len(images))))
    moved = {}
    for name, (low, high) in _percentiles(drawn, confidence).items():
        metric = exact.get(name)
        if metric is not None:
            shift = metric - float(whole[name][0])
            moved[name] = (max(0.0, low + shift), min(1.0, high + shift))
    return moved


def clopper_pearson(count: int, n: int, confidence: float) -> Interval:
    """Return the exact interval of `count` of `n` (Clopper and Pearson, *Biometrika*, 1934)."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high


def _chunks(weights: np.ndarray) -> list[np.ndarray]:
    return [weights[start : start + CHUNK].astype(float) for start in range(0, len(weights), CHUNK)]


def _percentiles(drawn: Mapping[str, list[np.ndarray]], confidence: float) -> dict[str, Interval]:
    tail = (1 - confidence) / 2
    intervals = {}
    for name, parts in drawn.items():
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if len(values):
            low, high = np.quantile(values, [tail, 1 - tail])
            intervals[name] = (float(low), float(high))
    return intervals
