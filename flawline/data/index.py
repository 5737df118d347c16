"""The index of one category: every image file, checked, with all problems found in one pass."""

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.data.datasets.base import Dataset, Dealt, Entry
from flawline.data.fingerprints import alike, fingerprint
from flawline.data.geometry import geometry_of, median_shape
from flawline.data.images import (
    TooLargeError,
    frames_of,
    open_image,
    read_samples,
    reason,
    refuse_frames,
    to_original,
)
from flawline.data.masks import check_mask, decode_mask, marked, mask_values
from flawline.data.problems import LEFT_OUT, MASK_IGNORED, Problem, notice
from flawline.data.samples import (
    PNG,
    Extent,
    Levels,
    UnfitError,
    check_extent,
    check_values,
)
from flawline.data.split import deal, units_of
from flawline.errors import FlawlineError
from flawline.options.data import Groups
from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

ALIKE = "nearly equal photographs"
UNDECODED = "cannot be decoded"
UNUSUAL = 1.25  # times that proportions may differ before it is worth a notice
COLUMNS = (
    "image_id",
    "path",
    "split",
    "defect_type",
    "label",
    "mask_path",
    "group",
    "height",
    "width",
    "sha256",
    "float_white",
)


def scan(
    dataset: Dataset,
    category: str,
    *,
    max_megapixels: float,
    min_train_good: int,
    workers: int,
    white: float | None = None,
    groups: Mapping[str, Any] | None = None,
    prepare: Mapping[str, Any] | None = None,
) -> tuple["pd.DataFrame", list[Problem]]:
    """List and check all images and masks of one category.

    Parameters
    ----------
    max_megapixels : larger images are refused without decoding them.
    min_train_good : with fewer usable training images the category cannot go on.
    white : what shows as white in files of more than 8 bits; found, if not given.
    groups : what `Groups` reads, or None.
    prepare : `size` and `resize`, to say what they do to photographs of unusual proportions.

    Returns
    -------
    The usable images (`float_white`: what shows as white in the category's files of floats, 0 if it
    has none; paths relative to the dataset's folder, so that tables are the same wherever the data
    lie), and all problems, sorted by file.

    Raises
    ------
    FlawlineError
        If the folder of training images is missing.
    """
    import pandas as pd

    listing = dataset.listing(category)
    entries, problems = listing.entries, listing.problems
    if groups is not None:
        problems += _name_groups(entries, Groups.model_validate(groups))
    with ThreadPoolExecutor(workers) as pool:
        folder = dataset.folder
        checks = pool.map(lambda entry: _check(folder, entry, max_megapixels, white), entries)
        checked = list(checks)
    found = [problem for problems_of_one, _ in checked for problem in problems_of_one]
    extents = [extent for _, extent in checked]
    found += _check_levels(folder, entries, extents, white)
    problems += found
    bad = {problem.file for problem in found if problem.if_skipped == LEFT_OUT}
    usable = [entry for entry in entries if entry.image_id not in bad]
    twins = _twins(usable)
    problems += twins
    usable = [e for e in usable if e.image_id not in {problem.file for problem in twins}]
    if all(problem.can_go_on != "no" for problem in found):  # else they may all look black
        problems += _group_alike(usable)
    problems += _deal(usable, dataset, category)
    goods = sum(entry.split == "train" and not entry.label for entry in usable)
    if goods < min_train_good:
        problems.append(
            Problem(
                "train/good" if not isinstance(dataset, Dealt) else "good photographs",
                "too few training images",
                f"{goods} usable",
                f"at least {min_train_good} (data.min_train_good)",
                "no",
                "nothing can be trained",
            )
        )
    rows = [{name: getattr(entry, name) for name in COLUMNS} for entry in usable]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if prepare is not None and goods:
        problems += _shape_notices(dataset.folder, usable, table, prepare, max_megapixels)
    return table, sorted(problems)


