"""Image files to uint8 arrays of one shape: decoding, checking, resizing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

from flawline.data.samples import (
    DEEP_FORMATS,
    Levels,
    Samples,
    UnfitError,
    check_alpha,
    check_extent,
    check_values,
    header_of,
    read_deep,
)
from flawline.errors import FlawlineError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
ORIENTATION = 0x0112
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
ONE_IMAGE = "one image per file: save each, or the one that counts, as a file of its own"


class TooLargeError(FlawlineError):
    """The image has more pixels than are decoded."""


@contextmanager
def open_image(path: Path, max_megapixels: float) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Raises
    ------
    FlawlineError
        If it is no file, none of the accepted formats, or larger than `max_megapixels`.
    """
    with _opened(path) as file:
        Image.MAX_IMAGE_PIXELS = None  # our own limit, below, is stricter and its message clearer
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            known = ", ".join(FORMATS)
            raise FlawlineError(f"{path}: not an image, its content is none of {known}") from None
        except Exception as error:  # decoders raise nearly anything on damaged files
            raise FlawlineError(
                f"{path}: cannot be opened as an image ({reason(error)})"
            ) from error
        with image:
            _refuse_large(path, image.size, max_megapixels)
            yield image


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """The open file; Pillow, given a path, maps it into memory and turns some TIFFs wrongly."""
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise FlawlineError(f"{path}: not a file but a folder, a pipe, a device or a socket")
    try:
        file = path.open("rb")
    except OSError as error:
        raise FlawlineError(f"{path}: cannot be opened as an image ({reason(error)})") from error
    with file:
        yield file


def _refuse_large(path: Path, size: tuple[int, int], max_megapixels: float) -> None:
    width, height = size
    if width * height > max_megapixels * 1e6:
        raise TooLargeError(
            f"{path}: {width} x {height} pixels; at most {max_megapixels:g} megapixels are decoded "
            "(data.max_megapixels)"
        )


def refuse_frames(path: Path, frames: int) -> None:
    """Raise an UnfitError, if a file holds several images."""
    if frames > 1:
        raise UnfitError(path, "several frames", f"{frames} frames", ONE_IMAGE)


def frames_of(image: Image.Image) -> int:
    """How many images an open file holds; the further pictures of a phone's JPEG count for none."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def read_samples(path: Path, max_megapixels: float = 100) -> Samples:
    """Decode one photograph upright, with all bits that its file has.

    EXIF rotation is applied. Of up to 8 bits, grey, palette and CMYK images become RGB, and
    transparency is laid over white, if not all is transparent.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded, holds several images, or has bands that are not read.
    """
    with decoding(path):
        return read_deep_samples(path, max_megapixels) or _read_ordinary(path, max_megapixels)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Make whatever a decoder raises, which is nearly anything on damaged files, our own error."""
    try:
        yield
    except FlawlineError:
        raise
    except Exception as error:
        raise FlawlineError(f"{path}: cannot be decoded ({reason(error)})") from error


def _read_ordinary(path: Path, max_megapixels: float) -> Samples:
    with open_image(path, max_megapixels) as image:
        refuse_frames(path, frames_of(image))
        image.load()
        return Samples(np.asarray(_to_rgb(path, ImageOps.exif_transpose(image))))


def read_deep_samples(path: Path, max_megapixels: float) -> Samples | None:
    """Decode a file of more than 8 bits; None of others. Whatever the decoder raises."""
    with _opened(path) as file:
        if not (start := file.read(26)).startswith(DEEP_FORMATS):
            return None
        try:
            header = header_of(start + file.read())
        except Exception as error:
            raise FlawlineError(
                f"{path}: cannot be opened as an image ({reason(error)})"
            ) from error
        if header is None:
            return None
        _refuse_large(path, header.size, max_megapixels)
        refuse_frames(path, header.frames)
        file.seek(0)
        content = file.read()
    transparent = None
    if not header.directory:
        with open_image(path, max_megapixels) as image:
            refuse_frames(path, frames_of(image))
            image.load()  # says what is damaged
            header = replace(header, orientation=image.getexif().get(ORIENTATION, 1))
            transparent = image.info.get("transparency")
    return read_deep(path, content, header, transparent)


def decode_image(
    path: Path, max_megapixels: float = 100, levels: Levels | None = None
) -> np.ndarray:
    """Decode one photograph to what a viewer shows.

    Parameters
    ----------
    levels : what is white in files of more than 8 bits; without them, as each file says.

    Returns
    -------
    uint8 (H, W, 3), RGB.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded, or if its values fit no range that can be shown.
    """
    levels = levels or Levels()
    samples = read_samples(path, max_megapixels)
    check_values(path, samples, levels)
    return samples.shown(levels)


