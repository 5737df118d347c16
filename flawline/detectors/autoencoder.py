"""A plain convolutional autoencoder.

An image is squeezed through one narrow vector, learned from good images alone, so defects are
rebuilt badly. Size, flips, scaling to [-1, 1], latent vector, optimiser, batch size, epochs and
error are those of the implementation that docs/methods.md describes. It does not state its layers:
they are ours, laid out as in DCGAN (Radford, Metz, Chintala, 2016).
"""

import math
from itertools import pairwise

import torch
from torch import nn

from flawline.detectors.reconstruction import Reconstruction
from flawline.options.autoencoder import AutoencoderOptions

GRID = 4  # side of the last feature map


def build_network(size: int, width: int, latent: int) -> torch.nn.Sequential:
    """Build layers that halve to a 4x4 grid, widening up to 8 times `width`; a vector; and back."""
    halvings = int(math.log2(size // GRID))
    widths = [width * min(2**level, 8) for level in range(halvings)]
    layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide)]
        layers += [nn.LeakyReLU(0.2)]
    grid = (widths[-1], GRID, GRID)
    layers += [nn.Flatten(), nn.Linear(math.prod(grid), latent)]
    layers += [nn.Linear(latent, math.prod(grid)), nn.Unflatten(1, grid), nn.ReLU()]
    for wide, narrow in pairwise(widths[::-1]):
        layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), nn.BatchNorm2d(narrow)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 2, 1))


class Autoencoder(Reconstruction):
    """Anomaly score of a pixel = squared error of its colour, mean over the channels.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, Autoencoder
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), images=images)
    >>> options = Autoencoder.Options(network_size=32, width=4, latent=8, epochs=1, batch_size=4)
    >>> detector = Autoencoder(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = AutoencoderOptions
    options: AutoencoderOptions

    def build(self) -> torch.nn.Module:
        """Build the network on the device."""
        chosen = self.options
        return build_network(chosen.network_size, chosen.width, chosen.latent).to(self.device)

    def errors(self, target: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """Return the squared error; colours lie in [-1, 1]."""
        return (rebuilt - target).square().mean(1)
