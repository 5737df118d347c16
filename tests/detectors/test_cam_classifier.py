"""The class-activation-map classifier, and the two halves of a network that it trains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torchvision.models import get_model

from flawline.config import load_config
from flawline.data.geometry import Geometry
from flawline.detectors.cam_classifier import CamClassifier, build_network
from flawline.detectors.data import Data
from flawline.errors import FlawlineError
from flawline.features.backbones import load_weights, untrained
from flawline.features.split_network import split_network
from flawline.learning.training import Checkpoint, Trainer
from flawline.options.cam_classifier import CamClassifierOptions
from flawline.options.detectors import METHODS
from flawline.workflow.check_backbones import check_features

CPU = torch.device("cpu")
SIZE = 48  # not the network's, so that every test resizes
SMALL: dict[str, Any] = {
    "backbone": "squeezenet1_1",
    "weights": "none",
    "image_size": 64,
    "learning_rate": 1e-3,
    "stop_accuracy": None,
    "epochs": 3,
}


def classifier(seed: int = 0, **changes: Any) -> CamClassifier:
    return CamClassifier(CamClassifierOptions.model_validate(SMALL | changes), seed, CPU)


def photographs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noisy grey surfaces with labels and masks; the second half has a stain somewhere."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 110, (count, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    for i in range(count // 2, count):
        y, x = rng.integers(0, SIZE - 16, 2)
        images[i, y : y + 16, x : x + 16] = (230, 40, 40)
        masks[i, y : y + 16, x : x + 16] = True
    return images, masks.any((1, 2)).astype(np.int64), masks


@pytest.fixture(scope="module")
def parts() -> tuple[Data, Data, np.ndarray]:
    train, labels, _ = photographs(24, 0)
    test, _, masks = photographs(16, 1)
    return (
        Data(Geometry((SIZE, SIZE)), images=train, labels=labels),
        Data(Geometry((SIZE, SIZE)), images=test),
        masks,
    )


def trained(parts: tuple[Data, Data, np.ndarray], **changes: Any) -> CamClassifier:
    found = classifier(**changes)
    found.fit(parts[0])
    return found


@pytest.fixture(scope="module")
def finished(parts: tuple[Data, Data, np.ndarray]) -> CamClassifier:
    return trained(parts, image_size=128, epochs=10)


def same(one: CamClassifier, other: CamClassifier) -> bool:
    first, second = one.state(), other.state()
    return all(torch.equal(first[name], second[name]) for name in first)


class TestATrainedClassifier:
    def test_tells_defects_from_good_images_at_its_boundary_and_shows_where_they_are(
        self, finished: CamClassifier, parts: Any
    ) -> None:
        _, test, masks = parts
        found, truth = finished.score(test), masks.any((1, 2))
        assert roc_auc_score(truth, found.scores) > 0.98
        assert finished.options.boundary is not None
        assert ((found.scores > finished.options.boundary) == truth).mean() > 0.9
        assert found.anomaly_maps.shape == masks.shape
        assert found.anomaly_maps.dtype == np.float16
        assert roc_auc_score(masks.ravel(), found.anomaly_maps.ravel()) > 0.85

    def test_has_maps_on_one_scale_whose_mean_is_the_score_without_max_pooling(
        self, parts: Any
    ) -> None:
        finished = trained(parts, max_pool=False)
        images = parts[1].images[::5]
        feature_map = finished._feature_map(finished._early(images)).detach()
        weight, bias = (part[1] - part[0] for part in finished.network["head"].parameters())
        cells = (feature_map * weight[:, None, None]).sum(1) + bias
        found = finished.score(Data(Geometry((SIZE, SIZE)), images=images))
        np.testing.assert_allclose(cells.mean((1, 2)).detach(), found.scores, rtol=0.02, atol=0.02)
        assert (found.anomaly_maps.max((1, 2)) <= cells.amax((1, 2)).detach().numpy() + 0.05).all()

    def test_gives_the_same_scores_after_saving_and_loading_without_the_weights_file(
        self, finished: CamClassifier, parts: Any, tmp_path: Path
    ) -> None:
        finished.save(tmp_path)
        again = CamClassifier.load(tmp_path, CPU)
        one, two = finished.score(parts[1]), again.score(parts[1])
        assert np.array_equal(one.scores, two.scores)
        assert np.array_equal(one.anomaly_maps, two.anomaly_maps)

    def test_scores_each_image_independently_of_the_others(
        self, finished: CamClassifier, parts: Any
    ) -> None:
        together = finished.score(parts[1])
        for size in (1, 3):
            apart = [finished.score(part) for part in parts[1].chunks(size)]
            scores = np.concatenate([part.scores for part in apart])
            np.testing.assert_allclose(scores, together.scores, rtol=0.01, atol=0.02)

    def test_scores_the_same_twice_whatever_the_global_seed(
        self, finished: CamClassifier, parts: Any
    ) -> None:
        torch.manual_seed(5)
        one = finished.score(parts[1]).scores
        torch.manual_seed(6)
        assert np.array_equal(one, finished.score(parts[1]).scores)


class TestTraining:
    def test_is_reproducible_by_seed_and_differs_between_seeds(self, parts: Any) -> None:
        first = trained(parts, flips=True)
        assert same(first, trained(parts, flips=True))
        assert not same(first, trained(parts, flips=True, seed=1))

    def test_changes_the_last_convolutions_and_the_head_alone(self, parts: Any) -> None:
        short, long = (trained(parts, epochs=epochs).state() for epochs in (1, 2))
        changed = {name for name in short if not torch.equal(short[name], long[name])}
        assert {name.rsplit(".", 1)[0] for name in changed} == {
            "late.features.12.expand1x1",
            "late.features.12.expand3x3",
            "late.classifier.1",
            "head",
        }

    def test_keeps_batch_normalisation_as_it_was(self, parts: Any) -> None:
        found = trained(parts, backbone="mnasnet0_5")
        buffers = dict(found.network.named_buffers())
        means = [value for name, value in buffers.items() if name.endswith("running_mean")]
        assert means
        assert not any(value.any() for value in means)
        assert not any(module.training for module in found.network.modules())

    def test_that_was_interrupted_goes_on_to_the_same_weights(
        self, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "key", every=0)
        original = Trainer._refuse_nan

        def interrupt(self: Trainer, phase: str, epoch: int, losses: dict[str, float]) -> None:
            if epoch == 2:
                raise KeyboardInterrupt
            original(self, phase, epoch, losses)

        interrupted = classifier(flips=True)
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_refuse_nan", interrupt)
            with pytest.raises(KeyboardInterrupt):
                interrupted.fit(parts[0], checkpoint)
        assert checkpoint.path.exists()
        resumed = classifier(flips=True)
        training = resumed.fit(parts[0], checkpoint)
        assert [row["epoch"] for row in training.rows] == [1, 2, 3]
        assert same(resumed, trained(parts, flips=True))

    def test_counts_accuracy_by_images_not_by_batches(self, parts: Any) -> None:
        # 24 images in batches of 10, 10 and 4
        training = classifier(epochs=4, learning_rate=1e-6).fit(parts[0])
        counts = [24 * row["accuracy"] for row in training.rows]
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)

    def test_sees_grey_levels_as_they_are_without_normalisation(self, parts: Any) -> None:
        seen = []
        for normalize in (False, True):
            found = trained(parts, normalize=normalize, epochs=1)
            hook = found.network["early"].register_forward_pre_hook(
                lambda _, given: seen.append(given[0])
            )
            found.score(parts[1].take(np.array([0])))
            hook.remove()
        assert 0 <= seen[0].min() < seen[0].max() <= 1
        assert seen[1].min() < 0

    def test_stops_early_at_the_training_accuracy_that_was_asked_for(self, parts: Any) -> None:
        training = classifier(epochs=30, stop_accuracy=0.95).fit(parts[0])
        assert len(training.rows) < 30
        assert training.rows[-1]["accuracy"] >= 0.95
        assert all(row["accuracy"] < 0.95 for row in training.rows[:-1])
        assert "training accuracy" in training.ended

    def test_weighs_defects_as_it_is_told(self, parts: Any) -> None:
        light, heavy = (
            trained(parts, defect_weight=weight, epochs=1).score(parts[1]).scores
            for weight in (0.01, 100)
        )
        assert heavy.mean() > light.mean()

    def test_that_diverges_is_refused(self, parts: Any) -> None:
        with pytest.raises(FlawlineError, match=r"cam_classifier: the loss .* Lower the learning"):
            classifier(learning_rate=1e30).fit(parts[0])

    @pytest.mark.parametrize("label", [0, 1])
    def test_with_one_class_alone_is_refused(self, parts: Any, label: int) -> None:
        only = replace(parts[0], labels=np.full(24, label))
        with pytest.raises(FlawlineError, match="expected good and defective ones"):
            classifier().fit(only)

    def test_keeps_to_its_budget(self, parts: Any) -> None:
        training = classifier(max_steps=2).fit(parts[0])
        assert training.rows[-1]["steps"] == 2


class TestTheTwoHalvesOfANetwork:
    @pytest.mark.parametrize(
        ("backbone", "last"),
        [
            ("vgg11", ["features.13", "features.16", "features.18"]),
            ("mobilenet_v2", ["features.17.conv.1.0", "features.17.conv.2", "features.18.0"]),
            ("resnet18", ["layer4.0.downsample.0", "layer4.1.conv1", "layer4.1.conv2"]),
            (
                "densenet121",
                [
                    "features.denseblock4.denselayer15.conv2",
                    "features.denseblock4.denselayer16.conv1",
                    "features.denseblock4.denselayer16.conv2",
                ],
            ),
        ],
    )
    def test_together_do_what_the_whole_did(self, backbone: str, last: list[str]) -> None:
        torch.manual_seed(0)
        network = untrained(backbone)
        early, late = split_network(network, 3)
        found = [name for name, part in late.named_modules() if isinstance(part, torch.nn.Conv2d)]
        assert found == last
        seen: list[torch.Tensor] = []
        pool = network.avgpool if hasattr(network, "avgpool") else network.classifier
        pool.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        images = torch.randn(2, 3, 64, 64)
        with torch.inference_mode():
            network(images)
            feature_map = late(*early(images))
        if backbone.startswith("vgg"):
            feature_map = torch.nn.functional.max_pool2d(feature_map, 2)
        elif not hasattr(network, "avgpool"):
            feature_map = feature_map.mean((2, 3))
        torch.testing.assert_close(feature_map, seen[0])

    def test_share_no_tensor(self) -> None:
        early, late = split_network(untrained("convnext_tiny"), 3)
        assert not set(early.state_dict()) & set(late.state_dict())

    @pytest.mark.parametrize(
        ("backbone", "count", "words"),
        [
            ("vit_b_32", 3, "has no feature map that global average pooling follows"),
            ("squeezenet1_1", 26, "has 26 convolutions before its last .* of these 26 cannot"),
        ],
    )
    def test_of_a_network_that_has_none_are_refused(
        self, backbone: str, count: int, words: str
    ) -> None:
        with pytest.raises(FlawlineError, match=words):
            split_network(untrained(backbone), count)

    def test_take_their_weights_from_a_file_that_may_end_before_the_classifier(
        self, tmp_path: Path
    ) -> None:
        torch.manual_seed(1)
        whole = get_model("mobilenet_v2", weights=None).state_dict()
        file = tmp_path / "weights.pth"
        torch.save({k: v for k, v in whole.items() if not k.startswith("classifier")}, file)
        for half in split_network(untrained("mobilenet_v2"), 3):
            load_weights(half, "mobilenet_v2", str(file))
            for name, value in half.state_dict().items():
                assert torch.equal(value, whole[name]), name

    def test_of_an_unknown_network_are_refused_with_the_nearest_name(self) -> None:
        with pytest.raises(FlawlineError, match="did you mean 'densenet169'"):
            untrained("densenet196")


class TestOptions:
    def test_are_the_published_ones_by_default(self) -> None:
        options = CamClassifierOptions()
        assert (options.backbone, options.image_size) == ("vgg16", 224)
        assert (options.trained_convolutions, options.defect_weight) == (3, 3)
        assert (options.epochs, options.batch_size, options.learning_rate) == (10, 10, 1e-4)
        assert options.stop_accuracy == 0.98
        assert options.max_pool

    @pytest.mark.parametrize(
        "changes",
        [
            {"batch_size": 1},
            {"stop_accuracy": 1.1},
            {"defect_weight": 0},
            {"trained_convolutions": 0},
            {"image_size": 16},
        ],
    )
    def test_that_mean_nothing_are_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            CamClassifierOptions.model_validate(changes)

    def test_of_max_pooling_halve_the_map_before_the_mean(self, parts: Any) -> None:
        found = trained(parts, max_pool=True, epochs=1)
        feature_map = torch.zeros(1, found.network["head"].in_features, 3, 3)
        feature_map[:, :, 2, 2] = 1
        halved = feature_map[0, :, :1, 0] + 0.25  # one of four cells of the halved map is 1
        expected = found.network["head"](halved[:, 0])
        torch.testing.assert_close(found._logits(feature_map)[0], expected)


def test_only_supervised_methods_may_ask_for_labels() -> None:
    for name, method in METHODS.items():
        assert ("labels" in method.needs) == (method.protocol == "supervised"), name


def test_labels_are_for_training_alone() -> None:
    options = CamClassifierOptions()
    assert options.inputs(training=True) == {"images", "labels"}
    assert options.inputs(training=False) == {"images"}


def test_all_layers_are_frozen_but_the_late_convolutions_and_the_head() -> None:
    network = build_network(CamClassifierOptions.model_validate(SMALL | {"backbone": "resnet18"}))
    trainable = {name for name, part in network.named_parameters() if part.requires_grad}
    assert trainable == {
        "late.layer4.0.downsample.0.weight",
        "late.layer4.1.conv1.weight",
        "late.layer4.1.conv2.weight",
        "head.weight",
        "head.bias",
    }


class TestConfigurations:
    def test_with_a_weights_file_that_is_missing_are_refused(self, minimal: dict[str, Any]) -> None:
        minimal["detectors"]["cam"] = {"method": "cam_classifier", "weights": "no/vgg16.pth"}
        with pytest.raises(FlawlineError, match=r"detectors\.cam\.weights: there is no file 'no/"):
            load_config(minimal, "test.yaml")

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"backbone": "vit_b_16"}, "has no feature map"),
            ({"backbone": "mobilenet_v22"}, "did you mean 'mobilenet_v2'"),
            ({"backbone": "mobilenet_v2", "weights": "IMAGENET"}, "give 'default', one of"),
        ],
    )
    @pytest.mark.usefixtures("forked")
    def test_with_a_network_that_will_not_do_are_refused_before_any_job(
        self, minimal: dict[str, Any], tmp_path: Path, changes: dict[str, Any], words: str
    ) -> None:
        minimal["categories"] = ["bolt"]
        minimal["detectors"]["cam"] = {"method": "cam_classifier"} | changes
        config = load_config(minimal, "test.yaml")
        with pytest.raises(FlawlineError, match=rf"test\.yaml: detectors\.cam: .*{words}"):
            check_features(config, "test.yaml", tmp_path / "backbones.json")
