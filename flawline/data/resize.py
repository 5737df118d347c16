"""Resize photographs and masks to the prepared shape, and back."""

from collections.abc import Iterator

import cv2
import numpy as np


def resize_image(image: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    """Resize to `shape`: area averages when shrinking, cubic when growing.

    Parameters
    ----------
    image : uint8 (h, w, 3).
    shape : height and width of the result, pixels.
    mode : ``stretch``, ``letterbox`` (bars that repeat the photograph's outermost pixels, so that
        no network sees an edge there; `photograph_area` says where they are) or ``center_crop``.

    Returns
    -------
    uint8 (H, W, 3).
    """
    image = _shortened(image, shape, mode)
    resized = _resized(image, _scaled(image.shape, shape, mode), cv2.INTER_CUBIC)
    return _framed(resized, shape, cv2.BORDER_REPLICATE)


def resize_mask(mask: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    """Resize a mask exactly as its image: a pixel is set where half of its area was.

    A defect so thin that nothing would be left keeps every pixel that it touches. One that would
    fall apart keeps those that join its parts, the most covered ones first.

    Parameters
    ----------
    mask : bool (h, w).

    Returns
    -------
    uint8 (H, W), 0 or 1.
    """
    mask = _shortened(mask, shape, mode)
    covered = resize_share(mask, shape, mode)
    half = covered > 0.499  # an exact half may be rounded down, which must not tear a line
    parts, _ = cv2.connectedComponents(half.astype(np.uint8))
    _, defects = cv2.connectedComponents((covered > 0).astype(np.uint8))
    vanished = ~np.isin(defects, defects[half])
    kept = half | (vanished & (covered > 0))
    if len(np.unique(defects[half])) < parts - 1:
        for touched in _long_ones(mask, shape, mode):
            _join(kept, covered, touched)
    return kept.astype(np.uint8)


def _long_ones(mask: np.ndarray, shape: tuple[int, int], mode: str) -> Iterator[np.ndarray]:
    """Yield the pixels that each region touches, bool (H, W), if it can fall apart there."""
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    scaled = _scaled(mask.shape, shape, mode)
    for number in range(1, count):
        width, height = boxes[number, 2:4]
        if max(width * scaled[1] / mask.shape[1], height * scaled[0] / mask.shape[0]) > 1:
            yield resize_share(regions == number, shape, mode) > 0


def _join(kept: np.ndarray, covered: np.ndarray, touched: np.ndarray) -> None:
    """Add to `kept`, in place, the pixels that join the parts of one region.

    They are a minimum spanning tree of the pixels that it touches, where kept ones cost nothing,
    without branches that lead to no kept pixel.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    y, x = np.nonzero(touched)
    if not len(y):  # center_crop leaves nothing of it
        return
    top, left = int(y.min()), int(x.min())
    window = np.s_[top : int(y.max()) + 1, left : int(x.max()) + 1]
    inside, share, here = kept[window], covered[window], touched[window]
    parts, _ = cv2.connectedComponents((inside & here).astype(np.uint8))
    if parts <= 2:
        return
    nodes = np.full(here.shape, -1)
    nodes[here] = np.arange(here.sum())
    cost = np.where(inside, 1e-6, 2 - share)
    edges = [_edges(nodes, cost, *step) for step in ((0, 1), (1, 0), (1, 1), (1, -1))]
    start, end, weight = (np.concatenate(some) for some in zip(*edges, strict=True))
    total = int(here.sum())
    tree = minimum_spanning_tree(coo_matrix((weight, (start, end)), (total, total))).tocoo()
    fixed = inside[here]
    one, other = tree.row, tree.col
    while True:
        degree = np.bincount(np.concatenate([one, other]), minlength=total)
        loose = (degree == 1) & ~fixed
        if not loose.any():
            break
        stays = ~(loose[one] | loose[other])
        one, other = one[stays], other[stays]
    joined = fixed | (degree > 0)
    inside[here] = joined


def _edges(
    nodes: np.ndarray, cost: np.ndarray, down: int, right: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pairs of neighbouring nodes, and the higher cost of each pair."""
    height, width = nodes.shape
    one = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
    other = np.s_[down:, max(right, 0) : width + min(right, 0)]
    both = (nodes[one] >= 0) & (nodes[other] >= 0)
    weight = np.maximum(cost[one], cost[other])[both]
    return nodes[one][both], nodes[other][both], weight * (1.01 if down and right else 1)


def resize_share(mask: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    """Return a mask's share of each resized pixel: bool (h, w) to float32 (H, W)."""
    mask = _shortened(mask, shape, mode)
    scaled = _scaled(mask.shape, shape, mode)
    resized = _resized(mask.astype(np.float32), scaled, cv2.INTER_AREA)
    return _framed(resized, shape, cv2.BORDER_CONSTANT)


def photograph_area(
    original: tuple[int, int], shape: tuple[int, int], mode: str
) -> tuple[slice, slice]:
    """Return the rows and columns of a resized image outside its letterbox bars.

    Parameters
    ----------
    original : height and width of the photograph.
    shape, mode : as for `resize_image`.
    """
    scaled = _scaled(original, shape, mode)
    corner = (max(-_offset(inner, outer), 0) for inner, outer in zip(scaled, shape, strict=True))
    top, left = corner
    height, width = np.minimum(scaled, shape).tolist()
    return slice(top, top + height), slice(left, left + width)


def to_original(
    boxes: np.ndarray, shape: tuple[int, int], original: tuple[int, int], mode: str
) -> np.ndarray:
    """Map boxes of a resized image to the original, clipped at its borders.

    Parameters
    ----------
    boxes : (n, 4), each x0, y0, x1, y1; x1 and y1 are exclusive.
    shape, mode : as for `resize_image`.
    original : height and width of the photograph.

    Returns
    -------
    int64 (n, 4), the smallest whole pixels that hold each box.
    """
    height, width = original
    scaled_height, scaled_width = _scaled(original, shape, mode)
    # the frame's corner in the scaled image: cut off where positive, padded where negative
    left, top = _offset(scaled_width, shape[1]), _offset(scaled_height, shape[0])
    moved = np.asarray(boxes, np.float64).reshape(-1, 4) + np.tile([left, top], 2)
    moved *= [width / scaled_width, height / scaled_height] * 2
    whole = np.concatenate([np.floor(moved[:, :2] + 1e-6), np.ceil(moved[:, 2:] - 1e-6)], axis=1)
    return np.clip(whole, 0, [width, height] * 2).astype(np.int64)


def _shortened(image: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    """Cut off the far ends of a strip, if the frame is cut from its middle.

    Resizing a whole strip of a few pixels' width would take gigabytes. The length cut off at each
    end is a multiple of the width, so that the middle keeps its place to the pixel.
    """
    if mode != "center_crop":
        return image
    height, width = image.shape[:2]
    if height * shape[1] > width * shape[0]:
        turned = _shortened(image.swapaxes(0, 1), shape[::-1], mode)
        return np.ascontiguousarray(turned.swapaxes(0, 1))
    kept = max(height, -(-height * shape[1] // shape[0]))
    if width <= 5 * kept:
        return image
    end = (width - 3 * kept) // (2 * height) * height
    return image[:, end : width - end]


def _offset(scaled: int, size: int) -> int:
    return (scaled - size) // 2 if scaled > size else -((size - scaled) // 2)


def _resized(image: np.ndarray, scaled: tuple[int, int], growing: int) -> np.ndarray:
    height, width = scaled
    # OpenCV does not average areas if one side shrinks and the other grows, hence two steps
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=growing)


def _scaled(original: tuple[int, ...], shape: tuple[int, int], mode: str) -> tuple[int, int]:
    """Return the height and width before bars are added or the middle is cut out."""
    height, width = original[:2]
    taller = height * shape[1] >= width * shape[0]
    if mode == "stretch":
        return shape
    if taller == (mode == "letterbox"):
        return shape[0], max(round(width * shape[0] / height), 1)
    return max(round(height * shape[1] / width), 1), shape[1]


def _framed(image: np.ndarray, shape: tuple[int, int], border: int) -> np.ndarray:
    """Return the middle of an image, or the image between bars."""
    top, left = (max(_offset(*pair), 0) for pair in zip(image.shape[:2], shape, strict=True))
    image = image[top : top + shape[0], left : left + shape[1]]
    height, width = (outer - inner for outer, inner in zip(shape, image.shape[:2], strict=True))
    sides = (height // 2, height - height // 2, width // 2, width - width // 2)
    return cv2.copyMakeBorder(image, *sides, border) if any(sides) else image
