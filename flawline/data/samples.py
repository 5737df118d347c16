"""Samples of more than 8 bits: integers and floats as files store them, to what a viewer shows."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from flawline.errors import FlawlineError

BITS = (8, 10, 12, 14, 16, 20, 24, 28)  # of what is stored in integers of 16 or 32
BLANK = 3  # of 255: the noise of a sensor spreads a plain surface over more
DARK = 16  # white is so many times the largest value of a file: it was exposed for no such white
ROUNDED = 1e-3  # of white, that floats may go beyond their range
BELOW_BLACK = 0.05  # of white, that values may lie below 0 where the user says what is white
PNG = b"\x89PNG\r\n\x1a\n"
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEEP_FORMATS = (PNG, *TIFFS)
WHITE = "set data.white to the value that shows as white"
CHANNELS = {2: "grey with alpha", 5: "five bands or more"}

TURNS: dict[int, Any] = {  # EXIF orientations
    2: lambda values: values[:, ::-1],
    3: lambda values: values[::-1, ::-1],
    4: lambda values: values[::-1],
    5: lambda values: values.swapaxes(0, 1),
    6: lambda values: values[::-1].swapaxes(0, 1),
    7: lambda values: values[::-1, ::-1].swapaxes(0, 1),
    8: lambda values: values.swapaxes(0, 1)[::-1],
}


class UnfitError(FlawlineError):
    """A file that can be read, but is no photograph or mask to go on with."""

    def __init__(self, path: Path, kind: str, found: str, expected: str) -> None:
        super().__init__(f"{path}: {kind}: {found}; expected {expected}")
        self.kind, self.found, self.expected = kind, found, expected


@dataclass(frozen=True)
class Levels:
    """The values that show as white in a category's files of more than 8 bits.

    Attributes
    ----------
    white : what the user says; without it, what a file notes or the largest value of its type.
    float_white : 1 or 255, what the category's float files reach; without it, as each file says.
    """

    white: float | None = None
    float_white: float | None = None


@dataclass(frozen=True)
class Extent:
    """What the values of one file span.

    Attributes
    ----------
    kind : name of their type: uint8, uint16, float32 and so on.
    low, high : the least and the largest of them.
    spread : the largest difference within a channel.
    noted : the value that shows as white, if the file says so.
    """

    kind: str
    low: float
    high: float
    spread: float
    noted: float | None = None

    @property
    def is_float(self) -> bool:
        """Whether they are floats."""
        return self.kind.startswith("float")

    @property
    def bits(self) -> int:
        """How many bits hold them all, of what cameras deliver."""
        return next((bits for bits in BITS if self.high < 2**bits), 32)

    @property
    def fills(self) -> bool:
        """Whether integers reach so far that the largest of their type can be white."""
        return self.is_float or self.bits >= np.iinfo(self.kind).max.bit_length()

    def white(self, levels: Levels) -> float:
        """The value that shows as white."""
        if self.kind == "uint8":
            return 255
        given = levels.white or self.noted
        if given is not None:
            return given
        if not self.is_float:
            return float(np.iinfo(self.kind).max)
        return levels.float_white or (1 if self.high <= 1 + ROUNDED else 255)


@dataclass(frozen=True)
class Samples:
    """A photograph as its file stores it, upright.

    Attributes
    ----------
    pixels : (H, W) or RGB (H, W, 3); uint8 is RGB as it shows.
    alpha : float32 (H, W), 0 to 1, of values of more than 8 bits; None where all is opaque.
    noted : the value that shows as white, if the file says so.
    inverted : whether 0 is white.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    noted: float | None = None
    inverted: bool = False

    @property
    def extent(self) -> Extent:
        """What the values span; NaN counts for none."""
        values = self.pixels
        rows = values.reshape(len(values), -1)  # reduced first, as rows are what is fast
        channels = (-1, 3) if values.ndim == 3 else (-1, 1)
        low = np.fmin.reduce(rows, axis=0).reshape(channels).min(axis=0).astype(float)
        high = np.fmax.reduce(rows, axis=0).reshape(channels).max(axis=0).astype(float)
        spread = float((high - low).max())
        return Extent(values.dtype.name, float(low.min()), float(high.max()), spread, self.noted)

    def shown(self, levels: Levels) -> np.ndarray:
        """What a viewer shows: uint8 (H, W, 3), RGB; transparency is laid over white."""
        if self.pixels.dtype == np.uint8:
            return self.pixels
        white = self.extent.white(levels)
        values = self.pixels
        if values.dtype == np.uint16:
            every = np.arange(2**16)
            grey = _grey(white - every if self.inverted else every, white)[values]
        else:
            grey = _grey(white - values.astype(float) if self.inverted else values, white)
        if self.alpha is not None:
            alpha = self.alpha if grey.ndim == 2 else self.alpha[..., None]
            grey = np.rint(255 + (grey - 255.0) * alpha).astype(np.uint8)
        return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def _grey(values: np.ndarray, white: float) -> np.ndarray:
    """Values as uint8: integers in equal parts, as one drops bits; floats rounded."""
    if values.dtype.kind == "f" and white in (1, 255):
        return np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8)
    return np.clip(np.floor(values * (256 / (white + 1))), 0, 255).astype(np.uint8)


