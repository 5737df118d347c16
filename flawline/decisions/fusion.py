"""Several detectors as one: an image is called defective if any of them is alarmed enough.

Each detector may raise its share of the false alarms (Bonferroni), so the promise holds however
alike or unlike the detectors are. Seen as p-values: the smallest of them, times their number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flawline.decisions.boxes import map_limit
from flawline.decisions.thresholds import (
    Choice,
    choose_threshold,
    hedged,
    images_needed,
    percent,
)
from flawline.detectors.maps import HALF_MAX
from flawline.files import new_array

CALM = 0.95  # fraction of good images whose maps stay below 0


def fused_threshold(
    scores: Mapping[str, np.ndarray],
    alpha: float,
    *,
    mode: str = "split",
    folds: int | None = None,
    **costs: float,
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return the threshold 0 of fused scores with its promise, and the scale of every detector.

    Parameters
    ----------
    scores : by detector, float (n,), anomaly scores of the same calibration images.
    alpha : the false-alarm rate to stay under, of all detectors together.
    mode, folds : as `thresholds.choose_threshold` takes them.
    costs : miss, false_alarm and defect_rate, if given.

    Returns
    -------
    The keys of `choose_threshold`, and for each detector `limit`, its own conformal threshold for
    its share of `alpha`, and `span`, the distance of that above its median calibration score.
    """
    count, scales, own = len(scores), {}, {}
    for name, values in scores.items():
        own[name] = choose_threshold(values, "conformal", alpha=alpha / count)
        span = own[name]["value"] - float(np.median(values))
        scales[name] = {"limit": own[name]["value"], "span": span if span > 0 else 1.0}
    n = len(next(iter(scores.values())))
    needed = images_needed(alpha / count)
    bound = min(sum(one["false_alarm_bound"] for one in own.values()), 1.0)
    certified = n >= needed
    share = f"each of the {count} detectors may call {percent(bound / count)} so"
    if certified:
        promise = (
            f"On average over calibration sets, at most {percent(alpha)} of good images are called "
            f"defective, however their scores are distributed and whatever the detectors have in "
            f"common: {share}."
        )
    else:
        promise = (
            f"A false-alarm rate of {percent(alpha)} is not certifiable with n = {n}: with "
            f"{count} detectors that takes {needed} calibration images. The largest score of each "
            f"is used; on average that bounds the rate by {percent(bound)}."
        )
    choice = hedged(Choice(0.0, promise, bound, certified, {"needed_n": needed}), mode, folds)
    about: dict[str, Any] = {"rule": "fusion", "n": n, "mode": mode, "folds": folds, "alpha": alpha}
    return about | costs | vars(choice), scales


def fused_scores(
    scores: Mapping[str, np.ndarray], scales: Mapping[str, Mapping[str, float]]
) -> np.ndarray:
    """Return the score of the most alarmed detector: float64 (N,), above 0 = defective.

    It is -1 for an image that has the median calibration score of every detector.

    Parameters
    ----------
    scores : by detector, float (N,), of the same images.
    scales : as `fused_threshold` returns them.
    """
    return np.max(
        [
            (values - scales[name]["limit"]) / scales[name]["span"]
            for name, values in scores.items()
        ],
        axis=0,
    )


def map_scale(calibration: np.ndarray) -> dict[str, float]:
    """Return the values for 0 and -1 of fused maps: a limit of calm good images, and their median.

    Parameters
    ----------
    calibration : float16 (n, H, W), anomaly maps of calibration images.
    """
    low, high = (map_limit(calibration, quantile=CALM, level=level) for level in (0, 1))
    return {"map_limit": high, "map_span": high - low if high > low else 1.0}


def write_fused_maps(
    path: Path | str, maps: Sequence[np.ndarray], scales: Sequence[Mapping[str, float]]
) -> None:
    """Write the pixelwise largest of several detectors' scaled maps: float16 (N, H, W).

    Parameters
    ----------
    maps : of each detector, float16 (N, H, W).
    scales : of each detector, as `map_scale` returns them.
    """
    with new_array(path, maps[0].shape, np.float16) as array:
        for row in range(len(array)):
            scaled = [
                (one[row].astype(np.float32) - scale["map_limit"]) / scale["map_span"]
                for one, scale in zip(maps, scales, strict=True)
            ]
            array[row] = np.clip(np.max(scaled, axis=0), -HALF_MAX, HALF_MAX)
