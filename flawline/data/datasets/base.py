"""The contract of every kind of dataset: its categories and their photographs."""

import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from flawline.data.folder_digest import SUFFIXES, digest_of, files_below, is_hidden
from flawline.data.problems import LEFT_OUT, MASK_IGNORED, Problem
from flawline.errors import FlawlineError
from flawline.files import is_folder
from flawline.options.base import Name, Options

GOOD = "good"
LABEL = re.compile(
    r"(?:mask[_-])?(?P<of>.+?)(?:[_-](?:mask|label|labels|gt|seg|segmentation|annotation))?",
    re.IGNORECASE,
)
UNREAD = "they are left out"


@dataclass
class Entry:
    """One photograph of a category.

    Attributes
    ----------
    image_id : its name in all tables, unique within the category.
    path, mask_path : relative to the dataset's folder; a mask may be a folder of several pictures
        that form one mask; empty if there is none.
    split : train or test; empty if it is still to be dealt.
    defect_type : good, or what is wrong with the part.
    group : photographs of one group stay on one side of every split; empty if it is alone.
    height, width, sha256, float_white, fingerprint : known once it is read.
    """

    image_id: str
    path: str
    split: str
    defect_type: str
    mask_path: str = ""
    group: str = ""
    height: int = 0
    width: int = 0
    sha256: str = ""
    float_white: float = 0.0
    fingerprint: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def label(self) -> int:
        """1 if it is defective."""
        return int(self.defect_type != GOOD)


class Listing:
    """The photographs found for a category, and the problems of its folders.

    Parameters
    ----------
    root : the category's folder; names of photographs are relative to it.
    base : the dataset's folder; paths are relative to it.
    """

    def __init__(self, root: Path, base: Path) -> None:
        self.root, self.base = root, base
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self._by_key: dict[str, list[Entry]] = {}
        self._seen: set[Path] = set()

    def add(
        self,
        path: Path,
        split: str,
        defect_type: str,
        *,
        key: str = "",
        mask: Path | None = None,
        group: str = "",
    ) -> None:
        """Add a file as a photograph, or report why it is not one.

        Parameters
        ----------
        key : by which `match_masks` finds it.
        """
        self._seen.add(path)
        image_id = shown(path, self.root)
        if image_id != path.relative_to(self.root).as_posix():
            expected = "a name in UTF-8"
            self._problem(image_id, "file name is not valid UTF-8", "other bytes", expected)
        elif path.suffix.lower() not in SUFFIXES:
            self._problem(
                image_id,
                "not an image",
                f"a file named *{path.suffix}",
                ", ".join(SUFFIXES),
                "the file is left out",
            )
        else:
            entry = Entry(image_id, self._path(path), split, defect_type, group=group)
            if mask is not None:
                self._seen.add(mask)
                entry.mask_path = self._path(mask)
            self.entries.append(entry)
            self._by_key.setdefault(key or image_id, []).append(entry)

    def add_folder(
        self, folder: Path, split: str, defect_type: str, name: str, files: list[Path] | None = None
    ) -> None:
        """Add all files below a folder as photographs of one type, without labels beside them.

        Parameters
        ----------
        name : prefix of its photographs' keys.
        files : files of the folder to add; all, if None.
        """
        files = files_below(folder) if files is None else files
        stems = {(path.parent, path.stem.casefold()): path for path in files}
        for path in files:
            stem = path.stem.casefold()
            partner = stems.get((path.parent, of)) if (of := unlabelled(stem)) != stem else None
            if partner is not None:
                self._seen.add(path)
                self._problem(
                    shown(path, self.root),
                    "label beside its photograph",
                    f"the label of {partner.name}, by its name",
                    "only photographs; labels belong in ground_truth/<defect type>",
                    "the label is left out",
                )
                continue
            within = path.relative_to(folder).with_suffix("").as_posix()
            self.add(path, split, defect_type, key=f"{name}/{within}")

    def match_masks(self, masks: Path, expected: str = "ground_truth") -> None:
        """Give every photograph its mask from a folder of masks, if there is such a folder.

        A mask has its photograph's key as its path there, with or without ``_mask`` or the like in
        its name; or that is a folder of masks which are one together.

        Parameters
        ----------
        masks : the folder.
        expected : its name, for messages.
        """
        if not masks.is_dir():
            return
        given: dict[str, dict[str, Path]] = {}  # per key, the files; a folder stands for its files
        for path in files_below(masks):
            self._seen.add(path)
            inside = path.relative_to(masks)
            key, folder = inside.with_suffix("").as_posix(), inside.parent.as_posix()
            if key not in self._by_key:
                key = inside.with_name(unlabelled(inside.stem)).as_posix()
            if folder in self._by_key and key not in self._by_key:
                given.setdefault(folder, {})[folder] = path.parent
            else:
                given.setdefault(key, {})[inside.as_posix()] = path
        for key, entries in self._by_key.items():
            found = given.pop(key, {})
            defective = [entry for entry in entries if entry.label]
            if found and len(found) * len(entries) > 1:
                self._ambiguous(key, entries, list(found), masks)
            elif found:
                entries[0].mask_path = self._path(next(iter(found.values())))
            else:
                for entry in defective:
                    wanted = f"{expected}/{key}_mask.png"
                    self._problem(entry.image_id, "mask missing", "none", wanted, MASK_IGNORED)
        for key, found in given.items():
            for path in found.values():
                self._problem(
                    shown(path, self.root),
                    "mask without image",
                    "no photograph of that name",
                    f"a photograph {key}.*",
                    "the mask is ignored",
                )

    def _ambiguous(self, key: str, entries: list[Entry], found: list[str], masks: Path) -> None:
        names = ", ".join(entry.image_id for entry in entries)
        several = "several photographs" if len(entries) > 1 else "one photograph"
        which = f"{shown(masks, self.root)}/{found[0]}"
        others = "" if len(found) == 1 else f" and {', '.join(found[1:])}"
        self._problem(
            which,
            "which mask belongs to which photograph",
            f"{which}{others} for {several}: {names}",
            f"one photograph and one mask of the name {key}",
            MASK_IGNORED,
        )

    def report_unread(self, advice: Callable[[str], str]) -> None:
        """Report the category's folders with images that are not read.

        Parameters
        ----------
        advice : maps a folder's name to what should be there instead.
        """
        unread: dict[str, int] = {}
        for path in files_below(self.root):
            if path not in self._seen and path.suffix.lower() in SUFFIXES:
                folder = "/".join(path.relative_to(self.root).parts[:-1][:2]) or "."
                unread[folder] = unread.get(folder, 0) + 1
        for folder, count in unread.items():
            self._problem(
                folder,
                "images in a folder that is not read",
                f"{count} image{'s' if count > 1 else ''}",
                advice(folder),
                UNREAD,
            )

    def report(
        self, path: Path, problem: str, found: str, expected: str, if_skipped: str = LEFT_OUT
    ) -> None:
        """Report a problem with a file, and count it as read."""
        self._seen.add(path)
        self._problem(shown(path, self.root), problem, found, expected, if_skipped)

    def seen(self, paths: Iterable[Path]) -> None:
        """Mark files as read."""
        self._seen.update(paths)

    def _problem(
        self, file: str, problem: str, found: str, expected: str, if_skipped: str = LEFT_OUT
    ) -> None:
        self.problems.append(Problem(file, problem, found, expected, "yes", if_skipped))

    def _path(self, path: Path) -> str:
        return path.relative_to(self.base).as_posix()


