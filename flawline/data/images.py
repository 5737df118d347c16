"""Image files to uint8 arrays of one shape: decoding, checking, resizing."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flawline.data.source import files_below
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


def verify(path: Path, max_megapixels: float = 100) -> None:
    """Compare a PNG file with the checksums in it, which decoders do not look at; pass others."""
    with open_image(path, max_megapixels) as image:
        if image.format != "PNG":
            return
        try:
            image.verify()
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
    """Decode one ground-truth mask: bool (H, W), True where any channel but alpha is not zero.

    A folder of masks is one mask: what any of them marks.
    """
    if path.is_dir():
        parts = [decode_mask(part, max_megapixels) for part in files_below(path)]
        if len({part.shape for part in parts}) != 1:
            sizes = ", ".join(sorted({f"{part.shape[1]} x {part.shape[0]}" for part in parts}))
            raise FlawlineError(f"{path}: masks of one photograph, of {sizes or 'none'}")
        return np.logical_or.reduce(parts)
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


def is_black(path: Path, max_megapixels: float = 100) -> bool:
    """Whether a label picture marks nothing; False where it cannot be read."""
    try:
        return not decode_mask(path, max_megapixels).any()
    except FlawlineError:
        return False


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

    A defect so thin that nothing would be left keeps every pixel that it touches.

    Parameters
    ----------
    mask : bool (h, w).

    Returns
    -------
    uint8 (H, W), 0 or 1.
    """
    covered = resize_share(mask, shape, mode)
    half = covered > 0.499  # an exact half, rounded: a line must not be torn by it
    _, defects = cv2.connectedComponents((covered > 0).astype(np.uint8))
    vanished = ~np.isin(defects, defects[half])
    return (half | (vanished & (covered > 0))).astype(np.uint8)


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
