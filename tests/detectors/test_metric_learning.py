"""Metric learning: heads against their formulas, twins, scores, Grad-CAM, what is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from torch.nn.functional import cross_entropy

from flawline.data.geometry import Geometry
from flawline.detectors import metric_learning
from flawline.detectors.data import Data, Synthetic
from flawline.detectors.metric_learning import MetricLearning
from flawline.errors import FlawlineError
from flawline.learning import margin_heads as heads
from flawline.learning.grad_cam import grad_cam
from flawline.learning.training import Checkpoint
from flawline.options.metric_learning import MetricLearningOptions

CPU = torch.device("cpu")
SIZE = 80  # not the network's, so that every test resizes
SMALL: dict[str, Any] = {
    "backbone": "squeezenet1_1",
    "weights": "none",
    "network_size": 64,
    "trained_convolutions": 8,
    "batch_size": 8,
    "epochs": 1,
}
LINES: dict[str, Any] = {"width": (12, 20), "length": (60, 100), "opacity": (0.9, 1)}


def detector(seed: int = 0, **changes: Any) -> MetricLearning:
    options = MetricLearningOptions.model_validate(SMALL | {"line": LINES} | changes)
    return MetricLearning(options, seed, CPU)


def good_images(count: int, seed: int) -> Data:
    """Grey discs on light ground."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    centres = rng.uniform(-3, 3, (count, 2, 1, 1)) + SIZE / 2
    masks = np.hypot(y - centres[:, 0], x - centres[:, 1]) < 30
    levels = np.where(masks, rng.uniform(100, 130, (count, 1, 1)), 200)[..., None]
    images = levels + rng.normal(0, 4, (count, SIZE, SIZE, 3))
    return Data(
        Geometry((SIZE, SIZE)), images=images.astype(np.uint8), object_masks=masks.astype(np.uint8)
    )


def spoiled(count: int, seed: int) -> Data:
    """The same with a bright bar, upper left."""
    data = good_images(count, seed)
    assert data.images is not None
    data.images[:, 20:32, 18:42] = (250, 240, 60)
    return data


def joined(*parts: Data) -> Data:
    return Data(Geometry((SIZE, SIZE)), images=np.concatenate([part.images for part in parts]))


TRAIN = good_images(16, 0)
TEST = joined(good_images(10, 1), spoiled(10, 2))
LABELS = np.repeat([0, 1], 10)


def with_set(kinds: list[str]) -> Data:
    """The training images with a set of as many synthetic anomalies as `kinds`, round by round."""
    images = np.stack([spoiled(16, 0).images[i % 16] for i in range(len(kinds))])
    for i, image in enumerate(images):
        image[0, 0] = i  # so that they can be told apart
    masks = np.zeros(images.shape[:3], np.uint8)
    return Data(
        Geometry((SIZE, SIZE)), images=TRAIN.images, synthetic=Synthetic(images, masks, kinds)
    )


# --- heads


COSINES = torch.tensor([[0.9, -0.2, 0.1], [0.3, 0.4, -0.5], [-0.999, 0.0, 0.02]])
OWN = torch.tensor([0, 2, 0])


