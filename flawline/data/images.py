"""Read image files as uint8 arrays: decoding and checking."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from flawline.data.deep_formats import DEEP_FORMATS, header_of, read_deep
from flawline.data.samples import (
    Levels,
    Samples,
    UnfitError,
    check_alpha,
    check_extent,
    check_values,
)
from flawline.errors import FlawlineError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
ORIENTATION = 0x0112
TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
ONE_IMAGE = "one image per file: save each, or the one that counts, as a separate file"


class TooLargeError(FlawlineError):
    """The image has more pixels than are decoded."""


@contextmanager
def open_image(path: Path, max_megapixels: float) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Raises
    ------
    FlawlineError
        If it is not a regular file, not of an accepted format, or larger than `max_megapixels`.
    """
    with _opened(path) as file:
        Image.MAX_IMAGE_PIXELS = None  # our limit below is stricter and its message clearer
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            known = ", ".join(FORMATS)
            raise FlawlineError(f"{path}: not an image, its content is none of {known}") from None
        except Exception as error:  # decoders raise almost any exception on damaged files
            raise FlawlineError(
                f"{path}: cannot be opened as an image ({reason(error)})"
            ) from error
        with image:
            _refuse_large(path, image.size, max_megapixels)
            yield image


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the open file, because Pillow maps a path into memory and turns some TIFFs wrongly."""
    if path.exists() and not path.is_file():  # reading a pipe would block forever
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
    """Raise an UnfitError if a file holds several images."""
    if frames > 1:
        raise UnfitError(path, "several frames", f"{frames} frames", ONE_IMAGE)


def frames_of(image: Image.Image) -> int:
    """Count the images in an open file, without the previews in a phone's JPEG."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def read_samples(path: Path, max_megapixels: float = 100) -> Samples:
    """Decode one photograph upright, with all bits that its file has.

    EXIF rotation is applied. With up to 8 bits, grey, palette and CMYK images become RGB, and
    transparency is laid over white unless everything is transparent.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded, holds several images, or has unsupported bands.
    """
    with decoding(path):
        return read_deep_samples(path, max_megapixels) or _read_ordinary(path, max_megapixels)


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn any exception of a decoder into a FlawlineError."""
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
    """Decode a file of more than 8 bits; None for others. Lets the decoder's exceptions through."""
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
    """Decode one photograph as a viewer shows it.

    Parameters
    ----------
    levels : which value is white in files of more than 8 bits; None uses that of each file.

    Returns
    -------
    uint8 (H, W, 3), RGB.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded, or if its values do not fit a range that can be shown.
    """
    levels = levels or Levels()
    samples = read_samples(path, max_megapixels)
    check_values(path, samples, levels)
    return samples.shown(levels)


def decode_photograph(
    path: Path, max_megapixels: float = 100, levels: Levels | None = None
) -> np.ndarray:
    """Decode as `decode_image`, and refuse images of one value or nearly black ones."""
    levels = levels or Levels()
    samples = read_samples(path, max_megapixels)
    check_values(path, samples, levels)
    check_extent(path, samples.extent, levels)
    return samples.shown(levels)


def reason(error: Exception) -> str:
    """Return the message of an error, without the path that system errors repeat."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _to_rgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode in TRANSPARENT or "transparency" in image.info:
        layered = image.convert("RGBA")
        alpha = np.asarray(layered.getchannel("A"))
        if not alpha.any():  # an unused channel
            return layered.convert("RGB")
        check_alpha(path, alpha / np.float32(255))
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
