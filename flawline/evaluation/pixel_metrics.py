"""Metrics of anomaly maps against ground-truth masks, pixel by pixel.

Maps are stored as float16, which has 65,536 values: counting the pixels of each value gives the
exact curves without sorting, in memory that does not depend on the number of images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flawline.evaluation.curves import (
    auroc,
    average_precision,
    best_f1,
    log_area,
    overlap_area,
)

VALUES = 1 << 16
PRO_LIMITS = {"aupro_30": 0.30, "aupro_05": 0.05}
PIMO_RANGE = (1e-5, 1e-4)
MIN_PIMO_PIXELS = 10
"""Least number of good pixels at the upper end of AUPIMO's range; with fewer, it is noise."""


@dataclass(frozen=True)
class PixelCounts:
    """Pixels of each anomaly value, in ascending order of value.

    Attributes
    ----------
    normal, defective : (V,); V is 65,536, or fewer after `binned`.
    overlap : float64 (V,), each connected region's pixels over its area, summed over regions.
    recall : float64 (V,), each mask's pixels over its area, summed over images.
    regions, masks : numbers of regions and masks in these sums.
    """

    normal: np.ndarray
    defective: np.ndarray
    overlap: np.ndarray
    recall: np.ndarray
    regions: int
    masks: int

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return PixelCounts(*(mine + its for mine, its in pairs))

    def binned(self, edges: np.ndarray) -> "PixelCounts":
        """Return counts with neighbouring values merged; `edges` are the first of each bin."""

        def join(counts: np.ndarray) -> np.ndarray:
            return np.add.reduceat(counts, edges)

        return PixelCounts(
            join(self.normal),
            join(self.defective),
            join(self.overlap),
            join(self.recall),
            self.regions,
            self.masks,
        )


def count_pixels(
    anomaly_map: np.ndarray, mask: np.ndarray, counted: np.ndarray | None = None
) -> PixelCounts:
    """Count the pixels of one map by value.

    Parameters
    ----------
    anomaly_map : float16 (H, W), no NaN.
    mask : (H, W), not zero = defective. Regions are 8-connected.
    counted : (H, W), zero = neither normal nor defective; all pixels count, if None. A region
        keeps its counted pixels, even if they are in several pieces.
    """
    import cv2

    order, marked = _rank(anomaly_map), np.asarray(mask) != 0
    counts = np.ones(marked.shape, bool) if counted is None else np.asarray(counted) != 0
    normal = np.bincount(order[counts], minlength=VALUES)
    left = marked & counts
    if not left.any():
        nothing = np.zeros(VALUES)
        return PixelCounts(normal, np.zeros_like(normal), nothing, nothing, 0, 0)
    _, labels = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8)
    inside, region = order[left], labels[left]
    areas = np.bincount(region)
    defective = np.bincount(inside, minlength=VALUES)
    overlap = np.bincount(inside, 1 / areas[region], minlength=VALUES)
    recall = defective / len(inside)
    regions = int(np.count_nonzero(areas))
    return PixelCounts(normal - defective, defective, overlap, recall, regions, 1)


def total(counts: Iterable[PixelCounts]) -> PixelCounts | None:
    """Sum the counts; None for an empty iterable."""
    result: PixelCounts | None = None
    for each in counts:
        result = each if result is None else result + each
    return result


def pixel_metrics(counts: PixelCounts, good: np.ndarray | None) -> dict[str, float | None]:
    """Compute all metrics of a set of images; None for those that the images do not allow.

    Parameters
    ----------
    counts : of good and of defective images together.
    good : (V,), pixels of the good images alone, for AUPIMO's false-positive rate.

    References
    ----------
    AUPRO: Bergmann et al., *The MVTec Anomaly Detection Dataset*, IJCV 2021. AUPIMO: Bertoldo et
    al., *AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low Tolerance*,
    2024.
    """
    metrics: dict[str, np.ndarray] = {
        "auroc": auroc(counts.normal, counts.defective),
        "average_precision": average_precision(counts.normal, counts.defective),
        "f1_oracle": best_f1(counts.normal, counts.defective)[0],
        "aupimo": np.array(np.nan),
    }
    for name, limit in PRO_LIMITS.items():
        metrics[name] = overlap_area(counts.normal, counts.overlap, counts.regions, limit)
    if good is not None and enough_for_pimo(good):
        metrics["aupimo"] = log_area(good, counts.recall, counts.masks, *PIMO_RANGE)
    return {name: None if np.isnan(value) else float(value) for name, value in metrics.items()}


def enough_for_pimo(good: np.ndarray) -> bool:
    """Check whether the good images have enough pixels for AUPIMO's low false-positive rates."""
    return bool(good.sum() * PIMO_RANGE[1] >= MIN_PIMO_PIXELS)


def value_of(rank: int) -> float:
    """Return the anomaly value at a position of the counts."""
    bits = rank - 0x8000 if rank >= 0x8000 else 0xFFFF - rank
    return float(np.array(bits, np.uint16).view(np.float16))


def bin_edges(counts: PixelCounts, good: np.ndarray | None) -> np.ndarray:
    """Return edges of about 1,000 bins, dense where the curves bend, for `PixelCounts.binned`.

    A quarter follows the defective pixels, a quarter the false-positive rate, and a half its
    logarithm, down to the rates that AUPIMO needs.
    """
    levels = [np.linspace(0, 1, 257), np.linspace(0, 1, 257), np.geomspace(1e-7, 1, 256)]
    sources = [counts.defective, counts.normal, counts.normal]
    if good is not None:
        levels.append(np.geomspace(PIMO_RANGE[0] / 10, PIMO_RANGE[1] * 10, 256))
        sources.append(good)
    edges = [np.zeros(1, int)]
    for source, level in zip(sources, levels, strict=True):
        below = np.cumsum(source) - source
        # the first value whose pixels from there up are no more than the level
        edges.append(np.searchsorted(below, source.sum() * (1 - level), side="left"))
    return np.unique(np.minimum(np.concatenate(edges), len(counts.normal) - 1))


def _rank(values: np.ndarray) -> np.ndarray:
    """Map float16 to uint16 so that the order is kept and -0 equals 0."""
    bits = (np.asarray(values, np.float16) + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, 0xFFFF - bits, bits | 0x8000).astype(np.uint16)
