"""A trained detector with its pre- and post-processing: from photographs to decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry
from flawline.data.samples import Levels
from flawline.decisions.boxes import map_scale
from flawline.detectors.base import Detector
from flawline.detectors.data import Data, Scores
from flawline.detectors.registry import method_class
from flawline.devices import images_at_once
from flawline.errors import FlawlineError
from flawline.features.backbones import build_backbone
from flawline.features.extraction import _weights_hash, made_fast, patch_features
from flawline.files import read_array, read_json, read_table
from flawline.inspection.judging import Judge, Photograph
from flawline.inspection.run_settings import check_files
from flawline.layout import RunFolder
from flawline.options.weights import weights_file
from flawline.synthesis.object_masks import ObjectModel


@dataclass(frozen=True, kw_only=True)
class TrainedDetector(Judge):
    """A detector and what it needs to judge a photograph.

    Attributes
    ----------
    networks : each feature set's network and its settings.
    """

    detector: Detector
    networks: tuple[tuple[nn.Module, Mapping[str, Any]], ...] = ()

    def _found(self, photographs: Sequence[Photograph]) -> Scores:
        return self.detector.score(self._data(photographs))

    def _data(self, photographs: Sequence[Photograph]) -> Data:
        wanted = self.detector.options.inputs(training=False)
        seen = np.concatenate([one.seen for one in photographs])
        features = tuple(self._features(seen, *one) for one in self.networks)
        images = seen if "images" in wanted else None
        masks, counted = self.object_masks(photographs), self.counted(photographs)
        return Data(self.geometry, images, features, masks, counted)

    def _features(
        self, images: np.ndarray, network: nn.Module, about: Mapping[str, Any]
    ) -> np.ndarray:
        settings = {key: about[key] for key in ("pool", "normalize", "precision", "scale")}
        size = images_at_once(self.detector.device.type, about["batch_size"])
        parts = [
            patch_features(network, images[start : start + size], **settings).cpu().numpy()
            for start in range(0, len(images), size)
        ]
        return np.concatenate(parts)


def load_trained(
    run: Path | str, settings: Mapping[str, Any], device: torch.device, *, boxes: bool = True
) -> TrainedDetector:
    """Load one trained detector from the results of the pipeline.

    Parameters
    ----------
    run : folder of a run, with ``model/``, ``threshold.json`` and ``calibration/``.
    settings : from `settings_of`; must be those that the detector was trained with.
    boxes : whether boxes are needed, for which all maps of the calibration images are read.

    Raises
    ------
    FlawlineError
        If files are missing or damaged, or if the detector was trained with other settings, which
        are named with both values.
    """
    run = Path(run)
    check_files(run)
    files = RunFolder(run)
    try:
        about = read_json(files.description)
        threshold = read_json(files.threshold)
        calibration = np.sort(read_table(files.scores("calibration"))["score"].astype(float))
        _refuse_others(run, about, threshold, settings)
        scale, limit = _map_scale(files, settings["boxes"]) if boxes else ((0.0, 1.0), 1.0)
        model = None
        if settings["object_masks"] is not None:
            model = ObjectModel.load(files.background, files.object_model)
        prepared_as = about["provenance"]["inputs"]["geometry"]
        geometry, levels = Geometry.from_json(prepared_as), Levels(**prepared_as.get("levels", {}))
        recorded = about["provenance"]["inputs"]["features"]
        networks = tuple(
            _network(run, given, was, device)
            for given, was in zip(settings["features"], recorded, strict=True)
        )
    except FlawlineError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise FlawlineError(
            f"{run}: a file of this detector is missing or damaged ({error}). Run the pipeline "
            "again."
        ) from error
    detector = method_class(settings["detector"]["method"]).load(run / "model", device)
    return TrainedDetector(
        detector=detector,
        networks=networks,
        settings=settings,
        threshold=threshold,
        calibration=calibration,
        scale=scale,
        limit=limit,
        geometry=geometry,
        object_model=model,
        levels=levels,
    )


def _map_scale(run: RunFolder, boxes: Mapping[str, Any]) -> tuple[tuple[float, float], float]:
    """Return the ends of the maps' colours, and the value above which pixels are boxed."""
    maps = read_array(run.maps("calibration"))
    return map_scale(maps, quantile=boxes["quantile"], level=boxes["level"])


