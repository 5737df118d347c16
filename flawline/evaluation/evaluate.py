"""All metrics of one detector on one category's test subset."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.evaluation.curve_points import cost_curve, image_curves, pixel_curves
from flawline.evaluation.curves import best_f1
from flawline.evaluation.image_metrics import (
    decision_metrics,
    oracle_f1,
    ranking_metrics,
)
from flawline.evaluation.intervals import (
    Interval,
    decision_intervals,
    image_intervals,
    pixel_intervals,
    resamples,
)
from flawline.evaluation.pixel_metrics import (
    PixelCounts,
    bin_edges,
    count_pixels,
    pixel_metrics,
    total,
    value_of,
)
from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

FEW_PIXELS = "too few pixels in good test images for false-positive rates as low as AUPIMO's"


@dataclass(frozen=True)
class _TestSubset:
    """The test subset and how it is measured.

    Attributes
    ----------
    truth : int (N,), 1 = defective. types : str (N,), `good` or the defect type.
    scores : float (N,).
    counts : pixel counts by defect type and for `good`, of images with a known mask.
    images : binned pixel counts by row, of the same images.
    """

    truth: np.ndarray
    types: np.ndarray
    scores: np.ndarray
    threshold: float
    counts: dict[str, PixelCounts]
    images: dict[int, PixelCounts]
    resamples: int
    confidence: float
    seed: int
    category: str


def evaluate(
    labels: "pd.DataFrame",
    scores: np.ndarray,
    threshold: float,
    anomaly_maps: np.ndarray,
    masks: np.ndarray,
    *,
    counted: np.ndarray | None = None,
    costs: dict[str, float],
    left_out: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    category: str = "",
) -> dict[str, Any]:
    """Compute image and pixel metrics, overall and by defect type (against all good images).

    Parameters
    ----------
    labels : one row per test image, of which there may be none; columns label (1 = defective),
        defect_type, has_mask.
    scores : float (N,), in the same order.
    threshold : images scoring above it are called defective.
    anomaly_maps : float16 (N, H, W).
    masks : uint8 (N, H, W); images with given but empty masks are left out of pixel metrics.
    counted : uint8 (N, H, W), 0 = neither normal nor defective; all pixels count, if None. Images
        whose defects do not count at all are left out of pixel metrics.
    costs : miss, false_alarm and defect_rate of the risk curve.
    left_out : test images that could not be used, for the note.
    resamples, confidence : of the bootstrap intervals.
    seed, category : determine the resamples.

    Returns
    -------
    Nested dictionary; a metric that the data do not allow is None, and `note` says why.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from flawline import evaluate
    >>> kinds = ["good", "good", "good", "scratch"]
    >>> labels = pd.DataFrame({"label": [0, 0, 0, 1], "defect_type": kinds, "has_mask": 0})
    >>> maps, masks = np.zeros((4, 8, 8), np.float16), np.zeros((4, 8, 8), np.uint8)
    >>> costs = {"miss": 10.0, "false_alarm": 1.0, "defect_rate": 0.05}
    >>> scores = np.array([0.1, 0.3, 0.2, 0.9])
    >>> metrics = evaluate(labels, scores, 0.5, maps, masks, costs=costs)
    >>> metrics["image"]["auroc"], metrics["at_threshold"]["recall"]
    (1.0, 1.0)
    """
    truth = labels["label"].to_numpy(int)
    types = np.where(truth == 1, labels["defect_type"].astype(str), "good")
    masked = (truth == 1) & (labels["has_mask"].to_numpy() == 1)
    # a mask was given but is empty: center_crop cut the defect off
    cut_off = masked & ~np.array([mask.any() for mask in masks], bool)
    rows = np.flatnonzero((truth == 0) | (masked & ~cut_off))
    hidden = np.zeros(0, int)
    if counted is not None:
        hidden = np.array([row for row in rows if _hides(counted[row], masks[row])], int)
        rows = np.setdiff1d(rows, hidden)
    counts = _counts_by_type(types, rows, anomaly_maps, masks, counted)
    images = _binned(counts, rows, anomaly_maps, masks, counted) if truth[rows].any() else {}
    test = _TestSubset(
        truth,
        types,
        np.asarray(scores, float),
        threshold,
        counts,
        images,
        resamples,
        confidence,
        seed,
        category,
    )
    metrics = _measure(test, np.ones(len(truth), bool), "all")
    if metrics["pixel"] and metrics["pixel"]["aupimo"] is None:
        metrics["pixel"]["aupimo_note"] = FEW_PIXELS
    risk, best = cost_curve(truth, test.scores, threshold, costs)
    metrics["oracle"] |= best
    good, defective = int((truth == 0).sum()), int(truth.sum())
    return metrics | {
        "counts": {
            "test_good": good,
            "test_defective": defective,
            "masked": int(truth[rows].sum()),
        }
        | ({"defects_not_counted": len(hidden)} if len(hidden) else {})
        | ({"defects_cut_off": int(cut_off.sum())} if cut_off.any() else {})
        | ({"test_left_out": left_out} if left_out else {}),
        "bootstrap": {"resamples": resamples, "confidence": confidence},
        "by_defect_type": {
            str(kind): _one_type(test, kind) for kind in sorted(set(types[truth == 1]))
        },
        "curves": image_curves(truth, test.scores) | pixel_curves(counts),
        "risk": risk,
        "note": missing_in_words(good, defective, left_out),
    }


def missing_in_words(good: int, defective: int, left_out: int = 0) -> str | None:
    """Say what cannot be evaluated, why, and what to add; None with test images of both kinds.

    Parameters
    ----------
    good, defective : numbers of test images.
    left_out : number of unusable test images.
    """
    if good and defective:
        return None
    kind, known, unknown, place = {
        (False, False): (
            "",
            "",
            "how many defects are found and how many good parts are rejected",
            "good parts to test/good and defective ones to test/<defect type>",
        ),
        (True, False): (
            "defective ",
            " but false alarms",
            "how many defects are found",
            "defective parts to test/<defect type>",
        ),
        (False, True): (
            "good ",
            " but how many defects are found",
            "how many good parts are rejected",
            "good parts to test/good",
        ),
    }[good > 0, defective > 0]
    unused = f" (problems.csv says why {left_out} could not be used)" if left_out else ""
    return (
        f"There are no {kind}test images{unused}, so there is nothing to evaluate{known}: "
        f"{unknown} is not known. Add {place}, and run the same command again."
    )


def _measure(test: _TestSubset, selected: np.ndarray, name: str) -> dict[str, Any]:
    """Compute the metrics of some of the test images and their intervals."""
    truth, scores = test.truth[selected], test.scores[selected]
    both = len(np.unique(truth)) == 2
    rng = generator(test.seed, test.category, "bootstrap", name)
    f1, f1_threshold = oracle_f1(truth, scores)
    if both:
        weights = resamples(truth, test.resamples, rng)
        intervals = image_intervals(truth, scores, test.threshold, weights, test.confidence)
    else:
        intervals = decision_intervals(truth, scores, test.threshold, test.confidence)
    pixel, best, of_pixels = _pixel(test, selected, rng)
    return {
        "image": ranking_metrics(truth, scores),
        "at_threshold": decision_metrics(truth, scores > test.threshold),
        "pixel": pixel,
        "oracle": {"image_f1": f1, "image_f1_threshold": f1_threshold} | best,
        "intervals": {key: list(interval) for key, interval in (intervals | of_pixels).items()},
    }


def _pixel(
    test: _TestSubset, selected: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, Any] | None, dict[str, float | None], dict[str, Interval]]:
    """Compute pixel metrics, the oracle's, and intervals."""
    counts = total(
        test.counts[kind] for kind in np.unique(test.types[selected]) if kind in test.counts
    )
    if counts is None or not counts.defective.any() or not counts.normal.any():
        return None, {"pixel_f1": None, "pixel_f1_threshold": None}, {}
    good = test.counts["good"].normal if "good" in test.counts else None
    metrics = pixel_metrics(counts, good)
    f1, lowest = best_f1(counts.normal, counts.defective)
    rows = [row for row in np.flatnonzero(selected).tolist() if row in test.images]
    truth = test.truth[rows]
    intervals = pixel_intervals(
        [test.images[row] for row in rows],
        resamples(truth, test.resamples, rng),
        None if metrics["aupimo"] is None else truth == 0,
        metrics,
        test.confidence,
    )
    best: dict[str, float | None] = {
        "pixel_f1": float(f1),
        "pixel_f1_threshold": value_of(int(lowest)),
    }
    named = {f"pixel.{name}": interval for name, interval in intervals.items()}
    return metrics | {"regions": counts.regions}, best, named


