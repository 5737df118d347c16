"""f-AnoGAN: what it finds, what it keeps fixed, and where its stages end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.fanogan import FAnoGAN
from flawline.errors import FlawlineError
from flawline.learning.training import Checkpoint
from flawline.options.fanogan import FAnoGANOptions

CPU = torch.device("cpu")
SIZE = 32
QUICK: dict[str, Any] = {
    "latent": 8,
    "width": 1,
    "gan_steps": 6,
    "encoder_steps": 3,
    "batch_size": 4,
    "generator_every": 2,
}


def detector(seed: int = 0, **changes: Any) -> FAnoGAN:
    return FAnoGAN(FAnoGANOptions.model_validate(QUICK | changes), seed, CPU)


def good_images(count: int, seed: int) -> np.ndarray:
    """A dark square on a light ground, each a little different: uint8 (N, 32, 32, 3)."""
    rng = np.random.default_rng(seed)
    images = np.full((count, SIZE, SIZE, 3), 220.0) + rng.normal(0, 3, (count, 1, 1, 3))
    images[:, 8:24, 8:24] = 60 + rng.normal(0, 3, (count, 1, 1, 1))
    return images.round().astype(np.uint8)


@pytest.fixture(scope="module")
def train() -> Data:
    return Data(Geometry((SIZE, SIZE)), images=good_images(10, 0))


@pytest.fixture(scope="module")
def test() -> Data:
    images = good_images(12, 1)
    images[6:, 8:18, 14:24] = (250, 20, 20)
    return Data(Geometry((SIZE, SIZE)), images=images)


@pytest.fixture(scope="module")
def fitted(train: Data) -> FAnoGAN:
    found = detector()
    found.fit(train)
    return found


def bits(found: FAnoGAN) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in found.state().items()}


def test_finds_obvious_defects_and_where_they_are(train: Data, test: Data) -> None:
    found = detector(
        width=4,
        batch_size=8,
        gan_steps=60,
        encoder_steps=60,
        generator_every=1,
        learning_rate=3e-3,
    )
    found.fit(train)
    scores = found.score(test)
    assert roc_auc_score(np.repeat([0, 1], 6), scores.scores) > 0.95
    assert scores.anomaly_maps.shape == (12, SIZE, SIZE)
    assert scores.anomaly_maps.dtype == np.float16
    maps = scores.anomaly_maps.astype(float)
    defect = np.zeros((SIZE, SIZE), bool)
    defect[9:17, 15:23] = True
    assert (maps[6:, defect].mean(1) > 2 * maps[6:, ~defect].mean(1)).all()
    rebuilt = found.pictures(test)["rebuilt"].astype(int)
    assert rebuilt.shape == (12, 64, 64, 3)
    assert rebuilt[:, 24:40, 24:40].mean() < 110 < 150 < rebuilt[:, :12].mean()


def test_gives_the_same_scores_after_saving_and_loading(
    fitted: FAnoGAN, test: Data, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    again = FAnoGAN.load(tmp_path, CPU)
    assert np.array_equal(again.score(test).scores, fitted.score(test).scores)
    assert np.array_equal(again.pictures(test)["rebuilt"], fitted.pictures(test)["rebuilt"])


def test_is_reproducible_by_seed(fitted: FAnoGAN, train: Data) -> None:
    again, other = detector(), detector(seed=1)
    again.fit(train)
    other.fit(train)
    assert bits(again) == bits(fitted)
    assert bits(other) != bits(fitted)


def test_scores_each_image_independently_of_the_others(fitted: FAnoGAN, test: Data) -> None:
    together = fitted.score(test)
    apart = [fitted.score(part) for part in test.chunks(5)]
    np.testing.assert_allclose(
        np.concatenate([part.scores for part in apart]), together.scores, rtol=1e-4
    )
    maps = np.concatenate([part.anomaly_maps for part in apart])
    np.testing.assert_allclose(maps, together.anomaly_maps, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("output", "largest"), [("tanh", 1), ("linear", np.inf)])
def test_codes_stay_in_the_range_that_was_asked_for(
    train: Data, output: str, largest: float
) -> None:
    found = detector(encoder_output=output, encoder_steps=8, learning_rate=0.3)
    found.fit(train)
    with torch.inference_mode():
        codes = found.networks["encoder"](1e3 * torch.randn(6, 3, 64, 64))
    assert codes.shape == (6, 8)
    assert 0.5 < codes.abs().max() <= largest
    assert (codes.abs().max() > 1) == (output == "linear")


def test_only_generator_and_encoder_leave_float32(
    train: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[torch.dtype]] = {}
    build = FAnoGAN._build

    def watched(self: FAnoGAN) -> Any:
        networks = build(self)
        for name, network in networks.items():
            layer = network[0] if isinstance(network[0], torch.nn.Conv2d) else network[2].main[2]
            layer.register_forward_hook(
                lambda *args, name=name: seen.setdefault(name, set()).add(args[2].dtype)
            )
        return networks

    monkeypatch.setattr(FAnoGAN, "_build", watched)
    detector(precision="bfloat16").fit(train)
    half, full = {torch.bfloat16}, {torch.float32}
    assert seen == {"generator": half, "encoder": half, "critic": full}


def test_the_second_stage_leaves_generator_and_critic_as_they_were(
    fitted: FAnoGAN, train: Data
) -> None:
    short = detector(encoder_steps=1)
    short.fit(train)
    before, after = bits(short), bits(fitted)
    changed = {name for name, value in after.items() if value != before[name]}
    assert any("running_mean" in name for name in after)  # of batch norm: fixed too
    assert changed
    assert all(name.startswith("encoder.") for name in changed)


@pytest.mark.parametrize(("every", "learned"), [(1, 6), (4, 1), (6, 1)])
def test_the_generator_learns_once_per_several_critic_steps(
    train: Data, every: int, learned: int
) -> None:
    found = detector(generator_every=every)
    found.fit(train)
    # once for every critic step, and once for every step of its own
    batches = found.state()["generator.2.main.0.num_batches_tracked"]
    assert batches == 6 + learned


def test_stages_take_exactly_the_steps_asked_for(train: Data) -> None:
    rows = detector(gan_steps=7, encoder_steps=4, validation_fraction=0).fit(train).rows
    assert [(row["phase"], row["epoch"], row["steps"]) for row in rows] == [
        ("gan", 1, 3),
        ("gan", 2, 6),
        ("gan", 3, 7),
        ("encoder", 1, 10),
        ("encoder", 2, 11),
    ]
    assert {"distance", "penalty"} < rows[0].keys()
    assert {"image residual", "feature residual"} < rows[-1].keys()


def test_a_budget_is_shared_between_the_stages(train: Data) -> None:
    training = detector(gan_steps=60, encoder_steps=20, max_steps=8).fit(train)
    last = {row["phase"]: row["steps"] for row in training.rows}
    assert last == {"gan": 6, "encoder": 8}
    assert training.ended == "encoder: stopped by max_steps = 8"


@pytest.mark.parametrize("after", [3, 9, 14])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    fitted: FAnoGAN, train: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0)
    draw, draws = torch.rand, []

    def interrupt(*given: Any, **options: Any) -> torch.Tensor:
        draws.append(given)
        if len(draws) == after:
            raise KeyboardInterrupt
        return draw(*given, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "rand", interrupt)  # twice a step in stage 1, once in stage 2
        with pytest.raises(KeyboardInterrupt):
            detector().fit(train, checkpoint)
    assert checkpoint.path.exists() == (after > 6)
    resumed = detector()
    resumed.fit(train, checkpoint)
    assert bits(resumed) == bits(fitted)


def test_not_a_number_is_refused(train: Data) -> None:
    with pytest.raises(FlawlineError, match="became nan"):
        detector(learning_rate=1e30, gan_steps=30).fit(train)


def test_the_image_score_can_be_taken_from_the_object_alone(fitted: FAnoGAN, test: Data) -> None:
    masks = np.zeros((12, SIZE, SIZE), np.uint8)
    masks[:, :, 16:] = 1
    given = Data(Geometry((SIZE, SIZE)), images=test.images, object_masks=masks)
    found = detector(object_mask="score", object_dilation=0, kappa=0)
    found.restore(fitted.state())
    real, rebuilt = found._rebuild(given.images)
    expected = (real - rebuilt)[..., 32:].square().mean((1, 2, 3))
    scores = found.score(given)
    np.testing.assert_allclose(scores.scores, expected, rtol=1e-4)
    assert np.array_equal(scores.anomaly_maps, fitted.score(test).anomaly_maps)


def test_the_score_adds_the_residual_of_the_features(fitted: FAnoGAN, test: Data) -> None:
    scores = []
    for kappa in (0, 1, 3):
        found = detector(kappa=kappa)
        found.restore(fitted.state())
        scores.append(found.score(test).scores)
    assert (scores[1] > scores[0]).all()
    np.testing.assert_allclose(scores[2] - scores[0], 3 * (scores[1] - scores[0]), rtol=1e-3)


def test_learning_from_the_object_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="fanogan generates whole images"):
        FAnoGANOptions(object_mask="memory")


def test_a_generator_that_would_never_learn_is_refused() -> None:
    with pytest.raises(ValueError, match="gan_steps: 4 critic steps"):
        FAnoGANOptions(gan_steps=4)


def test_defaults_are_the_published_schedule() -> None:
    options = FAnoGANOptions()
    assert (options.gan_steps / 1500, options.encoder_steps / 200) == (8, 8)  # batches an epoch
    assert options.batch_size == 32
