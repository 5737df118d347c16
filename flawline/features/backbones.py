"""Frozen networks, cut after the last layer that is used."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.errors import FlawlineError
from flawline.features.late_layers import split_network
from flawline.files import given_path

if TYPE_CHECKING:
    import torch
    from torch import nn


def weights_file(weights: str) -> Path | None:
    """The path that `weights` is, or None if it is a name."""
    is_path = "/" in weights or Path(weights).suffix in (".pth", ".pt", ".safetensors")
    return given_path(weights) if is_path else None


def check_backbone(backbone: str, weights: str, layers: list[str]) -> str | None:
    """What is wrong with these names, as one sentence, or None. Downloads nothing.

    Parameters
    ----------
    backbone, weights, layers : as in the configuration's `features`; no layers for a network that
        is used up to its last feature map.
    """
    try:
        if layers:
            _extractor(backbone, layers)
        else:
            split_network(untrained(backbone), 1)
        named = weights_file(weights) is None and (layers or weights != "none")
        if backbone != "gabor" and named:
            _weights_enum(backbone, weights)
    except FlawlineError as error:
        return str(error)
    return None


def build_backbone(backbone: str, weights: str, layers: list[str]) -> "nn.Module":
    """A network in evaluation mode that maps images to {layer: feature map}.

    Parameters
    ----------
    backbone : ``gabor``, or a name in ``torchvision.models``.
    weights : ``default``, a name in torchvision's weights enum, or a path to a state dict: with a
        ``/`` in it, or ending in .pth, .pt or .safetensors. Tensors of layers beyond the cut may
        be missing, no others.
    layers : names as in ``torchvision.models.feature_extraction``, shallow to deep.

    Raises
    ------
    FlawlineError
        If a name is unknown or a needed tensor is missing or of another shape.
    """
    network = _extractor(backbone, layers)
    if backbone != "gabor":
        _load(network, _state_dict(backbone, weights), weights)
    return network.eval().requires_grad_(False)


def untrained(backbone: str) -> "nn.Module":
    """A classification network of torchvision with random weights, in evaluation mode.

    Raises
    ------
    FlawlineError
        If torchvision has none of that name.
    """
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models)
    if backbone not in known:
        raise FlawlineError(
            f"backbone {backbone!r} is no torchvision classification model" + _near(backbone, known)
        )
    return torchvision.models.get_model(backbone, weights=None).eval()


def load_weights(network: "nn.Module", backbone: str, weights: str) -> None:
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


def _extractor(backbone: str, layers: list[str]) -> "nn.Module":
    if backbone == "gabor":
        from flawline.features.gabor import LAYERS, GaborBank

        _refuse_unknown(layers, list(LAYERS), backbone)
        return GaborBank(layers)
    import torchvision.models
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    known = torchvision.models.list_models(module=torchvision.models)
    if backbone not in known:
        raise FlawlineError(
            f"backbone {backbone!r} is neither 'gabor' nor a torchvision classification model"
            + _near(backbone, known)
        )
    network = torchvision.models.get_model(backbone, weights=None).eval()
    nodes = get_graph_node_names(network)[1]
    parents = {node.rsplit(".", depth)[0] for node in nodes for depth in range(node.count(".") + 1)}
    _refuse_unknown(layers, [*nodes, *sorted(parents)], backbone)
    return create_feature_extractor(network, return_nodes=layers)


def _weights_enum(backbone: str, weights: str) -> Any:
    from torchvision.models import get_model_weights

    enum = get_model_weights(backbone)
    try:
        return enum.DEFAULT if weights == "default" else enum[weights]
    except (KeyError, AttributeError):
        raise FlawlineError(
            f"weights {weights!r} are not known for {backbone}; give 'default', one of "
            f"{', '.join(entry.name for entry in enum)}, or the path of a state dict (with a / in "
            "it, or ending in .pth, .pt or .safetensors)"
        ) from None


def _state_dict(backbone: str, weights: str) -> "dict[str, torch.Tensor]":
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


def _read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    import torch
    from safetensors.torch import load_file

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
        # without the error's own text: torch's advises to load unsafe files all the same
        raise FlawlineError(
            f"{path}: not a readable state dict (damaged, or with other objects than tensors, "
            f"which could run code and are not loaded). {advice}"
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise FlawlineError(f"{path}: not a state dict, it holds other values. {advice}")
    return state


def _load(network: "nn.Module", state: "dict[str, torch.Tensor]", weights: str) -> None:
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
                f"{backbone} has no layer {layer!r}{_near(layer, known)} "
                f"(at the top level: {', '.join(top)})"
            )


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