class Dataset(Options):
    """Where photographs come from."""

    provided: ClassVar[bool] = True  # the user's own folder is read; otherwise a rule makes it
    kind: str
    name: Name

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The folder that paths of photographs are relative to."""

    @abstractmethod
    def categories(self) -> list[str]:
        """Return the names of the categories, sorted; raise a FlawlineError if there are none."""

    @abstractmethod
    def listing(self, category: str) -> Listing:
        """List all photographs of a category; images are not opened."""

    def passed_over(self) -> list[str]:
        """Describe folders beside the categories that hold images but are not categories."""
        return []

    def files(self, category: str) -> list[Path]:
        """List all files of a category."""
        return files_below(self.folder / category)

    def digest(self, category: str, cache: Path) -> str:
        """Return the digest of the names and contents of a category's files."""
        return digest_of(self.files(category), self.folder, cache)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether a folder looks like a dataset of this kind."""
        return False


class FromFolder(Dataset):
    """A dataset in a folder of the user's."""

    source: str = Field(description="The folder with the data.")

    @property
    def folder(self) -> Path:
        """The source."""
        try:
            return Path(self.source).expanduser()
        except RuntimeError:
            raise FlawlineError(
                f"dataset.source: {self.source!r}: no such user; give the whole path"
            ) from None

    def subfolders(self, what: str = "one folder per category") -> list[Path]:
        """List the folders in the source, sorted, without hidden ones.

        Raises
        ------
        FlawlineError
            If the source does not exist.
        """
        if not is_folder(self.folder):
            raise FlawlineError(
                f"dataset.source: there is no folder {str(self.folder)!r}. "
                f"Give the folder that holds {what}."
            )
        return folders_in(self.folder)


class Dealt(Options):
    """Options of datasets without a split into train and test."""

    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Fraction of good photographs used for testing."
    )
    seed: int = Field(0, ge=0, description="Seed of their choice.")


def folders_in(folder: Path) -> list[Path]:
    """List the folders in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.glob("*") if path.is_dir() and not is_hidden(path.name))


def as_given(folder: Path, inner: str) -> list[Path]:
    """Find the folders at a relative path, ignoring case."""
    found = [folder]
    for name in inner.split("/"):
        found = [one for each in found for one in folders_in(each) if one.name.casefold() == name]
    return found


def shown(path: Path, folder: Path) -> str:
    """Return a path below `folder` as printable text; odd bytes become \\x and digits."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def has_images(folder: Path) -> bool:
    """Check whether a file below a folder has an image's suffix."""
    return any(path.suffix.lower() in SUFFIXES for path in files_below(folder))


def names_that_print(names: list[str], folder: Path) -> list[str]:
    """Return the names unchanged, once they are checked.

    Raises
    ------
    FlawlineError
        If a name cannot be that of a category.
    """
    if braced := [name for name in names if "{" in name or "}" in name]:
        raise FlawlineError(
            f"dataset.source: {', '.join(braced)} in {str(folder)!r} cannot name a category, "
            "because Snakemake reads braces in a path as a placeholder; rename the folder."
        )
    if unusual := [name for name in names if not name.isprintable()]:
        told = ", ".join(os.fsencode(name).decode("utf-8", "backslashreplace") for name in unusual)
        raise FlawlineError(
            f"dataset.source: {told} in {str(folder)!r} cannot name a category, because it has "
            "bytes that are not UTF-8 or characters that do not print; rename the folder."
        )
    return names


def unlabelled(stem: str) -> str:
    """Return the stem of a label's photograph; other stems unchanged."""
    found = LABEL.fullmatch(stem)
    return found["of"] if found else stem
