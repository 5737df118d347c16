"""Check single files of a category: photographs, the range of their values, and masks."""

import hashlib
from pathlib import Path

import numpy as np

from flawline.data.datasets.base import Entry
from flawline.data.deep_formats import PNG
from flawline.data.fingerprints import fingerprint
from flawline.data.images import (
    TooLargeError,
    frames_of,
    open_image,
    read_samples,
    reason,
    refuse_frames,
)
from flawline.data.masks import check_mask, marked, mask_values
from flawline.data.problems import LEFT_OUT, MASK_IGNORED, Problem
from flawline.data.samples import Extent, Levels, UnfitError, check_extent, check_values
from flawline.errors import FlawlineError

UNDECODED = "cannot be decoded"


def check_file(
    folder: Path, entry: Entry, max_megapixels: float, white: float | None
) -> tuple[list[Problem], Extent | None]:
    """Return what is wrong with one image, and the range of values of more than 8 bits."""
    path = folder / entry.path
    if path.exists() and not path.is_file():  # reading a pipe would block forever
        return [file_problem(entry, "not a file", "a pipe, a device or a socket", "an image")], None
    try:
        content = path.read_bytes()
    except OSError as error:
        return [file_problem(entry, "unreadable", reason(error), "a whole image")], None
    if not content:
        return [file_problem(entry, "empty file", "zero bytes", "an image")], None
    entry.sha256 = hashlib.sha256(content).hexdigest()
    try:
        if content.startswith(PNG):
            _verify(path, max_megapixels)
        del content
        samples = read_samples(path, max_megapixels)
        check_values(path, samples, Levels(white))
        if samples.pixels.dtype == np.uint8:
            check_extent(path, samples.extent, Levels())
    except UnfitError as error:
        return [file_problem(entry, error.kind, error.found, error.expected)], None
    except TooLargeError as error:
        expected = f"at most {max_megapixels:g} megapixels"
        return [file_problem(entry, "too large", _detail(error, path), expected)], None
    except FlawlineError as error:
        expected, detail = "a PNG, JPEG, BMP, TIFF or WebP image", _detail(error, path)
        if detail.startswith(UNDECODED):
            return [file_problem(entry, "unreadable", detail, "a whole image")], None
        return [file_problem(entry, "not an image", detail, expected)], None
    except Exception as error:  # decoders raise almost any exception on damaged files
        return [file_problem(entry, "unreadable", reason(error), "a whole image")], None
    image = samples.shown(Levels(white))
    entry.height, entry.width = image.shape[:2]
    entry.fingerprint = fingerprint(image)
    extent = None if samples.pixels.dtype == np.uint8 else samples.extent
    return _check_mask(folder, entry, max_megapixels, image), extent


def _verify(path: Path, max_megapixels: float) -> None:
    """Compare a PNG file with its checksums, which decoders ignore."""
    with open_image(path, max_megapixels) as image:
        refuse_frames(path, frames_of(image))
        image.verify()


def check_levels(
    folder: Path,
    entries: list[Entry],
    extents: list[Extent | None],
    white: float | None,
) -> list[Problem]:
    """Find which value is white in the category's files of more than 8 bits.

    White is 1 or 255 for floats, whichever most files reach. Integers must fill their type.
    """
    known = [(entry, extent) for entry, extent in zip(entries, extents, strict=True) if extent]
    floats = [extent for _, extent in known if extent.is_float]
    levels = Levels(white)
    if floats and white is None:
        whites = [extent.white(levels) for extent in floats]
        levels = Levels(None, 255.0 if 2 * whites.count(255) > len(whites) else 1.0)
        for entry in entries:
            entry.float_white = levels.float_white or 0.0
    found, unfilled = [], set()
    for kind in sorted({extent.kind for _, extent in known}):
        some = [(entry, one) for entry, one in known if one.kind == kind and one.noted is None]
        brightest = max(some, key=lambda pair: pair[1].high, default=None)
        if white is not None or brightest is None or brightest[1].fills or not brightest[1].high:
            continue
        unfilled.add(kind)
        bits, most = brightest[1].bits, np.iinfo(kind).max
        found.append(
            Problem(
                brightest[0].image_id,
                "white is not known",
                f"{len(some)} files of {kind}, the brightest of which reaches "
                f"{brightest[1].high:g} of {most}",
                f"`data: {{white: {2**bits - 1}}}` if they hold {bits} bits, or {most} if they are "
                "dark",
                "no",
                "the photographs would be nearly black",
            )
        )
    for entry, extent in known:
        if extent.kind in unfilled and extent.noted is None and extent.spread:
            continue
        try:
            check_extent(folder / entry.path, extent, levels)
        except UnfitError as error:
            found.append(file_problem(entry, error.kind, error.found, error.expected))
    return found


def _check_mask(
    folder: Path, entry: Entry, max_megapixels: float, photograph: np.ndarray
) -> list[Problem]:
    if not entry.mask_path:
        return []
    path = folder / entry.mask_path
    expected = f"{entry.width} x {entry.height}, like its image"
    try:
        values, lossy = mask_values(path, max_megapixels)
        height, width = values.shape
        if (width, height) != (entry.width, entry.height):
            raise UnfitError(path, "mask of another size", f"{width} x {height}", expected)
        if not entry.label and marked(values, lossy).any():
            found, expected = "a mask that marks something", "a black one, or a defect type"
            raise UnfitError(path, "mask of a good image", found, expected)
        if entry.label:
            check_mask(path, values, lossy, photograph)
        else:
            entry.mask_path = ""
        return []
    except UnfitError as error:
        kind, found, expected = error.kind, error.found, error.expected
    except FlawlineError as error:
        kind, found, expected = "mask unreadable", _detail(error, path), "a whole image"
    file = _below(entry)
    entry.mask_path = ""
    return [Problem(file, kind, found, expected, "yes", MASK_IGNORED)]


def _detail(error: FlawlineError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def file_problem(
    entry: Entry, kind: str, found: str, expected: str, if_skipped: str = LEFT_OUT
) -> Problem:
    return Problem(entry.image_id, kind, found, expected, "yes", if_skipped)


def _below(entry: Entry) -> str:
    """Return the mask's path below the category, as in its photograph's name."""
    return entry.mask_path.removeprefix(entry.path.removesuffix(entry.image_id))
