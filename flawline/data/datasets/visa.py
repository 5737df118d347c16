"""VisA, twelve objects: Zou, Jeong, Pemula, Zhang, Dabeer, ECCV 2022.

<object>/Data/Images/{Normal,Anomaly}/*    <object>/Data/Masks/Anomaly/*.png
split_csv/1cls.csv: object, split, label, image, mask
"""

import csv
from functools import cached_property
from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import GOOD, FromFolder, Listing
from flawline.data.datasets.layout import what_is_there
from flawline.data.folder_digest import files_below
from flawline.errors import FlawlineError
from flawline.files import is_file
from flawline.options.base import Name

TABLE = "split_csv/1cls.csv"
COLUMNS = ("object", "split", "label", "image", "mask")


class Visa(FromFolder):
    """VisA, split by its authors' table for one class at a time."""

    kind: Literal["visa"] = "visa"
    name: Name = "visa"

    @cached_property
    def _rows(self) -> list[dict[str, str]]:
        self.subfolders("one folder per object and split_csv")
        path = self.folder / TABLE
        if not is_file(path):
            raise FlawlineError(
                f"dataset.source: no {TABLE} in {str(self.folder)!r}, the table of the split. "
                f"It comes with VisA.{what_is_there(self.folder)}"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise FlawlineError(
                    f"{path}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}"
                )
            return list(reader)

    def categories(self) -> list[str]:
        """Return the objects that have a folder."""
        objects = sorted({row["object"] for row in self._rows})
        found = [name for name in objects if (self.folder / name).is_dir()]
        if not found:
            raise FlawlineError(
                f"dataset.source: {TABLE} names {', '.join(objects)}; none is in "
                f"{str(self.folder)!r}.{what_is_there(self.folder)}"
            )
        return found

    def listing(self, category: str) -> Listing:
        """List all photographs of an object."""
        found = Listing(self.folder / category, self.folder)
        for row in self._rows:
            if row["object"] == category:
                mask = self.folder / row["mask"] if row["mask"] else None
                kind = GOOD if row["label"] == "normal" else "anomaly"
                found.add(self.folder / row["image"], row["split"], kind, mask=mask)
        masks = self.folder / category / "Data" / "Masks"
        found.seen(files_below(masks))
        found.report_unread(lambda _: f"photographs that {TABLE} names")
        return found

    def files(self, category: str) -> list[Path]:
        """List all files below the object's folder, and the table."""
        return [*super().files(category), self.folder / TABLE]

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether the table or a folder ``Data/Images`` exists."""
        inner = any(path.is_dir() for path in folder.glob("*/Data/Images"))
        return inner or (folder / TABLE).is_file()
