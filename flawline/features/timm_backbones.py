"""Networks of timm, convolutional or transformers, as maps of their layers."""

from types import ModuleType
from typing import Any

import torch
from torch import nn

from flawline.errors import FlawlineError
from flawline.features.resizing import resized, resizing_matrices
from flawline.options.base import did_you_mean

PREFIX = "timm/"


class TimmBackbone(nn.Module):
    """A network of timm, cut after the last used layer: images to {layer: map (N, C, H, W)}.

    Transformers get an image whose sides are multiples of their patches: the nearest ones to those
    of the given image, which is resized. Their class and register tokens are dropped, and their
    last normalisation is applied to every layer, as DINOv2's own evaluation does.

    Attributes
    ----------
    levels : mean and standard deviation of red, green and blue in the network's training, 0 to 1.
    licence : of the pretrained weights, as timm states it, or None.
    """

    size: tuple[int, int] | None = None

    def __init__(self, network: Any, layers: list[str]) -> None:
        super().__init__()
        self.layers = layers
        names = [info["module"] for info in network.feature_info]
        self.indices = [_index(layer, names, network.pretrained_cfg) for layer in layers]
        self.has_tokens = hasattr(network, "num_prefix_tokens")
        about = network.pretrained_cfg
        self.levels = (tuple(about["mean"]), tuple(about["std"]))
        self.licence: str | None = about.get("license")
        network.prune_intermediate_layers(self.indices, prune_norm=False, prune_head=True)
        self.network = network

    def adapt(self, shape: tuple[int, int]) -> None:
        """Prepare for images of a shape, once the weights are loaded; convolutions need not."""
        if hasattr(self.network, "set_input_size"):  # timm's transformers are built for one size
            step = max(info["reduction"] for info in self.network.feature_info)
            height, width = (max(round(side / step), 2) * step for side in shape)
            self.size = height, width
            self.network.set_input_size(self.size)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps of all layers, in the order in which they were named."""
        if self.size is not None and images.shape[2:] != self.size:
            matrices = resizing_matrices(images.shape[2:], self.size)
            images = resized(images, *(one.to(images) for one in matrices))
        found = self.network.forward_intermediates(
            images,
            indices=sorted(self.indices),
            norm=self.has_tokens,
            stop_early=True,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        maps = dict(zip(sorted(self.indices), found, strict=True))
        return {layer: maps[index] for layer, index in zip(self.layers, self.indices, strict=True)}


def untrained_timm(backbone: str) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    backbone : `timm/` and the name of a model, such as ``timm/vit_small_patch14_dinov2.lvd142m``.

    Raises
    ------
    FlawlineError
        If timm is not installed, or does not have it, or it has no layers to take.
    """
    timm, name = _timm(), backbone.removeprefix(PREFIX)
    if not timm.is_model(name):
        known = timm.list_models() + timm.list_pretrained()
        raise FlawlineError(
            f"backbone {backbone!r} is not a model of timm {timm.__version__}"
            + did_you_mean(name, known, most=3, cutoff=0.5)
        )
    network: nn.Module = timm.create_model(name, pretrained=False)
    if not hasattr(network, "forward_intermediates"):
        raise FlawlineError(f"backbone {backbone!r}: timm cannot take layers out of this model")
    return network.eval()


def pretrained_state(backbone: str) -> dict[str, torch.Tensor]:
    """Return the pretrained weights of a network, downloaded once to Hugging Face's cache.

    Raises
    ------
    FlawlineError
        If there are none, or they cannot be downloaded.
    """
    timm, name = _timm(), backbone.removeprefix(PREFIX)
    try:
        state: dict[str, torch.Tensor] = timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # the hub raises its own, the network's and timm's
        why = str(error).partition("\n")[0] or type(error).__name__
        raise FlawlineError(
            f"{backbone}: the weights cannot be downloaded ({why}). Run again when the network is "
            "back, or set `weights` to the path of a local state dict."
        ) from error
    return state


def renamed(state: dict[str, torch.Tensor], network: nn.Module) -> dict[str, torch.Tensor]:
    """Give tensors the names that a network has for them, if they are the same in the same order.

    Other projects have the same networks under other names, such as EfficientNet-Lite. A state
    dict that shares a name with the network, or has other shapes, is returned as it is.
    """
    wanted = _counted_out(network.state_dict())
    given = _counted_out(state)
    same = [one.shape for one in wanted.values()] == [one.shape for one in given.values()]
    if not same or wanted.keys() & given.keys():
        return state
    return dict(zip(wanted, given.values(), strict=True))


def _counted_out(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one for name, one in state.items() if not name.endswith("num_batches_tracked")}


def _index(layer: str, names: list[str], about: dict[str, Any]) -> int:
    """Return a layer's number; it is given by its name, or by its number, also from the end."""
    if layer in names:
        return names.index(layer)
    if layer.removeprefix("-").isdigit() and -len(names) <= int(layer) < len(names):
        return int(layer) % len(names)
    raise FlawlineError(
        f"{PREFIX}{about['architecture']} has no layer {layer!r}; it has {', '.join(names)}, or "
        f"their numbers 0 to {len(names) - 1}, from the end -1 to -{len(names)}"
    )


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise FlawlineError(
            "backbones that begin with timm/ need the package timm, which is not installed: "
            "pip install 'flawline[timm]'"
        ) from None
    return timm