def _name_groups(entries: list[Entry], groups: Groups) -> list[Problem]:
    """Give every photograph without a group the one that its name tells."""
    problems = []
    for entry in entries:
        entry.group = entry.group or groups.of(entry.image_id)
        if not entry.group:
            found = "it is a group of its own"
            expected = f"a name with {groups.pattern or f'a folder {groups.level} levels up'}"
            problems.append(notice(entry.image_id, "no group", found, expected))
    return problems


def _group_alike(entries: list[Entry]) -> list[Problem]:
    """Put nearly equal photographs into one group, and with that the groups that they are of."""
    prints = [entry.fingerprint for entry in entries if entry.fingerprint]
    group_of = [entry.group or entry.image_id for entry in entries]
    members: dict[str, list[int]] = {}
    for row, group in enumerate(group_of):
        members.setdefault(group, []).append(row)
    pairs = [(one, other) for one, other, _ in alike(prints, prints) if one < other]
    for one, other in pairs:
        kept, joined = group_of[one], group_of[other]
        if kept != joined:
            members[kept] += members.pop(joined)
            for row in members[kept]:
                group_of[row] = kept
    most = max(map(len, members.values()), default=0)
    if pairs and 2 * most > len(entries):
        found = f"{most} of {len(entries)} photographs, each like some other"
        return [notice(".", ALIKE, found, "photographs that differ")]
    for group, rows in members.items():
        if len(rows) > 1:
            for row in rows:
                entries[row].group = group
    return [
        notice(entries[other].image_id, ALIKE, f"like {entries[one].image_id}", "each only once")
        for one, other in pairs
    ]


def _deal(entries: list[Entry], dataset: Dataset, category: str) -> list[Problem]:
    """Deal photographs without a split to training or test; say what is lost by it."""
    loose = [entry for entry in entries if not entry.split]
    if loose:
        assert isinstance(dataset, Dealt)
        labels = np.array([entry.label for entry in loose])
        units = units_of([entry.group for entry in loose])
        tested = deal(
            labels, units, dataset.test_fraction, generator(dataset.seed, category, "test")
        )
        for entry, is_test in zip(loose, tested, strict=True):
            entry.split = "test" if is_test else "train"
    problems = []
    sides: dict[str, set[str]] = {}
    for entry in entries:
        if entry.group:
            sides.setdefault(entry.group, set()).add(entry.split)
    for group, splits in sides.items():
        if len(splits) > 1:
            found = "photographs in train and in test"
            problems.append(notice(group, "group on both sides", found, "either side alone"))
    if lost := [entry for entry in entries if entry.split == "train" and entry.label]:
        found = f"{len(lost)} defective photographs on the training side"
        expected = "nothing: only supervised detectors learn from them"
        problems.append(notice(lost[0].image_id, "defects to learn from", found, expected))
    return problems


def _shape_notices(
    folder: Path,
    entries: list[Entry],
    table: "pd.DataFrame",
    prepare: Mapping[str, Any],
    max_megapixels: float,
) -> list[Problem]:
    """Photographs that differ much from the median shape, and what `resize` does to defects."""
    shape = geometry_of(table, prepare["size"]).shape
    mode, (height, width) = prepare["resize"], median_shape(table)
    usual, prepared = height / width, shape[0] / shape[1]
    notices = []
    if mode == "stretch" and _times(usual, prepared) > UNUSUAL:
        found = f"{height:g} x {width:g} (height x width) become {shape[0]} x {shape[1]}"
        expected = "prepare.size: auto, which keeps their proportions"
        notices.append(notice("train/good", "photographs are stretched", found, expected))
    for entry in entries:
        times = _times(entry.height / entry.width, usual)
        if times > UNUSUAL:
            found = f"{entry.height} x {entry.width} (height x width)"
            expected = f"proportions near {height:g} x {width:g}, as most have"
            notices.append(notice(entry.image_id, "another shape", found, expected))
        if mode == "center_crop" and entry.mask_path and entry.label:
            mask = decode_mask(folder / entry.mask_path, max_megapixels)
            corners = np.array([[0, 0, shape[1], shape[0]]])
            x0, y0, x1, y1 = to_original(corners, shape, mask.shape, mode)[0]
            lost = 1 - mask[y0:y1, x0:x1].sum() / mask.sum()
            if lost > 0:
                found = f"{lost:.0%} of the defect's pixels are cut off"
                expected = "defects in the middle, or prepare.resize: stretch or letterbox"
                notices.append(notice(entry.image_id, "defect cut off", found, expected))
    return notices


