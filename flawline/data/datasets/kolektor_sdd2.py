"""KolektorSDD2, a coloured surface: Bozic, Tabernik, Skocaj, Computers in Industry 2021.

{train,test}/10000.png    {train,test}/10000_GT.png, black where the surface is good

Only supervised detectors use defective photographs of the training split.
"""

from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import FromFolder, Listing, as_given
from flawline.data.datasets.kolektor_sdd import add_labelled
from flawline.data.datasets.layout import what_is_there
from flawline.data.folder_digest import files_below
from flawline.errors import FlawlineError
from flawline.options.base import Name

CATEGORY, DEFECT, ENDING = "surface", "defect", "_GT"


class KolektorSdd2(FromFolder):
    """KolektorSDD2: folders ``train`` and ``test``."""

    kind: Literal["kolektor_sdd2"] = "kolektor_sdd2"
    name: Name = "kolektor_sdd2"

    def categories(self) -> list[str]:
        """Return its only category."""
        self.subfolders("train and test")
        if not all(as_given(self.folder, split) for split in ("train", "test")):
            raise FlawlineError(
                f"dataset.source: no folders train and test in {str(self.folder)!r}."
                f"{what_is_there(self.folder)}"
            )
        return [CATEGORY]

    def listing(self, category: str) -> Listing:
        """List all photographs of both splits."""
        found = Listing(self.folder, self.folder)
        for split in ("train", "test"):
            for folder in as_given(self.folder, split):
                add_labelled(found, folder, split, ENDING, DEFECT)
        found.report_unread(lambda _: "train and test")
        return found

    def files(self, category: str) -> list[Path]:
        """List all files below the source."""
        return files_below(self.folder)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether there are labels beside the photographs of a training split."""
        return any(
            path.stem.endswith(ENDING)
            for train in as_given(folder, "train")
            for path in files_below(train)
        )
