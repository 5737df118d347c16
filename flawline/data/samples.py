"""Map samples of more than 8 bits, integers or floats, to the 8 bits that a viewer shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flawline.errors import FlawlineError

BITS = (8, 10, 12, 14, 16, 20, 24, 28)  # significant bits stored in integers of 16 or 32 bits
BLANK = 3  # of 255: sensor noise spreads even a plain surface over more
DARK = 16  # times that white exceeds the largest value of a file: too much for any exposure
ROUNDED = 1e-3  # share of white by which floats may exceed their range
BELOW_BLACK = 0.05  # share of white by which values may lie below 0 if the user gives white
WHITE = "set data.white to the value that shows as white"

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
    """A readable file that cannot be used as a photograph or mask."""

    def __init__(self, path: Path, kind: str, found: str, expected: str) -> None:
        super().__init__(f"{path}: {kind}: {found}; expected {expected}")
        self.kind, self.found, self.expected = kind, found, expected


@dataclass(frozen=True)
class Levels:
    """The values that show as white in a category's files of more than 8 bits.

    Attributes
    ----------
    white : the user's value; without it, a file's own value or the largest of its type.
    float_white : 1 or 255, whichever the category's float files reach; without it, by file.
    """

    white: float | None = None
    float_white: float | None = None


@dataclass(frozen=True)
class Extent:
    """The range of the values of one file.

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
        """Check whether the values are floats."""
        return self.kind.startswith("float")

    @property
    def bits(self) -> int:
        """The least number of camera bits that holds all values."""
        return next((bits for bits in BITS if self.high < 2**bits), 32)

    @property
    def fills(self) -> bool:
        """Check whether integers come close enough to the largest of their type as white."""
        return self.is_float or self.bits >= np.iinfo(self.kind).max.bit_length()

    def white(self, levels: Levels) -> float:
        """Return the value that shows as white."""
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
        """Return the range of the values; NaN is ignored."""
        values = self.pixels
        rows = values.reshape(len(values), -1)  # reducing contiguous rows first is faster
        channels = (-1, 3) if values.ndim == 3 else (-1, 1)
        low = np.fmin.reduce(rows, axis=0).reshape(channels).min(axis=0).astype(float)
        high = np.fmax.reduce(rows, axis=0).reshape(channels).max(axis=0).astype(float)
        spread = float((high - low).max())
        return Extent(values.dtype.name, float(low.min()), float(high.max()), spread, self.noted)

    def shown(self, levels: Levels) -> np.ndarray:
        """Return what a viewer shows: uint8 (H, W, 3), RGB, with transparency over white."""
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
    """Convert values to uint8: integers in equal steps, as by dropping bits; floats rounded."""
    if values.dtype.kind == "f" and white in (1, 255):
        return np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8)
    return np.clip(np.floor(values * (256 / (white + 1))), 0, 255).astype(np.uint8)


def check_values(path: Path, samples: Samples, levels: Levels) -> None:
    """Raise an UnfitError if values are not finite, negative, or mostly above the given white."""
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
    """Raise an UnfitError if values fit no range, or show as one value or as nearly black."""
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


def check_alpha(path: Path, alpha: np.ndarray) -> None:
    """Raise an UnfitError if alpha is not a transparency but another picture.

    Parameters
    ----------
    alpha : float32 (H, W), 0 to 1. Only edges and shadows of cut-outs are in between.
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
