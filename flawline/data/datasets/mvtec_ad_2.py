"""MVTec AD 2: Heckler-Kram, Neudeck, Scheler, König, Steger, 2025.

<category>[/<category>]/{train,validation}/good/*    .../test_public/{good,bad}/*
.../test_public/ground_truth/bad/<name>_mask.png

The private test photographs have no labels, so they are not read.
"""

from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import folders_in
from flawline.data.datasets.layout import Laid, Layout
from flawline.options.base import Name


class MvtecAd2(Laid):
    """MVTec AD 2. Its validation photographs also serve for training and calibration."""

    kind: Literal["mvtec_ad_2"] = "mvtec_ad_2"
    name: Name = "mvtec_ad_2"

    def layout(self) -> Layout:
        """Return the layout with validation photographs and the public test."""
        return Layout(
            train=("train/good", "validation/good"),
            test="test_public",
            masks="test_public/ground_truth",
            untold=("test_private", "test_private_mixed"),
        )

    def root(self, category: str) -> Path:
        """Return the category's folder, or the one of the same name in it, as archives unpack."""
        folder = self.folder / category
        return folder / category if (folder / category).is_dir() else folder

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether a category, or the folder itself, has a public test."""
        first = [folder, *folders_in(folder)]
        second = [inner for each in first for inner in folders_in(each)]
        return any((each / "test_public").is_dir() for each in [*first, *second])
