"""What all detectors with anomaly maps share: tiles, what counts, poses, the image score."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from flawline.data.geometry import Geometry, Tiling
from flawline.detectors.data import Data, Posed
from flawline.detectors.featcae import FeatCAE
from flawline.detectors.maps import smooth_maps
from flawline.detectors.masks import cells_of, image_scores
from flawline.detectors.patchcore import PatchCore
from flawline.learning.neighbours import Apart, nearest, nearest_by_candidates
from flawline.learning.whitening import Whitening
from flawline.options.featcae import FeatCAEOptions
from flawline.options.patchcore import PatchCoreOptions

CPU = torch.device("cpu")
CHANNELS = 6
WIDE = Geometry((64, 128))
TILED = Geometry((64, 128), Tiling.of((128, 256), 64, 32))


def cells_like(count: int, height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(5, 1, (count, height, width, CHANNELS)).astype(np.float16)


def cut(features: np.ndarray) -> np.ndarray:
    """Features of whole canvases as those of their tiles."""
    assert TILED.tiling
    return np.concatenate([TILED.tiling.cut(one) for one in features])


def patchcore(**options: Any) -> PatchCore:
    return PatchCore(PatchCoreOptions(features="x", coreset_fraction=0.5, **options), 0, CPU)


class TestRectangles:
    @pytest.mark.parametrize("method", ["patchcore", "featcae"])
    def test_a_defect_is_found_where_it_is(self, method: str) -> None:
        found: Any = patchcore()
        if method == "featcae":
            options = FeatCAEOptions(features="x", latent=2, epochs=2, batch_size=64)
            found = FeatCAE(options, 0, CPU)
        found.fit(Data(WIDE, features=(cells_like(8, 8, 16, 0),)))
        test = cells_like(2, 8, 16, 1)
        test[1, 2, 13] += 30
        scores = found.score(Data(WIDE, features=(test,)))
        assert scores.anomaly_maps.shape == (2, 64, 128)
        assert scores.scores[1] > 2 * scores.scores[0]
        y, x = np.unravel_index(scores.anomaly_maps[1].argmax(), (64, 128))
        assert (y // 8, x // 8) == (2, 13)


class TestImageScore:
    VALUES = np.arange(100, dtype=np.float32).reshape(1, 10, 10)

    @pytest.mark.parametrize(
        ("largest", "expected"), [(0, 99), (0.01, 99), (0.1, 94.5), (0.5, 74.5), (1, 49.5)]
    )
    def test_is_the_mean_of_the_largest_part(self, largest: float, expected: float) -> None:
        options = PatchCoreOptions(features="x", largest=largest)
        found = image_scores(options, self.VALUES, np.ones((1, 10, 10), bool))
        assert found == pytest.approx([expected])

    def test_takes_its_part_of_what_counts_alone(self) -> None:
        inside = self.VALUES < 50
        options = PatchCoreOptions(features="x", largest=0.1)
        assert image_scores(options, self.VALUES, inside) == pytest.approx([47])


class TestWhatDoesNotCount:
    def counted(self, count: int) -> np.ndarray:
        counted = np.ones((count, 64, 128), np.uint8)
        counted[:, :, :32] = 0
        return counted

    @pytest.mark.parametrize("geometry", [WIDE, TILED])
    def test_is_not_learned_not_scored_and_calm_on_the_map(self, geometry: Geometry) -> None:
        train, test = cells_like(6, 16, 32, 0), cells_like(2, 16, 32, 1)
        train[:, :, :8] += 40
        test[:, :, :4] -= 30  # loud, and where nothing counts
        if geometry.tiling:
            train, test = cut(train), cut(test)
        found = patchcore()
        found.fit(Data(geometry, features=(train,), counted=self.counted(6)))
        assert found.memories[0].bank.abs().max() < 30
        scores = found.score(Data(geometry, features=(test,), counted=self.counted(2)))
        assert scores.scores.max() < 8
        maps = scores.anomaly_maps.astype(float)
        assert maps[:, :, :24].max() <= maps[:, :, 40:].max()
        loud = found.score(Data(geometry, features=(test,)))
        assert loud.scores.min() > 30

    def test_cells_count_from_half_of_their_area(self) -> None:
        mask = np.zeros((1, 8, 8), np.uint8)
        mask[0, :, :2], mask[0, :, 4] = 1, 1
        assert cells_of(mask, (2, 2), 0.499)[0].tolist() == [[True, False]] * 2
        assert cells_of(mask, (2, 2), 0)[0].all()
        assert np.array_equal(cells_of(mask, (8, 8), 0.5), mask > 0)


class TestTiles:
    def test_see_what_the_whole_would(self) -> None:
        train, test = cells_like(4, 16, 32, 0), cells_like(2, 16, 32, 1)
        test[1, 3, 20] += 20
        whole = Geometry((128, 256))
        bank = cells_like(1, 1, 50, 2)[0, 0]

        def scored(geometry: Geometry, features: np.ndarray) -> np.ndarray:
            found = patchcore(smoothing=0)
            found.fit(Data(geometry, features=(train if geometry is whole else cut(train),)))
            found.memories[0].bank = torch.from_numpy(bank).float()
            return found.cells(Data(geometry, features=(features,)))

        expected = scored(whole, test)
        data = Data(TILED, features=(cut(test),))
        np.testing.assert_allclose(data.stitched(scored(TILED, cut(test))), expected, rtol=1e-3)

    def test_of_one_image_stay_together(self) -> None:
        pieces = len(TILED.tiling or ())
        features = np.arange(3 * pieces).repeat(4).reshape(-1, 2, 2, 1).astype(np.float16)
        data = Data(TILED, features=(features,), labels=np.arange(3))
        assert len(data) == 3
        taken = data.take(np.array([0, 2]))
        assert taken.features[0][:, 0, 0, 0].tolist() == [
            *range(pieces),
            *range(2 * pieces, 3 * pieces),
        ]
        assert taken.labels is not None
        assert taken.labels.tolist() == [0, 2]
        assert [len(part) for part in data.chunks(1)] == [1, 1, 1]
        assert [len(part) for part in data.chunks(2 * pieces)] == [2, 1]

    def test_are_smoothed_in_their_own_pixels(self) -> None:
        cells = np.zeros((1, 16, 32), np.float32)
        cells[0, 8, 16] = 1
        small = smooth_maps(cells, TILED, 8.0)
        whole = smooth_maps(cells, Geometry((128, 256)), 8.0)
        assert small.shape == (1, 64, 128)
        assert small.max() == pytest.approx(whole.max(), rel=0.1)

    def test_may_each_have_a_memory_of_their_own(self) -> None:
        count, pieces = 6, len(TILED.tiling or ())
        # every tile has its own level, which is strange in another place
        levels = np.tile(np.arange(pieces) * 10.0, count)[:, None, None, None]
        train = (cells_like(count * pieces, 8, 8, 0) + levels).astype(np.float16)
        test = (cells_like(pieces, 8, 8, 1) + levels[:pieces]).astype(np.float16)
        swapped = test.copy()
        swapped[3] -= 10
        scores = {}
        for own in (False, True):
            found = patchcore(tile_memory=own)
            found.fit(Data(TILED, features=(train,)))
            scores[own] = [
                float(found.score(Data(TILED, features=(one,))).scores[0])
                for one in (test, swapped)
            ]
        assert scores[True][1] > 3 * scores[True][0]
        assert scores[False][1] < 2 * scores[False][0]

    def test_of_large_photographs_are_judged_with_masks_of_whole_images(self) -> None:
        masks = np.zeros((2, 64, 128), np.uint8)
        masks[:, 16:48, 32:96] = 1
        data = Data(TILED, features=(cut(cells_like(2, 16, 32, 0)),), object_masks=masks)
        cut_masks = data.cut(masks, (8, 8))
        assert cut_masks.shape == (2 * len(TILED.tiling or ()), 8, 8)
        stitched = data.stitched(cut_masks.astype(np.float32))
        assert np.array_equal(stitched > 0.5, cells_of(masks, (16, 32), 0.5))
        found = patchcore(object_mask="memory", object_dilation=0)
        found.fit(data)
        assert found.score(data).anomaly_maps.shape == (2, 64, 128)


class TestPoses:
    def test_are_known_to_a_memory_of_the_same_size(self) -> None:
        train, posed = cells_like(6, 8, 16, 0), cells_like(12, 8, 16, 1)
        posed += 50
        counted = np.ones((12, 64, 128), np.uint8)
        counted[:, :, 64:] = 0
        posed[:, :, 8:] = 900  # filled in
        data = Data(WIDE, features=(train,), posed=Posed((posed,), counted))
        found, plain = patchcore(poses="turned"), patchcore()
        found.fit(data)
        plain.fit(Data(WIDE, features=(train,)))
        assert len(found.memories[0].bank) == len(plain.memories[0].bank)
        assert found.memories[0].bank.max() < 100
        turned = Data(WIDE, features=(cells_like(2, 8, 16, 2) + np.float16(50),))
        assert found.score(turned).scores.max() < 10 < plain.score(turned).scores.min()

    def test_go_with_their_images(self) -> None:
        posed = Posed((np.arange(8.0).reshape(8, 1, 1, 1),), np.ones((8, 2, 2), np.uint8))
        assert posed.of(np.array([1, 3]), 4).features[0].ravel().tolist() == [1, 3, 5, 7]


class TestLeavingAnImageOut:
    @pytest.mark.parametrize("search", [nearest, nearest_by_candidates])
    def test_finds_the_nearest_of_other_images(self, search: Any) -> None:
        rng = np.random.default_rng(0)
        bank = torch.from_numpy(rng.normal(size=(3000, 5))).float()
        images = torch.from_numpy(rng.integers(0, 4, 3000))
        queries, own = bank[::7], images[::7]
        distances, rows = search(queries, bank, apart=Apart(own, images))
        assert (images[rows[:, 0]] != own).all()
        expected = torch.cdist(queries, bank).masked_fill(own[:, None] == images, torch.inf)
        torch.testing.assert_close(distances[:, 0], expected.amin(1), rtol=0.02, atol=1e-3)

    @pytest.mark.parametrize("search", [nearest, nearest_by_candidates])
    def test_falls_back_on_its_own_where_there_is_no_other(self, search: Any) -> None:
        bank = torch.eye(4)
        same = torch.zeros(4, dtype=torch.int64)
        distances, _ = search(bank, bank, apart=Apart(same, same))
        assert torch.isfinite(distances).all()

    def test_makes_training_scores_like_those_of_new_good_images(self) -> None:
        train = cells_like(20, 8, 16, 0)
        train[7, 4, 4] += 15
        found = patchcore()
        data = Data(WIDE, features=(train,))
        found.fit(data)
        seen = found.score(data).scores
        own = found.score(replace(data, own=np.arange(20))).scores
        new = found.score(Data(WIDE, features=(cells_like(20, 8, 16, 1),))).scores
        assert own.argmax() == 7, "an odd training image stands out"
        assert seen[7] < new.max()
        assert np.median(own) == pytest.approx(np.median(new), rel=0.1)


class TestDistances:
    def test_of_the_cosine_do_not_depend_on_length(self) -> None:
        train, test = cells_like(6, 8, 16, 0), cells_like(2, 8, 16, 1)
        found = patchcore(distance="cosine")
        found.fit(Data(WIDE, features=(train,)))
        scores = found.score(Data(WIDE, features=(test,))).scores
        longer = found.score(Data(WIDE, features=(3 * test,))).scores
        np.testing.assert_allclose(scores, longer, rtol=2e-2)
        assert found.memories[0].bank.norm(dim=1).numpy() == pytest.approx(1, abs=1e-3)

    def test_after_whitening_do_not_depend_on_the_scale_of_channels(self) -> None:
        train, test = cells_like(40, 8, 16, 0), cells_like(4, 8, 16, 1)
        stretch = np.array([1, 1, 100, 1, 0.1, 1], np.float16)
        scores = []
        for factor in (np.ones_like(stretch), stretch):
            found = patchcore(whitening=1e-9)
            found.fit(Data(WIDE, features=(train * factor,)))
            found.restore(found.state())
            scores.append(found.score(Data(WIDE, features=(test * factor,))).scores)
        np.testing.assert_allclose(*scores, rtol=0.2)

    def test_whitened_vectors_have_mean_0_and_covariance_1(self) -> None:
        rng = np.random.default_rng(0)
        vectors = torch.from_numpy(rng.normal(3, 1, (5000, 4)) @ rng.normal(size=(4, 4))).float()
        white = Whitening.of(vectors, 1e-9)(vectors)
        torch.testing.assert_close(white.mean(0), torch.zeros(4), rtol=0, atol=1e-3)
        torch.testing.assert_close(torch.cov(white.T), torch.eye(4), rtol=0, atol=1e-2)
        shrunk = Whitening.of(vectors, 1.0)(vectors)
        assert (torch.linalg.eigvalsh(torch.cov(shrunk.T)) < 1).all()
