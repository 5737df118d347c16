"""Folders of good and of bad photographs, not yet split into training and test.

<category>/good/*    <category>/bad/*    <category>/bad/<defect type>/*

Any names and any number of folders; ``.`` stands for the photographs that lie in the category's
folder itself. Masks, if there are any, are in a folder ``ground_truth``
beside them, under the same path.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from flawline.data.datasets.base import (
    GOOD,
    Dealt,
    FromFolder,
    Listing,
    as_given,
    folders_in,
    names_that_print,
)
from flawline.data.datasets.layout import GOOD_NAMES, files_in, what_is_there
from flawline.data.folder_digest import SUFFIXES, files_below
from flawline.errors import FlawlineError

BAD_NAMES = {"bad", "ng", "ko", "nok", "nio", "defect", "defects", "defective", "faulty", "reject"}


class GoodBad(FromFolder, Dealt):
    """Folders of good and of bad photographs; which of them are tested on is drawn."""

    kind: Literal["good_bad"] = "good_bad"
    good: list[str] = Field(
        ["good"],
        min_length=1,
        description="Folders of good photographs, relative to a category; `.`: those in its folder "
        "itself.",
    )
    bad: list[str] = Field(
        ["bad"],
        description="Folders of bad photographs; each folder in them is a defect type, or they are "
        "one type.",
    )
    masks: str = Field("ground_truth", description="Folder of masks, if there is one.")

    def categories(self) -> list[str]:
        """List the folders with a folder of good photographs, or the source if it has one."""
        folders = self.subfolders()
        if self._good_photographs(self.folder):
            return names_that_print([self.folder.resolve().name], self.folder)
        found = [path.name for path in folders if self._good_photographs(path)]
        if not found:
            wanted = " or ".join(f"{name}/" for name in self.good)
            raise FlawlineError(
                f"dataset.source: no category found in {str(self.folder)!r}. Expected {wanted} in "
                "it, or in its folders; name yours with `dataset: {good: [...], bad: [...]}`."
                f"{what_is_there(self.folder)}"
            )
        return names_that_print(found, self.folder)

    def listing(self, category: str) -> Listing:
        """List all photographs of a category."""
        root = self.root(category)
        found = Listing(root, self.folder)
        for name in self.good:
            for folder in _folders(root, name):
                files = files_in(folder) if name == "." else None
                found.add_folder(folder, "", GOOD, name, files)
        for name in self.bad:
            for folder in as_given(root, name.casefold()):
                self._add_bad(found, folder, name)
        found.match_masks(root / self.masks, self.masks)
        found.report_unread(
            lambda folder: f"its name under dataset.good or dataset.bad, if {folder} holds such"
        )
        return found

    def _add_bad(self, found: Listing, folder: Path, name: str) -> None:
        inner = folders_in(folder)
        for part in inner:
            found.add_folder(part, "", part.name, f"{name}/{part.name}")
        found.add_folder(folder, "", folder.name, name, files_in(folder))

    def root(self, category: str) -> Path:
        """Return the category's folder: the source itself, if that has good photographs."""
        return self.folder if self._good_photographs(self.folder) else self.folder / category

    def files(self, category: str) -> list[Path]:
        """List all files below the category's folder."""
        return files_below(self.root(category))

    def _good_photographs(self, folder: Path) -> list[Path]:
        return [one for name in self.good for one in _folders(folder, name)]

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether a category, or the folder itself, has folders of these names."""
        for each in [folder, *folders_in(folder)]:
            names = {path.name.casefold() for path in folders_in(each)}
            if names & GOOD_NAMES and names & BAD_NAMES:
                return True
        return False


def _folders(category: Path, name: str) -> list[Path]:
    """Find the folders of a name; ``.`` is the category's own, if photographs lie in it."""
    if name != ".":
        return as_given(category, name.casefold())
    there = any(path.suffix.lower() in SUFFIXES for path in files_in(category))
    return [category] if there else []