def _times(one: float, other: float) -> float:
    return max(one / other, other / one)


def _check(
    folder: Path, entry: Entry, max_megapixels: float, white: float | None
) -> tuple[list[Problem], Extent | None]:
    """What is wrong with one image, and what the values of more than 8 bits span."""
    path = folder / entry.path
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        return [_problem(entry, "not a file", "a pipe, a device or a socket", "an image")], None
    try:
        content = path.read_bytes()
    except OSError as error:
        return [_problem(entry, "unreadable", reason(error), "a whole image")], None
    if not content:
        return [_problem(entry, "empty file", "zero bytes", "an image")], None
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
        return [_problem(entry, error.kind, error.found, error.expected)], None
    except TooLargeError as error:
        expected = f"at most {max_megapixels:g} megapixels"
        return [_problem(entry, "too large", _detail(error, path), expected)], None
    except FlawlineError as error:
        expected, detail = "a PNG, JPEG, BMP, TIFF or WebP image", _detail(error, path)
        if detail.startswith(UNDECODED):
            return [_problem(entry, "unreadable", detail, "a whole image")], None
        return [_problem(entry, "not an image", detail, expected)], None
    except Exception as error:  # decoders raise nearly anything on damaged files
        return [_problem(entry, "unreadable", reason(error), "a whole image")], None
    image = samples.shown(Levels(white))
    entry.height, entry.width = image.shape[:2]
    entry.fingerprint = fingerprint(image)
    extent = None if samples.pixels.dtype == np.uint8 else samples.extent
    return _check_mask(folder, entry, max_megapixels, image), extent


def _verify(path: Path, max_megapixels: float) -> None:
    """Compare a PNG file with the checksums in it, which decoders do not look at."""
    with open_image(path, max_megapixels) as image:
        refuse_frames(path, frames_of(image))
        image.verify()


def _check_levels(
    folder: Path,
    entries: list[Entry],
    extents: list[Extent | None],
    white: float | None,
) -> list[Problem]:
    """What only the whole category can say of values of more than 8 bits: which of them is white.

    Floats reach 1 or 255, whichever most files do. Integers must fill their type.
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
            found.append(_problem(entry, error.kind, error.found, error.expected))
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


def _problem(
    entry: Entry, kind: str, found: str, expected: str, if_skipped: str = LEFT_OUT
) -> Problem:
    return Problem(entry.image_id, kind, found, expected, "yes", if_skipped)


def _below(entry: Entry) -> str:
    """The mask's path below the category, as its photograph's name is."""
    return entry.mask_path.removeprefix(entry.path.removesuffix(entry.image_id))


def _twins(entries: list[Entry]) -> list[Problem]:
    """Files of equal bytes: one of them counts, that of the test; none, if they have two labels."""
    by_bytes: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.split != "test"):
        by_bytes.setdefault(entry.sha256, []).append(entry)
    problems = []
    for same in by_bytes.values():
        first, *others = same
        types = {entry.defect_type for entry in same}
        if len({entry.label for entry in same}) > 1:
            for entry, other in zip(same, [*others, first], strict=True):
                found = f"same bytes as {other.image_id}"
                expected = "one photograph, one label"
                problems.append(_problem(entry, "good and defective at once", found, expected))
            continue
        for entry in others:
            found = f"same bytes as {first.image_id}"
            if entry.split != first.split:
                problem, expected = "identical image in train and test", "no test image in train"
                skipped = "the training copy is left out"
            else:
                problem, expected = "identical images", "each photograph once"
                skipped = "the copy is left out"
            if len(types) > 1:
                expected += ", of one defect type"
            problems.append(_problem(entry, problem, found, expected, skipped))
    return problems
