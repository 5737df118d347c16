"""A dilated, denoising autoencoder that is trained and scored by structural similarity.

Dilated convolutions (Yu, Koltun: Multi-Scale Context Aggregation by Dilated Convolutions, 2016) see
far around a position without losing resolution. For speed, they work on maps smaller by a factor
`reduction`. The network learns to remove pasted objects from good images. Structural similarity as
loss and score is after Bergmann, Loewe, Fauser, Sattlegger, Steger: Improving Unsupervised Defect
Segmentation by Applying Structural Similarity to Autoencoders, 2019. Layers are ours.
"""

from itertools import pairwise

import torch
from torch import nn

from flawline.detectors.reconstruction import Reconstruction
from flawline.learning.ssim import gaussian_matrix, local_ssim
from flawline.options.ssim_autoencoder import SsimAutoencoderOptions

FARTHEST = 64  # pixels of what the network sees that the last dilation spans


class LookAround(nn.Module):
    """Adds the output of a dilated convolution. A plain stack may settle on flat images."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.seen = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.rectify = nn.LeakyReLU(0.2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Map float32 (N, C, h, w) to the same shape."""
        return self.rectify(maps + self.seen(maps))


def rectified(layer: nn.Module, channels: int) -> list[nn.Module]:
    """Return a layer with normalisation and rectification."""
    return [layer, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]


def build_network(width: int, latent: int, reduction: int = 8) -> torch.nn.Sequential:
    """Build layers that halve (three times for a reduction by 8), look around, squeeze, and back.

    Dilations double up to 64 pixels of the input, so that all reductions see equally far.
    """
    halvings = reduction.bit_length() - 1
    widths = [width * 2**level for level in range(max(halvings, 1))]
    wide = widths[-1]
    # stride 2, or 1 if nothing is halved
    halve, double, kernel = (
        (nn.Conv2d, nn.ConvTranspose2d, (4, 2, 1))
        if halvings
        else (nn.Conv2d, nn.Conv2d, (3, 1, 1))
    )
    layers: list[nn.Module] = []
    for given, made in pairwise([3, *widths]):
        layers += rectified(halve(given, made, *kernel, bias=False), made)
    layers += [LookAround(wide, 2**n) for n in range((FARTHEST // reduction).bit_length())]
    layers += [nn.Conv2d(wide, latent, 1)]
    layers += rectified(nn.Conv2d(latent, wide, 3, 1, 1, bias=False), wide)
    layers += [LookAround(wide, 1)]
    for given, made in pairwise(widths[::-1]):
        layers += rectified(double(given, made, *kernel, bias=False), made)
    return nn.Sequential(*layers, double(width, 3, *kernel))


class SsimAutoencoder(Reconstruction):
    """Anomaly score = 1 - structural similarity of the image and its reconstruction.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, SsimAutoencoder
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), images=images)
    >>> options = SsimAutoencoder.Options(network_size=32, width=4, epochs=1, batch_size=4)
    >>> detector = SsimAutoencoder(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = SsimAutoencoderOptions
    options: SsimAutoencoderOptions
    window: torch.Tensor  # float32 (S, S)

    def build(self) -> torch.nn.Module:
        """Build the network on the device."""
        self.window = gaussian_matrix(self.options.network_size).to(self.device)
        chosen = self.options
        return build_network(chosen.width, chosen.latent, chosen.reduction).to(self.device)

    def errors(self, target: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """Return 1 - local structural similarity, averaged over the channels."""
        return 1 - local_ssim((target + 1) / 2, (rebuilt + 1) / 2, self.window).mean(1)

    def losses(self, target: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """Mix the errors with absolute errors of colours, which SSIM hardly sees."""
        share = self.options.ssim_share
        absolute = (rebuilt - target).abs().mean(1) / 2
        return share * self.errors(target, rebuilt) + (1 - share) * absolute