def _network(
    run: Path, given: Mapping[str, Any], recorded: Mapping[str, Any], device: torch.device
) -> tuple[nn.Module, dict[str, Any]]:
    seen = tuple(recorded["input_size"])
    network = build_backbone(given["backbone"], given["weights"], given["layers"], seen)
    network = made_fast(network, device, recorded["precision"])
    if (found := _weights_hash(network)) != recorded["weights_sha256"]:
        raise FlawlineError(
            f"{run}: trained on features from other weights than {given['weights']!r} of "
            f"{given['backbone']} (SHA-256 {recorded['weights_sha256'][:12]}, found {found[:12]}). "
            "Give the weights that it was trained with, or run the pipeline to train it again."
        )
    # use what `auto` meant in training, or distances would differ
    return network, dict(given) | {"precision": recorded["precision"]}


def _refuse_others(
    run: Path, about: Mapping[str, Any], threshold: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Raise a FlawlineError if the detector was trained with other settings than `settings`."""
    inputs = about.get("provenance", {}).get("inputs", {})
    if not {"prepare", "features", "geometry"} <= inputs.keys():
        raise FlawlineError(
            f"{run}/model/model.json: does not say how images were prepared for this detector; it "
            "was trained by an older version. Run the pipeline to train it again."
        )
    pairs = [
        (
            "data",
            {"white": inputs["geometry"].get("levels", {}).get("white")},
            {"white": settings.get("white")},
        ),
        ("prepare", inputs["prepare"], settings["prepare"]),
        ("regions", inputs["regions"], settings["regions"]),
        ("poses", inputs["poses"] or {}, settings["poses"] or {}),
        ("object_masks", inputs["object_masks"] or {}, settings["object_masks"] or {}),
        ("detector", about["options"], settings["detector"]),
        (
            "threshold",
            {key: threshold.get(key) for key in settings["threshold"]},
            settings["threshold"],
        ),
    ]
    if len(inputs["features"]) == len(settings["features"]):
        for was, given in zip(inputs["features"], settings["features"], strict=True):
            pairs.append(("features", *_comparable(was, given)))
    differing = [
        f"  {section}.{key}: trained with {was.get(key)!r}, the configuration says "
        f"{given.get(key)!r}"
        for section, was, given in pairs
        for key in sorted(was.keys() | given.keys())
        if was.get(key) != given.get(key)
    ]
    if differing:
        raise FlawlineError(
            f"{run}: this detector was trained with other settings than the configuration's.\n"
            + "\n".join(differing)
            + "\nInspect with the configuration that it was trained with, or run the pipeline to "
            "train it again."
        )


def _comparable(
    was: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return recorded and configured settings that can change a feature set."""
    keys = ["backbone", "layers", "pool", "normalize", "scale"]
    if given["precision"] != "auto" and given["backbone"] != "gabor":
        keys.append("precision")
    if weights_file(given["weights"]) is None:  # a file is identified by its content
        keys.append("weights")
    return {key: was[key] for key in keys}, {key: given[key] for key in keys}


def checked_photographs(
    run: Path, geometry: Geometry, subsets: Sequence[str] = ("calibration", "train")
) -> list[Photograph]:
    """Return prepared good images of the first of these subsets that the run has."""
    files = RunFolder(run)
    for subset in subsets:
        if files.images(subset).is_file():
            images = read_array(files.images(subset))
            sizes = read_table(files.sizes(subset))[["height", "width"]].to_numpy()
            counted: Sequence[np.ndarray | None] = [None] * len(images)
            if files.counted(subset).is_file():
                counted = list(read_array(files.counted(subset)))
            tiles: Sequence[np.ndarray | None] = [None] * len(images)
            if geometry.tiling is not None:
                found = read_array(files.tiles(subset))
                tiles = list(found.reshape(len(images), -1, *found.shape[1:]))
            return [
                Photograph(image, (int(size[0]), int(size[1])), pieces, counts)
                for image, size, pieces, counts in zip(images, sizes, tiles, counted, strict=True)
            ]
    raise FlawlineError(
        f"{files.protocol_folder}: no prepared images (calibration/images.npy or train/images.npy) "
        "to check the export on; run the pipeline again"
    )
