"""The index of one category: every image file, checked, with all problems found in one pass."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ImageOps

from flawline.data.geometry import geometry_of, median_shape
from flawline.data.images import (
    SUFFIXES,
    TooLargeError,
    decode_mask,
    open_image,
    reason,
    to_original,
)
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    import pandas as pd

AS_IT_IS = "as it is"  # a notice: nothing has to be mended or left out
UNUSUAL = 1.25  # times that proportions may differ before it is worth a notice
MAY_TURN = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
IGNORED = ("thumbs.db", "desktop.ini")
COLUMNS = (
    "image_id",
    "path",
    "split",
    "defect_type",
    "label",
    "mask_path",
    "height",
    "width",
    "sha256",
)


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with the data, and what skipping it means."""

    file: str
    problem: str
    found: str
    expected: str
    can_go_on: str  # yes, no, or AS_IT_IS
    if_skipped: str


@dataclass
class _Entry:
    image_id: str
    path: str
    split: str
    defect_type: str
    label: int
    mask_path: str = ""
    height: int = 0
    width: int = 0
    sha256: str = ""


LEFT_OUT = "the image is left out"
MASK_IGNORED = "the image counts, but not for pixel figures"


def scan(
    folder: Path,
    *,
    max_megapixels: float,
    min_train_good: int,
    workers: int,
    prepare: Mapping[str, Any] | None = None,
) -> tuple["pd.DataFrame", list[Problem]]:
    """List and check all images and masks of one category.

    Parameters
    ----------
    folder : the category's folder, in MVTec AD's layout.
    max_megapixels : larger images are refused without decoding them.
    min_train_good : with fewer usable training images the category cannot go on.
    prepare : `size` and `resize`, to say what they do to photographs of unusual proportions.

    Returns
    -------
    The usable images (paths relative to the folder above the category's, so that tables are the
    same wherever the data lie), and all problems, sorted by file.

    Raises
    ------
    FlawlineError
        If the folder or its ``train/good`` is missing.
    """
    import pandas as pd

    if not (folder / "train" / "good").is_dir():
        raise FlawlineError(
            f"{folder}: no train/good folder. Expected <category>/train/good with images of good "
            "parts. If the data were downloaded, delete the folder and run again."
        )
    entries, problems = _list_images(folder)
    problems += _match_masks(folder, entries)
    with ThreadPoolExecutor(workers) as pool:
        checks = pool.map(lambda entry: _check(folder, entry, max_megapixels), entries)
        found = [problem for problems_of_one in checks for problem in problems_of_one]
    problems += found
    bad = {problem.file for problem in found if problem.if_skipped == LEFT_OUT}
    usable = [entry for entry in entries if entry.image_id not in bad]
    twins = _train_test_twins(usable)
    problems += twins
    usable = [e for e in usable if e.image_id not in {problem.file for problem in twins}]
    goods = sum(entry.split == "train" for entry in usable)
    if goods < min_train_good:
        problems.append(
            Problem(
                "train/good",
                "too few training images",
                f"{goods} usable",
                f"at least {min_train_good} (data.min_train_good)",
                "no",
                "nothing can be trained",
            )
        )
    table = pd.DataFrame([asdict(entry) for entry in usable], columns=list(COLUMNS))
    if prepare is not None and goods:
        problems += _shape_notices(folder, usable, table, prepare, max_megapixels)
    return table, sorted(problems)