def check_values(path: Path, samples: Samples, levels: Levels) -> None:
    """Raise an UnfitError, if values are not finite, negative, or mostly above the given white."""
    values, extent = samples.pixels, samples.extent
    if extent.kind == "uint8":
        return
    if extent.is_float and (odd := int((~np.isfinite(values)).sum())):
        found = f"{odd} of {values.size} values are NaN or infinite"
        raise UnfitError(path, "not finite", found, "a number in every pixel")
    allowed = 0.0 if levels.white is None else BELOW_BLACK * levels.white
    if extent.low < -allowed and not (extent.is_float and levels.white is None):
        found = f"values from {extent.low:g} to {extent.high:g}"
        expected = "0 or more: add an offset where the photographs are saved"
        raise UnfitError(path, "negative values", found, expected)
    if levels.white is not None and (share := (values > levels.white).mean()) > 0.5:
        found = f"{share:.0%} of its values, which reach {extent.high:g}, are above it"
        expected = f"data.white (now {levels.white:g}) as large as what shows as white"
        raise UnfitError(path, "brighter than white", found, expected)


def check_extent(path: Path, extent: Extent, levels: Levels) -> None:
    """Raise an UnfitError, if values fit no range, or show as one value or as nearly black."""
    white = extent.white(levels)
    low, high = extent.low, extent.high
    by_itself = levels.white is None and extent.kind != "uint8"
    margin = ROUNDED * white
    if by_itself and extent.is_float and (low < -margin or high > white + margin):
        expected = f"0 to 1 or 0 to 255, or {WHITE}"
        if levels.float_white is not None:
            expected = f"0 to {white:g}, as the category's other float files; else {WHITE}"
        raise UnfitError(path, "values out of range", f"floats from {low:g} to {high:g}", expected)
    if extent.spread * 255 <= BLANK * white:
        found = f"every pixel is {low:g}"
        if low < high:
            found = f"every pixel lies from {low:g} to {high:g}, white being {white:g}"
        expected = "a photograph: look at its exposure and its export"
        raise UnfitError(path, "blank", found, expected)
    if by_itself and extent.noted is None and high * DARK < white:
        found = f"its largest value is {high:g}, white being {white:g}"
        raise UnfitError(path, "nearly black", found, f"a brighter photograph, or {WHITE}")


@dataclass(frozen=True)
class Header:
    """What a PNG or TIFF file says of samples that Pillow would cut to 8 bits or not read.

    Attributes
    ----------
    size : width and height as stored, pixels.
    frames : how many images the file holds.
    white_bits : significant bits, if it says so.
    extra : what a TIFF says of its fourth band: 0 nothing, 1 and 2 alpha.
    directory : where the tags of a TIFF begin; 0 for a PNG.
    scaled : whether samples of fewer significant bits should fill their type all the same.
    """

    size: tuple[int, int]
    bits: int
    frames: int = 1
    channels: int = 1
    white_bits: int | None = None
    orientation: int = 1
    inverted: bool = False
    extra: int = 0
    planar: bool = False
    directory: int = 0
    scaled: bool = True


def header_of(content: bytes) -> Header | None:
    """The header of a PNG of 16 bits, or of a TIFF of more than 8 bits or of floats; else None."""
    if content.startswith(PNG) and content[24:25] == b"\x10":
        size = struct.unpack(">II", content[16:24])
        return Header((size[0], size[1]), 16, white_bits=_significant_bits(content))
    if content[:4] in TIFFS:
        return _tiff_header(content)
    return None


def _significant_bits(content: bytes) -> int | None:
    """What a PNG's sBIT says of its colours."""
    start = 8
    while (kind := content[start + 4 : start + 8]) not in (b"IDAT", b""):
        length = int.from_bytes(content[start : start + 4], "big")
        if kind == b"sBIT":
            colours = 3 if content[25] & 2 else 1
            return max(content[start + 8 : start + 8 + min(length, colours)], default=None)
        start += length + 12
    return None


