"""Frozen networks, cut after the last used layer."""

import io
import sys
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from flawline.errors import FlawlineError
from flawline.features.gabor import LAYERS, GaborBank
from flawline.features.split_network import split_network
from flawline.features.timm_backbones import (
    PREFIX,
    TimmBackbone,
    pretrained_state,
    renamed,
    untrained_timm,
)
from flawline.options.base import did_you_mean
from flawline.options.sizes import TYPICAL
from flawline.options.weights import weights_file

Levels = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Levels = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
A_FILE = "the path of a state dict (with a / in it, or ending in .pth, .pt or .safetensors)"


def check_backbone(
    backbone: str, weights: str, layers: list[str], shape: tuple[int, int] = TYPICAL
) -> str | None:
    """Return what is wrong with these names, as one sentence, or None; download nothing.

    The network is tried on an empty image.

    Parameters
    ----------
    backbone, weights, layers : as in the configuration's `features`; no layers for a network that
        is used up to its last feature map.
    shape : height and width of its input.
    """
    try:
        if backbone.startswith(PREFIX):
            _tried(_timm_backbone(backbone, None, layers, shape), backbone, shape)
        elif layers:
            _channels_last(_extractor(backbone, layers), backbone, shape)
        else:
            split_network(untrained(backbone), 1)
        named = weights_file(weights) is None and (layers or weights != "none")
        if backbone.startswith(PREFIX) and weights_file(weights) is None and weights != "default":
            return f"{backbone}: weights {weights!r} are not known; give 'default', or {A_FILE}"
        if backbone != "gabor" and not backbone.startswith(PREFIX) and named:
            _weights_enum(backbone, weights)
    except FlawlineError as error:
        return str(error)
    return None


def build_backbone(
    backbone: str, weights: str, layers: list[str], shape: tuple[int, int] = TYPICAL
) -> nn.Module:
    """Build a network in evaluation mode: images to {layer: feature map (N, C, H, W)}.

    Parameters
    ----------
    backbone : ``gabor``, a name in ``torchvision.models``, or ``timm/`` and a name in timm.
    weights : ``default``, a name in torchvision's weights enum, or a path to a state dict: with a
        ``/`` in it, or ending in .pth, .pt or .safetensors; ``package/`` and a Python package
        that contains one. Tensors of layers beyond the cut may be missing, no others.
    layers : names as in ``torchvision.models.feature_extraction``, shallow to deep; for timm names
        or numbers as in its ``feature_info``.
    shape : height and width of its input.

    Raises
    ------
    FlawlineError
        If a name is unknown, a needed tensor is missing or of another shape, or a layer gives no
        map.

    Examples
    --------
    >>> import torch
    >>> from flawline import build_backbone
    >>> network = build_backbone("gabor", "none", ["fine", "coarse"], (32, 32))
    >>> sorted(network(torch.zeros(1, 3, 32, 32)))
    ['coarse', 'fine']
    """
    if backbone.startswith(PREFIX):
        return _timm_backbone(backbone, weights, layers, shape)
    network = _extractor(backbone, layers)
    if backbone != "gabor":
        _load(network, _state_dict(backbone, weights), weights)
    network = network.eval().requires_grad_(False)
    turned = _channels_last(network, backbone, shape)
    return ChannelsFirst(network, turned) if turned else network


def levels_of(network: nn.Module) -> Levels:
    """Return mean and standard deviation of the images that a network was trained with."""
    return network.levels if isinstance(network, TimmBackbone) else IMAGENET


def _timm_backbone(
    backbone: str, weights: str | None, layers: list[str], shape: tuple[int, int]
) -> nn.Module:
    """Build a network of timm; without weights, they are random."""
    whole = untrained_timm(backbone)
    if weights is None:
        network = TimmBackbone(whole, layers)
    else:
        path = weights_file(weights)
        state = pretrained_state(backbone) if path is None else _read_state_dict(path)
        state = renamed(state, whole)
        network = TimmBackbone(whole, layers)
        _load(network.network, state, weights)
    network.adapt(shape)
    return network.eval().requires_grad_(False)