def decode_photograph(
    path: Path, max_megapixels: float = 100, levels: Levels | None = None
) -> np.ndarray:
    """As `decode_image`, and refuse what shows as one value or as nearly black."""
    levels = levels or Levels()
    samples = read_samples(path, max_megapixels)
    check_values(path, samples, levels)
    check_extent(path, samples.extent, levels)
    return samples.shown(levels)


def reason(error: Exception) -> str:
    """What an error says, without the path that system errors repeat."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode in TRANSPARENT or "transparency" in image.info:
        layered = image.convert("RGBA")
        alpha = np.asarray(layered.getchannel("A"))
        if not alpha.any():  # nobody wrote it
            return layered.convert("RGB")
        check_alpha(path, alpha / np.float32(255))
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


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
    half = covered > 0.499  # an exact half, rounded: a line must not be torn by it
    parts, _ = cv2.connectedComponents(half.astype(np.uint8))
    _, defects = cv2.connectedComponents((covered > 0).astype(np.uint8))
    vanished = ~np.isin(defects, defects[half])
    kept = half | (vanished & (covered > 0))
    if len(np.unique(defects[half])) < parts - 1:
        for touched in _long_ones(mask, shape, mode):
            _join(kept, covered, touched)
    return kept.astype(np.uint8)


def _long_ones(mask: np.ndarray, shape: tuple[int, int], mode: str) -> Iterator[np.ndarray]:
    """What each region of a mask touches, bool (H, W), if it can be in several parts there."""
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    scaled = _scaled(mask.shape, shape, mode)
    for number in range(1, count):
        width, height = boxes[number, 2:4]
        if max(width * scaled[1] / mask.shape[1], height * scaled[0] / mask.shape[0]) > 1:
            yield resize_share(regions == number, shape, mode) > 0


def _join(kept: np.ndarray, covered: np.ndarray, touched: np.ndarray) -> None:
    """Add to `kept`, in place, what joins the parts of one region along pixels that it touches.

    A minimum spanning tree of the pixels it touches, where kept ones cost nothing, without the
    branches that lead to none.
    """
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
    """Pairs of neighbouring nodes, and what the dearer of both costs."""
    height, width = nodes.shape
    one = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
    other = np.s_[down:, max(right, 0) : width + min(right, 0)]
    both = (nodes[one] >= 0) & (nodes[other] >= 0)
    weight = np.maximum(cost[one], cost[other])[both]
    return nodes[one][both], nodes[other][both], weight * (1.01 if down and right else 1)


def resize_share(mask: np.ndarray, shape: tuple[int, int], mode: str) -> np.ndarray:
    """How much of each pixel of the resized image a mask covers: bool (h, w) to float32 (H, W)."""
    mask = _shortened(mask, shape, mode)
    scaled = _scaled(mask.shape, shape, mode)
    resized = _resized(mask.astype(np.float32), scaled, cv2.INTER_AREA)
    return _framed(resized, shape, cv2.BORDER_CONSTANT)


def photograph_area(
    original: tuple[int, int], shape: tuple[int, int], mode: str
) -> tuple[slice, slice]:
    """Rows and columns of a resized image that show the photograph; the rest is letterbox bars.

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
    """Boxes of a resized image as boxes of the original, cut off at its borders.

    Parameters
    ----------
    boxes : (n, 4), each x0, y0, x1, y1, of which the last two lie just outside.
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
    """A strip without its far ends, where the frame is cut from its middle.

    Resized as a whole, a strip of a few pixels' width would take gigabytes. What is cut off at each
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
    # OpenCV takes no area averages where one side shrinks and the other grows: two steps
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=growing)


def _scaled(original: tuple[int, ...], shape: tuple[int, int], mode: str) -> tuple[int, int]:
    """Height and width before bars are added or the middle is cut out."""
    height, width = original[:2]
    taller = height * shape[1] >= width * shape[0]
    if mode == "stretch":
        return shape
    if taller == (mode == "letterbox"):
        return shape[0], max(round(width * shape[0] / height), 1)
    return max(round(height * shape[1] / width), 1), shape[1]


def _framed(image: np.ndarray, shape: tuple[int, int], border: int) -> np.ndarray:
    """The middle of an image, or the image in the middle of bars."""
    top, left = (max(_offset(*pair), 0) for pair in zip(image.shape[:2], shape, strict=True))
    image = image[top : top + shape[0], left : left + shape[1]]
    height, width = (outer - inner for outer, inner in zip(shape, image.shape[:2], strict=True))
    sides = (height // 2, height - height // 2, width // 2, width - width // 2)
    return cv2.copyMakeBorder(image, *sides, border) if any(sides) else image