def _tiff_header(content: bytes) -> Header | None:
    file = io.BytesIO(content)
    prefix = file.read(16 if content[2] + content[3] == 43 else 8)
    tags = ImageFileDirectory_v2(prefix)
    first = offset = tags.next
    seen: set[int] = set()
    while offset and offset not in seen:
        seen.add(offset)
        directory = ImageFileDirectory_v2(prefix)
        file.seek(offset)
        directory.load(file)
        tags = tags if len(seen) > 1 else directory
        offset = directory.next
    bits, formats = tags.get(258, (1,)), tags.get(339, (1,))
    channels, photometric = int(tags.get(277, 1)), tags.get(262)
    deep = max(bits) > 8 or not {1, 4} >= set(formats)
    if not deep or photometric not in (0, 1, 2):
        return None
    brightest = set(_several(tags.get(281)))
    white_bits = None
    if len(brightest) == 1 and (most := int(brightest.pop())) & (most + 1) == 0:
        white_bits = most.bit_length()  # others count what this one image holds, and say nothing
    if packed := max(bits) in (10, 12, 14):  # OpenCV scales them up
        white_bits = max(bits)
    return Header(
        (int(tags[256]), int(tags[257])),
        max(bits),
        len(seen),
        channels,
        white_bits,
        int(tags.get(274, 1)),
        photometric == 0,
        int(_several(tags.get(338, 0))[0]),
        channels > 1 and tags.get(284, 1) == 2,
        first,
        packed,
    )


def _several(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def read_deep(path: Path, content: bytes, header: Header, transparent: Any = None) -> Samples:
    """Decode a file of more than 8 bits with OpenCV, which keeps them all.

    Parameters
    ----------
    header : as `header_of` makes it; of a PNG, with the orientation that its metadata say.
    transparent : the value of a grey PNG that is transparent.

    Raises
    ------
    FlawlineError
        If it cannot be decoded, or has bands that are not read.
    """
    if header.planar or header.channels not in (1, 3, 4):
        found = "separate planes" if header.planar else CHANNELS[min(header.channels, 5)]
        found = f"{header.bits}-bit samples of {found}"
        expected = "grey, RGB or RGBA in one plane: save it as such"
        raise UnfitError(path, "bands that are not read", found, expected)
    if header.directory and header.orientation in TURNS:
        content = _unturned(content, header.directory)
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise FlawlineError(f"{path}: cannot be decoded (its samples of {header.bits} bits)")
    if header.orientation in TURNS:
        values = np.ascontiguousarray(TURNS[header.orientation](values))
    alpha = None
    if values.ndim == 3:
        values, alpha = _split(path, values, header)
    if values.ndim == 2 and transparent is not None:
        alpha = (values != transparent).astype(np.float32)
    if values.dtype == np.float64:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    return Samples(values, alpha, _noted(values, header), header.inverted)


def _split(path: Path, values: np.ndarray, header: Header) -> tuple[np.ndarray, np.ndarray | None]:
    """OpenCV's BGR or BGRA as RGB, or grey where all channels are equal, and alpha."""
    colours = np.ascontiguousarray(values[..., 2::-1])
    is_tiff = header.directory != 0
    if values.shape[2] < 4 or (is_tiff and header.extra == 0):
        return colours, None
    most = 1 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    alpha = (values[..., 3] / most).astype(np.float32)
    check_alpha(path, alpha)
    if is_tiff and header.extra == 1 and alpha.any():  # colours are multiplied by it
        whole = colours / np.maximum(alpha, 1e-6)[..., None]
        colours = np.clip(whole, 0, most).astype(values.dtype)
    return colours, alpha if alpha.any() and not (alpha == 1).all() else None


def check_alpha(path: Path, alpha: np.ndarray) -> None:
    """Raise an UnfitError, if alpha is no transparency but a picture of its own.

    Parameters
    ----------
    alpha : float32 (H, W), 0 to 1. The edges and shadows of cut-outs are in between, never most.
    """
    between = alpha[(alpha > 0) & (alpha < 1)]
    if 2 * between.size > alpha.size and between.max() - between.min() > 0.1:
        share = between.size / alpha.size
        raise UnfitError(
            path,
            "alpha is a picture",
            f"{share:.0%} of its pixels are partly transparent",
            "three bands: save it without the fourth",
        )


def _unturned(content: bytes, directory: int) -> bytes:
    """A TIFF without its orientation, which OpenCV does not know how to follow."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2] + content[3] == 43
    entry = struct.pack(order + ("HHQ" if big else "HHI"), 274, 3, 1)
    place = content.find(entry, directory) + len(entry)
    if place < len(entry):
        raise FlawlineError("its orientation is not where it should be")
    return content[:place] + struct.pack(order + "H", 1) + content[place + 2 :]


def _noted(values: np.ndarray, header: Header) -> float | None:
    """White by the significant bits that a file notes, if its values are not scaled up already."""
    bits = header.white_bits
    if bits is None or values.dtype.kind == "f":
        return None
    most, white = int(np.iinfo(values.dtype).max), 2**bits - 1
    if bits < 8 or white >= most or values.max() > white:
        return None
    if header.scaled:
        # samples that fill their type, as PNG asks for, lie on a grid of its significant bits; yet
        # so dark that they reach a sixteenth of it at most, they were written without scaling
        step = most / white
        off_grid = np.abs(values - np.rint(values / step) * step) > step / 4
        if step < DARK and not off_grid.any():
            return None
    return float(white)
