"""KolektorSDD, electrical commutators: Tabernik, Sela, Skvarc, Skocaj, J. Intell. Manuf. 2020.

kos01/Part0.jpg    kos01/Part0_label.bmp, black where the part is good

The photographs of one commutator show one part from eight sides, so they are a group. Nearly every
commutator has a defect. If one is trained on, its defective sides are neither trained on nor
tested.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field

from flawline.data.datasets.base import GOOD, Dealt, FromFolder, Listing, folders_in
from flawline.data.datasets.layout import what_is_there
from flawline.data.folder_digest import SUFFIXES, files_below
from flawline.errors import FlawlineError
from flawline.options.base import Name

CATEGORY, DEFECT, ENDING = "commutator", "crack", "_label"


class KolektorSdd(FromFolder, Dealt):
    """KolektorSDD: folders ``kos01`` to ``kos50``."""

    kind: Literal["kolektor_sdd"] = "kolektor_sdd"
    name: Name = "kolektor_sdd"
    test_fraction: float = Field(
        0.5, gt=0, lt=1, description="Fraction of good photographs used for testing."
    )

    def categories(self) -> list[str]:
        """Return its only category."""
        if not any(map(_is_part, self.subfolders("kos01 to kos50"))):
            raise FlawlineError(
                f"dataset.source: no folder kos01, kos02, ... in {str(self.folder)!r}."
                f"{what_is_there(self.folder)}"
            )
        return [CATEGORY]

    def listing(self, category: str) -> Listing:
        """List all photographs, grouped by commutator."""
        found = Listing(self.folder, self.folder)
        for part in filter(_is_part, folders_in(self.folder)):
            add_labelled(found, part, "", ENDING, DEFECT, part.name)
        found.report_unread(lambda _: "folders kos01, kos02, ... of commutators")
        return found

    def files(self, category: str) -> list[Path]:
        """List all files below the source."""
        return files_below(self.folder)

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether there is a folder of a commutator."""
        return any(map(_is_part, folders_in(folder)))


def add_labelled(
    found: Listing, folder: Path, split: str, ending: str, defect_type: str, group: str = ""
) -> None:
    """Add photographs with a label picture beside each, black where the part is good.

    Parameters
    ----------
    ending : of the label's name, after its photograph's.
    defect_type : of those whose label is not black.
    """
    files = files_below(folder)
    labels = {path.stem.removesuffix(ending): path for path in files if path.stem.endswith(ending)}
    photographs = [path for path in files if path not in labels.values()]
    found.seen(labels.values())
    for path in photographs:
        label = labels.pop(path.stem, None)
        if label is None and path.suffix.lower() in SUFFIXES:
            found.report(
                path, "no label beside it", "none", f"{path.stem}{ending}.*, black if it is good"
            )
        elif label is None or _is_black(label):
            found.add(path, split, GOOD, group=group)
        else:
            found.add(path, split, defect_type, mask=label, group=group)
    for stem, path in labels.items():
        found.report(
            path, "label without photograph", "none", f"a photograph {stem}.*", "it is left out"
        )


def _is_part(folder: Path) -> bool:
    name = folder.name.casefold()
    return name.startswith("kos") and name[3:].isdigit()


def _is_black(label: Path) -> bool:
    # the configuration imports all kinds of dataset, and planning must not load OpenCV
    from flawline.data.masks import is_black

    return is_black(label)
