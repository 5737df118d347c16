"""The common parts of all recipes for synthetic anomalies.

Among them: where the object lies, how a layer is blended into an image, and which pixels changed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from flawline.options.synthetic import Range

SIZE_OF_LENGTHS = 224
"""Lengths in options are pixels of a square image with this side; they grow with the image."""


@dataclass(frozen=True)
class Sources:
    """The images that a recipe may take material from.

    Attributes
    ----------
    images : uint8 (N, H, W, 3), RGB
        Good training images; may be a memory map.
    object_masks : uint8 (N, H, W), 0 or 1
    """

    images: np.ndarray
    object_masks: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """An image with one anomaly.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB
    parameters : what was drawn at random
    """

    image: np.ndarray
    parameters: dict[str, float | int | str]


@dataclass(frozen=True)
class Canvas:
    """An image that a recipe puts one anomaly on.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB; it is left as it is.
    object_mask : uint8 (H, W), 0 or 1; an empty one counts as the whole image.
    sources : the training images.
    row : the row of `image` among them.
    rng : draws all random choices.
    """

    image: np.ndarray
    object_mask: np.ndarray
    sources: Sources
    row: int
    rng: np.random.Generator


def side_of(shape: Sequence[int]) -> float:
    """Return the side of a square with as many pixels as an image of `shape`, (H, W, ...)."""
    return math.sqrt(shape[0] * shape[1])


def scaled(length: float, shape: Sequence[int]) -> float:
    """Scale a length of the options to pixels of an image of `shape`, (H, W, ...)."""
    return length * side_of(shape) / SIZE_OF_LENGTHS


def uniform(rng: np.random.Generator, bounds: Range) -> float:
    """Draw a number from a range, all equally likely."""
    return float(rng.uniform(*bounds))


def log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    """Draw a number from a positive range, all orders of magnitude equally likely.

    Small defects are more common than large ones.
    """
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def likely_colour(rng: np.random.Generator) -> np.ndarray:
    """Draw a colour, float32 (3,), 0..255; most are near grey, as those of most materials are."""
    grey, colour = rng.uniform(0, 255), rng.uniform(0, 255, 3)
    return (grey + rng.random() ** 2 * (colour - grey)).astype(np.float32)


def object_or_whole(object_mask: np.ndarray) -> np.ndarray:
    """Return the object mask, uint8 (H, W), 0 or 1; all ones if it is empty."""
    mask = np.asarray(object_mask, np.uint8)
    return mask if mask.any() else np.ones_like(mask)


def dilated(mask: np.ndarray, radius: float) -> np.ndarray:
    """Grow a mask by `radius` pixels: uint8 (H, W), 0 or 1."""
    reach = round(radius)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return cv2.dilate(mask, disc)


def reachable(mask: np.ndarray, dilate: float | None) -> np.ndarray:
    """Return where a recipe may change an image: uint8 (H, W), 0 or 1.

    This is the object's mask grown by `dilate` pixels at `SIZE_OF_LENGTHS`; everywhere, if None.
    """
    if dilate is None:
        return np.ones_like(mask)
    return dilated(mask, scaled(dilate, mask.shape))


def random_point(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Draw x and y of a pixel where `mask` is not zero."""
    y, x = divmod(int(rng.choice(np.flatnonzero(mask))), mask.shape[1])
    return x, y


def changed_mask(before: np.ndarray, after: np.ndarray, threshold: int = 8) -> np.ndarray:
    """Mark where an image really changed, which is seldom the outline of what was drawn.

    Parameters
    ----------
    before, after : uint8 (H, W, 3)
    threshold : smaller differences, in the channel that differs most, do not count

    Returns
    -------
    uint8 (H, W), 0 or 1
        Gaps of a pixel or two are closed and specks under four pixels removed.
    """
    mask = (cv2.absdiff(before, after).max(axis=2) > threshold).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= 4
    keep[0] = False
    return keep[labels].astype(np.uint8)


def blend(image: np.ndarray, layer: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay `layer` (0..255, broadcast to the image) over a uint8 image, opaque where `alpha`,
    float (H, W), is 1."""
    under = image.astype(np.float32)
    over = under + alpha[..., None].astype(np.float32) * (layer - under)
    return np.clip(np.rint(over), 0, 255).astype(np.uint8)


def stroke(
    shape: tuple[int, int],
    points: np.ndarray,
    widths: np.ndarray,
    inked: Sequence[bool] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw a line of varying width; return how much of each pixel it covers.

    Parameters
    ----------
    shape : height and width of the canvas
    points : float (K, 2), x and y
    widths : float (K,), pixels
    inked : bool (K - 1,), whether the pen is down between two points; always, if None

    Returns
    -------
    float32 `shape`, 0..1
    """
    coverage = np.zeros(shape, np.float32)
    for i in range(len(points) - 1):
        if inked is not None and not inked[i]:
            continue
        reach = max(widths[i], widths[i + 1]) / 2 + 1
        ends = points[i : i + 2]
        x0, y0 = np.maximum(np.floor(ends.min(0) - reach), 0).astype(int)
        x1, y1 = np.maximum(np.ceil(ends.max(0) + reach) + 1, 0).astype(int)
        box = coverage[y0:y1, x0:x1]
        if not box.size:
            continue
        y, x = np.ogrid[y0 : y0 + box.shape[0], x0 : x0 + box.shape[1]]
        (ax, ay), (dx, dy) = ends[0], ends[1] - ends[0]
        along = ((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-6)
        along = np.clip(along, 0, 1)
        distance = np.hypot(x - ax - along * dx, y - ay - along * dy)
        half = (widths[i] + along * (widths[i + 1] - widths[i])) / 2
        # a line thinner than a pixel cannot fill it
        np.maximum(box, np.clip(half - distance + 0.5, 0, np.minimum(2 * half, 1)), out=box)
    return coverage


def smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: float, octaves: int = 3
) -> np.ndarray:
    """Draw clouds, float32 `shape`, about 0..1; a square has `cells` of the coarsest per side.

    They are random grids, each twice as fine and half as strong as the last, as in Perlin's noise.
    """
    total, most = np.zeros(shape, np.float32), 0.0
    for octave in range(octaves):
        lumps = cells * 2**octave
        sides = [min(math.ceil(lumps * (n / side_of(shape))) + 2, n) for n in shape]
        grid = rng.random(sides, np.float32)
        total += 0.5**octave * cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)
        most += 0.5**octave
    return total / most


def foreign_texture(
    sources: Sources, row: int, shape: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Draw a turned, zoomed and recoloured piece of another training image.

    Parameters
    ----------
    sources : the training images
    row : the row to avoid; it is used if there is no other
    shape : height and width of the piece in pixels

    Returns
    -------
    float32 (*shape, 3), 0..255
    """
    rows = len(sources.images)
    other = (row + int(rng.integers(1, max(rows, 2)))) % rows
    x, y = random_point(object_or_whole(sources.object_masks[other]), rng)
    warp = cv2.getRotationMatrix2D((x, y), rng.uniform(-180, 180), rng.uniform(0.7, 1.5))
    warp[:, 2] += np.array([shape[1] / 2 - x, shape[0] / 2 - y])
    piece = cv2.warpAffine(
        np.ascontiguousarray(sources.images[other]),
        warp,
        shape[::-1],
        borderMode=cv2.BORDER_REFLECT_101,
    )
    tint = log_uniform(rng, (0.4, 1.5)) * rng.uniform(0.85, 1.15, 3)
    return np.clip(piece * tint.astype(np.float32), 0, 255)
