"""A trained detector with its pre- and post-processing: from photographs to decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry, Shape
from flawline.data.prepare import prepared
from flawline.data.regions import Counting
from flawline.data.samples import Levels
from flawline.decisions.boxes import map_scale
from flawline.detectors.base import Detector, Scores
from flawline.detectors.data import Data
from flawline.detectors.maps import HALF_MAX
from flawline.detectors.registry import method_class
from flawline.devices import images_at_once
from flawline.errors import FlawlineError
from flawline.features.backbones import build_backbone
from flawline.features.extraction import _weights_hash, patch_features
from flawline.files import read_array, read_json, read_table
from flawline.inspection.run_settings import check_files
from flawline.layout import RunFolder
from flawline.options.object_masks import ObjectMaskOptions
from flawline.options.weights import weights_file
from flawline.synthesis.object_masks import ObjectModel, mask_of


@dataclass(frozen=True)
class Photograph:
    """A photograph prepared for a detector.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB, prepared.
    original : height and width of the photograph.
    tiles : uint8 (T, h, w, 3), if the category is tiled.
    counted : uint8 (H, W), 1 = counts; None if all pixels do.
    """

    image: np.ndarray
    original: Shape
    tiles: np.ndarray | None = None
    counted: np.ndarray | None = None

    @property
    def seen(self) -> np.ndarray:
        """The images or tiles that networks see: uint8 (T, h, w, 3)."""
        return self.image[None] if self.tiles is None else self.tiles


@dataclass(frozen=True)
class TrainedDetector:
    """A detector and what it needs to judge a photograph.

    Attributes
    ----------
    settings : from `settings_of`.
    threshold : the content of ``threshold.json``.
    calibration : float64 (n,), anomaly scores of calibration images, ascending.
    scale : ends of the maps' colours, the same for all inspections: the median pixel of calibration
        images, and twice as far above it as most of them reach.
    limit : pixels of a map above it are boxed.
    geometry : as the detector was trained.
    networks : each feature set's network and its settings.
    levels : values of white in the photographs that it was trained on.
    """

    detector: Detector
    settings: Mapping[str, Any]
    threshold: Mapping[str, Any]
    calibration: np.ndarray
    scale: tuple[float, float]
    limit: float
    geometry: Geometry
    networks: tuple[tuple[nn.Module, Mapping[str, Any]], ...] = ()
    object_model: ObjectModel | None = None
    levels: Levels = field(default_factory=Levels)

    @property
    def image_shape(self) -> Shape:
        """Height and width of the prepared images, pixels."""
        return self.geometry.shape

    @cached_property
    def _counting(self) -> Counting:
        return self._counting_of(self.geometry.shape)

    @cached_property
    def _tiled(self) -> Counting | None:
        tiling = self.geometry.tiling
        return None if tiling is None else self._counting_of(tiling.canvas)

    def _counting_of(self, shape: Shape) -> Counting:
        settings = self.settings
        return Counting.of_options(settings["regions"], shape, settings["prepare"]["resize"])

    def prepare(self, image: np.ndarray) -> Photograph:
        """Prepare a decoded photograph for the detector.

        Parameters
        ----------
        image : uint8 (h, w, 3), RGB, of any size.
        """
        original = (image.shape[0], image.shape[1])
        tiling = self.geometry.tiling
        return Photograph(
            prepared(image, self._counting),
            original,
            tiling.cut(prepared(image, self._tiled)) if tiling and self._tiled else None,
            self._counting.of(original) if self._restricted else None,
        )

    @property
    def _restricted(self) -> bool:
        regions = self._counting.regions
        return self.settings["prepare"]["resize"] == "letterbox" or bool(regions)

    def score(self, photographs: Sequence[Photograph]) -> Scores:
        """Compute anomaly scores and maps, exactly as the pipeline does.

        Returns
        -------
        scores rounded to the nine digits of a table; maps float16 (N, H, W).
        """
        found = self.detector.score(self._data(photographs))
        maps = np.clip(found.anomaly_maps, -HALF_MAX, HALF_MAX)
        found.refuse_not_finite(type(self.detector).__name__)
        # the threshold comes from rounded scores in a table, which must be equal here
        scores = np.array([float(f"{score:.9g}") for score in found.scores])
        return Scores(scores, maps)

    def defective(self, scores: np.ndarray) -> np.ndarray:
        """Return which scores are above the threshold."""
        return scores > self.threshold["value"]

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return conformal p-values: how often a good part would score as high, float64 (N,).

        (1 + the number of calibration images that score as high or higher) / (n + 1).
        """
        n = len(self.calibration)
        higher = n - np.searchsorted(self.calibration, scores, side="left")
        return (1 + higher) / (n + 1)

    def _data(self, photographs: Sequence[Photograph]) -> Data:
        wanted = self.detector.options.inputs(training=False)
        seen = np.concatenate([one.seen for one in photographs])
        masks, counted = None, None
        if self._restricted:
            counted = np.stack([self._counting.of(one.original) for one in photographs])
        if self.object_model is not None:
            options = ObjectMaskOptions.model_validate(self.settings["object_masks"])
            found = [
                mask_of(one.image, self.object_model, options, one.counted) for one in photographs
            ]
            masks = np.stack(found)
        features = tuple(self._features(seen, *one) for one in self.networks)
        images = seen if "images" in wanted else None
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
        detector,
        settings,
        threshold,
        calibration,
        scale,
        limit,
        geometry,
        networks,
        model,
        levels,
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
    network = network.to(device).to(memory_format=torch.channels_last)
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


def checked_photographs(run: Path) -> list[Photograph]:
    """Return prepared good images of the run's calibration or, without any, of its training."""
    files = RunFolder(run)
    for subset in ("calibration", "train"):
        if files.images(subset).is_file():
            images = read_array(files.images(subset))
            sizes = read_table(files.sizes(subset))[["height", "width"]].to_numpy()
            counted: Sequence[np.ndarray | None] = [None] * len(images)
            if files.counted(subset).is_file():
                counted = list(read_array(files.counted(subset)))
            return [
                Photograph(image, (int(size[0]), int(size[1])), None, counts)
                for image, size, counts in zip(images, sizes, counted, strict=True)
            ]
    raise FlawlineError(
        f"{files.protocol_folder}: no prepared images (calibration/images.npy or train/images.npy) "
        "to check the export on; run the pipeline again"
    )