def _one_type(test: _TestSubset, kind: str) -> dict[str, Any]:
    of_type = test.types == kind
    metrics = _measure(test, of_type | (test.truth == 0), kind)
    return metrics | {
        "n": int(of_type.sum()),
        "image_auroc": metrics["image"]["auroc"],
        "recall": metrics["at_threshold"]["recall"],
        "pixel_auroc": metrics["pixel"] and metrics["pixel"]["auroc"],
    }


def _hides(counted: np.ndarray, mask: np.ndarray) -> bool:
    """Check whether there is a defect but none of its pixels counts."""
    return bool(mask.any() and not mask[counted != 0].any())


def _counts_by_type(
    types: np.ndarray,
    rows: np.ndarray,
    anomaly_maps: np.ndarray,
    masks: np.ndarray,
    counted: np.ndarray | None,
) -> dict[str, PixelCounts]:
    counts: dict[str, PixelCounts] = {}
    for row in rows:
        counted_pixels = None if counted is None else counted[row]
        kind, pixels = str(types[row]), count_pixels(anomaly_maps[row], masks[row], counted_pixels)
        counts[kind] = counts[kind] + pixels if kind in counts else pixels
    return counts


def _binned(
    counts: dict[str, PixelCounts],
    rows: np.ndarray,
    anomaly_maps: np.ndarray,
    masks: np.ndarray,
    counted: np.ndarray | None,
) -> dict[int, PixelCounts]:
    # counting twice takes less than keeping 65,536 counts of every image
    whole = total(counts.values())
    if whole is None:
        return {}
    edges = bin_edges(whole, counts["good"].normal if "good" in counts else None)
    return {
        row: count_pixels(
            anomaly_maps[row], masks[row], None if counted is None else counted[row]
        ).binned(edges)
        for row in rows.tolist()
    }
