import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from flawline.features.extraction import made_fast, patch_features
from flawline.features.winograd import WinogradConvolution, use_winograd


def convolution(inputs: int = 128, outputs: int = 128, **options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    chosen = {"kernel_size": 3, "padding": 1} | options
    return nn.Conv2d(inputs, outputs, **chosen).requires_grad_(False)  # type: ignore[arg-type]


class TestWinogradConvolution:
    @pytest.mark.parametrize("size", [(8, 8), (12, 20), (7, 9), (1, 1), (3, 6)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_is_the_plain_convolution(self, size: tuple[int, int], bias: bool) -> None:
        plain = convolution(128, 130, bias=bias)
        images = torch.randn(3, 128, *size)
        expected = plain(images)
        found = WinogradConvolution(plain)(images)
        assert found.shape == expected.shape
        assert (found - expected).norm() < 1e-5 * expected.norm()

    def test_takes_and_gives_channels_last(self) -> None:
        images = torch.randn(2, 128, 8, 8).contiguous(memory_format=torch.channels_last)
        plain = convolution()
        found = WinogradConvolution(plain)(images)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, plain(images), rtol=1e-4, atol=1e-5)

    def test_goes_through_many_images_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = torch.randn(5, 128, 8, 8)
        fast = WinogradConvolution(convolution())
        at_once = fast(images)
        monkeypatch.setattr("flawline.features.winograd.WORKING_BYTES", 36 * 4 * 128 * 4 * 2)
        torch.testing.assert_close(fast(images), at_once, rtol=1e-5, atol=1e-6)

    def test_leaves_large_images_to_the_plain_convolution(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain, images = convolution(), torch.randn(1, 128, 8, 8)
        monkeypatch.setattr("flawline.features.winograd.LARGEST_IMAGE", 36 * 4 * 128 * 4 - 1)
        assert torch.equal(WinogradConvolution(plain)(images), plain(images))

    def test_keeps_the_names_of_the_tensors(self) -> None:
        plain = convolution()
        assert WinogradConvolution(plain).state_dict().keys() == plain.state_dict().keys()

    def test_is_exported_as_the_plain_one(self) -> None:
        fast = WinogradConvolution(convolution()).eval()
        program = torch.export.export(fast, (torch.randn(2, 128, 8, 8),))
        called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert called == {"aten.conv2d.default"}


class TestUseWinograd:
    def test_a_network_gives_the_same_features(self) -> None:
        torch.manual_seed(0)
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
        settings = {"pool": 3, "normalize": True, "precision": "float32"}
        network = create_feature_extractor(get_model("resnet18").eval(), ["layer2", "layer3"])
        expected = patch_features(network, images, **settings).float()
        fast = made_fast(network, torch.device("cpu"), "float32")
        assert any(isinstance(layer, WinogradConvolution) for layer in fast.modules())
        torch.testing.assert_close(
            patch_features(fast, images, **settings).float(), expected, rtol=2e-3, atol=1e-4
        )

    def test_replaces_what_saves_time_and_nothing_else(self) -> None:
        kept = [
            convolution(64, 128),
            convolution(128, 32),
            convolution(stride=2),
            convolution(dilation=2, padding=2),
            convolution(padding=0),
            convolution(padding="same"),
            convolution(padding_mode="reflect"),
            convolution(groups=2),
            convolution(kernel_size=1, padding=0),
            convolution(kernel_size=(3, 5)),
        ]
        network = use_winograd(nn.Sequential(*kept, convolution(), nn.ReLU()))
        assert [type(layer) for layer in network] == [
            *[nn.Conv2d] * len(kept),
            WinogradConvolution,
            nn.ReLU,
        ]

    @pytest.mark.parametrize(
        ("precision", "kind"), [("float32", WinogradConvolution), ("bfloat16", nn.Conv2d)]
    )
    def test_is_for_full_precision(self, precision: str, kind: type[nn.Module]) -> None:
        network = made_fast(nn.Sequential(convolution()), torch.device("cpu"), precision)
        assert type(network[0]) is kind  # type: ignore[index]
