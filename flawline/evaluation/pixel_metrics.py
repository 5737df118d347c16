"""Figures of merit of anomaly maps against ground-truth masks, pixel by pixel.

Maps are stored as float16, which has 65,536 values: counting the pixels of each value gives the
exact curves without sorting, in memory that does not depend on the number of images.
"""

from dataclasses import dataclass

import numpy as np

VALUES = 1 << 16


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each anomaly value, in ascending order of value.

    Attributes
    ----------
    normal, defective : int64 (65536,).
    """

    normal: np.ndarray
    defective: np.ndarray

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(self.normal + other.normal, self.defective + other.defective)


def count_pixels(anomaly_map: np.ndarray, mask: np.ndarray) -> PixelCounts:
    """Count the pixels of one or more maps by value.

    Parameters
    ----------
    anomaly_map : float16, any shape, no NaN.
    mask : the same shape, not zero = defective.
    """
    order = _rank(anomaly_map).ravel()
    marked = mask.ravel() != 0
    defective = np.bincount(order[marked], minlength=VALUES)
    return PixelCounts(np.bincount(order, minlength=VALUES) - defective, defective)


def pixel_auroc(counts: PixelCounts) -> float | None:
    """Chance that a defective pixel has a higher value than a normal one, ties counting half."""
    normal, defective = counts.normal, counts.defective
    pairs = float(normal.sum()) * float(defective.sum())
    if not pairs:
        return None
    below = np.cumsum(normal) - normal
    return float(np.dot(defective.astype(float), below + normal / 2) / pairs)


def _rank(values: np.ndarray) -> np.ndarray:
    """Map float16 to uint16 so that the order is kept and -0 equals 0."""
    bits = (np.asarray(values, np.float16) + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, 0xFFFF - bits, bits | 0x8000).astype(np.uint16)
