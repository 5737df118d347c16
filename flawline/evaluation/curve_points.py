"""Points of the report's curves, thinned so that they fit on its page."""

from typing import Any

import numpy as np

from flawline.evaluation.curves import from_above
from flawline.evaluation.image_metrics import count_scores, risk_curve
from flawline.evaluation.pixel_metrics import (
    PIMO_RANGE,
    PRO_LIMITS,
    PixelCounts,
    enough_for_pimo,
    total,
)

POINTS = 200  # that a curve keeps, roughly


def cost_curve(
    truth: np.ndarray, scores: np.ndarray, threshold: float, costs: dict[str, float]
) -> tuple[dict[str, Any] | None, dict[str, float | None]]:
    """Return the realised cost per part by threshold, and the oracle's least one."""
    if len(np.unique(truth)) < 2:
        return None, {"risk": None, "risk_threshold": None}
    values = np.unique(scores)
    # just below the lowest score everything is called defective
    thresholds = np.concatenate([[np.nextafter(values[0], -np.inf)], values])
    risk = risk_curve(truth, scores, thresholds, **costs)
    best = int(risk.argmin())
    shown = np.unique(np.linspace(0, len(thresholds) - 1, POINTS + 1).round().astype(int))
    rate = costs["defect_rate"]
    return (
        costs
        | {
            "at_threshold": float(risk_curve(truth, scores, np.array([threshold]), **costs)[0]),
            "call_none": rate * costs["miss"],
            "call_all": (1 - rate) * costs["false_alarm"],
            "threshold": thresholds[shown].tolist(),
            "risk": risk[shown].tolist(),
        },
        {"risk": float(risk[best]), "risk_threshold": float(thresholds[best])},
    )


def image_curves(truth: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    if len(np.unique(truth)) < 2:
        return {"roc": None, "pr": None}
    good, defective, values = count_scores(truth, scores)
    fpr, tpr = _rate(good), _rate(defective)
    kept = _thinned(fpr, tpr)
    thresholds = [*values[::-1].tolist(), None]
    return {
        "roc": {
            "fpr": fpr[kept].tolist(),
            "tpr": tpr[kept].tolist(),
            "threshold": [thresholds[place] for place in kept],
        },
        "pr": _precision_recall(good, defective),
    }


def pixel_curves(counts: dict[str, PixelCounts]) -> dict[str, Any]:
    whole = total(counts.values())
    if whole is None or not whole.defective.any() or not whole.normal.any():
        return dict.fromkeys(("pixel_roc", "pixel_pr", "pro", "pimo"))
    fpr, tpr = _rate(whole.normal), _rate(whole.defective)
    overlap = np.concatenate([[0], from_above(whole.overlap)]) / whole.regions
    kept = _thinned(fpr, tpr)
    limit = max(PRO_LIMITS.values())
    end = int(np.searchsorted(fpr, limit, side="right"))
    inside = _thinned(fpr[:end], overlap[:end])
    found: dict[str, Any] = {
        "pixel_roc": {"fpr": fpr[kept].tolist(), "tpr": tpr[kept].tolist()},
        "pixel_pr": _precision_recall(whole.normal, whole.defective),
        "pro": {
            "fpr": [*fpr[inside].tolist(), limit],
            "overlap": [*overlap[inside].tolist(), float(np.interp(limit, fpr, overlap))],
        },
        "pimo": None,
    }
    if "good" in counts and enough_for_pimo(counts["good"].normal):
        low, high = PIMO_RANGE
        rates = np.geomspace(low, high, 51)
        recall = np.concatenate([[0], from_above(whole.recall)]) / whole.masks
        known = np.log(np.maximum(_rate(counts["good"].normal), low))
        recalls = np.interp(np.log(rates), known, recall)
        found["pimo"] = {"fpr": rates.tolist(), "recall": recalls.tolist()}
    return found


def _precision_recall(normal: np.ndarray, defective: np.ndarray) -> dict[str, list[float]]:
    hits, alarms = from_above(defective), from_above(normal)
    some = hits + alarms > 0
    precision, recall = hits[some] / (hits + alarms)[some], hits[some] / hits[-1]
    kept = _thinned(recall, precision)
    return {"recall": recall[kept].tolist(), "precision": precision[kept].tolist()}


def _rate(counts: np.ndarray) -> np.ndarray:
    above = from_above(counts)
    return np.concatenate([[0], above]) / above[-1]


def _thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return indices of at most `POINTS` + 1 points, evenly along the curve, ends included."""
    length = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0, length[-1], POINTS))
    return np.unique(np.append(kept, len(x) - 1))
