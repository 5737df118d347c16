"""Metrics of anomaly scores, one score per image."""

from typing import Any

import numpy as np

from flawline.evaluation.curves import auroc, average_precision, best_f1, fpr_at_tpr, tpr_at_fpr

FALSE_ALARM_RATES = {"tpr_at_5_fpr": 0.05, "tpr_at_1_fpr": 0.01}
RANKING = ("auroc", "average_precision", "fpr_at_95_tpr", *FALSE_ALARM_RATES)
DECISION = (
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "false_alarm_rate",
)


def count_scores(
    labels: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count good and defective images of each distinct score.

    Parameters
    ----------
    labels : int (N,), 1 = defective.
    scores : float (N,), higher is more anomalous.

    Returns
    -------
    good, defective : int (V,), values : float (V,), ascending.
    """
    values, place = np.unique(scores, return_inverse=True)
    defective = np.bincount(place[labels == 1], minlength=len(values))
    return np.bincount(place, minlength=len(values)) - defective, defective, values


def ranking_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """Compute metrics without a threshold; None if a class is absent or too small for one."""
    if len(np.unique(labels)) < 2:
        return dict.fromkeys(RANKING)
    good, defective, _ = count_scores(labels, scores)
    metrics = ranking_values(good, defective)
    return {name: None if np.isnan(value) else float(value) for name, value in metrics.items()}


def ranking_values(good: np.ndarray, defective: np.ndarray) -> dict[str, np.ndarray]:
    """Compute `ranking_metrics` of many resamples at once, from counts (..., V)."""
    return {
        "auroc": auroc(good, defective),
        "average_precision": average_precision(good, defective),
        "fpr_at_95_tpr": fpr_at_tpr(good, defective, 0.95),
    } | {name: tpr_at_fpr(good, defective, rate) for name, rate in FALSE_ALARM_RATES.items()}


def decision_metrics(labels: np.ndarray, decisions: np.ndarray) -> dict[str, Any]:
    """Compute the confusion matrix and its metrics; None for undefined ones.

    If a class is absent, only the rate of the other one is defined: precision or accuracy would
    only tell what was tested.

    Parameters
    ----------
    labels : int (N,), 1 = defective.
    decisions : bool (N,), True = called defective.
    """
    defective, called = labels == 1, decisions.astype(bool)
    hit, miss = int((defective & called).sum()), int((defective & ~called).sum())
    alarm, passed = int((~defective & called).sum()), int((~defective & ~called).sum())
    metrics = decision_values(hit, miss, alarm, passed)
    if not (hit + miss and alarm + passed):
        undefined = dict.fromkeys(DECISION, np.array(np.nan))
        metrics = undefined | {name: metrics[name] for name in ("recall", "false_alarm_rate")}
    return {
        **{name: None if np.isnan(value) else float(value) for name, value in metrics.items()},
        "true_positive": hit,
        "false_positive": alarm,
        "true_negative": passed,
        "false_negative": miss,
    }


def decision_values(hit: Any, miss: Any, alarm: Any, passed: Any) -> dict[str, np.ndarray]:
    """Compute the metrics of one confusion matrix or of many; NaN for undefined ones."""
    recall, specificity = _ratio(hit, hit + miss), _ratio(passed, passed + alarm)
    return {
        "accuracy": _ratio(hit + passed, hit + miss + alarm + passed),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(hit, hit + alarm),
        "recall": recall,
        "f1": _ratio(2 * hit, 2 * hit + miss + alarm),
        "false_alarm_rate": 1 - specificity,
    }


def oracle_f1(labels: np.ndarray, scores: np.ndarray) -> tuple[float | None, float | None]:
    """Return the largest F1 of any threshold, and that threshold.

    It is chosen with the labels, so no deployed detector can be expected to reach it.
    """
    if len(np.unique(labels)) < 2:
        return None, None
    good, defective, values = count_scores(labels, scores)
    f1, lowest = best_f1(good, defective)
    below = values[lowest - 1] if lowest else values[0] - 1
    return float(f1), float(below)


def risk_curve(
    labels: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
    miss: float,
    false_alarm: float,
    defect_rate: float,
) -> np.ndarray:
    """Return the expected cost per part in production for each threshold: float (T,).

    Parameters
    ----------
    labels : int (N,), both classes present; their ratio in the test subset does not matter.
    thresholds : float (T,).
    miss, false_alarm : cost of a defective part that passes, of a good part called defective.
    defect_rate : fraction of parts in production that is defective.
    """
    good, defective = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    missed = np.searchsorted(defective, thresholds, side="right") / len(defective)
    alarms = 1 - np.searchsorted(good, thresholds, side="right") / len(good)
    return defect_rate * miss * missed + (1 - defect_rate) * false_alarm * alarms


def _ratio(part: Any, whole: Any) -> np.ndarray:
    whole = np.asarray(whole, float)
    return np.where(whole == 0, np.nan, part / np.where(whole == 0, 1, whole))
