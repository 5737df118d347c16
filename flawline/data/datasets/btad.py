"""BTAD, three industrial products: Mishra, Verk, Fornasier, Piciarelli, Foresti, ISIE 2021.

<category>/train/ok/*    <category>/test/{ok,ko}/*    <category>/ground_truth/ko/*
"""

from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import as_given, folders_in
from flawline.data.datasets.layout import Laid, Layout
from flawline.options.base import Name


class Btad(Laid):
    """BTAD, or any folders ``train/ok`` and ``test/{ok,ko}``."""

    kind: Literal["btad"] = "btad"
    name: Name = "btad"

    def layout(self) -> Layout:
        """Return the layout; good photographs are called ok."""
        return Layout(train=("train/ok",), good="ok")

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether a category, or the folder itself, has ``train/ok``."""
        return any(as_given(each, "train/ok") for each in [folder, *folders_in(folder)])
