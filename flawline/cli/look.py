"""What a folder of photographs holds: of which kind of dataset it is, and how many of what."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image
from pydantic import TypeAdapter

from flawline.data.datasets import KINDS, AnyDataset, kind_of
from flawline.data.datasets.base import Dataset, Dealt, as_given, folders_in, has_images
from flawline.data.datasets.good_bad import BAD_NAMES
from flawline.data.datasets.layout import GOOD_NAMES, files_in, what_is_there
from flawline.data.folder_digest import SUFFIXES
from flawline.data.problems import summary
from flawline.errors import FlawlineError
from flawline.files import is_file, is_folder

MASK_NAMES = {"ground_truth", "groundtruth", "gt", "mask", "masks", "label", "labels"}
PUBLISHED = [kind for kind in KINDS if kind_of(kind) not in ("folder", "good_bad", "manifest")]
MEASURED = 50  # photographs of a category whose size is read
TRANSPOSED = (5, 6, 7, 8)  # values of EXIF's orientation
ORIENTATION = 274


@dataclass(frozen=True)
class Category:
    """One product: numbers of photographs, and their median height and width.

    Attributes
    ----------
    good : good photographs to learn from.
    tested : good photographs to measure with.
    defects : number of defective photographs by defect type.
    problems : what its folders have that is not read, in words.
    """

    name: str
    good: int
    tested: int
    defects: dict[str, int]
    height: float
    width: float
    problems: list[str]

    def __str__(self) -> str:
        """Return the numbers in a line."""
        types = ", ".join(f"{kind} {count}" for kind, count in sorted(self.defects.items()))
        defective = f"{sum(self.defects.values())} defective ({types})" if types else "no defects"
        return (
            f"{self.name}: {self.good + self.tested} good photographs ({self.good} to learn from), "
            f"{defective}, {self.width:g} x {self.height:g} px"
        )


@dataclass(frozen=True)
class Found:
    """A dataset: its section of the configuration, and its products."""

    dataset: dict[str, Any]
    categories: list[Category]
    all_of_it: bool  # whether these are all categories of the source


def look(photographs: Path, name: str) -> Found:
    """Look at a folder of photographs, or at a CSV file that lists them.

    Parameters
    ----------
    name : of the dataset.

    Raises
    ------
    FlawlineError
        If it is in no shape that can be read; with what was found and what can be.
    """
    photographs = photographs.expanduser().absolute()
    if not is_folder(photographs) and not is_file(photographs):
        raise FlawlineError(f"{photographs}: there is no such folder")
    given, only = _kind(photographs)
    given = {"name": name} | given
    dataset: Dataset = TypeAdapter(AnyDataset).validate_python(given)
    names = only or dataset.categories()
    categories = [_count(dataset, category) for category in names]
    return Found(given, categories, names == dataset.categories())


Kind = tuple[dict[str, Any], list[str]]


def _kind(folder: Path) -> Kind:
    """Return the section `dataset`, and the categories if they are not all."""
    if is_file(folder):
        return {"kind": "manifest", "source": str(folder)}, []
    shapes: tuple[Callable[[Path], Kind | None], ...] = (_published, _laid, _good_bad, _flat)
    for shape in shapes:
        if found := shape(folder):
            return found
    inner = [
        path
        for path in folders_in(folder)
        if path.name.casefold() not in BAD_NAMES and has_images(path)
    ]
    if len(inner) == 1:
        return _kind(inner[0])
    deeper = [path for path in inner if any(shape(path) for shape in shapes)]
    hint = f" Give one of: {', '.join(map(str, deeper[:5]))}." if deeper else ""
    raise FlawlineError(
        f"{folder}: photographs of good parts were not recognized.{what_is_there(folder)}{hint} "
        "Put those of each product into a folder: all in it if they are all good; or in folders "
        "good/ and bad/ (or one for each defect); or in train/good/, test/good/ and "
        "test/<defect>/."
    )


def _published(folder: Path) -> Kind | None:
    for kind in PUBLISHED:
        if kind.recognizes(folder):
            return _at_its_level(kind_of(kind), folder)
    return None


def _at_its_level(kind: str, folder: Path) -> Kind | None:
    """Return the folder as the source, or its parent if it is a category itself."""
    for source, only in ((folder, []), (folder.parent, [folder.name])):
        given = {"kind": kind, "source": str(source)}
        dataset: Dataset = TypeAdapter(AnyDataset).validate_python({"name": "any"} | given)
        try:
            if set(only) <= set(dataset.categories()):
                return given, only
        except FlawlineError:
            continue
    return None


def _laid(folder: Path) -> Kind | None:
    laid = any(as_given(each, "train/good") for each in (folder, *folders_in(folder)))
    return _at_its_level("folder", folder) if laid else None


def _good_bad(folder: Path) -> Kind | None:
    roots = [folder] if _named(folder, GOOD_NAMES) else folders_in(folder)
    roots = [root for root in roots if _named(root, GOOD_NAMES)]
    if not roots:
        return None
    good = _each_once(name for root in roots for name in _named(root, GOOD_NAMES))
    masks = _each_once(name for root in roots for name in _named(root, MASK_NAMES))
    bad = _each_once(
        path.name
        for root in roots
        for path in folders_in(root)
        if path.name not in (*good, *masks) and has_images(path)
    )
    named = {"masks": masks[0]} if masks and masks[0] != "ground_truth" else {}
    return {
        "kind": "good_bad",
        "source": str(folder),
        "good": good,
        "bad": bad,
    } | named, []


def _flat(folder: Path) -> Kind | None:
    """Photographs without a word about them are good."""
    roots = [folder] if _has_photographs(folder) else folders_in(folder)
    roots = [root for root in roots if _has_photographs(root)]
    if not roots or any(_named(root, {"train", "test"}) for root in (folder, *roots)):
        return None
    if {root.name.casefold() for root in roots} & (BAD_NAMES | {"train", "test"}):
        return None
    bad = _each_once(name for root in roots for name in _named(root, BAD_NAMES))
    return {"kind": "good_bad", "source": str(folder), "good": ["."], "bad": bad}, []


def _named(folder: Path, names: set[str]) -> list[str]:
    return [path.name for path in folders_in(folder) if path.name.casefold() in names]


def _has_photographs(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in files_in(folder))


def _each_once(names: Iterator[str]) -> list[str]:
    """Return names that differ by more than their case."""
    return list({name.casefold(): name for name in names}.values())


def _count(dataset: Dataset, category: str) -> Category:
    listing = dataset.listing(category)
    good = [entry for entry in listing.entries if not entry.label]
    defects = Counter(entry.defect_type for entry in listing.entries if entry.label)
    tested = sum(entry.split == "test" for entry in good)
    if isinstance(dataset, Dealt):
        tested += round(dataset.test_fraction * sum(not entry.split for entry in good))
    learned = [entry for entry in good if entry.split != "test"]
    height, width = _median_size([dataset.folder / entry.path for entry in learned])
    problems = summary(sorted(listing.problems))
    return Category(category, len(good) - tested, tested, dict(defects), height, width, problems)


def _median_size(photographs: list[Path]) -> tuple[float, float]:
    """Return the median height and width, as a viewer shows the photographs."""
    sizes = []
    for path in photographs[:: max(len(photographs) // MEASURED, 1)]:
        try:
            with Image.open(path) as image:
                turned = image.getexif().get(ORIENTATION) in TRANSPOSED
                sizes.append(image.size if turned else image.size[::-1])
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            continue  # `check` says what is wrong with it
    if not sizes:
        return 0, 0
    return median(height for height, _ in sizes), median(width for _, width in sizes)
