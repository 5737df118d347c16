"""Figures of merit of anomaly scores, one score per image."""

from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score


def ranking_metrics(labels: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """Area under the ROC curve and average precision; None where a class is absent.

    Parameters
    ----------
    labels : int (N,), 1 = defective.
    scores : float (N,), higher is more anomalous.
    """
    if len(np.unique(labels)) < 2:
        return {"auroc": None, "average_precision": None}
    return {
        "auroc": float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
    }


def decision_metrics(labels: np.ndarray, decisions: np.ndarray) -> dict[str, Any]:
    """Confusion matrix and the figures that follow from it; None where one is undefined.

    Parameters
    ----------
    labels : int (N,), 1 = defective.
    decisions : bool (N,), True = called defective.
    """
    defective, called = labels == 1, decisions.astype(bool)
    hit, miss = int((defective & called).sum()), int((defective & ~called).sum())
    alarm, passed = int((~defective & called).sum()), int((~defective & ~called).sum())
    recall, specificity = _ratio(hit, hit + miss), _ratio(passed, passed + alarm)
    return {
        "accuracy": _ratio(hit + passed, len(labels)),
        "balanced_accuracy": (
            None if recall is None or specificity is None else (recall + specificity) / 2
        ),
        "precision": _ratio(hit, hit + alarm),
        "recall": recall,
        "f1": _ratio(2 * hit, 2 * hit + miss + alarm),
        "false_alarm_rate": _ratio(alarm, alarm + passed),
        "true_positive": hit,
        "false_positive": alarm,
        "true_negative": passed,
        "false_negative": miss,
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
