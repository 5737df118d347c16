"""A sheet of examples, so that a person can see what a set of synthetic anomalies looks like."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flawline.files import replacing

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

COLUMNS = ("good image", "object mask", "synthetic", "outlined", "changed mask")
SIDES = (192, 160, 128, 96, 64, 48, 32)  # of a panel: the largest that keeps to the file size
LARGEST_FILE = 500_000
GAP, TITLE = 4, 18
PAPER, INK, OUTLINE = (255, 255, 255), (40, 40, 40), (255, 0, 200)


@dataclass(frozen=True)
class Example:
    """One row of the sheet: a title, uint8 images (S, S, 3) and uint8 masks (S, S), 0 or 1."""

    title: str
    image: np.ndarray
    object_mask: np.ndarray
    synthetic: np.ndarray
    mask: np.ndarray


def draw_sheet(
    path: Path | str,
    images: np.ndarray,
    object_masks: np.ndarray,
    synthetic: np.ndarray,
    masks: np.ndarray,
    index_table: "pd.DataFrame",
    count: int = 8,
) -> None:
    """Draw `count` examples of a synthetic set, spread evenly over its kinds.

    Parameters
    ----------
    path : .png or .jpg file
    images, object_masks : uint8 (N, S, S, 3) and (N, S, S)
        The training goods.
    synthetic, masks : uint8 (M, S, S, 3) and (M, S, S)
        What `synthesize` wrote.
    index_table : what `synthesize` returned
    """
    # the first of each kind, then the second of each, and so on
    turn = index_table.groupby("kind").cumcount()
    chosen = index_table.assign(turn=turn).sort_values(["turn", "kind"])[:count]
    chosen = chosen.sort_values(["kind", "turn"])
    examples = [
        Example(
            f"{kind}: image {row} from training image {source}, {changed} pixels changed",
            images[source],
            object_masks[source],
            synthetic[row],
            masks[row],
        )
        for row, kind, source, changed in zip(
            chosen["row"], chosen["kind"], chosen["source"], chosen["changed"], strict=True
        )
    ]
    contact_sheet(path, examples)


def contact_sheet(path: Path | str, rows: Sequence[Example]) -> None:
    """Draw examples one below the other, under 500 KB; PNG or JPEG by the suffix of `path`."""
    path = Path(path)
    kind = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    for side in SIDES:
        encoded = io.BytesIO()
        _sheet(rows, side).save(encoded, kind, optimize=True)
        if encoded.tell() <= LARGEST_FILE:
            break
    with replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())


def _sheet(rows: Sequence[Example], side: int) -> "Image.Image":
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(11)
    width = GAP + len(COLUMNS) * (side + GAP)
    height = TITLE + len(rows) * (TITLE + side + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    ink = ImageDraw.Draw(sheet)
    for i, column in enumerate(COLUMNS):
        ink.text((GAP + i * (side + GAP), 3), column, INK, font)
    for k, row in enumerate(rows):
        top = TITLE + k * (TITLE + side + GAP)
        ink.text((GAP, top + 3), row.title, INK, font)
        for i, panel in enumerate(_panels(row, side)):
            sheet.paste(Image.fromarray(panel), (GAP + i * (side + GAP), top + TITLE))
    return sheet


def _panels(row: Example, side: int) -> list[np.ndarray]:
    def resized(pixels: np.ndarray) -> np.ndarray:
        method = cv2.INTER_AREA if len(pixels) > side else cv2.INTER_NEAREST
        return cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=method)

    def as_image(mask: np.ndarray) -> np.ndarray:
        return np.repeat(resized(255 * np.asarray(mask))[..., None], 3, axis=2)

    synthetic, mask = resized(row.synthetic), as_image(row.mask)
    outlines, _ = cv2.findContours(
        (mask[..., 0] > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outlined = cv2.drawContours(synthetic.copy(), outlines, -1, OUTLINE, 1)
    return [resized(row.image), as_image(row.object_mask), synthetic, outlined, mask]