def _shape_notices(
    folder: Path,
    entries: list[_Entry],
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
        notices.append(_notice("train/good", "photographs are stretched", found, expected))
    for entry in entries:
        times = _times(entry.height / entry.width, usual)
        if times > UNUSUAL:
            found = f"{entry.height} x {entry.width} (height x width)"
            expected = f"proportions near {height:g} x {width:g}, as most have"
            notices.append(_notice(entry.image_id, "another shape", found, expected))
        if mode == "center_crop" and entry.mask_path:
            mask = decode_mask(folder.parent / entry.mask_path, max_megapixels)
            corners = np.array([[0, 0, shape[1], shape[0]]])
            x0, y0, x1, y1 = to_original(corners, shape, mask.shape, mode)[0]
            lost = 1 - mask[y0:y1, x0:x1].sum() / mask.sum()
            if lost > 0:
                found = f"{lost:.0%} of the defect's pixels are cut off"
                expected = "defects in the middle, or resize: stretch or letterbox"
                notices.append(_notice(entry.image_id, "defect cut off", found, expected))
    return notices


def _times(one: float, other: float) -> float:
    return max(one / other, other / one)


def _notice(file: str, problem: str, found: str, expected: str) -> Problem:
    return Problem(file, problem, found, expected, AS_IT_IS, "it is used as it is")


def summary(problems: list[Problem]) -> list[str]:
    """A line for each problem; notices of one kind share a line."""
    lines = [f"{p.file}: {p.problem}; {p.if_skipped}" for p in problems if p.can_go_on != AS_IT_IS]
    notices = [p for p in problems if p.can_go_on == AS_IT_IS]
    for kind in dict.fromkeys(notice.problem for notice in notices):
        some = [notice for notice in notices if notice.problem == kind]
        first = some[0]
        more = f" (and {len(some) - 1} more, see problems.csv)" if len(some) > 1 else ""
        lines.append(f"{first.file}{more}: {kind}: {first.found}; better: {first.expected}")
    return lines


def problem_table(problems: list[Problem]) -> "pd.DataFrame":
    """All problems as a table, one row each."""
    import pandas as pd

    return pd.DataFrame([asdict(p) for p in problems], columns=list(Problem.__annotations__))


def left_out(problems: "pd.DataFrame", split: str) -> int:
    """How many files of a split are not used, from `problem_table`."""
    unused = problems["if_skipped"].str.endswith(" left out")
    return int((unused & problems["file"].str.startswith(f"{split}/")).sum())


def refuse(category: str, problems: list[Problem], on_problem: str) -> None:
    """Raise one error with all problems in it, if the line must not go on.

    Parameters
    ----------
    on_problem : ``error`` refuses any problem, ``skip`` only those that cannot be skipped.
    """
    problems = [problem for problem in problems if problem.can_go_on != AS_IT_IS]
    fatal = [problem for problem in problems if problem.can_go_on == "no"]
    if not problems or (on_problem == "skip" and not fatal):
        return
    lines = [
        f"  {p.file}: {p.problem}; found {p.found}, expected {p.expected}; "
        + (f"if skipped: {p.if_skipped}" if p.can_go_on == "yes" else "the line cannot go on")
        for p in problems
    ]
    advice = (
        "Mend these files."
        if fatal
        else "Mend these files, or set `data: {on_problem: skip}` to go on without them."
    )
    raise FlawlineError(
        f"{category}: {len(problems)} problem(s) in the images.\n"
        + "\n".join(lines)
        + f"\n{advice}"
    )


def shown(path: Path, folder: Path) -> str:
    """A path below `folder` as text that every table can hold; odd bytes become \\x and digits."""
    return os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if not path.is_dir() and not path.name.startswith(".") and path.name.lower() not in IGNORED
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.glob("*") if path.is_dir() and not path.name.startswith(".")
    )


def _list_images(folder: Path) -> tuple[list[_Entry], list[Problem]]:
    entries, problems = [], []
    for part in [folder / "train" / "good", *_folders(folder / "test")]:
        split, defect = part.parent.name, part.name
        for path in _files(part):
            image_id = shown(path, folder)
            if image_id != f"{split}/{defect}/{path.name}":
                problems.append(
                    Problem(
                        image_id,
                        "name is no text",
                        "bytes that are not UTF-8",
                        "a name in UTF-8",
                        "yes",
                        LEFT_OUT,
                    )
                )
                continue
            if path.suffix.lower() not in SUFFIXES:
                problems.append(
                    Problem(
                        image_id,
                        "not an image",
                        f"a file named *{path.suffix}",
                        ", ".join(SUFFIXES),
                        "yes",
                        "the file is left out",
                    )
                )
                continue
            entries.append(
                _Entry(image_id, f"{folder.name}/{image_id}", split, defect, int(defect != "good"))
            )
    return entries, problems


