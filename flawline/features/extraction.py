"""From prepared images to one array of patch features per subset."""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from flawline.data.geometry import input_size
from flawline.devices import autocast, images_at_once, inference_precision, to_tensor
from flawline.errors import FlawlineError
from flawline.features.backbones import IMAGENET, Levels, build_backbone, levels_of
from flawline.features.resizing import resized, resizing_matrices
from flawline.features.timm_backbones import TimmBackbone
from flawline.features.winograd import use_winograd
from flawline.files import new_array, write_json
from flawline.logs import hide_bar
from flawline.options.weights import weights_file
from flawline.provenance import file_hash, versions

HALF_MAX = 65_504.0


def standardized(
    pixels: torch.Tensor, white: float = 1.0, levels: Levels = IMAGENET
) -> torch.Tensor:
    """Apply the mean and standard deviation of a network's training: float32 (N, 3, H, W), RGB.

    Parameters
    ----------
    white : the value of white in `pixels`.
    levels : mean and standard deviation, where white is 1.
    """
    mean, std = (white * torch.tensor(one, device=pixels.device)[:, None, None] for one in levels)
    return (pixels - mean) / std


def patch_features(
    network: nn.Module,
    images: np.ndarray,
    *,
    pool: int,
    normalize: bool,
    precision: str,
    scale: float = 1.0,
) -> torch.Tensor:
    """Compute the concatenated feature maps of a batch of images.

    Every map is averaged over `pool` x `pool` positions, resized (bilinear) to the largest, and
    all are concatenated per position (PatchCore, section 3.1).

    The average includes the zeros around the map, as in the reference implementation. This
    shortens features at the border, and with them their distances. Otherwise these would be the
    largest of most good images, because the network pads with zeros there and few training
    patches look alike. docs/results.md has measurements.

    Parameters
    ----------
    network : maps float32 (N, 3, H, W) to {layer: (N, C_l, H_l, W_l)}.
    images : uint8 (N, H, W, 3), RGB.
    scale : of the network's input, relative to the images.

    Returns
    -------
    float16 (N, H, W, C), on the network's device.

    Examples
    --------
    >>> import numpy as np
    >>> from flawline import build_backbone, patch_features
    >>> network = build_backbone("gabor", "none", ["fine"], (32, 32))
    >>> images = np.zeros((2, 32, 32, 3), np.uint8)
    >>> maps = patch_features(network, images, pool=3, normalize=False, precision="float32")
    >>> maps.dtype, len(maps)
    (torch.float16, 2)
    """
    device = next(chain(network.parameters(), network.buffers())).device
    pixels = to_tensor(images, device).permute(0, 3, 1, 2)
    pixels = pixels.float().div_(255).contiguous(memory_format=torch.channels_last)
    if normalize:
        pixels = standardized(pixels, levels=levels_of(network))
    if (size := input_size(images.shape[1:3], scale)) != images.shape[1:3]:
        pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
    with torch.inference_mode(), autocast(device, precision):
        maps = [feature_map.float() for feature_map in network(pixels).values()]
        if any(feature_map.ndim != 4 for feature_map in maps):
            raise FlawlineError(
                "features: every layer must give a map (N, C, H, W); found shapes "
                f"{[tuple(feature_map.shape) for feature_map in maps]}. Choose convolutional "
                "layers."
            )
        maps = [functional.avg_pool2d(feature_map, pool, 1, pool // 2) for feature_map in maps]
        size = max((feature_map.shape[2:] for feature_map in maps), key=lambda shape: shape[0])
        maps = [
            feature_map
            if feature_map.shape[2:] == size
            else functional.interpolate(feature_map, size, mode="bilinear", align_corners=False)
            for feature_map in maps
        ]
        stacked = torch.cat(maps, dim=1).permute(0, 2, 3, 1)
        return stacked.clamp_(-HALF_MAX, HALF_MAX).half()


def made_fast(network: nn.Module, device: torch.device, precision: str) -> nn.Module:
    """Move a frozen network to where it runs, in the form that is fastest there."""
    network = network.to(device).to(memory_format=torch.channels_last)
    return use_winograd(network) if (device.type, precision) == ("cpu", "float32") else network


class PatchFeatures(nn.Module):
    """`patch_features` of several sets as one exportable module.

    Images float32 (N, 3, H, W), grey levels, to float32 (N, C, h, w) for each set, of half
    precision.
    """

    def __init__(
        self, networks: Sequence[tuple[nn.Module, Mapping[str, Any]]], shape: Sequence[int]
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList([network for network, _ in networks])
        self.settings = [
            (about["pool"], about["normalize"], input_size((shape[0], shape[1]), about["scale"]))
            for _, about in networks
        ]

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the features of every set."""
        sets = []
        for network, (pool, normalize, size) in zip(self.networks, self.settings, strict=True):
            pixels = images / 255
            if normalize:
                pixels = standardized(pixels, levels=levels_of(network))
            if pixels.shape[2:] != size:
                pixels = resized(pixels, *resizing_matrices(pixels.shape[2:], size))
            maps = [
                functional.avg_pool2d(one, pool, 1, pool // 2) if pool > 1 else one
                for one in network(pixels).values()
            ]
            grid = max((one.shape[2:] for one in maps), key=lambda sides: sides[0])
            maps = [
                one if one.shape[2:] == grid else functional.interpolate(one, grid, mode="bilinear")
                for one in maps
            ]
            sets.append(torch.cat(maps, 1).clamp(-HALF_MAX, HALF_MAX).half().float())
        return sets


def extract(
    images: np.ndarray,
    path: Path | str,
    *,
    backbone: str,
    weights: str,
    layers: list[str],
    pool: int,
    normalize: bool,
    precision: str,
    batch_size: int,
    device: torch.device,
    images_hash: str,
    scale: float = 1.0,
) -> None:
    """Write the features of all images to `path` (.npy) and their description beside it (.json).

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB; may be a memory map, which is read batch by batch.
    path : float16 (N, H, W, C) is written here.
    """
    seen = input_size(images.shape[1:3], scale)
    # the bank's filter responses span more orders of magnitude than bfloat16 resolves
    precision = "float32" if backbone == "gabor" else inference_precision(device.type, precision)
    network = made_fast(build_backbone(backbone, weights, layers, seen), device, precision)
    settings: dict[str, Any] = {"pool": pool, "normalize": normalize, "precision": precision}
    settings["scale"] = scale
    batch = images_at_once(device.type, batch_size)
    shape = patch_features(network, images[:1], **settings).shape[1:]
    with (
        new_array(path, (len(images), *shape), np.float16) as features,
        tqdm(total=len(images), desc="features", unit="image", disable=hide_bar()) as bar,
    ):
        for start in range(0, len(images), batch):
            part = slice(start, start + batch)
            features[part] = patch_features(network, images[part], **settings).cpu().numpy()
            bar.update(len(features[part]))
    about = {
        "backbone": backbone,
        "weights": file.name if (file := weights_file(weights)) else weights,
        "weights_sha256": _weights_hash(network),
        "weights_licence": network.licence if isinstance(network, TimmBackbone) else None,
        "layers": layers,
        "input_size": list(input_size(images.shape[1:3], scale)),
        "images_sha256": images_hash,
        "dtype": "float16",
        "shape": [len(images), *shape],
        "device": device.type,
        "sha256": file_hash(path),
        "versions": versions(),
        **settings,
    }
    write_json(Path(path).with_suffix(".json"), about)


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
