"""MVTec AD's layout and similar ones: folders for training and test, one per defect type."""

import json
from dataclasses import dataclass
from pathlib import Path

from flawline.data.datasets.base import (
    GOOD,
    FromFolder,
    Listing,
    as_given,
    folders_in,
    has_images,
    names_that_print,
)
from flawline.data.folder_digest import SUFFIXES, files_below
from flawline.data.problems import LEFT_OUT, Problem
from flawline.errors import FlawlineError

# names for good parts; a defect type with such a name is usually a mistake
GOOD_NAMES = {
    *("good", "goods", "ok", "okay", "io", "i.o", "i.o.", "normal", "normals", "pass", "passed"),
    *("fine", "perfect", "intact", "nominal", "defect_free", "defect-free", "no_defect", "gut"),
    *("non_defective", "nondefective", "not_defective", "negative"),
}


@dataclass(frozen=True)
class Layout:
    """The folders of a category, found whatever the case of their letters.

    Attributes
    ----------
    train : folders of good photographs to learn from; the first must exist.
    test : folder of test photographs, in one folder for each defect type.
    good : name of the folder of good test photographs there.
    masks : folder of masks, in one folder for each defect type.
    untold : folders of unlabelled photographs, which are not read.
    """

    train: tuple[str, ...] = ("train/good",)
    test: str = "test"
    good: str = GOOD
    masks: str = "ground_truth"
    untold: tuple[str, ...] = ()

    def listing(self, root: Path, base: Path) -> Listing:
        """List all photographs of a category.

        Parameters
        ----------
        root : the category's folder.
        base : what paths are relative to.

        Raises
        ------
        FlawlineError
            If it has no folder of training photographs.
        """
        if not as_given(root, self.train[0]):
            raise FlawlineError(
                f"{root}: no {self.train[0]} folder. Expected <category>/{self.train[0]} with "
                "images of good parts. If the data were downloaded, delete the folder and run "
                f"again.{what_is_there(root)}"
            )
        found = Listing(root, base)
        for inner in self.train:
            for folder in as_given(root, inner):
                found.add_folder(folder, "train", GOOD, f"{inner}")
        masks = as_given(root, self.masks)
        for test in as_given(root, self.test):
            for part in folders_in(test):
                if part not in masks:
                    self._add_part(found, part)
        for folder in masks:
            found.match_masks(folder, self.masks)
        for folder in (one for inner in self.untold for one in as_given(root, inner)):
            found.seen(files_below(folder))
        found.report_unread(self._advice)
        return found

    def _add_part(self, found: Listing, part: Path) -> None:
        name = part.name.casefold()
        if name == self.good:
            found.add_folder(part, "test", GOOD, part.name)
        elif name in GOOD_NAMES:
            files = files_below(part)
            found.seen(files)
            test = f"{self.test}/{part.name}"
            expected = f"{self.test}/{self.good} for good parts, or another name of the defect type"
            found.problems.append(
                Problem(test, "good, or a defect type?", part.name, expected, "yes", LEFT_OUT)
            )
        else:
            found.add_folder(part, "test", part.name, part.name)

    def _advice(self, folder: str) -> str:
        name = folder.rsplit("/", maxsplit=1)[-1].casefold()
        if name in GOOD_NAMES or folder.startswith(("train", "val")):
            return (
                f"good photographs to learn from in {self.train[0]}, to measure with in "
                f"{self.test}/{self.good}"
            )
        return f"{self.train[0]}, {self.test}/<defect type> and {self.masks}/<defect type>"


class Laid(FromFolder):
    """A dataset of category folders in one `Layout`."""

    def layout(self) -> Layout:
        """Return the folders of a category."""
        return Layout()

    def categories(self) -> list[str]:
        """List the folders that have training photographs."""
        inner = self.layout().train[0]
        found = [path.name for path in self.subfolders() if as_given(self.root(path.name), inner)]
        if not found:
            if hint := self._level():
                raise FlawlineError(f"dataset.source: {str(self.folder)!r} {hint}")
            raise FlawlineError(
                f"dataset.source: no category found in {str(self.folder)!r}. "
                f"Expected <category>/{inner} with images of good parts, and "
                f"{self.layout().test}/<defect type>.{what_is_there(self.folder)}"
            )
        return names_that_print(found, self.folder)

    def _level(self) -> str:
        """Say what to give instead, if the folder is one level away from the dataset's."""
        inner = self.layout().train[0]
        if as_given(self.folder, inner):
            folder = self.folder.resolve()
            source = json.dumps(str(folder.parent), ensure_ascii=False)
            category = json.dumps(folder.name, ensure_ascii=False)
            return (
                f"is a category itself: it has {inner}. Give the folder that holds it, and the "
                f"category's name:\n  dataset: {{source: {source}}}\n  categories: [{category}]"
            )
        above = [
            repr(str(path))
            for path in self.subfolders()
            if any(as_given(part, inner) for part in folders_in(path))
        ]
        if above:
            return f"has its categories one level further down: give {' or '.join(above)}."
        return ""

    def passed_over(self) -> list[str]:
        """Describe folders beside the categories that hold images but are not categories."""
        known = set(self.categories())
        return [
            f"{path.name!r} has images, but no {self.layout().train[0]}.{what_is_there(path)}"
            for path in self.subfolders()
            if path.name not in known and has_images(path)
        ]

    def root(self, category: str) -> Path:
        """Return the folder that holds a category's training and test folders."""
        return self.folder / category

    def listing(self, category: str) -> Listing:
        """List all photographs of a category."""
        return self.layout().listing(self.root(category), self.folder)


def what_is_there(folder: Path) -> str:
    """Return a sentence on what a folder holds, and of which kind it may be."""
    from flawline.data.datasets import KINDS, kind_of

    names = [f"{path.name}/" for path in folders_in(folder)]
    images = sum(path.suffix.lower() in SUFFIXES for path in files_in(folder))
    counted = [f"{images} image{'s' * (images > 1)}"] * bool(images)
    there = names[:6] + ["..."] * (len(names) > 6) + counted
    if not there:
        return " There is nothing in it."
    kinds = [kind_of(kind) for kind in KINDS if kind.recognizes(folder)]
    hint = f" That looks like `kind: {kinds[0]}`: see config/README.md." if kinds else ""
    return f" Found there: {', '.join(there)}.{hint}"


def files_in(folder: Path) -> list[Path]:
    """List the files directly in a folder, without hidden ones."""
    return [path for path in files_below(folder) if path.parent == folder]
