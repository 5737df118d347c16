"""Check whether the border of the image, not the part, decides anomaly scores."""

from typing import Any

import cv2
import numpy as np
from scipy.stats import binom

MIN_IMAGES = 8  # with fewer, a test says nothing
ALPHA = 0.01
BORDER = 1 / 16  # of the side: two cells of 8 pixels at 256 px


def border_peaks(maps: np.ndarray, counted: np.ndarray | None = None) -> dict[str, Any]:
    """Check whether the image's border, not the part, decides the scores of good parts.

    A network sees nothing beyond the border, so features there are unlike any others, and a method
    that trusts them finds its largest values there, in good and in defective images.

    Parameters
    ----------
    maps : float (n, H, W), anomaly maps of good parts.
    counted : uint8 (n, H, W), not zero where pixels count; all, if None.

    Returns
    -------
    `count` of `n` maps whose largest value lies at the border (a sixteenth of the side), the
    `share` of its area, whether the values `gather` there (more than half of them, and more than by
    chance) and a `verdict` in words.
    """
    count, shares = 0, []
    for row, one in enumerate(maps):
        counts = np.ones(one.shape, bool) if counted is None else counted[row] > 0
        rim = counts & ~_inner(counts)
        y, x = np.unravel_index(np.where(counts, one, -np.inf).argmax(), one.shape)
        count += int(rim[y, x])
        shares.append(rim.sum() / counts.sum())
    n = len(shares)
    summary: dict[str, Any] = {"count": count, "n": n, "share": None, "gather": None}
    if n < MIN_IMAGES:
        return summary | {"verdict": f"Fewer than {MIN_IMAGES} good test images: not tested."}
    share = float(np.mean(shares))
    gather = count > n / 2 and bool(binom.sf(count - 1, n, share) < ALPHA)
    verdict = (
        f"Scores of good parts peak at the border in {count} of {n} images; the border is "
        f"{100 * share:.0f} % of the area."
    )
    if gather:
        verdict += (
            " The border, not the part, decides these scores: leave some room around the part, or "
            "mark what reaches into the image there as an ignored region."
        )
    return summary | {"share": share, "gather": gather, "verdict": verdict}


def _inner(counts: np.ndarray) -> np.ndarray:
    """Return what counts, without a rim as wide as a sixteenth of the image's side."""
    width = max(round(BORDER * float(np.sqrt(counts.size))), 1)
    padded = np.pad(counts.astype(np.uint8), width)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(padded, square)[width:-width, width:-width] > 0
