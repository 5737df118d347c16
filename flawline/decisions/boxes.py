"""Boxes around regions that stand out in anomaly maps: one for each connected region."""

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flawline.data.resize import to_original

if TYPE_CHECKING:
    import pandas as pd

PREPARED = ("x0", "y0", "x1", "y1")
ORIGINAL = ("original_x0", "original_y0", "original_x1", "original_y1")


def map_limit(calibration: np.ndarray, *, quantile: float, level: float) -> float:
    """Return the value above which pixels of a detector's maps are boxed.

    On the scale of the maps, 0 is the median pixel of calibration images. Level 1 is the peak
    below which the fraction `quantile` of new good images like them stays, so good parts are calm
    whatever the unit of the map. It is the calibration peak of that rank, or the largest if there
    are too few calibration images (`boxed_share`).

    Parameters
    ----------
    calibration : float16 (N, h, w), anomaly maps of calibration images.
    quantile : fraction of new good images without a pixel above level 1.
    level : the limit on that scale.
    """
    # a median of medians: all pixels of a large subset at once would not fit into memory
    low = float(np.median([np.median(one) for one in calibration]))
    peaks = np.sort([one.max() for one in calibration]).astype(float)
    return low + level * (float(peaks[_rank(len(peaks), quantile) - 1]) - low)


def map_scale(
    calibration: np.ndarray, *, quantile: float, level: float
) -> tuple[tuple[float, float], float]:
    """Return the ends of the colour scale of all of a detector's maps, and their limit of boxes.

    The scale begins at level 0, the median pixel of good images, so that good surfaces stay dark,
    and ends at level 2, twice as far above it as most of them reach.

    Parameters
    ----------
    calibration, quantile, level : as in `map_limit`.
    """
    low, high = (map_limit(calibration, quantile=quantile, level=at) for at in (0, 1))
    end = max(low + 2 * (high - low), low + 1e-6)
    return (low, end), low + level * (high - low)


def boxed_share(image_count: int, quantile: float) -> float:
    """Return the fraction of new good images with a pixel above level 1, by calibration size.

    It is the largest to be expected on average over calibration sets; equal peaks make it less.
    """
    return (image_count - _rank(image_count, quantile) + 1) / (image_count + 1)


def _rank(image_count: int, quantile: float) -> int:
    # rounding errors must not cost a rank
    return min(max(math.ceil((image_count + 1) * quantile - 1e-9), 1), image_count)


def find_boxes(anomaly_map: np.ndarray, limit: float, min_area: int = 1) -> np.ndarray:
    """Find boxes of the 8-connected regions above `limit`, the highest peak first.

    Parameters
    ----------
    anomaly_map : float (h, w).
    min_area : smaller regions have no box, pixels.

    Returns
    -------
    float64 (n, 6): x0, y0, x1, y1 (the last two are exclusive), area, peak.
    """
    anomaly_map = np.asarray(anomaly_map, np.float32)  # NumPy would round the limit to half a float
    above = (anomaly_map > limit).astype(np.uint8)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    boxes = []
    for region in range(1, count):  # 0 is the rest of the image
        x, y, width, height, area = (int(value) for value in stats[region])
        if area >= min_area:
            part = slice(y, y + height), slice(x, x + width)
            peak = float(anomaly_map[part][regions[part] == region].max())
            boxes.append((x, y, x + width, y + height, area, peak))
    boxes.sort(key=lambda box: (-box[5], box[:4]))
    return np.array(boxes, np.float64).reshape(-1, 6)


def box_table(
    maps: np.ndarray, sizes: "pd.DataFrame", *, limit: float, min_area: int, resize: str
) -> "pd.DataFrame":
    """Return all boxes of a subset.

    Parameters
    ----------
    maps : float16 (N, H, W).
    sizes : height and width of the original images, one row for each map.
    resize : how the images got their shape.

    Returns
    -------
    One row per box: the image's row, the box in prepared and in original pixels, its region's area
    in prepared pixels, and the largest map value in it.
    """
    import pandas as pd

    rows = []
    shapes = sizes[["height", "width"]].itertuples(index=False)
    for row, (one, shape) in enumerate(zip(maps, shapes, strict=True)):
        boxes = find_boxes(one, limit, min_area)
        originals = to_original(boxes[:, :4], one.shape, tuple(shape), resize)
        for box, original in zip(boxes, originals, strict=True):
            *corners, area = (int(value) for value in box[:5])
            rows.append((row, *corners, *original, area, box[5]))
    return pd.DataFrame(rows, columns=["row", *PREPARED, *ORIGINAL, "area", "peak"])
