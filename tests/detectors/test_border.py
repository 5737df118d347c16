"""The picture's border must not decide the scores of good parts, nor hide a defect."""

from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.evaluation.border import border_peaks
from flawline.features.extraction import patch_features
from flawline.options.patchcore import PatchCoreOptions

SIDE = 128
GEOMETRY = Geometry((SIDE, SIDE))
SETTINGS = {"pool": 3, "normalize": True, "precision": "float32"}
PLACES = {"middle": (60, 64), "edge": (60, 6), "corner": (6, 6)}


def texture(seed: int) -> np.ndarray:
    """A woven pattern in a random direction, cut by the border at a random place."""
    rng = np.random.default_rng(seed)
    angle, shift = rng.uniform(0, np.pi), rng.uniform(0, 12, 2)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    along, across = (np.cos(angle + turn) * x + np.sin(angle + turn) * y for turn in (0, np.pi / 2))
    threads = np.sin((along + shift[0]) / 2) + np.sin((across + shift[1]) / 2)
    grey = 128 + 40 * threads + rng.normal(0, 4, (SIDE, SIDE))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def spoiled(image: np.ndarray, place: str) -> np.ndarray:
    y, x = PLACES[place]
    return cv2.circle(image.copy(), (x, y), 8, (30, 30, 30), -1)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A small network that pads with zeros, as all do; its weights are random."""
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None).eval()
    return create_feature_extractor(whole, ["layer2", "layer3"])


def features(network: torch.nn.Module, images: list[np.ndarray]) -> Data:
    found = patch_features(network, np.stack(images), **SETTINGS)
    return Data(GEOMETRY, features=(found.numpy(),))


@pytest.fixture(scope="module")
def parts(network: torch.nn.Module) -> dict[str, Data]:
    new = [texture(1000 + seed) for seed in range(16)]
    found = {"train": features(network, [texture(seed) for seed in range(40)])}
    found["good"] = features(network, new)
    for place in PLACES:
        found[place] = features(network, [spoiled(image, place) for image in new])
    return found


def trained(parts: dict[str, Data], **options: Any) -> PatchCore:
    detector = PatchCore(
        PatchCoreOptions(features="x", coreset_fraction=0.05, **options), 0, torch.device("cpu")
    )
    detector.fit(parts["train"])
    return detector


def test_maxima_of_good_textures_do_not_gather_at_the_border(parts: dict[str, Data]) -> None:
    calm = border_peaks(trained(parts).score(parts["good"]).anomaly_maps)
    assert not calm["gather"], calm["verdict"]
    loud = border_peaks(trained(parts, calm_border=False).score(parts["good"]).anomaly_maps)
    assert calm["count"] <= loud["count"]


def at(maps: np.ndarray, place: str) -> np.ndarray:
    """The largest value near a place of each map."""
    y, x = PLACES[place]
    part = maps[:, max(y - 12, 0) : y + 12, max(x - 12, 0) : x + 12]
    return part.astype(float).max((1, 2))


@pytest.mark.parametrize("place", PLACES)
def test_defects_stand_out_wherever_they_lie(parts: dict[str, Data], place: str) -> None:
    detector = trained(parts)
    good, bad, middle = (detector.score(parts[n]).anomaly_maps for n in ("good", place, "middle"))
    assert np.median(at(bad, place) / at(good, place)) > 1.25
    assert np.median(at(bad, place) / at(middle, "middle")) > 0.5
