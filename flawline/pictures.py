"""Pictures of photographs of any shape: panels, boxes, outlines, coloured and hatched areas."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

LONGEST = 2  # times the side of a square of the same area: no panel is longer
OUTLINE, BOX, RIM = (255, 221, 0), (86, 180, 233), (0, 0, 0)
DARK, LINES = 0.35, (150, 150, 150)


def panel_shape(shape: Sequence[int], side: float) -> tuple[float, float]:
    """Return the height and width of a panel with the area of a square and the ratio of `shape`.

    Parameters
    ----------
    shape : (H, W, ...) of what is shown.
    side : of the square, in any unit; the panel of a very long image is smaller.
    """
    height, width = shape[:2]
    unit = max(math.sqrt(height * width), max(height, width) / LONGEST)
    return height * side / unit, width * side / unit


def resized(pixels: np.ndarray, shape: Sequence[float]) -> np.ndarray:
    """Resize uint8 pixels (H, W, ...) to the height and width of a panel."""
    height, width = (max(round(length), 1) for length in shape)
    shrinks = height * width < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method)


def any_uncounted(counted: np.ndarray | None) -> bool:
    """Check whether some pixels do not count, those where uint8 `counted` is 0."""
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


def _as_tall(picture: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Stretch a picture to the ratio of the image."""
    return resized(picture, panel_shape(image.shape, math.sqrt(math.prod(picture.shape[:2]))))


def coloured(values: np.ndarray, scale: tuple[float, float], shape: Sequence[int]) -> np.ndarray:
    """Colour a map, dark for `scale[0]` and bright for `scale[1]`.

    Parameters
    ----------
    values : float (h, w).
    shape : height and width of the picture.

    Returns
    -------
    uint8 (H, W, 3).
    """
    low, high = scale
    values = cv2.resize(np.asarray(values, np.float32), (shape[1], shape[0]))
    levels = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def side_by_side(pictures: Sequence[np.ndarray], largest: int, gap: int = 0) -> np.ndarray:
    """Join pictures of one shape, uint8 (H, W, 3), to a strip with black gaps.

    Parameters
    ----------
    largest : pixels; each picture shrinks to the size of a square with this side.
    """
    shape = pictures[0].shape
    small = [resized(one, min(panel_shape(shape, largest), shape[:2])) for one in pictures]
    between = np.zeros((len(small[0]), gap, 3), np.uint8)
    return np.hstack([part for one in small for part in (between, one)][1:])


def boxed(image: np.ndarray, boxes: np.ndarray | None) -> np.ndarray:
    drawn = np.ascontiguousarray(image).copy()
    thin = _thin(image)
    for colour, width in ((RIM, 2 * thin), (BOX, thin)):  # a dark rim, as outlines have
        for x0, y0, x1, y1 in [] if boxes is None else boxes.astype(int).tolist():
            cv2.rectangle(drawn, (x0, y0), (x1 - 1, y1 - 1), colour, width)
    return drawn


def outlined(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    drawn = np.ascontiguousarray(image).copy()
    if mask is None:
        return labelled((drawn * 0.35).astype(np.uint8), "no mask")
    binary = (np.asarray(mask) > 0).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = _thin(image)
    # The dark rim keeps the outline visible on surfaces of the same colour.
    cv2.drawContours(drawn, contours, -1, RIM, 3 * thin)
    cv2.drawContours(drawn, contours, -1, OUTLINE, thin)
    return drawn


def _thin(image: np.ndarray) -> int:
    """Return the width of a visible line, pixels."""
    return max(1, round(math.sqrt(image.shape[0] * image.shape[1]) / 128))


def labelled(image: np.ndarray, words: str) -> np.ndarray:
    height, width = image.shape[:2]
    size = min(math.sqrt(height * width), 2 * width) / 256
    thick = max(1, round(size))
    (across, down), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * size, thick)
    corner = (width - across) // 2, (height + down) // 2
    cv2.putText(
        image, words, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.7 * size, OUTLINE, thick, cv2.LINE_AA
    )
    return image
