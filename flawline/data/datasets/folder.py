"""Any folder of category folders in MVTec AD's layout; masks and defects may be missing.

<category>/train/good/*            <category>/test/good/*
<category>/test/<defect type>/*    <category>/ground_truth/<defect type>/<name>_mask.png
"""

from typing import Literal

from flawline.data.datasets.layout import Laid


class Folder(Laid):
    """Any folder of category folders in MVTec AD's layout; masks and defects may be missing."""

    kind: Literal["folder"] = "folder"
