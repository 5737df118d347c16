"""A memory that a patch only knows the surroundings of its own place of."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from flawline.data.geometry import Geometry, Tiling
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore, cell_centres
from flawline.options.patchcore import PatchCoreOptions

CPU = torch.device("cpu")
WIDE = Geometry((64, 128))
TILED = Geometry((64, 128), Tiling.of((128, 256), 64, 0))
RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.normal(size=(count, 4, 8, 5)).astype(np.float16) for count in (6, 3))


def fitted(data: Data, **options: Any) -> PatchCore:
    given = {"features": "x", "coreset_fraction": 0.5, "calm_border": False, "search": "exact"}
    detector = PatchCore(PatchCoreOptions.model_validate(given | options), 0, CPU)
    detector.fit(data)
    return detector


def slow_distances(
    detector: PatchCore, data: Data, centres: np.ndarray, reach: float
) -> np.ndarray:
    """One patch after the other: the nearest of those in reach, or else of all."""
    memory, pieces = detector.memories[0], data.geometry.pieces
    bank, known = memory.bank.numpy(), centres[memory.places]
    patches = data.features[0].reshape(len(data), -1, bank.shape[1]).astype(np.float32)
    found = np.zeros(patches.shape[:2])
    for image, place in np.ndindex(found.shape):
        all_distances = np.linalg.norm(bank - patches[image, place], axis=1)
        other = np.ones(len(bank), bool)
        if data.own is not None:
            kin = np.arange(99) if data.kin is None else data.kin
            other = kin[memory.images] != kin[data.own[image]]
        around = (np.abs(known - centres[place]) < reach + 1e-4).all(1) & other
        found[image, place] = all_distances[around if around.any() else other].min()
    return found.reshape(len(data) * pieces, *data.features[0].shape[1:3])


@pytest.mark.parametrize("reach", [0, 0.13, 0.3, 0.9])
@pytest.mark.parametrize("kin", [None, np.array([0, 1, 2, 0, 3, 4])])
def test_distances_are_those_to_the_nearest_patch_around(
    reach: float, kin: np.ndarray | None
) -> None:
    down, across = np.mgrid[0:4, 0:8].reshape(2, -1)
    centres = np.stack([(down + 0.5) / 4, (across + 0.5) / 8], 1)
    data = Data(WIDE, features=(TRAIN,))
    detector = fitted(data, reach=reach)
    for seen in (Data(WIDE, features=(TEST,)), replace(data, own=np.arange(6), kin=kin)):
        expected = slow_distances(detector, seen, centres, reach)
        np.testing.assert_allclose(detector.cells(seen), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tile_memory", [False, True])
def test_tiles_lie_where_they_are_in_the_photograph(tile_memory: bool) -> None:
    pieces = TILED.pieces
    train, test = (
        RNG.normal(size=(count * pieces, 4, 4, 5)).astype(np.float16) for count in (6, 2)
    )
    data, seen = Data(TILED, features=(train,)), Data(TILED, features=(test,))
    detector = fitted(data, reach=0.2, tile_memory=tile_memory)
    centres = cell_centres((4, 4), TILED).numpy()
    assert TILED.tiling is not None
    top, left = TILED.tiling.corners[5]
    np.testing.assert_allclose(centres[5 * 16 + 6], [(top + 24) / 128, (left + 40) / 256])
    if tile_memory:  # another tile is far away
        centres = centres + np.arange(pieces).repeat(16)[:, None]
    expected = slow_distances(detector, seen, centres, 0.2)
    np.testing.assert_allclose(detector.cells(seen), expected, rtol=1e-4, atol=1e-5)


def test_where_nothing_is_remembered_the_whole_memory_counts() -> None:
    masks = np.zeros((6, 64, 128), np.uint8)
    masks[:, :, :32] = 1
    data = Data(WIDE, features=(TRAIN,), object_masks=masks)
    around, everywhere = (
        fitted(data, reach=reach, object_mask="memory", object_dilation=0, coreset_fraction=1)
        for reach in (0.1, None)
    )
    seen = Data(WIDE, features=(TEST,))
    far, near = np.s_[:, :, 5:], np.s_[:, :, :2]
    np.testing.assert_allclose(around.cells(seen)[far], everywhere.cells(seen)[far], rtol=1e-5)
    assert (around.cells(seen)[near] > everywhere.cells(seen)[near]).any()


@pytest.mark.parametrize("object_mask", ["none", "memory"])
def test_the_exported_graph_scores_the_same(object_mask: str) -> None:
    masks = np.zeros((6, 64, 128), np.uint8)
    masks[:, :, :32] = 1
    detector = fitted(
        Data(WIDE, features=(TRAIN,), object_masks=masks), reach=0.2, object_mask=object_mask
    )
    features = torch.from_numpy(TEST).float().permute(0, 3, 1, 2)
    found = detector.graph(WIDE)([features])
    expected = detector.cells(Data(WIDE, features=(TEST,)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_good_patch_in_the_wrong_place_is_anomalous() -> None:
    levels = 10 * np.arange(32).reshape(4, 8, 1)
    data = Data(WIDE, features=((TRAIN + levels).astype(np.float16),))
    good = (TEST + levels).astype(np.float16)
    scores = [
        fitted(data, reach=reach).score(Data(WIDE, features=(features,))).scores.mean()
        for reach in (0.1, None)
        for features in (good, good[:, ::-1])
    ]
    assert scores[1] > 5 * scores[0]
    assert scores[3] == pytest.approx(scores[2], rel=0.5)


def test_every_place_has_a_share_of_the_memory() -> None:
    plain = TRAIN.copy()
    plain[:, :, 4:] = 1  # a coreset of all patches would remember one of these
    found = fitted(Data(WIDE, features=(plain,)), reach=0.25, coreset_fraction=0.1).memories[0]
    blocks = {(place // 8, place % 8 // 2) for place in found.places.tolist()}
    assert len(blocks) == 16


@pytest.mark.parametrize("other", [{"reweight": True}, {"poses": "turned"}])
def test_what_looks_elsewhere_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(other))}.*leave one of them out"):
        PatchCoreOptions.model_validate({"features": "x", "reach": 0.1} | other)
