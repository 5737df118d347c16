"""A sheet of examples that shows what a set of synthetic anomalies looks like."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from flawline.files import replacing
from flawline.pictures import panel_shape, resized

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

COLUMNS = ("good image", "object mask", "synthetic", "outlined", "changed mask")
SIDES = (192, 160, 128, 96, 64, 48, 32)  # of a square panel; the largest with a small file is used
LARGEST_FILE = 500_000
GAP, TITLE = 4, 18
PAPER, INK, OUTLINE = (255, 255, 255), (40, 40, 40), (255, 0, 200)


@dataclass(frozen=True)
class Example:
    """One row of the sheet: a title, uint8 images (H, W, 3) and uint8 masks (H, W), 0 or 1."""

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
    images, object_masks : uint8 (N, H, W, 3) and (N, H, W)
        The good training images.
    synthetic, masks : uint8 (M, H, W, 3) and (M, H, W)
        The arrays that `synthesize` wrote.
    index_table : the table that `synthesize` returned
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
    from PIL import Image

    shape = panel_shape(rows[0].image.shape if rows else (1, 1), side)
    across = max(round(side / shape[1]), 1)  # a sheet of tall panels would be too long
    examples = [_example(row, shape) for row in rows]
    width, height = examples[0].size if examples else (GAP, 0)
    sheet = Image.new("RGB", (across * width, TITLE + -(-len(rows) // across) * height), PAPER)
    for block in range(min(across, len(rows))):
        for i, column in enumerate(COLUMNS):
            _write(sheet, (block * width + GAP + i * (round(shape[1]) + GAP), 3), column)
    for k, example in enumerate(examples):
        sheet.paste(example, (k % across * width, TITLE + k // across * height))
    return sheet


def _example(row: Example, shape: tuple[float, float]) -> "Image.Image":
    """Draw an example: its title above its panels."""
    from PIL import Image

    panels = _panels(row, shape)
    height, width = panels[0].shape[:2]
    drawn = Image.new("RGB", (GAP + len(panels) * (width + GAP), TITLE + height + GAP), PAPER)
    _write(drawn, (GAP, 3), row.title)
    for i, panel in enumerate(panels):
        drawn.paste(Image.fromarray(panel), (GAP + i * (width + GAP), TITLE))
    return drawn


def _write(picture: "Image.Image", place: tuple[int, int], words: str) -> None:
    from PIL import ImageDraw, ImageFont

    ImageDraw.Draw(picture).text(place, words, INK, ImageFont.load_default(11))


def _panels(row: Example, shape: tuple[float, float]) -> list[np.ndarray]:
    def as_image(mask: np.ndarray) -> np.ndarray:
        return np.repeat(resized(255 * np.asarray(mask), shape)[..., None], 3, axis=2)

    synthetic, mask = resized(row.synthetic, shape), as_image(row.mask)
    outlines, _ = cv2.findContours(
        (mask[..., 0] > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    outlined = cv2.drawContours(synthetic.copy(), outlines, -1, OUTLINE, 1)
    return [resized(row.image, shape), as_image(row.object_mask), synthetic, outlined, mask]
