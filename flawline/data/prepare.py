"""Decode every image once, in parallel, straight into memory-mapped arrays."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from tqdm import tqdm

from flawline.data.geometry import Tiling
from flawline.data.images import decode_image
from flawline.data.masks import decode_mask
from flawline.data.regions import Counting
from flawline.data.resize import resize_image, resize_mask
from flawline.data.samples import Levels
from flawline.files import new_array
from flawline.logs import hide_bar

if TYPE_CHECKING:
    import pandas as pd


def prepare_images(
    paths: list[Path],
    path: Path | str,
    counting: Counting,
    *,
    max_megapixels: float,
    levels: Levels | None = None,
    workers: int,
) -> None:
    """Write uint8 (N, H, W, 3), RGB, in the order of `paths`, to the .npy file `path`.

    Parameters
    ----------
    counting : has the shape, how images are resized to it, and the regions that are hidden.
    levels : what is white in files of more than 8 bits, as `category_levels` gives it.
    """

    def prepare(source: Path) -> np.ndarray:
        return prepared(decode_image(source, max_megapixels, levels), counting)

    with new_array(path, (len(paths), *counting.shape, 3), np.uint8) as array:
        _fill(array, paths, prepare, workers, "images")


def category_levels(index: "pd.DataFrame", white: float | None) -> Levels:
    """Return the values of white in a category's files of more than 8 bits.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made; its column float_white counts.
    white : the value that the user gives.
    """
    return Levels(white, float(index["float_white"].max()) or None)


def prepared(image: np.ndarray, counting: Counting) -> np.ndarray:
    """Prepare a photograph: uint8 (h, w, 3) to uint8 (H, W, 3)."""
    return resize_image(counting.hide(image), counting.shape, counting.mode)


def prepare_tiles(
    paths: list[Path],
    path: Path | str,
    counting: Counting,
    tiling: Tiling,
    *,
    max_megapixels: float,
    levels: Levels | None = None,
    workers: int,
) -> None:
    """Write the tiles of all images, uint8 (N T, h, w, 3), T for each in turn.

    Parameters
    ----------
    counting : as for `prepare_images`, with the canvas as its shape.
    levels : as for `prepare_images`.
    """

    def prepare(source: Path) -> np.ndarray:
        return tiling.cut(prepared(decode_image(source, max_megapixels, levels), counting))

    with new_array(path, (len(paths) * len(tiling), *tiling.tile, 3), np.uint8) as array:
        by_photograph = array.reshape(len(paths), len(tiling), *tiling.tile, 3)
        _fill(by_photograph, paths, prepare, workers, "tiles")


def prepare_masks(
    paths: list[Path | None],
    path: Path | str,
    *,
    shape: tuple[int, int],
    resize: str,
    max_megapixels: float,
    workers: int,
) -> None:
    """Write uint8 (N, H, W), 0 or 1, to the .npy file `path`; zeros where a path is None."""

    def prepare(source: Path | None) -> np.ndarray:
        if source is None:
            return np.zeros(shape, np.uint8)
        return resize_mask(decode_mask(source, max_megapixels), shape, resize)

    with new_array(path, (len(paths), *shape), np.uint8) as array:
        _fill(array, paths, prepare, workers, "masks")


def _fill(array: np.ndarray, sources: list, prepare: Callable, workers: int, what: str) -> None:
    # the pool runs one image per thread: OpenCV's threads would only compete
    cv2.setNumThreads(1)
    rows = tqdm(range(len(sources)), desc=what, unit="image", disable=hide_bar())
    with ThreadPoolExecutor(workers) as pool:

        def fill(row: int) -> None:
            array[row] = prepare(sources[row])

        for _ in zip(rows, pool.map(fill, range(len(sources))), strict=True):
            pass


def test_labels(split: "pd.DataFrame") -> "pd.DataFrame":
    """Return the labels of the test subset, which only the evaluation may see, in array order.

    Returns
    -------
    Columns row, image_id, label (1 = defective), defect_type, has_mask (a mask was given).
    """
    test = split[split["subset"] == "test"].reset_index(drop=True)
    labels = test[["image_id", "label", "defect_type"]].copy()
    labels.insert(0, "row", range(len(labels)))
    labels["has_mask"] = (test["mask_path"] != "").astype(int)
    return labels


def train_labels(split: "pd.DataFrame") -> "pd.DataFrame":
    """Return the training labels of supervised detectors, in array order: row, label."""
    labels = split.loc[split["subset"] == "train", ["label"]].reset_index(drop=True)
    labels.insert(0, "row", range(len(labels)))
    return labels


def image_sizes(split: "pd.DataFrame", subset: str) -> "pd.DataFrame":
    """Return the sizes of the original images, in array order: row, height, width."""
    sizes = split.loc[split["subset"] == subset, ["height", "width"]].reset_index(drop=True)
    sizes.insert(0, "row", range(len(sizes)))
    return sizes
