"""Score a subset into files, a few images at a time."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from flawline.data.split import rows_of
from flawline.detectors.data import Data
from flawline.detectors.maps import HALF_MAX
from flawline.files import new_array, read_array, read_table, write_table
from flawline.logs import hide_bar

if TYPE_CHECKING:
    import torch

    from flawline.detectors.base import Detector


def score_subset(
    implementation: str,
    files: Mapping[str, Any],
    scores: Path | str,
    maps: Path | str | None = None,
    *,
    device: "torch.device",
    own: bool = False,
    fold: int | None = None,
    good_only: bool = False,
) -> None:
    """Score the images of a subset with a trained detector.

    Parameters
    ----------
    implementation : where the method's class is, as `module:name`.
    files : the method's inputs, by the names of `Data.open`; `model`; `folds`, if training images
        are left out together or one fold is scored; `test_labels`, for `good_only`.
    scores, maps : as for `score_to_files`.
    own : whether these are the training images: the memory of an image itself, or of its fold, must
        not vouch for it.
    fold : score the images of this fold alone.
    good_only : score good images alone.
    """
    detector = resolve_name(implementation).load(Path(files["model"]).parent, device)
    data, rows = Data.open(files), None
    if own:
        kin = read_table(files["folds"])["fold"].to_numpy() if "folds" in files else None
        data = replace(data, own=np.arange(len(data)), kin=kin)
    if fold is not None:
        rows = rows_of(read_table(files["folds"]), fold)
    if good_only:
        rows = np.flatnonzero(read_table(files["test_labels"])["label"].to_numpy() == 0)
    score_to_files(detector, data, scores, maps, rows)


def score_to_files(
    detector: "Detector",
    data: Data,
    scores: Path | str,
    maps: Path | str | None = None,
    rows: np.ndarray | None = None,
) -> None:
    """Write ``row, score`` per image to `scores` (.csv), and float16 (N, H, W) to `maps` (.npy).

    Parameters
    ----------
    data : N images, which may be none; maps have the shape of its prepared images.
    maps : None for no maps.
    rows : int (K,), ascending; only these images are scored. All, if None.

    Raises
    ------
    FlawlineError
        If a score or map is not a number.
    """
    if rows is not None:
        data = data.take(rows)
    values = np.empty(len(data), np.float32)
    shape = (len(data), *data.geometry.shape)
    with (
        new_array(maps, shape, np.float16) if maps else nullcontext() as array,
        tqdm(total=len(data), desc="scores", unit="image", disable=hide_bar()) as bar,
    ):
        done = 0
        for chunk in data.chunks():
            part = detector.score(chunk)
            part.refuse_not_finite(type(detector).__name__)
            place = slice(done, done + len(chunk))
            values[place] = part.scores
            if array is not None:
                array[place] = np.clip(part.anomaly_maps, -HALF_MAX, HALF_MAX)
            done += len(chunk)
            bar.update(len(chunk))
    numbers = np.arange(len(data)) if rows is None else rows
    write_table(scores, pd.DataFrame({"row": numbers, "score": values}))


def gather(
    score_files: Sequence[Path | str],
    map_files: Sequence[Path | str],
    *,
    scores: Path,
    anomaly_maps: Path,
) -> None:
    """Join the scores and maps of several parts of a subset, in the order of their rows."""
    tables = [read_table(path) for path in score_files]
    joined = pd.concat(tables, ignore_index=True)
    parts = [read_array(path) for path in map_files]
    order = joined["row"].to_numpy().argsort(kind="stable")
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order))
    with new_array(anomaly_maps, (len(order), *parts[0].shape[1:]), np.float16) as array:
        done = 0
        for part in parts:
            for found in part:
                array[place[done]] = found
                done += 1
    write_table(scores, joined.iloc[order])
