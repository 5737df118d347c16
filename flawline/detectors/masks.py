"""Which cells count: those on the object, outside ignored regions and letterbox bars."""

import math

import cv2
import numpy as np

from flawline.data.geometry import Shape
from flawline.detectors.data import Data
from flawline.options.method import MapUse, ObjectMaskUse

HALF = 0.499  # share of a cell from which on it counts: half of it, rounded
# `object_mask: memory` learns from more of the surroundings than it scores, because features at
# the outline see the background too. Pixels at 256 px; measured in docs/results.md.
MEMORY_MARGIN = 16
DILATION = 3


def cells_of(masks: np.ndarray, shape: Shape, share: float) -> np.ndarray:
    """Find the cells of which more than `share` lies in a mask: (N, H, W) to bool (N, *shape)."""
    cells = np.empty((len(masks), *shape), bool)
    for i, mask in enumerate(masks):
        values = np.asarray(mask, np.float32)
        smaller = tuple(min(pair) for pair in zip(shape, values.shape, strict=True))
        shares = cv2.resize(values, smaller[::-1], interpolation=cv2.INTER_AREA)
        cells[i] = cv2.resize(shares, shape[::-1], interpolation=cv2.INTER_NEAREST) > share
    return cells


def object_cells(options: ObjectMaskUse, data: Data, shape: Shape, margin: int = 0) -> np.ndarray:
    """Find which cells of a grid of `shape` count and, if object masks are used, touch the object.

    An image without an object counts as a whole: a missing part is a defect too.
    `margin` is added to the dilation, pixels at 256 px.

    Returns
    -------
    bool (N, h, w).
    """
    cells = np.ones((len(data), *shape), bool)
    if data.counted is not None:
        cells = cells_of(data.counted, shape, HALF)
    if options.object_mask == "none":
        return cells
    disc = surroundings(options.object_dilation, data.geometry.shape, margin)
    for i, mask in enumerate(data.require("object_masks")):
        touched = cells[i] & cells_of(cv2.dilate(np.asarray(mask), disc)[None], shape, 0)[0]
        cells[i] = touched if touched.any() else cells[i]
    return cells


def surroundings(dilation: int | None, shape: Shape, margin: int = 0) -> np.ndarray:
    """Return the disc by which an object mask grows: uint8, square.

    Parameters
    ----------
    dilation, margin : pixels at 256 px.
    """
    around = DILATION if dilation is None else dilation
    side = 2 * round((around + margin) * math.sqrt(math.prod(shape)) / 256) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def training_cells(options: ObjectMaskUse, data: Data, grid: Shape) -> np.ndarray | None:
    """Find which cells of what networks see are learned from: bool (N T, *grid); None for all."""
    shape = data.geometry.tiling.cells(grid) if data.geometry.tiling else grid
    if options.object_mask == "memory":
        cells = object_cells(options, data, shape, MEMORY_MARGIN)
    elif data.counted is not None:
        cells = cells_of(data.counted, shape, HALF)
    else:
        return None
    return data.cut(cells, grid).astype(bool)


def quiet(cells: np.ndarray, data: Data) -> np.ndarray:
    """Give cells that do not count the lowest score of those that do: float32 (N, h, w)."""
    if data.counted is None:
        return cells
    counts = cells_of(data.counted, cells.shape[1:], HALF)
    calmest = np.where(counts, cells, np.inf).min((1, 2), keepdims=True)
    return np.where(counts, cells, calmest).astype(np.float32)


def mask_scores(options: ObjectMaskUse, cells: np.ndarray, data: Data) -> np.ndarray:
    """Give cells that were not learned from the lowest score of those that were.

    Parameters
    ----------
    cells : float32 (N, h, w).
    """
    if options.object_mask != "memory":
        return quiet(cells, data)
    inside = object_cells(options, data, cells.shape[1:])
    calmest = np.where(inside, cells, np.inf).min((1, 2), keepdims=True)
    return np.where(inside, cells, calmest).astype(np.float32)


def image_scores(options: MapUse, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Take the mean of each image's largest values: float32 (N,).

    Parameters
    ----------
    values : float32 (N, h, w), a map or its cells.
    inside : bool (N, h, w), where the score is taken from.
    """
    scores = np.empty(len(values), np.float32)
    for i, (one, where) in enumerate(zip(values, inside, strict=True)):
        selected = one[where]
        count = max(round(options.largest * len(selected)), 1)
        if count < len(selected):
            selected = np.partition(selected, len(selected) - count)[-count:]
        scores[i] = selected.mean()
    return scores
