"""Score a subset into files, a few images at a time."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from flawline.errors import FlawlineError
from flawline.files import new_array, write_table

if TYPE_CHECKING:
    from flawline.detectors.base import Data, Detector

HALF_MAX = np.finfo(np.float16).max


def score_to_files(detector: "Detector", data: "Data", scores: Path, maps: Path) -> None:
    """Write ``row, score`` per image to `scores` (.csv) and float16 (N, h, w) to `maps` (.npy).

    Raises
    ------
    FlawlineError
        If a score or map is not a number.
    """
    import pandas as pd

    values = np.empty(len(data), np.float32)
    first = detector.score(next(data.chunks(1))).anomaly_maps
    with (
        new_array(maps, (len(data), *first.shape[1:]), np.float16) as array,
        tqdm(total=len(data), desc="scores", unit="image", disable=None) as bar,
    ):
        done = 0
        for chunk in data.chunks():
            part = detector.score(chunk)
            if not (np.isfinite(part.scores).all() and not np.isnan(part.anomaly_maps).any()):
                raise FlawlineError(
                    f"{type(detector).__name__}: scores are not finite numbers. The model did not "
                    "train well: look at training.csv, lower the learning rate, or change the seed."
                )
            rows = slice(done, done + len(chunk))
            values[rows] = part.scores
            array[rows] = np.clip(part.anomaly_maps, -HALF_MAX, HALF_MAX)
            done += len(chunk)
            bar.update(len(chunk))
    write_table(scores, pd.DataFrame({"row": range(len(values)), "score": values}))
