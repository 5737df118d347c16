"""What is exported scores as the detector itself, for whole images and tiles."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flawline.data.geometry import Geometry, Tiling
from flawline.detectors.base import Detector
from flawline.detectors.cam_classifier import CamClassifier
from flawline.detectors.data import Data
from flawline.detectors.fanogan import FAnoGAN
from flawline.detectors.metric_learning import MetricLearning
from flawline.detectors.padim import Padim
from flawline.detectors.patchcore import PatchCore
from flawline.detectors.subspace import Subspace
from flawline.features.backbones import build_backbone
from flawline.features.extraction import patch_features
from flawline.features.resizing import AreaResize
from flawline.inspection.graph import graph_of
from flawline.inspection.judging import Photograph
from flawline.inspection.parity import TOLERANCE, with_defects
from flawline.inspection.trained_detector import TrainedDetector

CPU = torch.device("cpu")
WHOLE = Geometry((64, 96))
TILED = Geometry((64, 96), Tiling.of((128, 160), 64, 16))
GABOR: dict[str, Any] = {"pool": 1, "normalize": False, "precision": "float32", "scale": 1.0}
NETWORK = {"weights": "none", "epochs": 1, "batch_size": 4}
METHODS: dict[str, tuple[type[Detector], dict[str, Any]]] = {
    "memories of tiles": (
        PatchCore,
        {"features": "any", "tile_memory": True, "score_from": "cells", "calm_border": True},
    ),
    "memories of surroundings": (
        PatchCore,
        {"features": "any", "reach": 0.3, "tile_memory": True, "calm_border": False},
    ),
    "padim": (Padim, {"features": "any", "channels": 10}),
    "subspace": (Subspace, {"features": "any", "largest": 0.1}),
    "metric_learning": (
        MetricLearning,
        NETWORK | {"backbone": "squeezenet1_1", "network_size": 80, "classes": "c3"},
    ),
    "fanogan": (FAnoGAN, {"width": 4, "gan_steps": 5, "encoder_steps": 1, "batch_size": 4}),
    "cam_classifier": (CamClassifier, NETWORK | {"backbone": "resnet18", "image_size": 96}),
}


def photographs(geometry: Geometry, first: int = 0) -> list[Photograph]:
    found = []
    for seed in range(first, first + 8):
        rng = np.random.default_rng(seed)
        height, width = geometry.tiling.canvas if geometry.tiling else geometry.shape
        small = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        canvas = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        image = cv2.resize(canvas, geometry.shape[::-1], interpolation=cv2.INTER_AREA)
        tiles = geometry.tiling.cut(canvas) if geometry.tiling else None
        found.append(Photograph(image, (60, 80), tiles))
    return found


def trained(method: str, geometry: Geometry) -> TrainedDetector:
    kind, given = METHODS[method]
    options = kind.Options(**given)
    seen = np.concatenate([one.seen for one in photographs(geometry)])
    networks: tuple[Any, ...] = ()
    features: tuple[np.ndarray, ...] = ()
    if "features" in options.needs:
        network = build_backbone("gabor", "none", ["fine"], geometry.seen)
        networks = ((network, GABOR | {"batch_size": 4}),)
        features = (patch_features(network, seen, **GABOR).cpu().numpy(),)
    count = len(seen) // geometry.pieces
    data = Data(
        geometry,
        seen,
        features,
        np.ones((count, *geometry.shape), np.uint8),
        labels=np.arange(count) % 2,
    )
    detector = kind(options, 0, CPU)
    detector.fit(data)
    return TrainedDetector(
        detector=detector,
        networks=networks,
        settings={
            "prepare": {"resize": "letterbox"},
            "regions": {"mask": None, "polygons": [[[0, 0], [20, 0], [20, 12]]]},
            "detector": options.model_dump(mode="json"),
            "object_masks": None,
        },
        threshold={"value": 0.5},
        calibration=np.zeros(1),
        scale=(0, 1),
        limit=1,
        geometry=geometry,
    )


@pytest.mark.parametrize(
    ("method", "geometry"),
    [
        *((method, WHOLE) for method in METHODS if not method.startswith("memories")),
        *((method, TILED) for method in METHODS if method != "cam_classifier"),
    ],
)
def test_scores_and_maps_are_those_of_the_detector(method: str, geometry: Geometry) -> None:
    judge = trained(method, geometry)
    good = photographs(geometry, 100)
    defective = with_defects(judge, good)
    assert defective
    images = [*good, *defective]
    expected = judge.score(images)
    given = {name: torch.from_numpy(one) for name, one in judge.inputs(images).items()}
    assert given.keys() == {"images", "counted"}
    with torch.no_grad():
        scores, maps, defects = graph_of(judge)(**given)
    largest = float(np.abs(expected.scores).max())
    np.testing.assert_allclose(scores.numpy(), expected.scores, rtol=0, atol=TOLERANCE * largest)
    wanted = expected.anomaly_maps.astype(np.float32)
    np.testing.assert_allclose(maps.numpy(), wanted, rtol=0, atol=TOLERANCE * np.ptp(wanted))
    assert defects.tolist() == (scores > 0.5).tolist()


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((64, 96), (32, 32)),
        ((128, 128), (64, 64)),
        ((50, 70), (64, 64)),
        ((40, 90), (64, 64)),
        ((100, 200), (224, 224)),
    ],
)
def test_levels_are_resized_as_opencv_does(shape: tuple[int, int], size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    given = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    found = AreaResize(shape, size)(given)[0].permute(1, 2, 0).numpy()
    assert (np.abs(found - expected) > 0).mean() < 0.02  # an exact half may be either
    assert np.abs(found - expected).max() <= 1
