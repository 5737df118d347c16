"""Which pixels count: those outside ignored regions and letterbox bars."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from flawline.data.masks import decode_mask
from flawline.data.resize import photograph_area, resize_share
from flawline.errors import FlawlineError
from flawline.files import new_array
from flawline.options.regions import Regions

if TYPE_CHECKING:
    import pandas as pd

SAMPLED = 7  # step between pixels that are enough for a median colour
TOUCHED = 1e-3  # share of a pixel from which on an ignored region covers it


def ignored(regions: Regions, shape: tuple[int, int]) -> np.ndarray:
    """Return which pixels of a photograph the regions cover: bool (h, w).

    Parameters
    ----------
    shape : height and width of the photograph.

    Raises
    ------
    FlawlineError
        If a polygon lies outside the photograph, or if nothing is left of it.
    """
    found: np.ndarray = np.zeros(shape, np.uint8)
    if regions.mask_file is not None:
        mask = decode_mask(regions.mask_file).astype(np.uint8)
        found = cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST)
    for number, polygon in enumerate(regions.polygons):
        one = np.zeros(shape, np.uint8)
        cv2.fillPoly(one, [np.rint(polygon).astype(np.int32)], 1)
        if not one.any():
            raise FlawlineError(
                f"regions.polygons: polygon {number + 1} lies outside a photograph of {shape[1]} x "
                f"{shape[0]} pixels; give its corners as [x, y] in pixels of the photographs"
            )
        found |= one
    if found.all():
        raise FlawlineError(
            f"regions: they cover the whole of a photograph of {shape[1]} x {shape[0]} pixels, so "
            "nothing is left to learn from; in `mask`, black is what counts"
        )
    return found.astype(bool)


class Counting:
    """Which pixels of prepared images count, for photographs of any size."""

    def __init__(self, regions: Regions, shape: tuple[int, int], mode: str) -> None:
        self.regions, self.shape, self.mode = regions, shape, mode
        self._known: dict[tuple[int, int], np.ndarray] = {}

    @classmethod
    def of_options(
        cls, regions: Mapping[str, Any], shape: tuple[int, int], mode: str
    ) -> "Counting":
        """Build from `regions` as the rules pass them: plain values, with the mask's hash."""
        given = {key: value for key, value in regions.items() if key in Regions.model_fields}
        return cls(Regions.model_validate(given), shape, mode)

    def of(self, original: tuple[int, int]) -> np.ndarray:
        """Return uint8 (H, W), 1 = counts, for a photograph of the given height and width."""
        if original not in self._known:
            counted = np.zeros(self.shape, np.uint8)
            counted[photograph_area(original, self.shape, self.mode)] = 1
            if self.regions:
                share = resize_share(ignored(self.regions, original), self.shape, self.mode)
                counted[share > TOUCHED] = 0
            self._known[original] = counted
        return self._known[original]

    def hide(self, photograph: np.ndarray) -> np.ndarray:
        """Paint ignored regions in the median colour of the rest, so that no method sees them.

        Call it before resizing, which would smear their content beyond their edge.

        Parameters
        ----------
        photograph : uint8 (h, w, 3).
        """
        if not self.regions:
            return photograph
        where = ignored(self.regions, (photograph.shape[0], photograph.shape[1]))
        hidden = photograph.copy()
        hidden[where] = np.median(photograph[~where][::SAMPLED], axis=0)
        return hidden


def write_counted(sizes: "pd.DataFrame", path: Path | str, counting: Counting) -> None:
    """Write uint8 (N, H, W), 1 = counts, to the .npy file `path`.

    Parameters
    ----------
    sizes : height and width of the photographs, one row each.
    """
    with new_array(path, (len(sizes), *counting.shape), np.uint8) as counted:
        for row, size in enumerate(sizes[["height", "width"]].itertuples(index=False)):
            counted[row] = counting.of((int(size[0]), int(size[1])))
