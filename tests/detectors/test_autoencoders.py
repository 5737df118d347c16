"""Image autoencoders: what they learn, what they show, and structural similarity."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry
from flawline.detectors.autoencoder import Autoencoder
from flawline.detectors.data import Data, Synthetic
from flawline.detectors.masks import training_cells
from flawline.detectors.reconstruction import Reconstruction
from flawline.detectors.ssim_autoencoder import SsimAutoencoder, build_network
from flawline.errors import FlawlineError
from flawline.learning.ssim import gaussian_matrix, local_ssim
from flawline.learning.training import Checkpoint
from flawline.options.autoencoder import AutoencoderOptions
from flawline.options.ssim_autoencoder import SsimAutoencoderOptions

CPU = torch.device("cpu")
SIZE = 48  # not the network's, so that every test resizes
METHODS: dict[str, type[Reconstruction]] = {
    "autoencoder": Autoencoder,
    "ssim_autoencoder": SsimAutoencoder,
}
SMALL: dict[str, Any] = {"network_size": 32, "width": 4, "latent": 4, "batch_size": 8}


def detector(method: str, seed: int = 0, **changes: Any) -> Reconstruction:
    found = METHODS[method]
    return found(found.Options.model_validate(SMALL | {"epochs": 3} | changes), seed, CPU)


def good_images(count: int, seed: int) -> np.ndarray:
    """Stripes, shifted and lit a little differently in every image."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIZE) / 12 * 2 * np.pi
    waves = np.sin(columns + rng.uniform(-0.3, 0.3, (count, 1)))[:, None, :, None]
    colour = np.array([90, 60, 30]) * rng.uniform(0.9, 1.1, (count, 1, 1, 1))
    return np.broadcast_to(120 + waves * colour, (count, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def parts() -> tuple[Data, Data, np.ndarray]:
    test, labels = good_images(24, 1), np.repeat([0, 1], 12)
    test[12:, 12:24, 24:36] = (240, 240, 40)
    return (
        Data(Geometry((SIZE, SIZE)), images=good_images(32, 0)),
        Data(Geometry((SIZE, SIZE)), images=test),
        labels,
    )


def pasted(data: Data, count: int) -> Data:
    """The same good images with a set of `count` synthetic anomalies."""
    assert data.images is not None
    images = data.images[np.arange(count) % len(data)].copy()
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for i, (x, y) in enumerate(np.random.default_rng(2).integers(0, SIZE - 10, (count, 2))):
        images[i, y : y + 10, x : x + 10] = (0, 200, 0)
        masks[i, y : y + 10, x : x + 10] = 1
    return Data(
        Geometry((SIZE, SIZE)),
        images=data.images,
        synthetic=Synthetic(images, masks, ["cut_paste"] * count),
    )


def test_options_name_a_set_of_synthetic_anomalies_only_to_train_on() -> None:
    options = SsimAutoencoderOptions(synthetic="pasted")
    assert options.inputs(training=True) == {"images", "synthetic"}
    assert options.inputs(training=False) == {"images"}
    assert SsimAutoencoderOptions().inputs(training=True) == {"images"}


@pytest.mark.parametrize("options", [AutoencoderOptions, SsimAutoencoderOptions])
@pytest.mark.parametrize(
    ("key", "value"),
    [("network_size", 100), ("largest", -0.1), ("largest", 1.5), ("width", 0), ("batch_size", 1)],
)
def test_impossible_options_are_refused(options: Any, key: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=key):
        options.model_validate({key: value})


def test_an_ssim_autoencoder_needs_some_ssim() -> None:
    with pytest.raises(ValidationError, match="ssim_share"):
        SsimAutoencoderOptions(ssim_share=0)


@pytest.mark.parametrize("size", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("method", METHODS)
def test_networks_return_images_of_the_size_that_they_are_given(method: str, size: int) -> None:
    network = detector(method, network_size=size).build().eval()
    images = torch.rand(1, 3, size, size)
    assert network(images).shape == images.shape


@pytest.mark.parametrize("method", METHODS)
class TestBoth:
    def test_finds_obvious_defects_and_where_they_are(self, method: str, parts: Any) -> None:
        train, test, labels = parts
        found = detector(method, epochs=40, width=8, smoothing=1)
        log = found.fit(train).rows
        assert log[-1]["loss"] < 0.5 * log[0]["loss"]
        scores = found.score(test)
        assert scores.scores.dtype == np.float32
        assert scores.anomaly_maps.dtype == np.float16
        assert scores.anomaly_maps.shape == (24, SIZE, SIZE)
        assert roc_auc_score(labels, scores.scores) > 0.98
        maps = scores.anomaly_maps[12:].astype(np.float32)
        assert maps[:, 12:24, 24:36].mean() > 3 * maps[:, :, :20].mean()

    def test_the_score_is_the_mean_of_the_maps_largest_values(
        self, method: str, parts: Any
    ) -> None:
        train, test, _ = parts
        found = detector(method, largest=0.1)
        found.fit(train)
        scores = found.score(test)
        flat = np.sort(scores.anomaly_maps.astype(np.float32).reshape(24, -1), axis=1)
        expected = flat[:, -round(0.1 * SIZE * SIZE) :].mean(1)
        np.testing.assert_allclose(scores.scores, expected, rtol=1e-3)

    def test_scores_survive_saving_and_loading(
        self, method: str, parts: Any, tmp_path: Path
    ) -> None:
        train, test, _ = parts
        found = detector(method)
        found.fit(train)
        found.save(tmp_path)
        again = METHODS[method].load(tmp_path, CPU)
        assert np.array_equal(again.score(test).scores, found.score(test).scores)
        assert np.array_equal(again.pictures(test)["rebuilt"], found.pictures(test)["rebuilt"])

    def test_the_seed_decides_everything(self, method: str, parts: Any) -> None:
        train, test, _ = parts
        scores = []
        for seed in (0, 0, 1):
            found = detector(method, seed)
            found.fit(train)
            scores.append(found.score(test).scores.tobytes())
        assert scores[0] == scores[1] != scores[2]

    def test_images_are_scored_independently_of_each_other(self, method: str, parts: Any) -> None:
        train, test, _ = parts
        found = detector(method)
        found.fit(train)
        together = found.score(test)
        apart = [found.score(part) for part in test.chunks(5)]
        np.testing.assert_allclose(
            np.concatenate([part.scores for part in apart]), together.scores, rtol=1e-4, atol=1e-6
        )
        np.testing.assert_allclose(
            np.concatenate([part.anomaly_maps for part in apart]),
            together.anomaly_maps,
            rtol=1e-2,
            atol=1e-3,
        )

    def test_an_interrupted_training_goes_on_to_the_same_weights(
        self, method: str, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = pasted(parts[0], 40) if method == "ssim_autoencoder" else parts[0]
        whole = detector(method)
        whole.fit(data)
        checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "key", every=0)
        stopped = detector(method)
        calls, losses = [], stopped.losses

        def interrupted(*images: Any) -> Any:
            calls.append(1)
            if len(calls) == 10:
                raise KeyboardInterrupt
            return losses(*images)

        monkeypatch.setattr(stopped, "losses", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(data, checkpoint)
        again = detector(method)
        log = again.fit(data, checkpoint).rows
        assert [row["epoch"] for row in log] == [1, 2, 3]
        for name, value in whole.state().items():
            assert torch.equal(again.state()[name], value), name

    def test_a_training_that_diverges_is_refused(self, method: str, parts: Any) -> None:
        with pytest.raises(FlawlineError, match=f"{method}: the loss .* became"):
            detector(method, learning_rate=1e30).fit(parts[0])

    def test_shows_the_rebuilt_image(self, method: str, parts: Any) -> None:
        train, test, _ = parts
        found = detector(method, epochs=40, width=8)
        found.fit(train)
        rebuilt = found.pictures(test)["rebuilt"]
        assert rebuilt.shape == (24, 32, 32, 3)
        assert rebuilt.dtype == np.uint8
        means = [images[:12].mean((0, 1, 2)) for images in (rebuilt, test.images)]
        np.testing.assert_allclose(*means, atol=12)  # colours, not patterns alone

    def test_the_object_alone_can_be_learned_and_scored(self, method: str, parts: Any) -> None:
        train, test, _ = parts
        masks = np.zeros((32, SIZE, SIZE), np.uint8)
        masks[:, 36:] = 1  # the defects lie above
        odd = train.images.copy()
        odd[:, :24] = np.random.default_rng(3).integers(0, 255, odd[:, :24].shape)
        scores = []
        for images in (train.images, odd):
            found = detector(method, object_mask="memory", object_dilation=0, smoothing=0, width=8)
            learned = training_cells(
                found.options, Data(Geometry((SIZE, SIZE)), images, object_masks=masks), (32, 32)
            )
            assert not learned[:, :16].any()
            found.fit(Data(Geometry((SIZE, SIZE)), images=images, object_masks=masks))
            scores.append(
                found.score(
                    Data(Geometry((SIZE, SIZE)), images=test.images, object_masks=masks[:24])
                )
            )
        for found_scores in scores:
            maps = found_scores.anomaly_maps.astype(np.float32)
            beside, on = maps[:, :30], maps[:, 38:]
            assert (beside.max((1, 2)) <= on.min((1, 2)) + 1e-3).all()


def test_synthetic_anomalies_are_learned_to_be_removed(parts: Any) -> None:
    train = parts[0]
    data = pasted(train, 80)  # more than there are images: row i comes from image i modulo 32
    found = detector("ssim_autoencoder", synthetic="pasted", epochs=30, width=8, latent=16)
    found.fit(data)
    rebuilt = found.pictures(Data(Geometry((SIZE, SIZE)), images=data.synthetic.images[:32]))[
        "rebuilt"
    ]
    clean = found.pictures(train)["rebuilt"]
    spoiled = data.synthetic.masks[:32, ::2, ::2].astype(bool)[:, :16, :16]
    apart = np.abs(rebuilt.astype(float) - clean)[:, :16, :16].mean(3)
    assert apart[spoiled].mean() < 40  # of the 100 and more that were pasted


def test_max_steps_shortens_the_training_and_the_log_says_so(parts: Any) -> None:
    training = detector("autoencoder", max_steps=2).fit(parts[0])
    assert training.rows[-1]["steps"] == 2
    assert "max_steps = 2" in training.ended


@pytest.mark.parametrize("size", [16, 32, 50])
def test_structural_similarity_is_that_of_torchmetrics(size: int) -> None:
    metrics = pytest.importorskip("torchmetrics.functional.image")
    torch.manual_seed(0)
    x = torch.rand(2, 3, size, size)
    y = (0.7 * x + 0.3 * torch.rand_like(x)).clamp(0, 1)
    _, expected = metrics.structural_similarity_index_measure(
        x, y, data_range=1.0, return_full_image=True
    )
    torch.testing.assert_close(local_ssim(x, y, gaussian_matrix(size)), expected, rtol=0, atol=1e-4)


def test_structural_similarity_is_one_for_equal_images_and_falls_with_noise() -> None:
    torch.manual_seed(0)
    x, matrix = torch.rand(1, 3, 32, 32), gaussian_matrix(32)
    torch.testing.assert_close(matrix.sum(1), torch.ones(32))
    torch.testing.assert_close(local_ssim(x, x, matrix), torch.ones_like(x))
    noise = torch.randn_like(x)
    means = [local_ssim(x, x + level * noise, matrix).mean() for level in (0.0, 0.05, 0.2)]
    assert means[0] > means[1] > means[2] > -1


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_the_dilated_autoencoder_keeps_the_resolution_that_was_asked_for(reduction: int) -> None:
    network = build_network(4, 3, reduction).eval()
    narrow = next(i for i, part in enumerate(network) if getattr(part, "out_channels", 0) == 3)
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert network[: narrow + 1](images).shape == (2, 3, 32 // reduction, 32 // reduction)
        assert network(images).shape == images.shape
    dilations = {
        part.dilation[0] for part in network.modules() if isinstance(part, torch.nn.Conv2d)
    }
    assert max(dilations) * reduction == 64


def test_the_dilated_autoencoder_learns_without_losing_resolution(parts: Any) -> None:
    train, test, _ = parts
    found = detector("ssim_autoencoder", synthetic="pasted", epochs=1, reduction=1)
    training = found.fit(pasted(train, 32))
    assert "validation loss" in training.rows[-1]
    assert np.isfinite(found.score(test).scores).all()
