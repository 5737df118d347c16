"""A CSV file with a row for each photograph, wherever the photographs are.

Columns: path (relative to the file) and, optionally, category, split (train, test), label (good,
bad), defect_type, mask (relative to the file) and group.
"""

import csv
from functools import cached_property
from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import GOOD, Dealt, FromFolder, Listing, names_that_print
from flawline.data.datasets.layout import GOOD_NAMES
from flawline.errors import FlawlineError
from flawline.files import is_file

COLUMNS = ("path", "category", "split", "label", "defect_type", "mask", "group")
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test", "": ""}
GOOD_LABELS = GOOD_NAMES | {"0", "false"}
BAD_LABELS = {"bad", "1", "true", "defective", "defect", "anomaly", "anomalous", "ng", "nok", "ko"}


class Manifest(FromFolder, Dealt):
    """A CSV file with a row for each photograph; those without a split are dealt."""

    kind: Literal["manifest"] = "manifest"

    @property
    def file(self) -> Path:
        """The CSV file."""
        return super().folder

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return self.file.parent

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        if not is_file(self.file):
            raise FlawlineError(
                f"dataset.source: there is no file {str(self.file)!r}. Give a CSV file with a "
                f"column `path` and any of {', '.join(COLUMNS[1:])}."
            )
        text = self.file.read_text(encoding="utf-8-sig")
        # the header names known columns without quotes, so the separator is whatever is between
        separator = next((one for one in ",;\t" if one in text.partition("\n")[0]), ",")
        reader = csv.DictReader(text.splitlines(), delimiter=separator)
        given = [name.strip() for name in reader.fieldnames or ()]
        unknown = [name for name in given if name not in COLUMNS]
        if "path" not in given or unknown:
            raise FlawlineError(
                f"{self.file}: found the columns {', '.join(given) or 'of an empty file'}; "
                f"expected `path` and any of {', '.join(COLUMNS[1:])}"
            )
        reader.fieldnames = given
        rows = []
        for row in reader:
            where = f"{self.file}, line {reader.line_num}"
            if None in row or None in row.values():
                raise FlawlineError(
                    f"{where}: has {len(list(filter(None, row.values())))} values where the header "
                    f"has {len(given)} columns; quote a path that has the separator in it"
                )
            rows.append({key: value.strip() for key, value in row.items()} | {"where": where})
        self._check(rows)
        return rows

    def _check(self, rows: list[dict[str, str]]) -> None:
        wrong: list[str] = []
        known: dict[str | None, str] = {}
        for row in rows:
            where, split, label = row["where"], row.get("split", ""), row.get("label", "")
            if not row["path"]:
                wrong.append(f"{where}: no path")
            elif (old := known.setdefault(self._within(row["path"]), where)) != where:
                wrong.append(f"{where}: {row['path']!r} is already in {old}")
            if split.casefold() not in SPLITS:
                wrong.append(f"{where}: split {split!r}; expected train, test, or nothing")
            if label and label.casefold() not in GOOD_LABELS | BAD_LABELS:
                wrong.append(f"{where}: label {label!r}; expected good or bad (0 or 1)")
            if _good(row) and row.get("defect_type", GOOD).casefold() not in GOOD_LABELS | {""}:
                wrong.append(
                    f"{where}: defect_type {row['defect_type']!r} of a good photograph; expected "
                    "nothing, or the label bad"
                )
            for column in ("path", "mask"):
                if row.get(column) and self._within(row[column]) is None:
                    wrong.append(
                        f"{where}: {column} {row[column]!r} is outside {str(self.folder)!r}; put "
                        "the CSV file into a folder that holds all photographs"
                    )
        if wrong:
            more = [f"and {len(wrong) - 20} more"] if len(wrong) > 20 else []
            raise FlawlineError("\n".join(wrong[:20] + more))

    def _within(self, given: str) -> str | None:
        """Return a path relative to the folder, or None if it is outside."""
        path = Path(given)
        try:
            inner = path.relative_to(self.folder) if path.is_absolute() else path
        except ValueError:
            return None
        return None if ".." in inner.parts else inner.as_posix()

    def categories(self) -> list[str]:
        """Return the values of the column, or one category with the file's name."""
        found = sorted({row.get("category") or self.file.stem for row in self._rows})
        if not found:
            raise FlawlineError(f"{self.file}: no rows; expected one for each photograph")
        return names_that_print(found, self.file)

    def listing(self, category: str) -> Listing:
        """List all photographs of a category."""
        found = Listing(self.folder, self.folder)
        for row in self._of(category):
            mask = row.get("mask")
            found.add(
                self.folder / (self._within(row["path"]) or ""),
                SPLITS[row.get("split", "").casefold()],
                GOOD if _good(row) else row.get("defect_type") or "bad",
                mask=self.folder / (self._within(mask) or "") if mask else None,
                group=row.get("group", ""),
            )
        return found

    def files(self, category: str) -> list[Path]:
        """List the CSV file, and the photographs and masks that it names."""
        named = [row.get(column) for row in self._of(category) for column in ("path", "mask")]
        return [self.file, *(self.folder / name for name in named if name)]

    def _of(self, category: str) -> list[dict[str, str]]:
        return [row for row in self._rows if (row.get("category") or self.file.stem) == category]

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether there is a CSV file that names paths."""
        for path in folder.glob("*.csv"):
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                if "path" in [name.strip().strip('"') for name in file.readline().split(",")]:
                    return True
        return False


def _good(row: dict[str, str]) -> bool:
    label = row.get("label", "").casefold()
    return (
        label in GOOD_LABELS
        if label
        else row.get("defect_type", "").casefold() in GOOD_LABELS | {""}
    )