def head_with(kind: type[heads.Cosine], *arguments: float) -> tuple[heads.Cosine, torch.Tensor]:
    """A head of three classes, and embeddings of any length that have COSINES with them."""
    head = kind(4, 3, *arguments)
    head.weight.data = 7 * torch.eye(3, 4)
    rest = (1 - COSINES.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
    return head, torch.cat([COSINES, rest], 1) * torch.tensor([[3.0], [0.1], [50.0]])


def with_own(change: Any) -> torch.Tensor:
    expected = COSINES.clone()
    for row, own in enumerate(OWN):
        expected[row, own] = change(float(COSINES[row, own]))
    return expected


@pytest.mark.parametrize(
    ("kind", "margin", "change"),
    [
        (heads.CosFace, 0.4, lambda cosine: cosine - 0.4),
        (heads.Cosine, 0.0, lambda cosine: cosine),
        (
            heads.ArcFace,
            0.5,
            lambda cosine: (
                math.cos(math.acos(cosine) + 0.5)
                if math.acos(cosine) < math.pi - 0.5
                else cosine - 0.5 * math.sin(0.5)
            ),
        ),
    ],
)
def test_margins_are_those_of_the_papers(kind: Any, margin: float, change: Any) -> None:
    head, embeddings = head_with(kind, 30.0, margin)
    expected = 30 * with_own(change)
    torch.testing.assert_close(head(embeddings, OWN), expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(head(embeddings), COSINES, rtol=1e-4, atol=1e-5)  # plain cosines


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_arcface_and_cosface_losses_are_those_of_pytorch_metric_learning(margin: float) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    rng = torch.Generator().manual_seed(0)
    embeddings = torch.randn(200, 5, generator=rng)
    labels = torch.randint(3, (200,), generator=rng)
    for head, other in (
        (heads.ArcFace(5, 3, 30, margin), losses.ArcFaceLoss(3, 5, math.degrees(margin), 30)),
        (heads.CosFace(5, 3, 30, margin), losses.CosFaceLoss(3, 5, margin=margin, scale=30)),
    ):
        other.W.data = head.weight.data.T.clone()
        ours = cross_entropy(head(embeddings, labels), labels)
        torch.testing.assert_close(ours, other(embeddings, labels), rtol=1e-4, atol=1e-4)


def test_l2_softmax_gives_every_row_the_same_length_by_itself() -> None:
    head = heads.L2Softmax(4, 2, 5.0)
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    rows = 5 * embeddings / embeddings.norm(dim=1, keepdim=True)
    torch.testing.assert_close(head(embeddings), rows @ head.weight.T + head.bias)
    # the known fault elsewhere: one norm for the whole batch
    lengths = torch.tensor([1.0, 2, 3, 4, 5, 60])[:, None]
    torch.testing.assert_close(head(embeddings * lengths), head(embeddings))
    torch.testing.assert_close(head(embeddings[:1]), head(embeddings)[:1])


def test_softmax_is_linear() -> None:
    head = heads.Softmax(4, 2)
    embeddings = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    expected = embeddings @ head.weight.T + head.bias
    torch.testing.assert_close(head(embeddings, torch.tensor([0, 1, 0])), expected)


def test_the_fixed_scale_of_adacos_is_zero_for_two_classes() -> None:
    assert heads.fixed_scale(2) == 0
    assert heads.fixed_scale(3) == pytest.approx(0.980, abs=1e-3)


def test_the_dynamic_scale_of_adacos_follows_its_rule_while_it_trains() -> None:
    head, embeddings = head_with(heads.AdaCos, 0.1)
    head.eval()
    before = heads.fixed_scale(3)
    torch.testing.assert_close(head(embeddings, OWN), before * COSINES, rtol=1e-4, atol=1e-5)
    others = [math.exp(before * -0.2) + math.exp(before * 0.1)]
    others += [math.exp(before * 0.3) + math.exp(before * 0.4)]
    others += [math.exp(0) + math.exp(before * 0.02)]
    # the median angle, 120 degrees, counts as 45
    expected = math.log(sum(others) / 3) / math.cos(math.pi / 4)
    head.train()
    torch.testing.assert_close(head(embeddings, OWN), expected * COSINES, rtol=1e-4, atol=1e-5)
    assert float(head.current) == pytest.approx(expected, rel=1e-4)


def test_the_dynamic_scale_of_adacos_does_not_fall_to_zero() -> None:
    head = heads.AdaCos(2, 2, 2.0)
    head.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])  # two classes told apart well
    embeddings = head.weight.detach()
    assert float(head.next_scale(head(embeddings).detach(), torch.tensor([0, 1]))) < 0
    head(embeddings, torch.tensor([0, 1]))
    assert float(head.current) == 2


# --- Grad-CAM