def _channels_last(network: nn.Module, backbone: str, shape: tuple[int, int]) -> list[str]:
    """Find layers whose maps are (N, H, W, C), as those of Swin transformers, by trying.

    A map has the proportions of the image. On a square image, a map with as many channels as rows
    would be ambiguous, so an oblong one is tried as well if the network takes it.

    Raises
    ------
    FlawlineError
        If the network does not take such images, or a layer gives no map.
    """
    found = _tried(network, backbone, shape)
    oblong = (
        shape if shape[0] != shape[1] else (shape[0], shape[1] + max(shape[1] // 4 // 32, 1) * 32)
    )
    try:
        told = _tried(network, backbone, oblong) if oblong != shape else found
    except FlawlineError:  # it takes only squares
        told, oblong = found, shape
    first = [name for name, sides in told.items() if _is_map(sides[2:], sides[1:], oblong)]
    last = [
        name
        for name, sides in told.items()
        if name not in first and _is_map(sides[1:3], sides[1:], oblong)
    ]
    for name, sides in found.items():
        if name not in [*first, *last]:
            raise FlawlineError(
                f"{backbone}: layer {name!r} gives {tuple(sides)} for an image of {shape[0]} x "
                f"{shape[1]} px, which is not a map of its places (N, C, H, W); choose an earlier "
                "layer, or a convolutional network such as resnet18"
            )
    return last


def _is_map(sides: list[int], channels: list[int], shape: tuple[int, int]) -> bool:
    """Check whether two of a tensor's four sides are those of an image's map."""
    if len(channels) != 3 or min(sides) < 2:
        return False
    return abs(sides[1] - sides[0] * shape[1] / shape[0]) < 1.5


def _tried(network: nn.Module, backbone: str, shape: tuple[int, int]) -> dict[str, list[int]]:
    """Return the shapes of a network's layers for an empty image."""
    try:
        # torch prints the traced code of a network that fails
        with torch.inference_mode(), redirect_stderr(io.StringIO()):
            layers = network(torch.zeros(1, 3, *shape))
    except Exception as error:  # networks raise any exception for sizes that they do not take
        why = str(error).partition("\n")[0] or type(error).__name__
        raise FlawlineError(
            f"{backbone} does not take images of {shape[0]} x {shape[1]} px ({why}); set "
            "prepare.size to the one that it was made for, often 224, or choose a convolutional "
            "network such as resnet18"
        ) from None
    return {name: list(found.shape) for name, found in layers.items()}


class ChannelsFirst(nn.Module):
    """The same network, with maps of some layers turned from (N, H, W, C) to (N, C, H, W)."""

    def __init__(self, network: nn.Module, layers: list[str]) -> None:
        super().__init__()
        self.network, self.layers = network, layers

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the maps of all layers."""
        maps: dict[str, torch.Tensor] = self.network(images)
        return {
            name: one.permute(0, 3, 1, 2) if name in self.layers else one
            for name, one in maps.items()
        }


def untrained(backbone: str) -> nn.Module:
    """Build a classification network of torchvision with random weights, in evaluation mode.

    Raises
    ------
    FlawlineError
        If torchvision does not have it.
    """
    models = _torchvision_models()
    known = models.list_models(module=models)
    if backbone not in known:
        raise FlawlineError(
            f"backbone {backbone!r} is not a torchvision classification model"
            + did_you_mean(backbone, known, most=2, cutoff=0.5)
        )
    network: nn.Module = models.get_model(backbone, weights=None).eval()
    return network


def _torchvision_models() -> Any:
    """Import torchvision's networks without `torch.compile`.

    One of its operators, which none of the classification networks has, asks the compiler whether
    it supports a device. Importing the compiler for that takes nine tenths of the time, 2 s, and
    145 MiB. Whatever imports it later gets it.
    """
    compiler = "torch._dynamo"
    if compiler in sys.modules or "torchvision" in sys.modules:
        return import_module("torchvision.models")
    stand_ins = {name: ModuleType(name) for name in (compiler, f"{compiler}.utils")}
    vars(stand_ins[f"{compiler}.utils"])["is_compile_supported"] = lambda device: False
    sys.modules.update(stand_ins)
    try:
        return import_module("torchvision.models")
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def load_weights(network: nn.Module, backbone: str, weights: str) -> None:
    """Load pretrained weights into a network of torchvision or a part of one.

    Parameters
    ----------
    network : its tensors have the names that they have in torchvision's `backbone`.
    weights : as for `build_backbone`; ``none`` leaves the network as it is.

    Raises
    ------
    FlawlineError
        If a name is unknown or a needed tensor is missing or of another shape.
    """
    if weights != "none":
        _load(network, _state_dict(backbone, weights), weights)


def _extractor(backbone: str, layers: list[str]) -> nn.Module:
    if backbone == "gabor":
        _refuse_unknown(layers, list(LAYERS), backbone)
        return GaborBank(layers)
    models = _torchvision_models()
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    known = models.list_models(module=models)
    if backbone not in known:
        raise FlawlineError(
            f"backbone {backbone!r} is neither 'gabor' nor a torchvision classification model"
            + did_you_mean(backbone, known, most=2, cutoff=0.5)
        )
    network = models.get_model(backbone, weights=None).eval()
    nodes = get_graph_node_names(network)[1]
    parents = {node.rsplit(".", depth)[0] for node in nodes for depth in range(node.count(".") + 1)}
    _refuse_unknown(layers, [*nodes, *sorted(parents)], backbone)
    return create_feature_extractor(network, return_nodes=layers)


def _weights_enum(backbone: str, weights: str) -> Any:
    enum = _torchvision_models().get_model_weights(backbone)
    try:
        return enum.DEFAULT if weights == "default" else enum[weights]
    except (KeyError, AttributeError):
        raise FlawlineError(
            f"weights {weights!r} are not known for {backbone}; give 'default', one of "
            f"{', '.join(entry.name for entry in enum)}, or {A_FILE}"
        ) from None


def _state_dict(backbone: str, weights: str) -> dict[str, torch.Tensor]:
    path = weights_file(weights)
    if path is not None:
        return _read_state_dict(path)
    entry = _weights_enum(backbone, weights)
    try:
        return entry.get_state_dict(progress=True, check_hash=True)
    except OSError as error:
        raise FlawlineError(
            f"{entry.url}: the weights of {backbone} cannot be downloaded ({error}). Run again "
            "when the network is back, or set `weights` to the path of a local state dict."
        ) from error


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    advice = (
        "Give a file of tensors by name, as torch.save(model.state_dict(), path) or safetensors "
        "write it."
    )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FlawlineError(f"weights: there is no file {str(path)!r}. {advice}") from None
    except OSError as error:
        raise FlawlineError(f"{path}: cannot be read ({error}). {advice}") from error
    except Exception as error:
        # without the error's text: torch's advises to load unsafe files nevertheless
        raise FlawlineError(
            f"{path}: not a readable state dict (damaged, or with other objects than tensors, "
            f"which could run code and are not loaded). {advice}"
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise FlawlineError(f"{path}: not a state dict, it contains other values. {advice}")
    return state


def _load(network: nn.Module, state: dict[str, torch.Tensor], weights: str) -> None:
    wanted = network.state_dict()
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}
    if missing := sorted(set(wanted) - set(state) - counters):
        raise FlawlineError(
            f"weights {weights!r}: {len(missing)} needed tensors are missing, the first is "
            f"{missing[0]!r}. The state dict is of another model, or was cut before the last "
            "layer in `layers`."
        )
    for name in set(wanted) - counters:
        if state[name].shape != wanted[name].shape:
            raise FlawlineError(
                f"weights {weights!r}: tensor {name!r} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(wanted[name].shape)}. The state dict is of another model."
            )
    network.load_state_dict({name: state[name] for name in set(wanted) & set(state)}, strict=False)


def _refuse_unknown(layers: list[str], known: list[str], backbone: str) -> None:
    for layer in layers:
        if layer not in known:
            top = list(dict.fromkeys(name for name in known if "." not in name and name != "x"))
            raise FlawlineError(
                f"{backbone} has no layer {layer!r}"
                f"{did_you_mean(layer, known, most=2, cutoff=0.5)}; at the top "
                f"level it has: {', '.join(top)}"
            )
