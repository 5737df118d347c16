"""The kinds of dataset: where their category folders are and which categories they have.

Every kind ends in the same layout, MVTec AD's::

    <category>/train/good/*            <category>/test/good/*
    <category>/test/<defect type>/*    <category>/ground_truth/<defect type>/<name>_mask.png
"""

import os
from pathlib import Path

from flawline.errors import FlawlineError

MVTEC_AD_CATEGORIES = (
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
)
MVTEC_AD_LICENCE = (
    "MVTec AD (Bergmann, Fauser, Sattlegger, Steger; MVTec Software GmbH) is licensed "
    "CC BY-NC-SA 4.0: no commercial use."
)
DEMO_CATEGORIES = ("bolt", "tablet", "weave", "mesh")


def categories_in(folder: Path) -> list[str]:
    """Names of the subfolders of `folder` that have a ``train/good`` folder, sorted, none hidden.

    Raises
    ------
    FlawlineError
        If the folder is missing or holds no category.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 (False for a name too long, too)
        raise FlawlineError(
            f"dataset.source: there is no folder {str(folder)!r}. "
            "Give the folder that holds one folder per category."
        )
    goods = [path for path in folder.glob("*/train/good") if path.is_dir()]
    names = sorted(path.parent.parent.name for path in goods)
    found = [name for name in names if not name.startswith(".")]
    if unusual := [name for name in found if not name.isprintable()]:
        told = ", ".join(os.fsencode(name).decode("utf-8", "backslashreplace") for name in unusual)
        raise FlawlineError(
            f"dataset.source: {told} in {str(folder)!r} cannot name a category, because it has "
            "bytes that are not UTF-8 or characters that do not print; rename the folder."
        )
    if not found:
        raise FlawlineError(
            f"dataset.source: no category found in {str(folder)!r}. "
            "Expected <category>/train/good with images of good parts, and test/<defect type>."
        )
    return found