def _match_masks(folder: Path, entries: list[_Entry]) -> list[Problem]:
    root = folder / "ground_truth"
    if not root.is_dir():
        return []
    defective = [entry for entry in entries if entry.label]
    available = {
        (part.name, path.stem.removesuffix("_mask")): path
        for part in _folders(root)
        for path in _files(part)
    }
    problems = []
    for entry in defective:
        mask = available.pop((entry.defect_type, Path(entry.path).stem), None)
        if mask is None:
            problems.append(
                Problem(
                    entry.image_id,
                    "mask missing",
                    "none",
                    f"ground_truth/{entry.defect_type}/{Path(entry.path).stem}_mask.png",
                    "yes",
                    MASK_IGNORED,
                )
            )
        else:
            entry.mask_path = f"{folder.name}/ground_truth/{entry.defect_type}/{mask.name}"
    for path in available.values():
        problems.append(
            Problem(
                shown(path, folder),
                "mask without image",
                "no image of that name",
                f"test/{path.parent.name}/{path.stem.removesuffix('_mask')}.*",
                "yes",
                "the mask is ignored",
            )
        )
    return problems


def _check(folder: Path, entry: _Entry, max_megapixels: float) -> list[Problem]:
    path = folder / entry.image_id
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        return [_problem(entry, "not a file", "a pipe, a device or a socket", "an image")]
    try:
        content = path.read_bytes()
    except OSError as error:
        return [_problem(entry, "unreadable", reason(error), "a whole image")]
    if not content:
        return [_problem(entry, "empty file", "zero bytes", "an image")]
    entry.sha256 = hashlib.sha256(content).hexdigest()
    del content
    try:
        with open_image(path, max_megapixels) as image:
            frames = getattr(image, "n_frames", 1)
            # a PNG carries checksums of its own, which cost far less than decoding it; but where
            # its metadata may turn it, only decoding tells its size
            if image.format == "PNG" and not MAY_TURN & image.info.keys():
                size = image.size
                image.verify()
            else:
                image.load()
                size = ImageOps.exif_transpose(image).size
    except TooLargeError as error:
        expected = f"at most {max_megapixels:g} megapixels"
        return [_problem(entry, "too large", _detail(error, path), expected)]
    except FlawlineError as error:
        expected = "a PNG, JPEG, BMP, TIFF or WebP image"
        return [_problem(entry, "not an image", _detail(error, path), expected)]
    except Exception as error:  # decoders raise nearly anything on damaged files
        return [_problem(entry, "unreadable", reason(error), "a whole image")]
    entry.width, entry.height = size
    if frames > 1:
        return [_problem(entry, "several frames", f"{frames} frames", "one image per file")]
    return _check_mask(folder, entry, max_megapixels)


def _check_mask(folder: Path, entry: _Entry, max_megapixels: float) -> list[Problem]:
    if not entry.mask_path:
        return []
    path = folder.parent / entry.mask_path
    expected = f"{entry.width} x {entry.height}, like its image"
    try:
        mask = decode_mask(path, max_megapixels)
    except FlawlineError as error:
        kind, found = "mask unreadable", _detail(error, path)
    else:
        height, width = mask.shape
        if (width, height) != (entry.width, entry.height):
            kind, found = "mask of another size", f"{width} x {height}"
        elif not np.any(mask):
            kind, found, expected = "empty mask", "all zero", "the defect marked"
        else:
            return []
    file = shown(path, folder)
    entry.mask_path = ""
    return [Problem(file, kind, found, expected, "yes", MASK_IGNORED)]


def _detail(error: FlawlineError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _problem(
    entry: _Entry, kind: str, found: str, expected: str, if_skipped: str = LEFT_OUT
) -> Problem:
    return Problem(entry.image_id, kind, found, expected, "yes", if_skipped)


def _train_test_twins(entries: list[_Entry]) -> list[Problem]:
    tests = {entry.sha256: entry.image_id for entry in entries if entry.split == "test"}
    return [
        _problem(
            entry,
            "identical image in train and test",
            f"same bytes as {tests[entry.sha256]}",
            "no test image in train",
            "the training copy is left out",
        )
        for entry in entries
        if entry.split == "train" and entry.sha256 in tests
    ]
