"""The index of one category: every image file, checked, with all problems found in one pass."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.data.datasets.base import Dataset, Dealt, Entry
from flawline.data.file_checks import check_file, check_levels, file_problem
from flawline.data.fingerprints import alike
from flawline.data.geometry import geometry_of, median_shape
from flawline.data.masks import decode_mask
from flawline.data.problems import LEFT_OUT, Problem, notice
from flawline.data.resize import to_original
from flawline.data.split import deal, units_of
from flawline.options.data import Groups
from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

ALIKE = "nearly equal photographs"
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
    min_train_good : least number of usable good training images.
    white : the value of white in files of more than 8 bits; found, if not given.
    groups : options of `Groups`, or None.
    prepare : `size` and `resize`, to report their effect on photographs of unusual proportions.

    Returns
    -------
    The usable images (`float_white`: the value of white in the category's files of floats, 0 if it
    has none; paths relative to the dataset's folder, so that tables do not depend on where the
    data lie), and all problems, sorted by file.

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
        checks = pool.map(lambda entry: check_file(folder, entry, max_megapixels, white), entries)
        checked = list(checks)
    found = [problem for problems_of_one, _ in checked for problem in problems_of_one]
    extents = [extent for _, extent in checked]
    found += check_levels(folder, entries, extents, white)
    problems += found
    bad = {problem.file for problem in found if problem.if_skipped == LEFT_OUT}
    usable = [entry for entry in entries if entry.image_id not in bad]
    twins = _twins(usable)
    problems += twins
    usable = [e for e in usable if e.image_id not in {problem.file for problem in twins}]
    if all(problem.can_go_on != "no" for problem in found):  # otherwise all may look black
        problems += _group_alike(usable)
    problems += _deal(usable, dataset, category)
    good = sum(entry.split == "train" and not entry.label for entry in usable)
    if good < min_train_good:
        problems.append(
            Problem(
                "train/good" if not isinstance(dataset, Dealt) else "good photographs",
                "too few training images",
                f"{good} usable",
                f"at least {min_train_good} (data.min_train_good)",
                "no",
                "nothing can be trained",
            )
        )
    rows = [{name: getattr(entry, name) for name in COLUMNS} for entry in usable]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    if prepare is not None and good:
        problems += _shape_notices(dataset.folder, usable, table, prepare, max_megapixels)
    return table, sorted(problems)


def _name_groups(entries: list[Entry], groups: Groups) -> list[Problem]:
    """Give every photograph without a group the group that its name tells."""
    problems = []
    for entry in entries:
        entry.group = entry.group or groups.of(entry.image_id)
        if not entry.group:
            found = "it is alone in its group"
            expected = f"a name with {groups.pattern or f'a folder {groups.level} levels up'}"
            problems.append(notice(entry.image_id, "no group", found, expected))
    return problems


def _group_alike(entries: list[Entry]) -> list[Problem]:
    """Put nearly equal photographs, with all of their groups, into one group."""
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
    """Deal photographs without a split to training or test; report what is lost by it."""
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
    """Report photographs far from the median shape, and the effect of `resize` on defects."""
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


def _twins(entries: list[Entry]) -> list[Problem]:
    """Report files of equal bytes. One counts, the test's; none, if their labels differ."""
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
                problems.append(file_problem(entry, "good and defective at once", found, expected))
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
            problems.append(file_problem(entry, problem, found, expected, skipped))
    return problems
