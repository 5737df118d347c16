"""Options that image autoencoders share."""

from typing import Literal

from pydantic import Field

from flawline.options.method import MapUse
from flawline.options.training import Budget


class ReconstructionOptions(MapUse, Budget):
    """Options of detectors that rebuild images."""

    network_size: Literal[32, 64, 128, 256, 512] = Field(
        256, description="Side at which the network sees images, pixels; they are resized to it."
    )
    width: int = Field(32, ge=4, description="Channels of the first layer; others grow with it.")
    flip: bool = Field(True, description="Mirror a random half of the images of every step.")
    epochs: int = Field(300, ge=1)
    batch_size: int = Field(70, ge=2, description="Images per step.")
    learning_rate: float = Field(1e-3, gt=0)
    largest: float = Field(1.0, ge=0, le=1)
