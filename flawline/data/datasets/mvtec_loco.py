"""MVTec LOCO AD: Bergmann, Batzner, Fauser, Sattlegger, Steger, IJCV 2022.

<category>/{train,validation}/good/*    <category>/test/{good,logical_anomalies,...}/*
<category>/ground_truth/<type>/<name>/*.png: one mask for each defect of a photograph

The masks of a photograph form one mask. Saturation thresholds (`defects_config.json`), which the
authors' sPRO needs, are not read: pixel metrics here require the whole defect.
"""

from pathlib import Path
from typing import Literal

from flawline.data.datasets.base import folders_in
from flawline.data.datasets.layout import Laid, Layout
from flawline.options.base import Name


class MvtecLoco(Laid):
    """MVTec LOCO AD. Its validation photographs also serve for training and calibration."""

    kind: Literal["mvtec_loco"] = "mvtec_loco"
    name: Name = "mvtec_loco"

    def layout(self) -> Layout:
        """Return the layout with validation photographs."""
        return Layout(train=("train/good", "validation/good"))

    @classmethod
    def recognizes(cls, folder: Path) -> bool:
        """Check whether a category, or the folder itself, has logical anomalies."""
        everywhere = [folder, *folders_in(folder)]
        return any((each / "test" / "logical_anomalies").is_dir() for each in everywhere)
