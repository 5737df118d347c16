"""Decision thresholds, from the anomaly scores of calibration images alone.

An image is called defective if its score is above the threshold. Every promise below supposes that
good images in production are like the calibration images.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flawline.options.threshold import COSTS, Conformal, Cost

CONFIDENCE = 0.95
ALPHA = Conformal().alpha
MIN_EXCEEDANCES = 10  # fewer leave the shape of a tail to chance; our choice


@dataclass(frozen=True)
class Choice:
    """A threshold and what it promises.

    Attributes
    ----------
    promise : one sentence.
    false_alarm_bound : the false-alarm rate that the promise bounds, twice the rule's own where
        scores come from several models; None without a promise.
    certified : whether n images are enough for the requested rate; None if nothing is promised.
    details : further numbers behind it.
    """

    value: float
    promise: str
    false_alarm_bound: float | None = None
    certified: bool | None = None
    details: dict[str, float | str] = field(default_factory=dict)


def choose_threshold(
    scores: np.ndarray,
    rule: str,
    *,
    mode: str = "split",
    folds: int | None = None,
    **settings: float,
) -> dict[str, Any]:
    """Choose a threshold; return it with its promise and the numbers behind it.

    Parameters
    ----------
    scores : float (n,), anomaly scores of calibration images, finite, n > 0.
    rule : a key of `RULES`.
    mode : split, cross or leave_one_out: where the scores come from. With the last, each image was
        scored by the model that the threshold is for, without what it remembers of that image. It
        lacks less than a separate model would, so the promise holds about (the jackknife of
        Barber et al., without their plus).
    folds : with cross, how many models made the scores, each of good images that it did not train
        on; None if it was the one model that the threshold is for. Where an image is ranked by the
        models that made the scores, about twice the rule's rate bounds the false alarms
        (cross-conformal prediction and CV+: Vovk, 2015; Barber, Candes, Ramdas, Tibshirani, 2021).
        Here one more model, trained as long as they are, scores it, so this too holds only about.
    settings : the options of that rule.

    Returns
    -------
    rule, n, mode, folds, the settings and the fields of `Choice`.

    Examples
    --------
    >>> import numpy as np
    >>> from flawline import choose_threshold
    >>> chosen = choose_threshold(np.arange(1, 21), "conformal", alpha=0.05)
    >>> chosen["value"], chosen["certified"]
    (20.0, True)
    """
    if rule not in RULES:
        raise ValueError(f"threshold rule {rule!r}; expected one of {', '.join(RULES)}")
    scores = np.sort(np.asarray(scores, float))
    if not len(scores) or not np.isfinite(scores).all():
        raise ValueError("a threshold needs calibration scores, all of them finite numbers")
    choice = hedged(RULES[rule](scores, **settings), mode, folds)
    context = {"rule": rule, "n": len(scores), "mode": mode, "folds": folds}
    return context | settings | vars(choice)


def hedged(choice: Choice, mode: str, folds: int | None) -> Choice:
    """Weaken the promise of a choice whose scores come from other models than the one in use.

    Parameters
    ----------
    mode, folds : as in `choose_threshold`.
    """
    if folds and choice.false_alarm_bound is not None:
        promise = (
            "Approximately, and at most about twice as often, if the model in use came out like "
            f"the {folds} models of the scores, which each lack a part of the good images: "
            f"{choice.promise[0].lower()}{choice.promise[1:]}"
        )
        return replace(
            choice,
            promise=promise,
            false_alarm_bound=min(2 * choice.false_alarm_bound, 1.0),
            certified=choice.certified and None,
        )
    if mode == "leave_one_out" and choice.false_alarm_bound is not None:
        promise = (
            "About, as each image was compared with what the memory has of the others: "
            f"{choice.promise[0].lower()}{choice.promise[1:]}"
        )
        return replace(choice, promise=promise, certified=choice.certified and None)
    return choice


def costs_of(threshold: Mapping[str, Any]) -> tuple[dict[str, float], bool]:
    """Return costs and defect rate of a threshold's risk curve, and whether they are assumed."""
    assumed = "miss" not in threshold
    costs = Cost().model_dump() if assumed else threshold
    return {key: costs[key] for key in COSTS}, assumed


