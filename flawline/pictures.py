"""How photographs of any shape are shown: the size of a panel, and what does not count."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

LONGEST = 2  # sides of the square that is as large: no panel is longer
DARK, LINES = 0.35, (150, 150, 150)


def panel_shape(shape: Sequence[int], side: float) -> tuple[float, float]:
    """Height and width of a panel as large as a square with `side`, with the ratio of `shape`.

    Parameters
    ----------
    shape : (H, W, ...) of what is shown.
    side : in any unit; the panel of a very long image is smaller.
    """
    height, width = shape[:2]
    unit = max(math.sqrt(height * width), max(height, width) / LONGEST)
    return height * side / unit, width * side / unit


def resized(pixels: np.ndarray, shape: Sequence[float]) -> np.ndarray:
    """Uint8 pixels (H, W, ...) at another height and width, those of a panel."""
    height, width = (max(round(length), 1) for length in shape)
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method)


def any_uncounted(counted: np.ndarray | None) -> bool:
    """Whether there are pixels that do not count, those where uint8 `counted` is 0."""
    return counted is not None and not counted.all()


def hatched(image: np.ndarray, counted: np.ndarray | None) -> np.ndarray:
    """Darken and hatch what does not count, so that nobody looks for defects there.

    Parameters
    ----------
    image : uint8 (H, W, 3).
    counted : uint8 (H, W), 1 where pixels count; everywhere, if None.
    """
    if counted is None or not any_uncounted(counted):
        return image
    thin = max(1, round(math.sqrt(counted.size) / 256))
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    hatch = np.where(((x + y) % (8 * thin) < thin)[..., None], LINES, DARK * image)
    drawn = np.where(counted[..., None] > 0, image, hatch).astype(np.uint8)
    edges, _ = cv2.findContours(
        (counted == 0).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    return cv2.drawContours(drawn, edges, -1, LINES, thin)
