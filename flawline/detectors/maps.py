"""Anomaly maps from the scores of cells: calmed at the border, enlarged, smoothed."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.data import Data
from flawline.detectors.masks import HALF, cells_of

RINGS = 6  # number of distances to an edge; the last is everything farther away
RING_WIDTH = 8  # pixels of what networks see: a cell of most feature maps
BORDER_QUANTILE = 0.99  # of a ring's cells, compared with that of the inner cells
BORDER_IMAGES = 64  # training images that scales are learned from
HALF_MAX = np.finfo(np.float16).max


def border_scales(score: Callable[[Data], np.ndarray], data: Data) -> np.ndarray:
    """Learn factors for cells near the border, which may decide the scores of good images.

    A network that pads with zeros rarely sees anything like the cut edge of a pattern, so few
    training patches match there. Each ring of cells, defined by the distances to the two nearest
    edges, is scaled so that training images reach no higher in it than inside. No cell is left
    out. A memory must not contain the image itself here, or its unusual border patches, which a
    coreset keeps first, would seem calm.

    Parameters
    ----------
    score : returns the cells of what networks see, float32 (N T, h, w).
    data : the training images.

    Returns
    -------
    float32 (R, R), factors of cells by their distance to the two nearest edges.
    """
    rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), BORDER_IMAGES)).astype(int))
    sample = replace(data.take(rows), own=rows)
    cells = np.concatenate([part.stitched(score(part)) for part in sample.chunks()])
    counts: np.ndarray = np.ones(cells.shape, bool)
    if sample.counted is not None:
        counts = cells_of(sample.counted, cells.shape[1:], HALF)
    rings = ring_numbers(cells.shape[1:], sample.geometry)
    scales: np.ndarray = np.ones(RINGS**2, np.float32)
    inside = counts & (rings == RINGS**2 - 1)
    if inside.any():
        usual = float(np.quantile(cells[inside], BORDER_QUANTILE))
        for ring in range(RINGS**2 - 1):
            some = cells[counts & (rings == ring)]
            if len(some):
                loud = max(float(np.quantile(some, BORDER_QUANTILE)), 1e-12)
                scales[ring] = min(1.0, usual / loud)
    return scales.reshape(RINGS, RINGS)


def ring_numbers(grid: Shape, geometry: Geometry) -> np.ndarray:
    """Number cells by their distance to the two nearest edges: int (h, w), R * R - 1 inside."""
    seen = geometry.tiling.canvas if geometry.tiling else geometry.shape
    down, across = (
        np.minimum(np.arange(cells), np.arange(cells)[::-1]) * (pixels / cells) // RING_WIDTH
        for cells, pixels in zip(grid, seen, strict=True)
    )
    near = np.minimum(down[:, None], across[None]).clip(max=RINGS - 1).astype(int)
    far = np.maximum(down[:, None], across[None]).clip(max=RINGS - 1).astype(int)
    return near * RINGS + far


def resize_cells(cells: np.ndarray, grid: Shape) -> np.ndarray:
    """Resize cell scores float32 (N, h, w) to another grid, bilinearly."""
    if cells.shape[1:] == grid:
        return cells
    resized = [cv2.resize(cell, grid[::-1], interpolation=cv2.INTER_LINEAR) for cell in cells]
    return np.stack(resized)


def smooth_maps(cells: np.ndarray, geometry: Geometry, sigma: float) -> np.ndarray:
    """Turn cell scores into anomaly maps: bilinear to the image's shape, and a Gaussian.

    Parameters
    ----------
    cells : float32 (N, h, w), of whole images.
    sigma : standard deviation of the Gaussian, pixels of what networks see; 0 for none.

    Returns
    -------
    float32 (N, H, W), of the prepared images' shape.
    """
    shape = geometry.shape
    seen = geometry.tiling.canvas if geometry.tiling else shape
    finer = cells.shape[1] > shape[0]  # such cells are smoothed before they are averaged
    sigma *= (cells.shape[1] if finer else shape[0]) / seen[0]
    maps = np.empty((len(cells), *shape), np.float32)
    for i, cell in enumerate(cells):
        if finer:
            cell = _blurred(cell, sigma)
            maps[i] = cv2.resize(cell, shape[::-1], interpolation=cv2.INTER_AREA)
        else:
            cell = cv2.resize(cell, shape[::-1], interpolation=cv2.INTER_LINEAR)
            maps[i] = _blurred(cell, sigma)
    return maps


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    if not sigma:
        return values
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