def _mean_std(scores: np.ndarray, k: float) -> Choice:
    return Choice(
        float(scores.mean() + k * _deviation(scores)),
        f"No guarantee: the mean and {k:g} standard deviations of {len(scores)} good images do not "
        f"bound the false-alarm rate. The rule conformal does, from {images_needed(ALPHA)} images "
        f"on for {percent(ALPHA)}.",
    )


def _quantile(scores: np.ndarray, q: float) -> Choice:
    value = float(np.quantile(scores, q))
    n, above = len(scores), int((scores > value).sum())
    expected = (n - q * (n - 1)) / (n + 1)  # above rank r of n lie n - r + 1 of n + 1
    return Choice(
        value,
        f"No guarantee: {above} of the {n} calibration images ({percent(above / n)}) lie "
        f"above it; of new good images, if they are like these, about {percent(expected)} will.",
    )


def _maximum(scores: np.ndarray) -> Choice:
    bound = 1 - (1 - CONFIDENCE) ** (1 / len(scores))
    return Choice(
        float(scores[-1]),
        f"With {percent(CONFIDENCE)} confidence at most {percent(bound)} of good images are called "
        f"defective, because none of {len(scores)} was.",
        bound,
        True,
    )


def _conformal(scores: np.ndarray, alpha: float) -> Choice:
    """Apply split conformal prediction.

    Vovk, Gammerman, Shafer: *Algorithmic Learning in a Random World*, 2005.
    """
    n = len(scores)
    # rounding errors of 1 - alpha must not cost a rank
    rank = math.ceil((n + 1) * (1 - alpha) - 1e-9)
    needed = images_needed(alpha)
    if rank <= n:
        promise = (
            f"On average over calibration sets, at most {percent(alpha)} of good images are called "
            "defective, however their scores are distributed."
        )
        return Choice(float(scores[rank - 1]), promise, alpha, True, {"needed_n": needed})
    bound = 1 / (n + 1)
    promise = (
        f"A false-alarm rate of {percent(alpha)} is not certifiable with n = {n}: that takes "
        f"{needed} calibration images. The largest score is used; on average it bounds the rate "
        f"by {percent(bound)}."
    )
    return Choice(float(scores[-1]), promise, bound, False, {"needed_n": needed})


def _generalized_pareto(scores: np.ndarray, false_alarm_rate: float, tail: float) -> Choice:
    """Fit peaks over threshold (Pickands, 1975) by probability-weighted moments.

    Hosking and Wallis (*Technometrics* 29, 1987) recommend them over maximum likelihood below 500
    exceedances; they need no iteration, so the fit cannot fail to converge.
    """
    n = len(scores)
    count = math.floor(n * tail)
    start = scores[n - count - 1]
    excess = scores[n - count :] - start
    if false_alarm_rate >= tail:
        value = float(np.quantile(scores, 1 - false_alarm_rate))
        promise = (
            f"No guarantee: {percent(false_alarm_rate)} lies inside the data, so it is the "
            f"plain quantile of {n} calibration scores."
        )
        return Choice(value, promise, details={"fallback": "quantile"})
    if count < MIN_EXCEEDANCES or excess[0] == excess[-1]:
        why = f"{count} scores in the tail" if count < MIN_EXCEEDANCES else "scores that are equal"
        largest = _maximum(scores)
        promise = f"No tail can be fitted to {why}; the largest score is used. {largest.promise}"
        return Choice(
            largest.value, promise, largest.false_alarm_bound, False, {"fallback": "maximum"}
        )
    shape, scale = _fit_tail(excess)
    survival = false_alarm_rate * n / count
    reach = -math.log(survival) if abs(shape) < 1e-9 else (survival**-shape - 1) / shape
    value = float(start + scale * reach)
    if false_alarm_rate * n < 1:  # rarer than one of n, so it cannot lie among them
        value = max(value, float(scores[-1]))
    promise = (
        f"Aims at a false-alarm rate of {percent(false_alarm_rate)} by extending the {count} "
        "largest calibration scores with a generalised Pareto tail; it certifies nothing. From "
        "fewer than about 200 images the real rate is larger than the aim more often than not."
    )
    details: dict[str, float | str] = {"exceedances": count, "shape": shape, "scale": scale}
    return Choice(value, promise, details=details)


