"""Distances from the good patches of the same place, against the paper's formulas."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from flawline.data.geometry import Geometry, Tiling
from flawline.detectors import padim
from flawline.detectors.data import Data
from flawline.detectors.padim import Padim
from flawline.errors import FlawlineError
from flawline.options.padim import PadimOptions

CPU = torch.device("cpu")
SHAPE = Geometry((32, 32))
RNG = np.random.default_rng(0)
# every place has a mean of its own, and every channel varies differently
MEANS = 10 * RNG.normal(size=(4, 4, 6))
TRAIN, TEST = (
    (MEANS + RNG.normal(size=(count, 4, 4, 6)) * np.arange(1, 7)).astype(np.float16)
    for count in (30, 5)
)


def fitted(data: Data, seed: int = 0, **options: Any) -> Padim:
    detector = Padim(PadimOptions.model_validate({"features": "x"} | options), seed, CPU)
    detector.fit(data)
    return detector


def of(features: np.ndarray, **more: Any) -> Data:
    return Data(SHAPE, features=(features,), **more)


@pytest.mark.parametrize("channels", [6, 4, 100])
@pytest.mark.parametrize("at_once", [256, 5])
def test_cells_are_mahalanobis_distances_from_the_gaussian_of_their_place(
    channels: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(padim, "PLACES", at_once)
    detector = fitted(of(TRAIN), channels=channels, shrinkage=0.05)
    chosen = detector.gaussians[0].channels.numpy()
    assert len(chosen) == len(set(chosen.tolist())) == min(channels, 6)
    train, test = (one[..., chosen].astype(np.float64) for one in (TRAIN, TEST))
    added = 0.05 * train.var(0, ddof=1).mean() * np.eye(len(chosen))
    found = detector.cells(of(TEST))
    for row, column in np.ndindex(4, 4):
        inverse = np.linalg.inv(np.cov(train[:, row, column].T) + added)
        for image in range(len(TEST)):
            expected = mahalanobis(test[image, row, column], train[:, row, column].mean(0), inverse)
            expected /= len(chosen) ** 0.5
            assert found[image, row, column] == pytest.approx(expected, rel=1e-4)


def test_a_patch_in_the_wrong_place_is_anomalous() -> None:
    moved = np.roll(TEST, 1, axis=2)
    detector = fitted(of(TRAIN))
    assert detector.cells(of(moved)).mean() > 5 * detector.cells(of(TEST)).mean()


def test_the_channels_are_drawn_by_seed() -> None:
    wide = RNG.normal(size=(5, 2, 2, 50)).astype(np.float16)
    drawn = [fitted(of(wide), seed, channels=10).gaussians[0].channels for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_patches_outside_the_object_are_not_learned() -> None:
    masks = np.zeros((30, 32, 32), np.uint8)
    masks[:, :, :16] = 1
    masks[0] = 1  # so that the rest is seen once
    odd = TRAIN.copy()
    odd[1:, :, 3:] = 1000
    options: dict[str, Any] = {"object_mask": "memory", "object_dilation": 0}
    found = [
        fitted(of(features, object_masks=masks), **options).gaussians[0]
        for features in (TRAIN, odd)
    ]
    torch.testing.assert_close(found[0].means, found[1].means)
    torch.testing.assert_close(found[0].matrices, found[1].matrices)


@pytest.mark.parametrize("train", [TRAIN[:1], TRAIN[:2], np.ones_like(TRAIN)])
def test_scores_are_finite_from_few_images_or_equal_patches(train: np.ndarray) -> None:
    assert np.isfinite(fitted(of(train)).cells(of(TEST))).all()


def test_every_tile_has_places_of_its_own() -> None:
    geometry = Geometry((32, 64), Tiling.of((32, 64), 32, 0))
    left_right = np.stack([TRAIN, TRAIN + 100], 1).reshape(60, 4, 4, 6)
    data = replace(of(left_right), geometry=geometry)
    cells = fitted(data).cells(data)
    swapped = left_right.reshape(30, 2, 4, 4, 6)[:, ::-1].reshape(60, 4, 4, 6)
    assert cells.shape == (60, 4, 4)
    assert fitted(data).cells(replace(of(swapped), geometry=geometry)).min() > cells.max()


def test_a_model_that_would_be_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(padim, "LARGEST", 1)
    words = "16 places with 6 channels .* at most 0 are possible. Lower `channels`"
    with pytest.raises(FlawlineError, match=words):
        fitted(of(TRAIN))
    monkeypatch.undo()
    monkeypatch.setattr(padim, "LARGEST_EXPORTED", 1)
    with pytest.raises(FlawlineError, match="Lower `channels` to export it"):
        fitted(of(TRAIN)).graph(SHAPE)
