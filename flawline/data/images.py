"""Image files to square uint8 arrays: decoding, checking, resizing."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flawline.errors import FlawlineError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


class TooLargeError(FlawlineError):
    """The image has more pixels than are decoded."""


def open_image(path: Path, max_megapixels: float) -> Image.Image:
    """Open an image file without decoding it.

    Raises
    ------
    FlawlineError
        If it is no file, none of the accepted formats, or larger than `max_megapixels`.
    """
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise FlawlineError(f"{path}: not a file but a folder, a pipe, a device or a socket")
    Image.MAX_IMAGE_PIXELS = None  # our own limit, below, is stricter and its message clearer
    try:
        image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise FlawlineError(f"{path}: not an image, its content is none of {known}") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise FlawlineError(f"{path}: cannot be opened as an image ({reason(error)})") from error
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        image.close()
        raise TooLargeError(
            f"{path}: {width} x {height} pixels; at most {max_megapixels:g} megapixels are decoded "
            "(data.max_megapixels)"
        )
    return image


def frame_count(path: Path, max_megapixels: float = 100) -> int:
    """How many images a file holds; raises as `open_image` does."""
    with open_image(path, max_megapixels) as image:
        try:
            return getattr(image, "n_frames", 1)
        except Exception as error:
            raise FlawlineError(f"{path}: cannot be decoded ({reason(error)})") from error


def decode_image(path: Path, max_megapixels: float = 100) -> np.ndarray:
    """Decode one photograph upright.

    EXIF rotation is applied; grey, palette and CMYK images become RGB; transparency is laid over
    white; 16-bit grey keeps its upper 8 bits.

    Returns
    -------
    uint8 (H, W, 3), RGB.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded.
    """
    with open_image(path, max_megapixels) as image:
        try:
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
        except Exception as error:
            raise FlawlineError(f"{path}: cannot be decoded ({reason(error)})") from error


def decode_mask(path: Path, max_megapixels: float = 100) -> np.ndarray:
    """Decode one ground-truth mask: bool (H, W), True where any channel but alpha is not zero."""
    with open_image(path, max_megapixels) as image:
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            # a palette may put black anywhere, not only first
            upright = upright.convert("RGB") if upright.mode in ("P", "PA") else upright
            pixels = np.asarray(upright)
        except Exception as error:
            raise FlawlineError(f"{path}: cannot be decoded ({reason(error)})") from error
    if pixels.ndim == 3:
        colours = pixels.shape[2] - (upright.mode in ("RGBA", "LA"))
        pixels = pixels[..., :colours].max(axis=2)
    return pixels > 0


def reason(error: Exception) -> str:
    """What an error says, without the path that system errors repeat."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode.startswith("I"):
            values = np.clip(values, 0, 65_535) >> 8
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")


def resize_image(image: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Resize to a square: area averages when shrinking, cubic when growing.

    Parameters
    ----------
    image : uint8 (H, W, 3).
    size : side of the result, pixels.
    mode : ``stretch``, ``letterbox`` (black bars) or ``center_crop``.

    Returns
    -------
    uint8 (size, size, 3).
    """
    image = _shortened(image, mode)
    scaled = _scaled(image.shape, size, mode)
    return _square(_resized(image, scaled, cv2.INTER_CUBIC), size)


def resize_mask(mask: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Resize a mask exactly as its image: a pixel is set where half of its area was.

    A defect so thin that nothing would be left keeps every pixel that it touches.

    Parameters
    ----------
    mask : bool (H, W).

    Returns
    -------
    uint8 (size, size), 0 or 1.
    """
    mask = _shortened(mask, mode)
    scaled = _scaled(mask.shape, size, mode)
    covered = _square(_resized(mask.astype(np.float32), scaled, cv2.INTER_AREA), size)
    half = covered > 0.499  # an exact half, rounded: a line must not be torn by it
    _, defects = cv2.connectedComponents((covered > 0).astype(np.uint8))
    vanished = ~np.isin(defects, defects[half])
    return (half | (vanished & (covered > 0))).astype(np.uint8)


def to_original(boxes: np.ndarray, size: int, shape: tuple[int, int], mode: str) -> np.ndarray:
    """Boxes of a resized image as boxes of the original, cut off at its borders.

    Parameters
    ----------
    boxes : (n, 4), each x0, y0, x1, y1, of which the last two lie just outside.
    size, mode : as for `resize_image`.
    shape : height and width of the original.

    Returns
    -------
    int64 (n, 4), the smallest whole pixels that hold each box.
    """
    height, width = shape
    scaled_height, scaled_width = _scaled(shape, size, mode)
    # the corner of the square in the scaled image: cut off where positive, padded where negative
    left, top = _offset(scaled_width, size), _offset(scaled_height, size)
    moved = np.asarray(boxes, np.float64).reshape(-1, 4) + np.tile([left, top], 2)
    moved *= [width / scaled_width, height / scaled_height] * 2
    whole = np.concatenate([np.floor(moved[:, :2] + 1e-6), np.ceil(moved[:, 2:] - 1e-6)], axis=1)
    return np.clip(whole, 0, [width, height] * 2).astype(np.int64)


def _shortened(image: np.ndarray, mode: str) -> np.ndarray:
    """A strip without its far ends, where the square is cut from its middle.

    Resized as a whole, a strip of a few pixels' width would take gigabytes. What is cut off at each
    end is a multiple of the width, so that the middle keeps its place to the pixel.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if mode != "center_crop" or max(height, width) <= 5 * short:
        return image
    end = (max(height, width) // short - 3) // 2 * short
    return image[:, end : width - end] if width > height else image[end : height - end]


def _offset(scaled: int, size: int) -> int:
    return (scaled - size) // 2 if scaled > size else -((size - scaled) // 2)


def _resized(image: np.ndarray, scaled: tuple[int, int], growing: int) -> np.ndarray:
    height, width = scaled
    # OpenCV takes no area averages where one side shrinks and the other grows: two steps
    smaller = (min(width, image.shape[1]), min(height, image.shape[0]))
    image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=growing)


def _scaled(shape: tuple[int, ...], size: int, mode: str) -> tuple[int, int]:
    height, width = shape[:2]
    if mode == "stretch":
        return size, size
    side = max(height, width) if mode == "letterbox" else min(height, width)
    return max(round(height * size / side), 1), max(round(width * size / side), 1)


def _square(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    image = image[max(top, 0) : max(top, 0) + size, max(left, 0) : max(left, 0) + size]
    if image.shape[:2] == (size, size):
        return image
    square = np.zeros((size, size, *image.shape[2:]), image.dtype)
    top, left = (size - image.shape[0]) // 2, (size - image.shape[1]) // 2
    square[top : top + image.shape[0], left : left + image.shape[1]] = image
    return square
