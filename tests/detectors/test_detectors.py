"""What users may rely on in every detector, and what is special to each."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry, Tiling
from flawline.detectors.base import Detector
from flawline.detectors.data import Data, Synthetic
from flawline.detectors.featcae import FeatCAE
from flawline.detectors.maps import smooth_maps
from flawline.detectors.patchcore import PatchCore
from flawline.detectors.registry import method_class
from flawline.detectors.scoring import score_to_files
from flawline.errors import FlawlineError
from flawline.files import read_array, read_table
from flawline.learning.coreset import greedy_coreset, project
from flawline.learning.neighbours import nearest, nearest_by_candidates
from flawline.options.featcae import FeatCAEOptions
from flawline.options.patchcore import PatchCoreOptions

CPU = torch.device("cpu")
SIZE = 32
SMALL: dict[str, dict[str, Any]] = {
    "patchcore": {"features": "x", "coreset_fraction": 0.2, "reweight": True},
    "subspace": {"features": "x"},
    "padim": {"features": "x", "channels": 6, "shrinkage": 0.1},
    "featcae": {"features": "x", "latent": 2, "epochs": 30, "batch_size": 128},
}


def detector(method: str, seed: int = 0, **changes: Any) -> Detector:
    found = method_class(method)
    return found(found.Options.model_validate(SMALL[method] | changes), seed, CPU)


@pytest.fixture(scope="module")
def parts() -> tuple[Data, Data, np.ndarray]:
    """Good images lie on a plane in 8-dimensional feature space; defects leave it."""
    rng = np.random.default_rng(0)
    sheet = rng.normal(size=(2, 8))

    def good_images(count: int) -> np.ndarray:
        return rng.uniform(-1, 1, size=(count, 8, 8, 2)) @ sheet + 0.05 * rng.normal(
            size=(count, 8, 8, 8)
        )

    test = good_images(40)
    labels = np.repeat([0, 1], 20)
    test[20:, 2:4, 3:5] += 1.5 * rng.normal(size=8)
    return (
        Data(Geometry((SIZE, SIZE)), features=(good_images(20).astype(np.float16),)),
        Data(Geometry((SIZE, SIZE)), features=(test.astype(np.float16),)),
        labels,
    )


@pytest.mark.parametrize("method", SMALL)
class TestEveryMethodOnFeatures:
    def test_finds_obvious_defects_and_where_they_are(self, method: str, parts: Any) -> None:
        train, test, labels = parts
        found = detector(method, smoothing=1.0)
        found.fit(train)
        scores = found.score(test)
        assert roc_auc_score(labels, scores.scores) > 0.98
        assert scores.scores.shape == (40,)
        assert scores.anomaly_maps.shape == (40, SIZE, SIZE)
        assert scores.anomaly_maps.dtype == np.float16
        defect = scores.anomaly_maps[20:, 8:16, 12:20].mean()
        assert defect > 2 * scores.anomaly_maps[:20].mean()

    def test_gives_the_same_scores_after_saving_and_loading(
        self, method: str, parts: Any, tmp_path: Path
    ) -> None:
        train, test, _ = parts
        found = detector(method)
        found.fit(train)
        found.save(tmp_path, {"note": "here"})
        again = method_class(method).load(tmp_path, CPU)
        np.testing.assert_allclose(
            again.score(test).scores, found.score(test).scores, rtol=2e-3, atol=1e-5
        )
        assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "model.json"}

    def test_is_reproducible_by_seed_and_differs_between_seeds(
        self, method: str, parts: Any
    ) -> None:
        train, test, _ = parts
        scores = []
        for seed in (0, 0, 1):
            found = detector(method, seed)
            found.fit(train)
            scores.append(found.score(test).scores)
        assert np.array_equal(scores[0], scores[1])
        assert np.array_equal(scores[0], scores[2]) == (method == "subspace")  # it draws nothing

    def test_scores_each_image_independently_of_the_others(self, method: str, parts: Any) -> None:
        train, test, _ = parts
        found = detector(method)
        found.fit(train)
        together = found.score(test).scores
        apart = np.concatenate([found.score(part).scores for part in test.chunks(7)])
        np.testing.assert_allclose(apart, together, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("damage", ["cut off", "flipped"])
    def test_says_which_model_is_damaged(
        self, method: str, parts: Any, tmp_path: Path, damage: str
    ) -> None:
        train, _, _ = parts
        found = detector(method)
        found.fit(train)
        found.save(tmp_path)
        model = tmp_path / "model.safetensors"
        content = bytearray(model.read_bytes())
        content[-3] ^= 1
        model.write_bytes(content if damage == "flipped" else content[:-100])
        with pytest.raises(FlawlineError, match=str(tmp_path)):
            method_class(method).load(tmp_path, CPU)

    def test_writes_scores_and_maps_of_all_images_in_their_order(
        self, method: str, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Data.chunks, "__defaults__", (7,))
        train, test, _ = parts
        found = detector(method)
        found.fit(train)
        score_to_files(found, test, tmp_path / "scores.csv", tmp_path / "maps.npy")
        expected = found.score(test)
        table = read_table(tmp_path / "scores.csv")
        assert table["row"].tolist() == list(range(40))
        np.testing.assert_allclose(table["score"], expected.scores, rtol=1e-4, atol=1e-5)
        maps = np.load(tmp_path / "maps.npy")
        assert maps.dtype == np.float16
        np.testing.assert_allclose(maps, expected.anomaly_maps, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("tiling", [None, Tiling.of((64, 96), 64, 32)])
def test_a_subset_without_images_has_a_table_and_maps_of_none(
    tiling: Tiling | None, tmp_path: Path
) -> None:
    data = Data(Geometry((32, 48), tiling), features=(np.zeros((0, 8, 12, 8), np.float16),))
    scores, maps = tmp_path / "scores.csv", tmp_path / "maps.npy"
    score_to_files(detector("patchcore"), data, scores, maps)
    assert read_table(scores).columns.tolist() == ["row", "score"]
    assert len(read_table(scores)) == 0
    assert read_array(maps).shape == (0, 32, 48)
    assert read_array(maps).dtype == np.float16


def plain_greedy(vectors: np.ndarray, count: int, first: int) -> list[int]:
    picks, distances = [first], np.full(len(vectors), np.inf)
    while len(picks) < count:
        distances = np.minimum(distances, ((vectors - vectors[picks[-1]]) ** 2).sum(1))
        distances[picks] = -1
        picks.append(int(distances.argmax()))
    return picks


@pytest.mark.parametrize("count", [1, 2, 50, 400])
@pytest.mark.parametrize("levels", [(), (32,), (128, 16), (3000, 16)])
@pytest.mark.parametrize("steps", [1, 4, 100])  # few steps: most distances are tied
@pytest.mark.parametrize("tile", [(4096, 256), (150, 7)])
def test_the_coreset_is_that_of_the_plain_greedy_rule(
    count: int,
    levels: tuple[int, ...],
    steps: int,
    tile: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flawline.learning.coreset.LEVELS", levels)
    monkeypatch.setattr("flawline.learning.coreset.TILE", {"cpu": tile})
    vectors = np.random.default_rng(0).normal(size=(400, 6)) * steps
    vectors = vectors.round().astype(np.float32)
    picks = greedy_coreset(torch.from_numpy(vectors), count, seed=3).tolist()
    assert picks == plain_greedy(vectors.astype(float), count, picks[0])


def test_the_coreset_of_projected_vectors_is_exact_in_float32() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(3000, 300)))
    projected = project(vectors, 128, seed=1)
    assert torch.equal(projected, projected.round())
    largest = torch.cdist(projected.double(), projected.double()).square().max()
    assert 1 << 18 < largest < 1 << 24
    picks = greedy_coreset(projected, 600, seed=0).tolist()
    assert picks == plain_greedy(projected.double().numpy(), 600, picks[0])


def test_a_coreset_of_duplicates_still_has_distinct_rows() -> None:
    vectors = torch.ones(50, 4)
    picks = greedy_coreset(vectors, 20, seed=0).tolist()
    assert len(set(picks)) == 20


def test_projection_keeps_distances() -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(60, 512))).float()
    before = torch.cdist(vectors, vectors)
    after = torch.cdist(*[project(vectors, 128, seed=1)] * 2)
    ratio = (after / before)[~torch.eye(60, dtype=torch.bool)]
    assert ratio.min() > 0.7 * ratio.mean()
    assert ratio.max() < 1.3 * ratio.mean()


def test_projection_never_widens() -> None:
    vectors = torch.rand(5, 8)
    projected = project(vectors, 128, seed=0)
    assert projected.shape == vectors.shape
    steps = (vectors - vectors.mean(0)) * projected.abs().max()
    torch.testing.assert_close(
        projected / projected.abs().max(), steps / steps.abs().max(), rtol=0, atol=1e-3
    )


def test_patchcore_can_choose_its_memory_from_a_part_of_the_patches() -> None:
    features = np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype(np.float16)
    options = PatchCoreOptions(features="f", coreset_fraction=0.1, coreset_from=0.3)
    detector = PatchCore(options, seed=0, device=torch.device("cpu"))
    training = detector.fit(Data(Geometry((32, 32)), features=(features,)))
    assert training.rows == [{"step": 1, "patches": 30, "memory": 10}]
    memory = {tuple(row) for row in detector.memories[0].bank.tolist()}
    assert memory <= {tuple(row) for row in features.reshape(-1, 3).astype(float).tolist()}
    again = PatchCore(options, seed=1, device=torch.device("cpu"))
    again.fit(Data(Geometry((32, 32)), features=(features,)))
    assert not torch.equal(again.memories[0].bank, detector.memories[0].bank)


@pytest.mark.parametrize(("size", "kept"), [(50, 50), (100_000, 20 * 64)])
def test_a_memory_of_fixed_size_does_not_grow_with_the_images(
    parts: Any, tmp_path: Path, size: int, kept: int
) -> None:
    train, test, _ = parts
    found = detector("patchcore", coreset_fraction=0.1, coreset_size=size)
    found.fit(train)
    assert len(found.memories[0].bank) == kept
    found.save(tmp_path)
    again = PatchCore.load(tmp_path, CPU)
    np.testing.assert_allclose(again.score(test).scores, found.score(test).scores, rtol=2e-3)


def test_neighbours_by_candidates_are_real_and_hardly_farther() -> None:
    rng = np.random.default_rng(0)
    queries, bank = (torch.from_numpy(rng.normal(5, 1, (n, 40))).float() for n in (700, 5000))
    distances, rows = nearest_by_candidates(queries, bank)
    exact, _ = nearest(queries, bank)
    real = (queries - bank[rows[:, 0]]).norm(dim=1, keepdim=True)
    torch.testing.assert_close(distances, real)
    assert ((distances - exact) / exact).mean() < 0.002
    assert (distances >= exact - 1e-3).all()


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("tile", [3, 7, 60, 1000])
def test_nearest_neighbours_are_exact_in_pieces(
    monkeypatch: pytest.MonkeyPatch, tile: int, count: int
) -> None:
    monkeypatch.setattr("flawline.learning.neighbours.TILE", tile)
    rng = np.random.default_rng(0)
    queries, bank = (torch.from_numpy(rng.normal(size=(n, 9))).float() for n in (50, 70))
    distances, rows = nearest(queries, bank, count)
    expected = torch.cdist(queries, bank).sort(1)
    assert torch.equal(rows, expected.indices[:, :count])
    torch.testing.assert_close(distances, expected.values[:, :count], rtol=1e-4, atol=1e-5)


def test_patchcore_scores_are_distances_to_memory() -> None:
    train = np.random.default_rng(0).normal(size=(4, 3, 3, 5)).astype(np.float16)
    options = PatchCoreOptions(
        features="x", coreset_fraction=1, reweight=False, score_from="cells", smoothing=0
    )
    found = PatchCore(options, 0, CPU)
    found.fit(Data(Geometry((3, 3)), features=(train,)))
    test = np.random.default_rng(1).normal(size=(2, 3, 3, 5)).astype(np.float16)
    scores = found.score(Data(Geometry((3, 3)), features=(test,)))
    flat = torch.from_numpy(test.reshape(2, 9, 5)).float()
    expected = torch.cdist(flat, found.memories[0].bank).min(2).values
    np.testing.assert_allclose(scores.scores, expected.amax(1), rtol=1e-4)
    np.testing.assert_allclose(scores.anomaly_maps, expected.reshape(2, 3, 3), rtol=2e-3)


def test_a_random_coreset_is_any_part_of_the_patches_and_loses_rare_ones() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(10, 8, 8, 5)).astype(np.float16)
    train[3, 4, 4] = 40  # the oddest patch
    rows = {row.tobytes() for row in train.reshape(-1, 5)}
    banks = {}
    for coreset in ("greedy", "random"):
        for seed in (0, 1):
            options = PatchCoreOptions(features="x", coreset_fraction=0.05, coreset=coreset)
            found = PatchCore(options, seed, CPU)
            found.fit(Data(Geometry((8, 8)), features=(train,)))
            bank = found.memories[0].bank.half().numpy()
            banks[coreset, seed] = {row.tobytes() for row in bank}
            assert len(banks[coreset, seed]) == 32
            assert banks[coreset, seed] <= rows
    odd = train[3, 4, 4].tobytes()
    assert all((odd in bank) == (coreset == "greedy") for (coreset, _), bank in banks.items())
    assert banks["random", 0] != banks["random", 1]


@pytest.mark.parametrize("given", [{"projection": 64}, {"coreset_from": 0.5}])
def test_options_of_the_greedy_choice_are_refused_with_a_random_coreset(given: dict) -> None:
    with pytest.raises(ValidationError, match="only the greedy choice has it"):
        PatchCoreOptions(features="x", coreset="random", **given)


def test_patchcore_reweights_as_in_equation_7() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(4, 4, 4, 5)).astype(np.float16)
    options = PatchCoreOptions(
        features="x", coreset_fraction=1, score_from="cells", reweight=True, neighbours=3
    )
    found = PatchCore(options, 0, CPU)
    found.fit(Data(Geometry((4, 4)), features=(train,)))
    test = rng.normal(size=(1, 4, 4, 5)).astype(np.float16)
    patches = test.reshape(16, 5).astype(float)
    bank = found.memories[0].bank.double().numpy()
    distances = np.linalg.norm(patches[:, None] - bank, axis=2)
    strange = distances.min(1).argmax()
    match = distances[strange].argmin()
    around = np.linalg.norm(bank[match] - bank, axis=1).argsort()[:3]
    soft = np.exp(distances[strange, match]) / np.exp(distances[strange, around]).sum()
    expected = (1 - soft) * distances[strange, match]
    np.testing.assert_allclose(
        found.score(Data(Geometry((4, 4)), features=(test,))).scores, expected, rtol=1e-3
    )


def test_featcae_learns() -> None:
    rng = np.random.default_rng(0)
    sheet = rng.normal(size=(8, 8, 8, 2)) @ rng.normal(size=(2, 12))
    found = FeatCAE(FeatCAEOptions(features="x", latent=2, epochs=20, batch_size=64), 0, CPU)
    log = found.fit(Data(Geometry((16, 16)), features=(sheet.astype(np.float16),))).rows
    assert [row["epoch"] for row in log] == list(range(1, 21))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


def test_smoothed_maps_keep_the_peak_in_place() -> None:
    cells = np.zeros((1, 8, 8), np.float32)
    cells[0, 2, 5] = 1
    found = smooth_maps(cells, Geometry((64, 64)), 4.0)
    row, column = np.unravel_index(found[0].argmax(), (64, 64))
    assert (row // 8, column // 8) == (2, 5)
    assert found[0].sum() == pytest.approx(64, rel=0.02)


@pytest.mark.parametrize("method", ["patchcore", "featcae"])
def test_the_image_score_can_ignore_what_is_beside_the_object(method: str, parts: Any) -> None:
    train, test, _ = parts
    masks = np.zeros((40, SIZE, SIZE), np.uint8)
    masks[:, 20:] = 1  # the defects lie above, their bilinear edges too
    restricted = Data(Geometry((SIZE, SIZE)), features=test.features, object_masks=masks)
    found = detector(method, object_mask="score", object_dilation=0, smoothing=0)
    found.fit(train)
    scores = found.score(restricted)
    whole = detector(method, smoothing=0)
    whole.fit(train)
    assert roc_auc_score(np.repeat([0, 1], 20), scores.scores) < 0.8
    assert np.array_equal(scores.anomaly_maps, whole.score(test).anomaly_maps)


@pytest.mark.parametrize("method", ["patchcore", "featcae"])
def test_memory_can_be_kept_to_the_object(method: str, parts: Any) -> None:
    train, test, _ = parts
    masks = np.zeros((40, SIZE, SIZE), np.uint8)
    masks[:, 16:] = 1
    odd = np.array(train.features[0])
    odd[:, :3] += 20  # a background unlike the object, beyond the margin that is learned too
    plain, other = (
        Data(Geometry((SIZE, SIZE)), features=(features,), object_masks=masks[:20])
        for features in (train.features[0], odd)
    )
    scores = []
    for data in (plain, other):
        found = detector(method, object_mask="memory", object_dilation=0)
        found.fit(data)
        scores.append(
            found.score(Data(Geometry((SIZE, SIZE)), features=test.features, object_masks=masks))
        )
    assert np.array_equal(scores[0].scores, scores[1].scores)
    above, below = (scores[0].anomaly_maps[:, part].mean() for part in (slice(12), slice(20, 32)))
    assert above < below  # nothing is shown beside the object


@pytest.mark.parametrize("method", ["patchcore", "featcae"])
def test_several_feature_sets_work_together(method: str, parts: Any) -> None:
    train, test, labels = parts
    rng = np.random.default_rng(1)

    def with_noise(data: Data) -> Data:
        coarse = rng.normal(size=(len(data), 4, 4, 3)).astype(np.float16)  # on another grid
        return Data(Geometry((SIZE, SIZE)), features=(data.features[0], coarse))

    found = (
        detector(method, features=["x", "y"], reweight=False)
        if method == "patchcore"
        else (detector(method, features=["x", "y"]))
    )
    found.fit(with_noise(train))
    scores = found.score(with_noise(test))
    assert roc_auc_score(labels, scores.scores) > 0.9
    assert scores.anomaly_maps.shape == (40, SIZE, SIZE)


def test_an_ensemble_of_equal_sets_ranks_like_one(parts: Any) -> None:
    train, test, _ = parts
    alone, twice = (
        detector("patchcore", coreset_fraction=1, reweight=False, search="exact"),
        detector(
            "patchcore", coreset_fraction=1, features=["x", "x"], reweight=False, search="exact"
        ),
    )
    alone.fit(train)
    twice.fit(Data(Geometry((SIZE, SIZE)), features=train.features * 2))
    one = alone.score(test).scores
    two = twice.score(Data(Geometry((SIZE, SIZE)), features=test.features * 2)).scores
    assert np.array_equal(one.argsort(), two.argsort())


def test_reweighting_an_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="reweight: equation 7 needs the one match"):
        PatchCoreOptions(features=["x", "y"], reweight=True)


def test_some_images_keep_what_was_made_from_them() -> None:
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    made = np.arange(13, dtype=np.uint8).reshape(13, 1, 1, 1)
    synthetic = Synthetic(made, made[..., 0], [str(row) for row in range(13)])
    found = Data(Geometry((1, 1)), images=images, synthetic=synthetic, labels=np.arange(5)).take(
        np.array([1, 4])
    )
    assert found.images.ravel().tolist() == found.labels.tolist() == [1, 4]
    assert found.synthetic.images.ravel().tolist() == [1, 4, 6, 9, 11]
    sources = found.synthetic.images.ravel() % 5
    assert sources.tolist() == [found.images.ravel()[i % 2] for i in range(5)]
