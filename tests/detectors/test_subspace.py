"""Distances to the subspace of good patches, against their definitions."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.subspace import Subspace
from flawline.learning.moments import CHUNK, Moments
from flawline.options.subspace import SubspaceOptions

CPU = torch.device("cpu")
SHAPE = Geometry((32, 32))
RNG = np.random.default_rng(0)
# four directions in which good patches vary much, and four in which they hardly do
SPREAD = np.array([8, 4, 2, 1, 0.2, 0.1, 0.05, 0.02])
TURN = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
TRAIN, TEST = (
    (RNG.normal(size=(count, 4, 4, 8)) * SPREAD @ TURN + 3).astype(np.float16) for count in (30, 5)
)


def fitted(train: np.ndarray = TRAIN, **options: Any) -> Subspace:
    given = {"features": "x", "calm_border": False} | options
    detector = Subspace(SubspaceOptions.model_validate(given), 0, CPU)
    detector.fit(Data(SHAPE, features=(train,)))
    return detector


def cells(detector: Subspace, features: np.ndarray = TEST) -> np.ndarray:
    return detector.cells(Data(SHAPE, features=(features,)))


def rows(features: np.ndarray) -> np.ndarray:
    return features.reshape(-1, features.shape[-1]).astype(np.float64)


class TestDistances:
    def test_residual_is_what_principal_components_leave_unexplained(self) -> None:
        model = PCA(n_components=0.95).fit(rows(TRAIN))
        left = rows(TEST) - model.inverse_transform(model.transform(rows(TEST)))
        expected = np.linalg.norm(left, axis=1)
        found = cells(fitted(distance="residual")).ravel()
        np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-3)

    @pytest.mark.parametrize("shrinkage", [0.01, 0.07, 1.0])
    def test_mahalanobis_is_that_of_the_shrunk_covariance(self, shrinkage: float) -> None:
        covariance = np.cov(rows(TRAIN).T, bias=True)
        shrunk = covariance + shrinkage * np.trace(covariance) / 8 * np.eye(8)
        mean = rows(TRAIN).mean(0, keepdims=True)
        expected = cdist(rows(TEST), mean, "mahalanobis", VI=np.linalg.inv(shrunk))[:, 0]
        found = cells(fitted(distance="mahalanobis", shrinkage=shrinkage)).ravel()
        np.testing.assert_allclose(found / found[0], expected / expected[0], rtol=1e-3)

    @pytest.mark.parametrize("distance", ["residual", "mahalanobis"])
    def test_that_of_a_typical_good_patch_is_1(self, distance: str) -> None:
        found = cells(fitted(distance=distance), TRAIN)
        assert np.sqrt(np.square(found).mean()) == pytest.approx(1, rel=1e-3)

    @pytest.mark.parametrize("distance", ["residual", "mahalanobis"])
    def test_are_finite_from_a_single_image_or_from_equal_patches(self, distance: str) -> None:
        for train in (TRAIN[:1], np.ones_like(TRAIN)):
            assert np.isfinite(cells(fitted(train, distance=distance))).all()

    def test_of_several_sets_are_averaged_on_the_finer_grid(self) -> None:
        coarse, coarse_test = TRAIN[:, ::2, ::2], TEST[:, ::2, ::2]
        options = SubspaceOptions(features=["x", "y"], calm_border=False)
        both = Subspace(options, 0, CPU)
        both.fit(Data(SHAPE, features=(TRAIN, coarse)))
        found = both.cells(Data(SHAPE, features=(TEST, coarse_test)))
        alone = [cells(fitted(TRAIN)), cells(fitted(coarse), coarse_test)]
        assert found.shape == alone[0].shape
        assert found.mean() == pytest.approx(np.mean([one.mean() for one in alone]), rel=0.02)


def test_patches_outside_the_object_are_not_learned() -> None:
    masks = np.zeros((30, 32, 32), np.uint8)
    masks[:, :, :16] = 1
    odd = TRAIN.copy()
    odd[:, :, 2:] = 100
    options = SubspaceOptions(
        features="x", object_mask="memory", object_dilation=0, calm_border=False
    )
    detector = Subspace(options, 0, CPU)
    training = detector.fit(Data(SHAPE, features=(odd,), object_masks=masks))
    assert training.rows[0]["patches"] < 30 * 16
    assert torch.all(detector.distances[0].mean < 50)


class TestMoments:
    def test_of_two_parts_merge_to_those_of_the_whole(self) -> None:
        vectors = torch.from_numpy(rows(TRAIN))
        whole, merged = (
            Moments.of(vectors),
            Moments.of(vectors[:17]).merged(Moments.of(vectors[17:])),
        )
        assert merged.count == whole.count == len(vectors)
        torch.testing.assert_close(merged.mean, whole.mean)
        torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-4, atol=1e-5)

    def test_of_many_vectors_are_numpys(self) -> None:
        vectors = RNG.normal(5, 2, size=(CHUNK + 100, 3)).astype(np.float16)
        found = Moments.of(torch.from_numpy(vectors))
        values = vectors.astype(np.float64)
        np.testing.assert_allclose(found.mean, values.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found.covariance, np.cov(values.T, bias=True), atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"distance": "mahalanobis", "variance": 0.9}, {"shrinkage": 0.1}, {"variance": 1}]
)
def test_an_option_that_would_do_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=list(wrong)[-1]):
        SubspaceOptions.model_validate({"features": "x"} | wrong)