def _fixed(scores: np.ndarray, value: float) -> Choice:
    n, above = len(scores), int((scores > value).sum())
    return Choice(
        value,
        f"No guarantee, as the value was given: {above} of the {n} calibration images lie above "
        "it. If it was chosen by looking at test images, their recall and false alarms are too "
        "good.",
    )


def images_needed(false_alarm_rate: float, confidence: float | None = None) -> int:
    """Return the number of calibration images that a promise of a false-alarm rate takes.

    Parameters
    ----------
    false_alarm_rate : the rate to stay under, between 0 and 1.
    confidence : for a bound that holds with this confidence (the rule ``maximum``); None for one
        that holds on average over calibration sets (the rule ``conformal``).
    """
    if confidence is None:
        return math.ceil(1 / false_alarm_rate - 1 - 1e-9)
    return math.ceil(math.log(1 - confidence) / math.log(1 - false_alarm_rate) - 1e-9)


def _fit_tail(excess: np.ndarray) -> tuple[float, float]:
    """Fit shape and scale of a generalised Pareto distribution to ascending exceedances."""
    n = len(excess)
    mean = float(excess.mean())
    weighted = float(np.mean(excess * (n - np.arange(n) - 0.65) / n))
    shape = 2 - mean / (mean - 2 * weighted)
    scale = 2 * mean * weighted / (mean - 2 * weighted)
    return shape, scale


def _cost(
    scores: np.ndarray, miss: float, false_alarm: float, defect_rate: float, separation: float
) -> Choice:
    """Apply the optimal criterion of equal-variance signal detection.

    Green and Swets, *Signal Detection Theory and Psychophysics*, 1966, chapter 1: decide for
    "defective" if the likelihood ratio exceeds the ratio of costs times the odds. Calibration has
    no defects, so their scores must be assumed: normally distributed like those of good images,
    `separation` standard deviations above them.
    """
    ratio = (1 - defect_rate) * false_alarm / (defect_rate * miss)
    reach = separation / 2 + math.log(ratio) / separation
    alarm_rate, miss_rate = _above(reach), _above(separation - reach)
    expected = defect_rate * miss * miss_rate + (1 - defect_rate) * false_alarm * alarm_rate
    promise = (
        f"Costs least if defects score {separation:g} standard deviations above good images "
        "and both are normally distributed; calibration images cannot show whether that is "
        "so. Compare it with the risk curve of the test images."
    )
    return Choice(
        float(scores.mean() + reach * _deviation(scores)),
        promise,
        details={
            "expected_cost": expected,
            "miss_rate": miss_rate,
            "false_alarm_rate": alarm_rate,
        },
    )


def _above(z: float) -> float:
    """Return the chance that a standard normal variable exceeds z."""
    return math.erfc(z / math.sqrt(2)) / 2


def _deviation(scores: np.ndarray) -> float:
    return float(scores.std(ddof=1)) if len(scores) > 1 else 0.0


def percent(share: float) -> str:
    """Format a share as a percentage with three digits."""
    return f"{100 * share:.3g} %"


RULES: dict[str, Callable[..., Choice]] = {
    "mean_std": _mean_std,
    "quantile": _quantile,
    "maximum": _maximum,
    "conformal": _conformal,
    "generalized_pareto": _generalized_pareto,
    "cost": _cost,
    "fixed": _fixed,
}