def test_grad_cam_is_that_of_the_paper() -> None:
    rng = torch.Generator().manual_seed(0)
    feature_map = torch.randn(2, 4, 3, 5, generator=rng)
    weight = torch.randn(3, 4, generator=rng)
    found = grad_cam(feature_map, lambda seen: seen.mean((2, 3)) @ weight.T)
    # averaging and a linear layer: the gradient is the weight over the number of places
    expected = torch.einsum("nkhw,ck->nchw", feature_map, weight).relu()
    torch.testing.assert_close(found, expected)


def test_grad_cam_maps_do_not_depend_on_other_images() -> None:
    feature_map = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    head = heads.ArcFace(4, 2, 30, 0.1)
    found = grad_cam(feature_map, lambda seen: head(seen.mean((2, 3))))
    alone = grad_cam(feature_map[1:2], lambda seen: head(seen.mean((2, 3))))
    torch.testing.assert_close(found[1:2], alone)


# --- the detector


@pytest.fixture(scope="module")
def fitted() -> MetricLearning:
    found = detector(epochs=8, smoothing=1.0, learning_rate=1e-3, network_size=128)
    log = found.fit(TRAIN).rows
    assert log[-1]["loss"] < log[0]["loss"]
    return found


def test_finds_obvious_defects_and_where_they_are(fitted: MetricLearning) -> None:
    found = fitted.score(TEST)
    assert roc_auc_score(LABELS, found.scores) > 0.95
    assert found.scores.dtype == np.float32
    assert found.anomaly_maps.shape == (20, SIZE, SIZE)
    assert found.anomaly_maps.dtype == np.float16
    defective = found.anomaly_maps[10:].astype(float)
    assert defective.mean() > 2 * found.anomaly_maps[:10].astype(float).mean()  # on one scale
    assert defective[:, 16:36, 14:46].mean() > 2 * defective.mean()


def test_training_images_have_distance_zero(fitted: MetricLearning) -> None:
    np.testing.assert_allclose(fitted.score(TRAIN).scores, 0, atol=1e-5)


def test_scores_are_one_minus_the_largest_cosine(fitted: MetricLearning) -> None:
    memory = fitted.memory.numpy()
    np.testing.assert_allclose(np.linalg.norm(memory, axis=1), 1, rtol=1e-5)
    found = np.array([[3.0, 4.0], [0.0, 2.0]]) @ memory[:2]
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    distances = fitted._distances(torch.from_numpy((found / lengths).astype(np.float32)))
    np.testing.assert_allclose(distances, 1 - (found / lengths @ memory.T).max(1), atol=1e-5)


def test_scores_each_image_independently_of_the_others(fitted: MetricLearning) -> None:
    together, parts = fitted.score(TEST), [fitted.score(part) for part in TEST.chunks(7)]
    apart = np.concatenate([part.scores for part in parts])
    np.testing.assert_allclose(apart, together.scores, rtol=1e-3, atol=1e-5)


def test_gives_the_same_scores_after_saving_and_loading(
    fitted: MetricLearning, tmp_path: Path
) -> None:
    fitted.save(tmp_path)
    again, before = MetricLearning.load(tmp_path, CPU).score(TEST), fitted.score(TEST)
    assert np.array_equal(again.scores, before.scores)
    assert np.array_equal(again.anomaly_maps, before.anomaly_maps)


@pytest.mark.parametrize("head", ["softmax", "l2_softmax", "cosface", "adacos"])
def test_shows_a_map_for_each_anomalous_class(head: str) -> None:
    found = detector(head=head, classes="c3")
    found.fit(TRAIN.take(np.arange(8)))
    maps = found.pictures(TEST)
    assert list(maps) == ["line", "distortion"]
    largest = np.maximum(maps["line"], maps["distortion"]).astype(np.float16)
    assert np.array_equal(found.score(TEST).anomaly_maps, largest)


