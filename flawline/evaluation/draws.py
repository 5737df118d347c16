"""Measure how far a threshold and its error rates depend on which good images are held back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pkgutil import resolve_name
from typing import Any

import numpy as np
import pandas as pd
import torch

from flawline.data.split import held_back
from flawline.decisions.thresholds import choose_threshold
from flawline.detectors.base import Detector
from flawline.detectors.data import Data
from flawline.files import read_table
from flawline.seeding import derive


def draws_of_run(
    implementation: str,
    options: Mapping[str, Any],
    files: Mapping[str, Any],
    *,
    seed: int,
    category: str,
    device: torch.device,
    **settings: Any,
) -> pd.DataFrame:
    """Train and calibrate a detector on other draws of the files of a run.

    Parameters
    ----------
    implementation : where the method's class is, as `module:name`.
    options : of the method.
    files : the method's inputs, by the names of `Data.open`, each after the name of its subset
        (`train_images`); `split`, the table of the split.
    seed, category : all random choices of a training derive from them.
    settings : seeds, fraction and threshold, as for `draws`.

    Returns
    -------
    As `draws`.
    """
    make = maker(implementation, options, seed=seed, category=category, device=device)
    return draws(
        make,
        subset(files, "train"),
        subset(files, "calibration"),
        subset(files, "test"),
        read_table(files["split"]),
        category=category,
        **settings,
    )


def maker(
    implementation: str,
    options: Mapping[str, Any],
    *,
    seed: int,
    category: str,
    device: torch.device,
) -> Callable[[], Detector]:
    """Return a function that makes the detector of a run anew, as its training makes it."""
    detector_class: type[Detector] = resolve_name(implementation)
    checked = detector_class.Options.model_validate(options)
    return lambda: detector_class(checked, derive(seed, category, "train"), device)


def subset(files: Mapping[str, Any], name: str) -> Data:
    """Open a subset, whose files are named after it (`train_images`)."""
    head = f"{name}_"
    return Data.open({k.removeprefix(head): files[k] for k in files if k.startswith(head)})


def joined(first: Data, second: Data) -> Data:
    """Join the images of two subsets, without synthetic anomalies and poses."""

    def both(name: str) -> Any:
        one, other = getattr(first, name), getattr(second, name)
        if name == "features":
            return tuple(np.concatenate(pair) for pair in zip(one, other, strict=True))
        return None if one is None else np.concatenate([one, other])

    arrays = {"images", "features", "object_masks", "counted", "labels"}
    return replace(first, **{f.name: both(f.name) for f in fields(first) if f.name in arrays})


def draws(
    make: Callable[[], Detector],
    train: Data,
    calibration: Data,
    test: Data,
    split: pd.DataFrame,
    *,
    seeds: Sequence[int],
    fraction: float,
    category: str,
    threshold: dict[str, Any],
) -> pd.DataFrame:
    """Train and calibrate on other draws of the good training images.

    Parameters
    ----------
    make : makes a new detector.
    train, calibration, test : the three subsets, as the split has them.
    split : their table, columns label, subset and, if there are any, group.
    seeds : of the draws.
    fraction, category : as for the split.
    threshold : rule and its options.

    Returns
    -------
    One row per draw: seed, threshold, and on the test images the false_alarm_rate of good images
    and the recall of defects, NaN without any.
    """
    if train.labels is not None:
        calibration = replace(calibration, labels=np.zeros(len(calibration), np.int64))
    known = joined(train, calibration)
    table = split[split["subset"] != "test"].reset_index(drop=True)
    place = np.empty(len(table), int)  # of the table's rows among the joined images
    place[np.argsort(table["subset"].to_numpy() != "train", kind="stable")] = np.arange(len(table))
    labels = split.loc[split["subset"] == "test", "label"].to_numpy()
    rows = []
    for seed in seeds:
        held = held_back(table, fraction=fraction, seed=seed, category=category)
        detector = make()
        detector.fit(known.take(np.sort(place[~held])))
        kept, tested = (
            np.concatenate([detector.score(part).scores for part in some.chunks()])
            for some in (known.take(np.sort(place[held])), test)
        )
        value = choose_threshold(kept, **threshold)["value"]
        above = tested > value
        rates = [
            above[labels == label].mean() if (labels == label).any() else np.nan for label in (0, 1)
        ]
        rows.append((seed, value, *rates))
    return pd.DataFrame(rows, columns=["seed", "threshold", "false_alarm_rate", "recall"])
