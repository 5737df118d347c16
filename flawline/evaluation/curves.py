"""Areas and best points of ROC, precision-recall and overlap curves, from counts by value.

All functions take counts along the last axis, in ascending order of anomaly value, and work on any
number of rows at once: one row is one metric, a thousand rows are a thousand resamples. If a row
does not allow a metric, the metric is NaN.
"""

import numpy as np


def auroc(normal: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """Return the chance that a defective item has a higher value than a normal one; ties are half.

    Parameters
    ----------
    normal, defective : (..., V), count or weight of each value.
    """
    below = np.cumsum(normal, axis=-1) - normal / 2
    wins = (below * defective).sum(axis=-1)
    return _ratio(wins, normal.sum(axis=-1) * defective.sum(axis=-1, dtype=float))


def average_precision(normal: np.ndarray, defective: np.ndarray) -> np.ndarray:
    """Return the mean, over defective items, of the precision at the threshold at each item."""
    hits, alarms = from_above(defective), from_above(normal)
    precision = _ratio(hits, hits + alarms, empty=0)
    precision_sum = (precision * defective[..., ::-1]).sum(axis=-1)
    return np.where(alarms[..., -1] > 0, _ratio(precision_sum, hits[..., -1]), np.nan)


def best_f1(normal: np.ndarray, defective: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest F1 of any threshold, and the index of the lowest value above it."""
    hits, alarms = from_above(defective), from_above(normal)
    f1 = _ratio(2 * hits, hits + alarms + hits[..., -1:])
    f1 = np.where(alarms[..., -1:] > 0, f1, np.nan)
    best = np.where(np.isnan(f1), -1, f1).argmax(axis=-1)
    value = np.take_along_axis(f1, best[..., None], axis=-1)[..., 0]
    return value, f1.shape[-1] - 1 - best


def fpr_at_tpr(normal: np.ndarray, defective: np.ndarray, tpr: float) -> np.ndarray:
    """Return the lowest false-positive rate of a threshold that finds at least `tpr` of defects."""
    hits, alarms = from_above(defective), from_above(normal)
    enough = hits >= tpr * hits[..., -1:] - 1e-9  # rounding errors of tpr times a count
    first = enough.argmax(axis=-1)
    false_alarms = np.take_along_axis(alarms, first[..., None], axis=-1)[..., 0]
    return np.where(hits[..., -1] > 0, _ratio(false_alarms, alarms[..., -1]), np.nan)


def tpr_at_fpr(normal: np.ndarray, defective: np.ndarray, fpr: float) -> np.ndarray:
    """Return the recall at the threshold that keeps the false-positive rate at `fpr`.

    This is the conformal threshold of the normal values: new normal values like them exceed it at
    a rate of `fpr` or less on average. NaN if there are fewer than 1 / `fpr` - 1, too few for it.
    """
    hits, alarms = from_above(defective), from_above(normal)
    # rounding errors must not cost a rank
    allowed = np.floor((alarms[..., -1:] + 1) * fpr + 1e-9) - 1
    hits_allowed = np.where(alarms <= allowed, hits, 0).max(axis=-1)
    return np.where(allowed[..., 0] >= 0, _ratio(hits_allowed, hits[..., -1]), np.nan)


def overlap_area(
    normal: np.ndarray, overlap: np.ndarray, parts: np.ndarray | float, limit: float
) -> np.ndarray:
    """Return the area under mean overlap against false-positive rate, up to `limit`, over `limit`.

    Trapezoids between the points of distinct values, from (0, 0) on; the last one is cut at the
    limit by linear interpolation.

    Parameters
    ----------
    overlap : (..., V), every region's counts divided by its size, summed over the regions.
    parts : (...), number of regions.
    """
    fpr = _from_zero(_ratio(from_above(normal), normal.sum(axis=-1)[..., None]))
    mean = _from_zero(_ratio(from_above(overlap), np.asarray(parts, float)[..., None]))
    return _area(fpr, mean, 0.0, limit)


def log_area(
    good: np.ndarray, recall: np.ndarray, parts: np.ndarray | float, low: float, high: float
) -> np.ndarray:
    """Return the area under mean recall against log(FPR on good images), normalised.

    It lies between two rates, and is linear in the logarithm between the points of distinct
    values. At `low` the recall is that of the highest rate not above it, as FPR 0 has no logarithm.
    """
    fpr = _from_zero(_ratio(from_above(good), good.sum(axis=-1)[..., None]))
    mean = _from_zero(_ratio(from_above(recall), np.asarray(parts, float)[..., None]))
    x = np.log(np.maximum(fpr, low))
    return _area(x, mean, np.log(low), np.log(high))


def from_above(counts: np.ndarray) -> np.ndarray:
    """Return sums over all values from the highest down to each, in descending order of value."""
    return np.cumsum(counts[..., ::-1], axis=-1, dtype=float)


def _area(x: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the area under y from low to high over high - low; x ascending, x[0] <= low."""
    left, right = x[..., :-1], np.minimum(x[..., 1:], high)
    rise = np.diff(y, axis=-1) * _ratio(right - left, np.diff(x, axis=-1), empty=0)
    area = np.where(right > left, (right - left) * (y[..., :-1] + rise / 2), 0).sum(axis=-1)
    reached = np.isfinite(x[..., -1]) & np.isfinite(y[..., -1])
    # rounding must not make an area larger than 1
    return np.where(reached, np.clip(area / (high - low), 0, 1), np.nan)


def _from_zero(curve: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(curve[..., :1]), curve], axis=-1)


def _ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    whole = np.asarray(whole, float)
    safe = np.where(whole == 0, 1, whole)
    return np.where(whole == 0, empty, part / safe)
