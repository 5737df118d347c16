"""Train a detector on the files of a subset, and store its provenance with it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pandas as pd
import torch

from flawline.data.split import rows_outside
from flawline.detectors.base import Detector
from flawline.detectors.data import Data
from flawline.files import read_json, read_table, write_table
from flawline.learning.training import Checkpoint
from flawline.provenance import digest, record
from flawline.seeding import derive


def train_detector(
    implementation: str,
    options: Mapping[str, Any],
    files: Mapping[str, str | Sequence[str]],
    model: Path | str,
    log: Path | str,
    *,
    seed: int,
    category: str,
    device: torch.device,
    fold: int | None = None,
    code: str = "",
    **settings: Any,
) -> Detector:
    """Train a detector and write its model with its provenance, and its training log.

    An interrupted training continues from its last checkpoint, which is beside the log.

    Parameters
    ----------
    implementation : where the method's class is, as `module:name`.
    options : of the method.
    files : the method's inputs, by the names of `Data.open`; `features_json`, descriptions of the
        features; `folds`, the table of folds, if one is left out; others are only hashed.
    model : folder for the model's two files.
    log : CSV file for the losses.
    seed, category : all random choices derive from them.
    fold : number of the fold whose images are left out; None learns from all.
    code : fingerprint of the code, for the record.
    settings : how the images were prepared, for the record: prepare, regions, poses, object_masks.

    Returns
    -------
    The trained detector.

    Raises
    ------
    FlawlineError
        If a file is missing or damaged, or if the method cannot learn from the images.
    """
    detector_class: type[Detector] = resolve_name(implementation)
    derived = derive(seed, category, "train")
    about = record(
        dict(options),
        code,
        device=device.type,
        features=[read_json(path) for path in files.get("features_json", [])],
        geometry=read_json(str(files["geometry"])),
        **settings,
    )
    paths = [
        path for each in files.values() for path in ([each] if isinstance(each, str) else each)
    ]
    # beside the outputs under a hidden name: it must survive the job that it saves
    checkpoint = Checkpoint(
        Path(log).with_name(".checkpoint.safetensors"), digest(about, derived, files=paths)
    )
    data = Data.open(dict(files))
    if fold is not None:
        rows = rows_outside(read_table(str(files["folds"])), fold)
        data = replace(data.take(rows), scheduled=len(data))
    if others := _others(files):
        data = data.joined(others)
    detector = detector_class(detector_class.Options.model_validate(options), derived, device)
    training = detector.fit(data, checkpoint)
    ended = {"training": training.ended, "precision": training.precision}
    detector.save(Path(model), about | ended)
    write_table(log, pd.DataFrame(training.rows))
    checkpoint.path.unlink(missing_ok=True)
    return detector


def _others(files: Mapping[str, str | Sequence[str]]) -> list[Data]:
    """Open the other categories' training images, if they share the model."""
    found = []
    for number, geometry in enumerate(files.get("others_geometry", [])):
        own = {"geometry": geometry, "features": files["others_features"]}
        sets = len(files["features"])
        own["features"] = files["others_features"][number * sets : (number + 1) * sets]
        for name in ("counted", "object_masks"):
            if f"others_{name}" in files:
                own[name] = files[f"others_{name}"][number]
        found.append(Data.open(own))
    return found