def test_is_reproducible_and_an_interrupted_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {"head": "adacos", "classes": "c3", "epochs": 3, "turn": True}
    whole, other = detector(**changes), detector(1, **changes)
    whole.fit(TRAIN)
    other.fit(TRAIN)
    checkpoint = Checkpoint(tmp_path / "checkpoint.safetensors", "key", every=0)
    steps = []

    def power_cut(*arguments: Any) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 5:  # in the middle of the second epoch; a validation ends the first
            raise KeyboardInterrupt
        return cross_entropy(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(metric_learning, "cross_entropy", power_cut)
        with pytest.raises(KeyboardInterrupt):
            detector(**changes).fit(TRAIN, checkpoint)
    resumed = detector(**changes)
    resumed.fit(TRAIN, checkpoint)
    for name, expected in whole.state().items():
        assert torch.equal(resumed.state()[name], expected), name
    assert not torch.equal(other.memory, whole.memory)


def test_the_local_outlier_factor_survives_loading(tmp_path: Path) -> None:
    found = detector(score_by="local_outlier_factor", head="l2_softmax", neighbours=3)
    found.fit(TRAIN)
    reference = LocalOutlierFactor(n_neighbors=3, novelty=True).fit(found.memory.numpy())
    probe = found.memory[:4].flip(1)
    np.testing.assert_allclose(
        found._distances(probe), -reference.score_samples(probe.numpy()), rtol=1e-5
    )
    found.save(tmp_path)
    again = MetricLearning.load(tmp_path, CPU)
    assert np.array_equal(again.score(TEST).scores, found.score(TEST).scores)


def test_only_the_convolutions_that_shall_train_do() -> None:
    found = detector(learning_rate=1e-2)
    found.fit(TRAIN.take(np.arange(8)))
    torch.manual_seed(metric_learning.derive(0, "weights"))
    before = metric_learning.build_network(found.options).state_dict()
    changed = {
        name.split(".")[0]
        for name, value in found.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"late", "neck", "head"}


def test_all_convolutions_train_by_default() -> None:
    assert MetricLearningOptions().trained_convolutions is None
    found = detector(trained_convolutions=None, learning_rate=1e-2)  # moves every weight
    found.fit(TRAIN.take(np.arange(8)))
    torch.manual_seed(metric_learning.derive(0, "weights"))
    before = metric_learning.build_network(found.options)
    parts = found.network["early"].parameters(), before["early"].parameters()
    assert not any(torch.equal(*pair) for pair in zip(*parts, strict=True))


# --- twins


def test_new_twins_are_drawn_for_every_step_and_by_seed() -> None:
    found = detector()
    small = found._shrunk(TRAIN.images)
    draw = found._drawing(small, TRAIN)
    one, same, other = (
        draw("line", 3, metric_learning.generator(0, "synthesis", step, "line", "3"))
        for step in ("0", "0", "1")
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    changed = (one != small[3]).any(2)
    assert 0 < changed.mean() < 0.5


def test_twins_change_nothing_that_does_not_count() -> None:
    counted = np.ones((16, SIZE, SIZE), np.uint8)
    counted[:, :, SIZE // 2 :] = 0
    model = detector()
    shrunk = model._shrunk(TRAIN.images)
    half = shrunk.shape[2] // 2
    draw = model._drawing(shrunk, replace(TRAIN, counted=counted))
    for row in range(8):
        twin = draw("line", row, np.random.default_rng(row))
        assert (twin[:, half + 1 :] == shrunk[row][:, half + 1 :]).all()
        assert (twin[:, :half] != shrunk[row][:, :half]).any()


def test_twins_come_from_the_set_and_from_the_same_training_image() -> None:
    data = with_set(["line"] * 16 + ["distortion"] * 16 + ["line"] * 4)
    found = detector(synthetic="mixed", line={}, network_size=SIZE, classes="c3")
    pick = found._picking(data)
    rng = np.random.default_rng(0)
    picked = {(kind, row): set() for kind in ("line", "distortion") for row in (2, 9)}
    for (kind, row), numbers in picked.items():
        numbers.update(int(pick(kind, row, rng)[0, 0, 0]) for _ in range(20))
    assert picked[("line", 2)] == {2, 34}
    assert picked[("line", 9)] == {9}
    assert picked[("distortion", 9)] == {25}


def test_a_training_image_without_a_twin_of_a_class_takes_any() -> None:
    data = with_set(["line", "distortion"] * 8)
    pick = detector(synthetic="mixed", line={}, network_size=SIZE)._picking(data)
    rng = np.random.default_rng(0)
    numbers = {int(pick("line", 1, rng)[0, 0, 0]) for _ in range(40)}
    assert len(numbers) > 3
    assert all(number % 2 == 0 for number in numbers)


def test_learns_from_a_set_without_object_masks() -> None:
    found = detector(synthetic="lines", line={}, epochs=6, learning_rate=1e-3)
    assert found.options.inputs(training=True) == {"images", "synthetic"}
    found.fit(with_set(["line"] * 16))
    assert roc_auc_score(LABELS, found.score(TEST).scores) > 0.95


def test_a_set_without_a_needed_kind_is_refused() -> None:
    found = detector(synthetic="lines", line={}, classes="c3")
    message = "'lines' has no image with a distortion alone.* it has line, line.noise"
    with pytest.raises(FlawlineError, match=message):
        found.fit(with_set(["line", "line+noise"] * 8))


def test_object_masks_are_needed_only_to_draw() -> None:
    options = MetricLearningOptions()
    assert options.inputs(training=True) == {"images", "object_masks"}
    assert options.inputs(training=False) == {"images"}


def test_lines_that_nobody_can_see_are_refused() -> None:
    with pytest.raises(FlawlineError, match=r"training image \d+: the recipe 'line' changed"):
        detector(line={"opacity": (0, 0.001)}).fit(TRAIN)


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"head": "adacos", "scale": "fixed"}, r"sqrt\(2\) ln\(C - 1\), which is zero"),
        ({"head": "arcface", "scale": "dynamic"}, "adacos's alone"),
        ({"head": "cosface", "scale": 0.0}, "must be above 0"),
        ({"head": "softmax", "scale": 5.0}, "learns the scale of its logits"),
        ({"head": "softmax", "margin": 0.1}, "softmax has none"),
        ({"head": "adacos", "margin": 0.1}, "adacos has none"),
        ({"head": "l2_softmax", "margin": 0.0}, "l2_softmax has none"),
        ({"margin": 3.0}, "less than or equal to 1.5"),
        ({"neighbours": 5}, "only the local outlier factor has them"),
        ({"synthetic": "x", "line": LINES}, "the set 'x' is drawn already"),
        ({"distortion": {"edge": (0, 1)}}, "c2 has no such class"),
        ({"classes": "c4"}, "c2"),
    ],
)
def test_undefined_settings_are_refused_with_the_reason(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        MetricLearningOptions.model_validate(changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "adacos"},
        {"head": "adacos", "scale": "dynamic"},
        {"head": "adacos", "scale": 8.0},
        {"head": "adacos", "scale": "fixed", "classes": "c3"},
        {"classes": "c3", "distortion": {"edge": (0, 1)}},
        {"score_by": "local_outlier_factor", "neighbours": 3},
    ],
)
def test_options_survive_their_own_dump(changes: dict[str, Any]) -> None:
    options = MetricLearningOptions.model_validate(changes)
    dumped = json.loads(json.dumps(options.model_dump(mode="json")))
    assert MetricLearningOptions.model_validate(dumped) == options


def test_a_loss_that_is_not_a_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        metric_learning, "cross_entropy", lambda a, b: cross_entropy(a, b) * math.nan
    )
    with pytest.raises(FlawlineError, match="'loss' became nan"):
        detector().fit(TRAIN)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(FlawlineError, match="mobilenet_v2"):
        detector(backbone="mobilenet_v22").fit(TRAIN)
