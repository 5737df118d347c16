"""All figures of one detector on one category's test subset."""

from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.evaluation.image_metrics import decision_metrics, ranking_metrics
from flawline.evaluation.pixel_metrics import PixelCounts, count_pixels, pixel_auroc

if TYPE_CHECKING:
    import pandas as pd

NOTHING = "no defective test images: nothing to evaluate"


def evaluate(
    labels: "pd.DataFrame",
    scores: np.ndarray,
    threshold: float,
    anomaly_maps: np.ndarray,
    masks: np.ndarray,
) -> dict[str, Any]:
    """Image and pixel figures, overall and by defect type (its images against all goods).

    Parameters
    ----------
    labels : one row per test image; columns label (1 = defective), defect_type, has_mask.
    scores : float (N,), in the same order.
    threshold : images scoring above it are called defective.
    anomaly_maps : float16 (N, S, S).
    masks : uint8 (N, S, S).

    Returns
    -------
    Nested dictionary; a figure that the data do not allow is None, and `note` says why.
    """
    truth = labels["label"].to_numpy()
    types = labels["defect_type"].to_numpy()
    counts = _counts_by_type(labels, anomaly_maps, masks)
    return {
        "counts": {"test_good": int((truth == 0).sum()), "test_defective": int(truth.sum())},
        "image": ranking_metrics(truth, scores),
        "at_threshold": decision_metrics(truth, scores > threshold),
        "pixel": _pixel(counts, list(counts)),
        "by_defect_type": {
            str(kind): _one_type(truth, types, kind, scores, threshold, counts)
            for kind in sorted(set(types[truth == 1]))
        },
        "note": None if truth.any() else NOTHING,
    }


def _one_type(
    truth: np.ndarray,
    types: np.ndarray,
    kind: str,
    scores: np.ndarray,
    threshold: float,
    counts: dict[str, PixelCounts],
) -> dict[str, Any]:
    of_type = (types == kind) & (truth == 1)
    chosen = of_type | (truth == 0)
    pixel = _pixel(counts, ["good", kind]) if kind in counts else None
    return {
        "n": int(of_type.sum()),
        "image_auroc": ranking_metrics(truth[chosen], scores[chosen])["auroc"],
        "recall": float((scores[of_type] > threshold).mean()),
        "pixel_auroc": pixel and pixel["auroc"],
    }


def _pixel(counts: dict[str, PixelCounts], kinds: list[str]) -> dict[str, float | None] | None:
    chosen = [counts[kind] for kind in kinds if kind in counts]
    auroc = pixel_auroc(sum(chosen[1:], chosen[0])) if chosen else None
    return None if auroc is None else {"auroc": auroc}


def _counts_by_type(
    labels: "pd.DataFrame", anomaly_maps: np.ndarray, masks: np.ndarray
) -> dict[str, PixelCounts]:
    """Pixel counts of goods and of each defect type; defective images without a mask stay out."""
    counts: dict[str, PixelCounts] = {}
    for row, (kind, label, has_mask) in enumerate(
        zip(labels["defect_type"], labels["label"], labels["has_mask"], strict=True)
    ):
        if has_mask or not label:
            found = count_pixels(anomaly_maps[row], masks[row])
            kind = kind if label else "good"
            counts[kind] = counts[kind] + found if kind in counts else found
    return counts
