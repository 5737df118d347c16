"""Measure how good a detector gets with few good images: how many are needed?"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from flawline.detectors.base import Detector
from flawline.detectors.data import Data
from flawline.evaluation.draws import joined, maker, subset
from flawline.evaluation.pixel_metrics import count_pixels, pixel_metrics, total
from flawline.files import read_array, read_table
from flawline.seeding import generator

COLUMNS = [
    "train_images",
    "draw",
    "image_auroc",
    "image_average_precision",
    "pixel_auroc",
    "pixel_aupro_30",
]


def curve_of_run(
    implementation: str,
    options: Mapping[str, Any],
    files: Mapping[str, Any],
    *,
    seed: int,
    category: str,
    device: torch.device,
    **settings: Any,
) -> pd.DataFrame:
    """Train a detector on few of the good images of a run, and measure it on the test images.

    Parameters
    ----------
    implementation : where the method's class is, as `module:name`.
    options : of the method.
    files : the method's inputs, by the names of `Data.open`, each after the name of its subset
        (`train_images`), and `labels` and `masks` of the test images.
    seed, category : all random choices of a training derive from them.
    settings : train_images and draws, as for `learning_curve`.

    Returns
    -------
    As `learning_curve`.
    """
    good = subset(files, "train")
    if any(name.startswith("calibration_") for name in files):
        good = joined(good, subset(files, "calibration"))
    return learning_curve(
        maker(implementation, options, seed=seed, category=category, device=device),
        good,
        subset(files, "test"),
        read_table(files["labels"])["label"].to_numpy(),
        read_array(files["masks"]),
        category=category,
        **settings,
    )


def learning_curve(
    make: Callable[[], Detector],
    good: Data,
    test: Data,
    labels: np.ndarray,
    masks: np.ndarray,
    *,
    train_images: Sequence[int | str],
    draws: int,
    category: str,
) -> pd.DataFrame:
    """Train on few good images, drawn several times, and measure on all test images.

    Each draw puts the good images into an order and takes the first ones, so that more images
    include the fewer ones. All images are drawn once.

    Parameters
    ----------
    make : makes a new detector.
    good : all good images that may be trained on.
    test, labels, masks : the test subset, int (N,), 1 = defective, and (N, H, W), not zero =
        defective.
    train_images : how many to train on; ``all``, or more than there are, for all.
    draws : number of draws.

    Returns
    -------
    A row for each number and draw, with the metrics of `COLUMNS`, those of pixels NaN without
    masks; no rows without both good and defective test images. Without calibration there is no
    threshold, so nothing here depends on one.
    """
    if len(set(labels.tolist())) < 2:  # nothing to tell apart, so nothing to train for
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    counts = dict.fromkeys(
        len(good) if n == "all" else min(int(n), len(good)) for n in train_images
    )
    for draw in range(draws):
        order = generator(draw, category, "learning_curve").permutation(len(good))
        for count in counts:
            if count == len(good) and draw:
                continue
            detector = make()
            detector.fit(good.take(np.sort(order[:count])))
            rows.append([count, draw, *_metrics(detector, test, labels, masks)])
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["train_images", "draw"], ignore_index=True)


def _metrics(detector: Detector, test: Data, labels: np.ndarray, masks: np.ndarray) -> list[float]:
    scores, counts = [], []
    done = 0
    for chunk in test.chunks():
        found = detector.score(chunk)
        scores.append(found.scores)
        for number, anomaly_map in enumerate(found.anomaly_maps, done):
            counted = None if test.counted is None else test.counted[number]
            counts.append(count_pixels(anomaly_map.astype(np.float16), masks[number], counted))
        done += len(chunk)
    every = np.concatenate(scores)
    together = total(counts)
    pixels = {} if together is None else pixel_metrics(together, None)
    values = (pixels.get(name) for name in ("auroc", "aupro_30"))
    return [
        float(roc_auc_score(labels, every)),
        float(average_precision_score(labels, every)),
        *(np.nan if value is None else float(value) for value in values),
    ]
