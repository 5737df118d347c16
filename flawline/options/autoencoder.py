"""Options of `autoencoder`."""

from typing import ClassVar, Literal

from pydantic import Field

from flawline.options.reconstruction import ReconstructionOptions


class AutoencoderOptions(ReconstructionOptions):
    """Defaults are the source's, except for `width`, which is ours."""

    implementation: ClassVar[str] = "flawline.detectors.autoencoder:Autoencoder"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    unit: ClassVar[str] = "mean squared error of the rebuilt image"
    explains: ClassVar[bool] = True

    method: Literal["autoencoder"] = "autoencoder"
    latent: int = Field(1024, ge=1, description="Length of the latent vector.")
