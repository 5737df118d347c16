"""Decision thresholds, from the anomaly scores of calibration goods alone."""

from typing import Any

import numpy as np

CONFIDENCE = 0.95


def choose_threshold(scores: np.ndarray, rule: str, **settings: float) -> dict[str, Any]:
    """A threshold and what it rests on; an image is called defective if its score is above it.

    Parameters
    ----------
    scores : float (n,), anomaly scores of calibration goods.
    rule : ``mean_std`` (setting k), ``quantile`` (setting q) or ``maximum``.

    Returns
    -------
    rule, value, n and the settings. ``maximum`` adds `false_alarm_bound`: with 95 % confidence the
    false-alarm rate is at most 1 - 0.05^(1/n), as all n goods lie below (rule of the extreme
    order statistic). The other rules promise nothing, so theirs is None.
    """
    bound = None
    if rule == "mean_std":
        value = scores.mean() + settings["k"] * scores.std(ddof=1 if len(scores) > 1 else 0)
    elif rule == "quantile":
        value = np.quantile(scores, settings["q"])
    elif rule == "maximum":
        value = scores.max()
        bound = 1 - (1 - CONFIDENCE) ** (1 / len(scores))
    else:
        raise ValueError(f"threshold rule {rule!r}; expected mean_std, quantile or maximum")
    return {
        "rule": rule,
        "value": float(value),
        "n": len(scores),
        "false_alarm_bound": bound,
        **settings,
    }
