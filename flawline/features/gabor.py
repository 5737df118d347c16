"""A backbone that needs no weights: local energy of a multi-scale Gabor filter bank.

Filters as in Bovik, Clark, Geisler: Multichannel Texture Analysis Using Localized Spatial
Filters, 1990: pairs in quadrature, so that their energy does not depend on phase. Scales are
levels of an image pyramid, one octave apart. Colour comes in as local means of opponent channels.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LAYERS = {"fine": 1, "medium": 2, "coarse": 4}  # factor by which the image is reduced
WAVELENGTH = 4.0  # pixels of the pyramid's level
ORIENTATIONS = 6
STRIDE = 8  # pixels of the image
FAINTEST = 1e-4  # least amplitude; tools for ONNX replace smaller constants by zero
# luminance, red-green, blue-yellow; in most products colour varies less than light, hence its gain
OPPONENT = ((0.299, 0.587, 0.114), (2.0, -2.0, 0.0), (1.0, 1.0, -2.0))


class GaborBank(nn.Module):
    """RGB images float32 (N, 3, S, S) to {layer: float32 (N, 9, S/8, S/8)}.

    The channels of a layer: amplitude in six orientations, then the local means of luminance,
    red-green and blue-yellow, all at the layer's scale. Amplitudes are square-rooted, because
    strong edges would drown faint texture otherwise.
    """

    opponent: torch.Tensor
    filters: torch.Tensor
    blur: torch.Tensor

    def __init__(self, layers: list[str]) -> None:
        super().__init__()
        self.layers = layers
        self.register_buffer("opponent", torch.tensor(OPPONENT)[:, :, None, None])
        self.register_buffer("filters", _quadrature_pairs())
        self.register_buffer("blur", _gaussian(WAVELENGTH / 2))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute the features of every layer, all on the same grid."""
        channels = functional.conv2d(images, self.opponent)
        return {name: self._layer(channels, LAYERS[name]) for name in self.layers}

    def _layer(self, channels: torch.Tensor, reduction: int) -> torch.Tensor:
        level = functional.avg_pool2d(channels, reduction)
        even, odd = _same(level[:, :1], self.filters).chunk(2, dim=1)
        amplitude = torch.sqrt(even.square() + odd.square())
        stack = torch.cat([torch.sqrt(amplitude + FAINTEST), level], dim=1)
        count = stack.shape[1]
        column = self.blur[None, None, :, None].expand(count, 1, -1, 1)
        smooth = _same(_same(stack, column, count), column.transpose(2, 3), count)
        return functional.avg_pool2d(smooth, STRIDE // reduction)


def _same(images: torch.Tensor, kernels: torch.Tensor, groups: int = 1) -> torch.Tensor:
    height, width = kernels.shape[2] // 2, kernels.shape[3] // 2
    padded = functional.pad(images, (width, width, height, height), mode="reflect")
    return functional.conv2d(padded, kernels, groups=groups)


def _gaussian(sigma: float) -> torch.Tensor:
    radius = int(np.ceil(2 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-x.square() / (2 * sigma**2))
    return kernel / kernel.sum()


def _quadrature_pairs() -> torch.Tensor:
    sigma = 0.56 * WAVELENGTH  # one octave of bandwidth
    radius = int(np.ceil(2 * sigma))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    envelope = np.exp(-(x**2 + y**2) / (2 * sigma**2))
    even, odd = [], []
    for angle in np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS:
        phase = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / WAVELENGTH
        wave = envelope * np.cos(phase)
        even.append(wave - envelope * wave.sum() / envelope.sum())  # blind to brightness
        odd.append(envelope * np.sin(phase))
    kernels = np.stack(even + odd) / envelope.sum()
    return torch.from_numpy(kernels[:, None].astype(np.float32))
