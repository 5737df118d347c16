"""Read PNG and TIFF files with more than 8 bits per sample."""

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from flawline.data.samples import DARK, TURNS, Samples, UnfitError, check_alpha
from flawline.errors import FlawlineError

PNG = b"\x89PNG\r\n\x1a\n"
TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DEEP_FORMATS = (PNG, *TIFFS)
CHANNELS = {2: "grey with alpha", 5: "five bands or more"}


@dataclass(frozen=True)
class Header:
    """The samples of a PNG or TIFF file that Pillow would cut to 8 bits or not read.

    Attributes
    ----------
    size : width and height as stored, pixels.
    frames : how many images the file holds.
    white_bits : significant bits, if the file states them.
    extra : meaning of the fourth band of a TIFF: 0 unknown, 1 and 2 alpha.
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
    """Read the header of a 16-bit PNG or of a TIFF of floats or over 8 bits; None for others."""
    if content.startswith(PNG) and content[24:25] == b"\x10":
        size = struct.unpack(">II", content[16:24])
        return Header((size[0], size[1]), 16, white_bits=_significant_bits(content))
    if content[:4] in TIFFS:
        return _tiff_header(content)
    return None


def _significant_bits(content: bytes) -> int | None:
    """Return the significant bits of colours in a PNG's sBIT chunk."""
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
        white_bits = most.bit_length()  # other values are the maximum of this one image
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
    header : from `header_of`; for a PNG, with the orientation from its metadata.
    transparent : the value of a grey PNG that is transparent.

    Raises
    ------
    FlawlineError
        If it cannot be decoded, or has unsupported bands.
    """
    if header.planar or header.channels not in (1, 3, 4):
        found = "separate planes" if header.planar else CHANNELS[min(header.channels, 5)]
        found = f"{header.bits}-bit samples of {found}"
        expected = "grey, RGB or RGBA in one plane: save it as such"
        raise UnfitError(path, "unsupported bands", found, expected)
    if header.directory and header.orientation in TURNS:
        content = _unturned(content, header.directory)
    try:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        values = None
    if values is None:
        raise FlawlineError(f"{path}: cannot be decoded (samples of {header.bits} bits)")
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
    """Return OpenCV's BGR or BGRA as RGB, or grey if all channels are equal, and alpha."""
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


def _unturned(content: bytes, directory: int) -> bytes:
    """Return a TIFF without its orientation, which OpenCV does not apply."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2] + content[3] == 43
    entry = struct.pack(order + ("HHQ" if big else "HHI"), 274, 3, 1)
    place = content.find(entry, directory) + len(entry)
    if place < len(entry):
        raise FlawlineError("its orientation is not where it should be")
    return content[:place] + struct.pack(order + "H", 1) + content[place + 2 :]


def _noted(values: np.ndarray, header: Header) -> float | None:
    """Return white by the file's significant bits, unless its values are scaled up already."""
    bits = header.white_bits
    if bits is None or values.dtype.kind == "f":
        return None
    most, white = int(np.iinfo(values.dtype).max), 2**bits - 1
    if bits < 8 or white >= most or values.max() > white:
        return None
    if header.scaled:
        # PNG asks for samples scaled to fill their type, which then lie on a grid. If they reach a
        # sixteenth of it at most, they were written without scaling.
        step = most / white
        off_grid = np.abs(values - np.rint(values / step) * step) > step / 4
        if step < DARK and not off_grid.any():
            return None
    return float(white)
