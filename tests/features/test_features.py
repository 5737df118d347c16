import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from flawline.config import load_config
from flawline.errors import FlawlineError
from flawline.features.backbones import (
    IMAGENET,
    ChannelsFirst,
    _channels_last,
    build_backbone,
    check_backbone,
)
from flawline.features.extraction import extract, patch_features
from flawline.features.gabor import LAYERS as BANDS
from flawline.files import read_json
from flawline.provenance import file_hash
from flawline.workflow import check_backbones as check
from flawline.workflow.check_backbones import check_features

CPU = torch.device("cpu")
PLAIN: dict[str, Any] = {"pool": 1, "normalize": False, "precision": "float32"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they give on arrays this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network() -> torch.nn.Module:
    """A whole resnet18 with random weights and running statistics."""
    torch.manual_seed(0)
    found = torchvision.models.resnet18(weights=None)
    for name, buffer in found.named_buffers():
        if name.endswith("running_mean"):
            buffer.uniform_(-0.1, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return found.eval()


@pytest.fixture(scope="session")
def weights(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its state dict, cut after layer3 as it is not needed further."""
    path = tmp_path_factory.mktemp("weights") / "cut.pth"
    state = network.state_dict()
    torch.save({name: state[name] for name in state if not name.startswith(("layer4", "fc"))}, path)
    return str(path)


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """uint8 (5, 64, 64, 3)."""
    return np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


def by_hand(network: torch.nn.Module, images: np.ndarray, layers: list[str], pool: int) -> Any:
    """PatchCore's features from a plain forward pass of the whole network."""
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _module, _given, made, name=name: kept.update({name: made})
        )
        for name in layers
    ]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    pixels = torchvision.transforms.functional.normalize(pixels, IMAGENET[0], IMAGENET[1])
    with torch.no_grad():
        network(pixels)
    for hook in hooks:
        hook.remove()
    maps = [functional.avg_pool2d(kept[name], pool, 1, pool // 2) for name in layers]
    largest = maps[0].shape[2:]
    maps = [functional.interpolate(found, largest, mode="bilinear") for found in maps]
    return torch.cat(maps, 1).permute(0, 2, 3, 1).numpy()


def write(images: np.ndarray, path: Path, **changes: Any) -> np.ndarray:
    options: dict[str, Any] = {
        "backbone": "gabor",
        "weights": "default",
        "layers": ["fine", "coarse"],
        "batch_size": 2,
        "device": CPU,
        "images_hash": "0123",
    }
    extract(images, path, **(PLAIN | options | changes))
    return np.load(path)


class TestGaborBank:
    @pytest.mark.parametrize("size", [32, 64, 100])
    def test_has_nine_channels_a_layer_on_one_eighth_of_the_grid(self, size: int) -> None:
        images = np.zeros((2, size, size, 3), np.uint8)
        found = patch_features(build_backbone("gabor", "default", list(BANDS)), images, **PLAIN)
        assert found.shape == (2, size // 8, size // 8, 9 * len(BANDS))
        assert found.dtype == torch.float16

    @pytest.mark.parametrize("value", [0, 255, None])
    def test_is_finite_and_the_same_every_time(self, images: np.ndarray, value: int | None) -> None:
        given = images if value is None else np.full_like(images, value)
        one, two = (
            patch_features(build_backbone("gabor", "default", list(BANDS)), given, **PLAIN)
            for _ in range(2)
        )
        assert torch.isfinite(one).all()
        assert torch.equal(one, two)

    @pytest.mark.parametrize("layer", BANDS)
    @pytest.mark.parametrize("orientation", range(6))
    def test_answers_a_grating_in_the_channel_of_its_orientation(
        self, layer: str, orientation: int
    ) -> None:
        wavelength = 4 * BANDS[layer]
        angle = orientation * np.pi / 6
        y, x = np.mgrid[0:128, 0:128]
        wave = np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength)
        images = np.repeat((127 + 100 * wave).astype(np.uint8)[None, ..., None], 3, axis=3)
        found = patch_features(build_backbone("gabor", "default", [layer]), images, **PLAIN)
        amplitude = found[0, 4:-4, 4:-4, :6].float().mean((0, 1)).numpy()
        assert amplitude.argmax() == orientation
        others = np.delete(amplitude, orientation)
        assert amplitude[orientation] > 1.2 * others.max()

    def test_does_not_depend_on_the_phase_of_a_grating(self) -> None:
        found = []
        for shift in range(4):
            wave = np.cos(2 * np.pi * (np.arange(64) + shift / 4) / 4)
            images = np.tile(
                (127 + 100 * wave).astype(np.uint8)[None, None, :, None], (1, 64, 1, 3)
            )
            network = build_backbone("gabor", "default", ["fine"])
            found.append(patch_features(network, images, **PLAIN)[0, 2:-2, 2:-2, 0].float())
        assert torch.stack(found).std(0).max() < 0.02 * torch.stack(found).mean()

    def test_tells_colours_of_one_brightness_apart(self) -> None:
        images = np.zeros((2, 64, 64, 3), np.uint8)
        images[0], images[1] = (151, 100, 60), (50, 151, 60)
        network = build_backbone("gabor", "default", ["fine"])
        means = patch_features(network, images, **PLAIN)[:, 4, 4, 6:].float()
        assert abs(means[0, 0] - means[1, 0]) < 0.01
        assert abs(means[0, 1] - means[1, 1]) > 0.3

    def test_needs_no_weights_and_has_none(self) -> None:
        assert list(build_backbone("gabor", "no such weights", ["fine"]).parameters()) == []

    def test_an_unknown_layer_is_refused_with_all_known(self) -> None:
        with pytest.raises(FlawlineError, match=r"no layer 'fin' .did you mean 'fine'") as error:
            build_backbone("gabor", "default", ["fin"])
        assert "fine, medium, coarse" in str(error.value)


class TestTorchvisionBackbones:
    @pytest.mark.parametrize("layers", [["layer2", "layer3"], ["layer1", "layer3"], ["layer2"]])
    def test_give_the_features_of_a_plain_forward_pass(
        self, network: torch.nn.Module, weights: str, images: np.ndarray, layers: list[str]
    ) -> None:
        cut = build_backbone("resnet18", weights, layers)
        for pool in (1, 3, 5):
            options = {"pool": pool, "normalize": True, "precision": "float32"}
            found = patch_features(cut, images[:2], **options)
            expected = by_hand(network, images[:2], layers, pool)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found.float().numpy(), expected, rtol=2e-3, atol=2e-3)
            assert expected.std() > 0.05

    def test_concatenate_layers_on_the_grid_of_the_shallowest(
        self, weights: str, images: np.ndarray
    ) -> None:
        network = build_backbone("resnet18", weights, ["layer1", "layer2", "layer3"])
        found = patch_features(network, images[:1], **PLAIN)
        assert found.shape == (1, 16, 16, 64 + 128 + 256)

    def test_are_cut_after_the_last_layer_and_frozen(self, weights: str) -> None:
        network = build_backbone("resnet18", weights, ["layer2"])
        assert not any(name.startswith(("layer3", "layer4", "fc")) for name in network.state_dict())
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())

    @pytest.mark.parametrize("kind", ["whole.pt", "whole.safetensors"])
    def test_take_a_whole_state_dict_of_either_format(
        self, network: torch.nn.Module, weights: str, tmp_path: Path, kind: str
    ) -> None:
        path = tmp_path / kind
        if path.suffix == ".safetensors":
            save_file(network.state_dict(), path)
        else:
            torch.save(network.state_dict(), path)
        one = build_backbone("resnet18", str(path), ["layer3"]).state_dict()
        two = build_backbone("resnet18", weights, ["layer3"]).state_dict()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)

    def test_find_weights_in_the_home_folder(
        self, weights: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(Path(weights).parent))
        assert check_backbone("resnet18", "~/cut.pth", ["layer1"]) is None
        build_backbone("resnet18", "~/cut.pth", ["layer1"])

    def test_without_running_statistics_work_too(self, images: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "squeezenet.pth"
        torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
        network = build_backbone("squeezenet1_1", str(path), ["features.4"])
        assert patch_features(network, images, **PLAIN).shape == (5, 15, 15, 128)

    def test_take_any_part_of_the_network_as_layer_however_deep_it_is_nested(self) -> None:
        assert check_backbone("efficientnet_b0", "default", ["features.1", "features.2.0"]) is None

    def test_a_vector_instead_of_a_map_is_refused(
        self, network: torch.nn.Module, images: np.ndarray
    ) -> None:
        whole = create_feature_extractor(network, ["layer1", "fc"])
        with pytest.raises(FlawlineError, match=r"\(1, 1000\).*convolutional layers"):
            patch_features(whole, images[:1], **PLAIN)

    def test_values_beyond_half_precision_are_cut_off_not_infinite(
        self, images: np.ndarray
    ) -> None:
        class Loud(torch.nn.Conv2d):
            def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
                return {"loud": super().forward(pixels) * 1e7}

        found = patch_features(Loud(3, 2, 3), images[:1], **PLAIN)
        assert torch.isfinite(found).all()
        assert found.abs().max() == 65_504


class Maps(torch.nn.Module):
    """Stands for a network whose layers give maps of all kinds, an eighth of the image's size."""

    def __init__(self, *kinds: str, side: int | None = None) -> None:
        super().__init__()
        self.kinds, self.side = kinds, side

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        height, width = images.shape[2] // 8, images.shape[3] // 8
        if self.side not in (None, images.shape[2], images.shape[3]):
            raise AssertionError("Wrong image height!")
        plain = torch.nn.functional.adaptive_avg_pool2d(images, (height, width))
        plain = plain.repeat(1, height, 1, 1)[:, :height]  # as many channels as rows
        every = {
            "first": plain,
            "last": plain.permute(0, 2, 3, 1),
            "tokens": plain.flatten(2),
            "pooled": plain.mean((2, 3), keepdim=True),
            "flat": plain.flatten(1),
        }
        return {kind: every[kind] for kind in self.kinds}


class TestMapsOfAllKinds:
    @pytest.mark.parametrize("shape", [(64, 64), (64, 96), (128, 64)])
    def test_maps_with_channels_last_are_found_and_turned(self, shape: tuple[int, int]) -> None:
        network = Maps("first", "last")
        assert _channels_last(network, "x", shape) == ["last"]
        images = torch.rand(2, 3, *shape)
        turned = ChannelsFirst(network, ["last"])(images)
        assert torch.equal(turned["last"], turned["first"])

    @pytest.mark.parametrize("kind", ["tokens", "pooled", "flat"])
    def test_what_gives_no_map_is_refused_by_its_layer(self, kind: str) -> None:
        with pytest.raises(FlawlineError, match=f"layer '{kind}' gives .* not a map of its places"):
            _channels_last(Maps("first", kind), "x", (64, 96))

    def test_a_network_of_one_input_size_takes_that_alone(self) -> None:
        assert _channels_last(Maps("first", side=64), "x", (64, 64)) == []
        with pytest.raises(FlawlineError, match=r"x does not take images of 96 x 96 px \(Wrong"):
            _channels_last(Maps("first", side=64), "x", (96, 96))

    @pytest.mark.parametrize("layer", ["avgpool", "flatten", "fc"])
    def test_of_a_real_network_too(self, layer: str) -> None:
        answer = check_backbone("resnet18", "default", [layer])
        assert answer is not None
        assert f"layer '{layer}' gives (1, " in answer

    def test_swin_is_turned(self, tmp_path: Path) -> None:
        network = get_model("swin_t", weights=None).eval()
        torch.save(network.state_dict(), tmp_path / "swin.pth")
        cut = build_backbone("swin_t", str(tmp_path / "swin.pth"), ["features.1"], (64, 96))
        assert cut(torch.zeros(1, 3, 64, 96))["features.1"].shape == (1, 96, 16, 24)


class TestWrongBackbones:
    @pytest.mark.parametrize(
        ("backbone", "given", "layers", "words"),
        [
            ("resnet81", "default", ["layer1"], ["'resnet81'", "did you mean 'resnet18'"]),
            ("gabbor", "default", ["fine"], ["'gabbor'", "'gabor'"]),
            ("resnet18", "default", ["layer7"], ["'layer7'", "'layer", "layer1, layer2, layer3"]),
            ("resnet18", "default", ["layer1", "layer2.9"], ["'layer2.9'", "'layer2.0'"]),
            ("resnet18", "IMAGENET_V1", ["layer1"], ["'IMAGENET_V1'", "IMAGENET1K_V1", "path"]),
            ("resnet18", "weights.bin", ["layer1"], ["'weights.bin'", "IMAGENET1K_V1", ".pth"]),
        ],
    )
    def test_a_wrong_name_is_named_with_the_right_ones(
        self, backbone: str, given: str, layers: list[str], words: list[str]
    ) -> None:
        answer = check_backbone(backbone, given, layers)
        assert answer is not None
        for word in words:
            assert word in answer
        with pytest.raises(FlawlineError) as error:
            build_backbone(backbone, given, layers)
        assert str(error.value) == answer

    def test_the_right_names_pass_without_a_download(self) -> None:
        for given in ("default", "IMAGENET1K_V1"):
            assert check_backbone("resnet18", given, ["layer1", "layer3.0.conv1"]) is None

    @pytest.fixture
    def state(self, network: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Just the tensors up to layer2."""
        return create_feature_extractor(network, ["layer2"]).state_dict()

    def test_a_missing_tensor_is_named(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        del state["layer2.0.conv1.weight"]
        torch.save(state, tmp_path / "less.pth")
        with pytest.raises(FlawlineError, match=r"1 needed .*'layer2\.0\.conv1\.weight'") as error:
            build_backbone("resnet18", str(tmp_path / "less.pth"), ["layer2"])
        assert "less.pth" in str(error.value)
        build_backbone("resnet18", str(tmp_path / "less.pth"), ["layer1"])

    def test_a_cut_state_dict_is_not_enough_for_a_later_layer(self, weights: str) -> None:
        with pytest.raises(FlawlineError, match=r"'layer4\..*cut before the last layer"):
            build_backbone("resnet18", weights, ["layer4"])

    def test_missing_batch_counters_do_not_matter(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        kept = {name: state[name] for name in state if not name.endswith("num_batches_tracked")}
        assert len(kept) < len(state)
        torch.save(kept, tmp_path / "old.pth")
        build_backbone("resnet18", str(tmp_path / "old.pth"), ["layer2"])

    def test_a_tensor_of_another_shape_is_named_with_both(
        self, state: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        state["layer1.0.bn1.bias"] = torch.zeros(65)
        torch.save(state, tmp_path / "wide.pth")
        message = r"'layer1\.0\.bn1\.bias' has shape \(65,\), expected \(64,\)"
        with pytest.raises(FlawlineError, match=message):
            build_backbone("resnet18", str(tmp_path / "wide.pth"), ["layer2"])

    def test_a_file_with_code_is_refused_and_its_code_not_run(self, tmp_path: Path) -> None:
        class Code:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "ran"),)

        path = tmp_path / "code.pth"
        torch.save({"conv1.weight": Code()}, path)
        with pytest.raises(FlawlineError, match=r"code\.pth: not a readable state dict") as error:
            build_backbone("resnet18", str(path), ["layer1"])
        assert not (tmp_path / "ran").exists()
        assert "model.state_dict()" in str(error.value)
        assert "weights_only" not in str(error.value), "no advice to load it all the same"

    @pytest.mark.parametrize("kind", ["model", "list", "number", "nested", "text", "nothing"])
    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_a_file_that_is_not_a_state_dict_is_refused(
        self, tmp_path: Path, kind: str, suffix: str
    ) -> None:
        path = tmp_path / f"x.{suffix}"
        made = {
            "model": torch.nn.Linear(1, 1),
            "list": [torch.zeros(1)],
            "number": 5,
            "nested": {"state_dict": {"conv1.weight": torch.zeros(1)}},
        }
        if kind in made:
            torch.save(made[kind], path)
        else:
            path.write_text("hello" if kind == "text" else "")
        with pytest.raises(FlawlineError, match=rf"x\.{suffix}: not a") as error:
            build_backbone("resnet18", str(path), ["layer1"])
        assert "model.state_dict()" in str(error.value)

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_a_missing_file_is_named(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"none.{suffix}"
        with pytest.raises(FlawlineError, match=rf"there is no file '{path}'"):
            build_backbone("resnet18", str(path), ["layer1"])

    def test_no_network_is_told_with_the_way_round_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError("Network is unreachable")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
        with pytest.raises(FlawlineError, match=r"cannot be downloaded.*unreachable") as error:
            build_backbone("resnet18", "default", ["layer1"])
        assert "path of a local state dict" in str(error.value)


class TestExtraction:
    @pytest.mark.parametrize("batch_size", [1, 2, 100])
    def test_in_batches_is_the_same_as_in_one(
        self, images: np.ndarray, tmp_path: Path, weights: str, batch_size: int
    ) -> None:
        options = {"backbone": "resnet18", "weights": weights, "layers": ["layer2", "layer3"]}
        parts = write(images, tmp_path / "parts.npy", batch_size=batch_size, **options)
        whole = patch_features(
            build_backbone("resnet18", weights, ["layer2", "layer3"]), images, **PLAIN
        )
        assert parts.dtype == np.float16
        np.testing.assert_allclose(parts, whole.numpy(), rtol=2e-3, atol=2e-3)

    def test_writes_an_array_that_can_be_mapped(self, images: np.ndarray, tmp_path: Path) -> None:
        write(images, tmp_path / "new" / "bank.npy")
        found = np.load(tmp_path / "new" / "bank.npy", mmap_mode="r")
        assert isinstance(found, np.memmap)
        assert found.shape == (5, 8, 8, 18)
        assert found.flags.c_contiguous
        assert {path.name for path in (tmp_path / "new").iterdir()} == {"bank.npy", "bank.json"}

    def test_twice_gives_the_same_bytes(self, images: np.ndarray, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write(images, tmp_path / f"{name}.npy")
        for suffix in ("npy", "json"):
            one, two = (tmp_path / f"{name}.{suffix}" for name in ("a", "b"))
            assert one.read_bytes() == two.read_bytes()

    def test_of_no_images_is_an_empty_array(self, images: np.ndarray, tmp_path: Path) -> None:
        assert write(images[:0], tmp_path / "none.npy").shape == (0, 8, 8, 18)

    def test_tells_beside_the_array_what_it_is(
        self, images: np.ndarray, tmp_path: Path, weights: str
    ) -> None:
        options = {"backbone": "resnet18", "weights": weights, "layers": ["layer2"], "pool": 3}
        path = tmp_path / "resnet.v2.npy"
        write(images, path, normalize=True, **options)
        about = read_json(tmp_path / "resnet.v2.json")
        assert about["backbone"] == "resnet18"
        assert about["weights"] == "cut.pth", "the file's name, for its place tells nothing"
        assert len(about["weights_sha256"]) == 64
        assert about["layers"] == ["layer2"]
        assert about["input_size"] == [64, 64]
        assert about["shape"] == [5, 8, 8, 128]
        assert (about["pool"], about["normalize"], about["precision"]) == (3, True, "float32")
        assert (about["device"], about["dtype"]) == ("cpu", "float16")
        assert about["images_sha256"] == "0123"
        assert about["sha256"] == file_hash(path)
        assert about["versions"]["torch"]

    def test_knows_weights_by_their_values(
        self, images: np.ndarray, tmp_path: Path, weights: str
    ) -> None:
        state = torch.load(weights)
        save_file(state, tmp_path / "same.safetensors")
        state["conv1.weight"] = state["conv1.weight"] + 1
        torch.save(state, tmp_path / "other.pth")
        hashes = []
        for path in (weights, tmp_path / "same.safetensors", tmp_path / "other.pth"):
            options = {"backbone": "resnet18", "layers": ["layer1"], "weights": str(path)}
            write(images[:1], tmp_path / "x.npy", **options)
            hashes.append(read_json(tmp_path / "x.json")["weights_sha256"])
        assert hashes[0] == hashes[1] != hashes[2]

    def test_half_precision_stays_near_and_is_recorded(
        self, images: np.ndarray, tmp_path: Path, weights: str
    ) -> None:
        options = {"backbone": "resnet18", "weights": weights, "layers": ["layer2"]}
        exact = write(images[:2], tmp_path / "exact.npy", **options).astype(float)
        half = write(images[:2], tmp_path / "half.npy", precision="bfloat16", **options)
        assert read_json(tmp_path / "half.json")["precision"] == "bfloat16"
        assert 0 < np.abs(half.astype(float) - exact).mean() < 0.03 * exact.std()

    def test_of_the_bank_is_always_in_full_precision(
        self, images: np.ndarray, tmp_path: Path
    ) -> None:
        exact = write(images[:1], tmp_path / "exact.npy")
        assert np.array_equal(write(images[:1], tmp_path / "x.npy", precision="bfloat16"), exact)
        assert read_json(tmp_path / "x.json")["precision"] == "float32"


class TestCheckFeatures:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The backbones that torchvision was asked for."""
        asked: list[str] = []

        def record(names: list[check.Asked]) -> list[str | None]:
            backbones = [backbone for backbone, *_ in names]
            asked.extend(backbones)
            return [
                f"{backbone} is wrong" if backbone.startswith("wrong") else None
                for backbone in backbones
            ]

        monkeypatch.setattr("flawline.workflow.check_backbones._ask", record)
        monkeypatch.setattr("flawline.workflow.check_backbones.USUAL", {})
        return asked

    @pytest.mark.parametrize("backbone", check.USUAL)
    def test_calls_usual_only_what_torchvision_has(self, backbone: str) -> None:
        assert check_backbone(backbone, "default", sorted(check.USUAL[backbone])) is None

    @pytest.mark.parametrize(
        ("changes", "passes"),
        [
            ({}, True),
            ({"weights": __file__}, True),
            ({"weights": "DEFAULTS"}, False),
            ({"layers": ["layer2", "layer5"]}, False),
            ({"backbone": "resnet19"}, False),
        ],
    )
    def test_asks_nobody_for_usual_names_alone(
        self,
        minimal: dict[str, Any],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        changes: dict[str, Any],
        passes: bool,
    ) -> None:
        asked = []
        monkeypatch.setattr(
            "flawline.workflow.check_backbones._ask", lambda names: asked.append(names)
        )
        features = {"backbone": "resnet18", "weights": "default", "layers": ["layer2"]} | changes
        config = load_config(minimal | {"features": {"bank": features}}, "x.yaml")
        check_features(config, "x.yaml", tmp_path / "passed.json")
        assert asked == [] if passes else len(asked) == 1

    def config(self, minimal: dict[str, Any], **sets: str) -> Any:
        features = {
            name: {"backbone": backbone, "layers": ["fine"]} for name, backbone in sets.items()
        }
        return load_config(minimal | {"features": minimal["features"] | features}, "x.yaml")

    def test_asks_only_for_what_has_not_passed_before(
        self, minimal: dict[str, Any], tmp_path: Path, asked: list[str]
    ) -> None:
        cache = tmp_path / "new" / "passed.json"
        check_features(self.config(minimal), "x.yaml", cache)
        assert asked == ["gabor"]
        check_features(self.config(minimal), "x.yaml", cache)
        assert asked == ["gabor"]
        check_features(self.config(minimal, other="resnet18"), "x.yaml", cache)
        assert asked == ["gabor", "resnet18"]

    @pytest.mark.usefixtures("forked")
    def test_asks_torchvision_in_a_process_of_its_own(
        self, minimal: dict[str, Any], tmp_path: Path
    ) -> None:
        config = self.config(minimal, right="resnet18", wrong="resnet19")
        with pytest.raises(FlawlineError) as error:
            check_features(config, "x.yaml", tmp_path / "passed.json")
        lines = str(error.value).splitlines()
        assert [line.split(": ")[1] for line in lines] == ["features.right", "features.wrong"]
        assert "no layer 'fine'" in lines[0]
        assert "resnet19" in lines[1]

    def test_tells_all_mistakes_with_file_and_key_and_forgets_them(
        self, minimal: dict[str, Any], tmp_path: Path, asked: list[str]
    ) -> None:
        config = self.config(minimal, first="wrong1", second="wrong2")
        for _ in range(2):
            with pytest.raises(FlawlineError) as error:
                check_features(config, "x.yaml", tmp_path / "passed.json")
            assert str(error.value).splitlines() == [
                "x.yaml: features.first: wrong1 is wrong",
                "x.yaml: features.second: wrong2 is wrong",
            ]
        assert asked.count("wrong1") == 2

    def test_asks_for_the_overrides_of_a_category_too(
        self, minimal: dict[str, Any], tmp_path: Path, asked: list[str]
    ) -> None:
        changes = {"bolt": {"features": {"bank": {"backbone": "wrong"}}}}
        config = load_config(minimal | {"overrides": changes}, "x.yaml")
        with pytest.raises(FlawlineError, match=r"features\.bank: wrong is wrong"):
            check_features(config, "x.yaml", tmp_path / "passed.json")

    @pytest.mark.parametrize("content", ["", "{", "3", "[[1], 2]", '{"a": 1}', "null"])
    def test_works_with_a_corrupt_cache(
        self, minimal: dict[str, Any], tmp_path: Path, asked: list[str], content: str
    ) -> None:
        cache = tmp_path / "passed.json"
        cache.write_text(content)
        check_features(self.config(minimal), "x.yaml", cache)
        assert asked == ["gabor"]
        check_features(self.config(minimal), "x.yaml", cache)
        assert asked == ["gabor"]

    def test_works_where_the_cache_cannot_be_written(
        self, minimal: dict[str, Any], tmp_path: Path, asked: list[str]
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        check_features(self.config(minimal), "x.yaml", tmp_path / "file" / "passed.json")
        assert asked == ["gabor"]

    def test_passes_where_torch_is_not_installed(
        self, minimal: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        check_features(self.config(minimal), "x.yaml", tmp_path / "passed.json")
        assert not (tmp_path / "passed.json").exists()

    def test_never_imports_torch_itself(self, minimal: dict[str, Any], tmp_path: Path) -> None:
        command = (
            "import json, sys; from pathlib import Path;"
            "from flawline.config import load_config;"
            "from flawline.workflow.check_backbones import check_features;"
            "config = load_config(json.loads(sys.argv[1]), 'x.yaml');"
            "check_features(config, 'x.yaml', Path(sys.argv[2]));"
            "print(any(name in sys.modules for name in ('torch', 'torchvision')))"
        )
        cache = tmp_path / "passed.json"
        features = {"bank": {"backbone": "squeezenet1_1", "layers": ["features"]}}
        arguments = [
            sys.executable,
            "-c",
            command,
            json.dumps(minimal | {"features": features}),
            str(cache),
        ]
        found = [subprocess.check_output(arguments, text=True).strip() for _ in range(2)]
        assert found == ["False", "False"]
        assert check._read(cache) == {
            json.dumps(["squeezenet1_1", "default", ["features"], [256, 320]])
        }


class TestImportOfTorchvision:
    def test_leaves_the_compiler_out_and_in_order(self) -> None:
        program = """
import sys
import torch
from flawline.features.backbones import untrained

network = untrained("resnet18")
print([name for name in sys.modules if name.startswith("torch._dynamo")])
assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
import torchvision.ops
print(len(torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)))
weight = torch.nn.Parameter(torch.ones(1))
torch.optim.Adam([weight])
import torch._dynamo
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""
        printed = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert printed.split("\n") == ["[]", "1", "2.0", ""]

    def test_takes_a_compiler_that_is_there(self) -> None:
        program = """
import torch._dynamo
from flawline.features.backbones import untrained

compiler = torch._dynamo
untrained("resnet18")
import sys
print(sys.modules["torch._dynamo"] is compiler)
"""
        printed = subprocess.check_output([sys.executable, "-c", program], text=True)
        assert printed == "True\n"
