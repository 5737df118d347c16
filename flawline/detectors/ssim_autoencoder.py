"""A dilated, denoising autoencoder that is trained and scored by structural similarity.

Dilated convolutions (Yu, Koltun: Multi-Scale Context Aggregation by Dilated Convolutions, 2016) see
far around a position without losing resolution. The network learns to take pasted objects out of
images of goods; structural similarity as loss and score is after Bergmann, Loewe, Fauser,
Sattlegger, Steger: Improving Unsupervised Defect Segmentation by Applying Structural Similarity to
Autoencoders, 2019. Layers are ours.
"""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from flawline.detectors.reconstruction import Reconstruction, ReconstructionOptions
from flawline.detectors.ssim import gaussian_matrix, local_ssim

if TYPE_CHECKING:
    import torch

DILATIONS = (1, 2, 4, 8)


class SsimAutoencoderOptions(ReconstructionOptions):
    """Defaults are ours: the source states the idea, not its figures."""

    method: Literal["ssim_autoencoder"] = "ssim_autoencoder"
    synthetic: str | None = Field(
        None,
        description="Set of synthetic anomalies that the network learns to clean; without one it "
        "learns from clean images alone.",
    )
    latent: int = Field(4, ge=1, description="Channels of the narrowest layer, 1/8 of the size.")
    batch_size: int = Field(16, ge=2, description="Images a step.")
    learning_rate: float = Field(2e-3, gt=0)
    ssim_share: float = Field(
        0.84,
        gt=0,
        le=1,
        description="Weight of 1 - SSIM in the loss; the rest is the absolute error of colours "
        "between 0 and 1, without which training can settle on flat images.",
    )


def build_network(width: int, latent: int) -> "torch.nn.Sequential":
    """Halve three times, look around, squeeze into a few channels, and back."""
    from torch import nn

    class LookAround(nn.Module):
        """Adds what a dilated convolution sees. A plain stack may settle on flat images."""

        def __init__(self, channels: int, dilation: int) -> None:
            super().__init__()
            self.seen = nn.Sequential(
                nn.Conv2d(channels, channels, 3, 1, dilation, dilation, bias=False),
                nn.BatchNorm2d(channels),
            )
            self.rectify = nn.LeakyReLU(0.2)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            return self.rectify(x + self.seen(x))

    def rectified(layer: nn.Module, channels: int) -> list[nn.Module]:
        return [layer, nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]

    narrow, middle, wide = width, 2 * width, 4 * width
    return nn.Sequential(
        *rectified(nn.Conv2d(3, narrow, 4, 2, 1, bias=False), narrow),
        *rectified(nn.Conv2d(narrow, middle, 4, 2, 1, bias=False), middle),
        *rectified(nn.Conv2d(middle, wide, 4, 2, 1, bias=False), wide),
        *[LookAround(wide, dilation) for dilation in DILATIONS],
        nn.Conv2d(wide, latent, 1),
        *rectified(nn.Conv2d(latent, wide, 3, 1, 1, bias=False), wide),
        LookAround(wide, 1),
        *rectified(nn.ConvTranspose2d(wide, middle, 4, 2, 1, bias=False), middle),
        *rectified(nn.ConvTranspose2d(middle, narrow, 4, 2, 1, bias=False), narrow),
        nn.ConvTranspose2d(narrow, 3, 4, 2, 1),
    )


class SsimAutoencoder(Reconstruction):
    """Anomaly score = 1 - structural similarity of the image and what the network makes of it."""

    Options = SsimAutoencoderOptions
    unit = "1 - structural similarity (SSIM) to the rebuilt image"
    options: SsimAutoencoderOptions
    window: "torch.Tensor"  # float32 (S, S)

    def build(self) -> "torch.nn.Module":
        """The network, on the device."""
        self.window = gaussian_matrix(self.options.network_size).to(self.device)
        return build_network(self.options.width, self.options.latent).to(self.device)

    def errors(self, target: "torch.Tensor", rebuilt: "torch.Tensor") -> "torch.Tensor":
        """1 - local structural similarity, mean over the channels."""
        return 1 - local_ssim((target + 1) / 2, (rebuilt + 1) / 2, self.window).mean(1)

    def losses(self, target: "torch.Tensor", rebuilt: "torch.Tensor") -> "torch.Tensor":
        """The errors, mixed with absolute errors of colours, which SSIM hardly sees."""
        share = self.options.ssim_share
        absolute = (rebuilt - target).abs().mean(1) / 2
        return share * self.errors(target, rebuilt) + (1 - share) * absolute
