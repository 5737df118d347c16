"""Options of `ssim_autoencoder`."""

from typing import ClassVar, Literal

from pydantic import Field

from flawline.options.reconstruction import ReconstructionOptions


class SsimAutoencoderOptions(ReconstructionOptions):
    """Defaults are ours: the source states the idea without numbers."""

    implementation: ClassVar[str] = "flawline.detectors.ssim_autoencoder:SsimAutoencoder"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    unit: ClassVar[str] = "1 - structural similarity (SSIM) to the rebuilt image"
    explains: ClassVar[bool] = True

    method: Literal["ssim_autoencoder"] = "ssim_autoencoder"
    synthetic: str | None = Field(
        None,
        description="Set of synthetic anomalies that the network learns to clean; without one it "
        "learns from clean images alone.",
    )
    reduction: Literal[1, 2, 4, 8] = Field(
        8,
        description="Factor by which the maps of the dilated convolutions are smaller than the "
        "image; 1 loses no resolution, and takes about eight times as long as 8.",
    )
    latent: int = Field(
        4, ge=1, description="Channels of the narrowest layer, of the size that `reduction` leaves."
    )
    batch_size: int = Field(16, ge=2, description="Images per step.")
    learning_rate: float = Field(2e-3, gt=0)
    ssim_share: float = Field(
        0.84,
        gt=0,
        le=1,
        description="Weight of 1 - SSIM in the loss; the rest is the absolute error of colours "
        "between 0 and 1, without which training can settle on flat images.",
    )

    @property
    def synthetic_set(self) -> str | None:
        """Name of the set of synthetic anomalies that it learns from."""
        return self.synthetic
