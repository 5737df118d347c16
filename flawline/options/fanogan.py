"""Options of `fanogan`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flawline.options.method import MapUse
from flawline.options.training import Budget


class FAnoGANOptions(MapUse, Budget):
    """Defaults are a published schedule and optimiser for MVTec AD, with the paper's networks.

    The paper trains the encoder by RMSProp with a rate of 5e-5; that run by Adam, as the others. It
    has 1,500 epochs for the GAN and 200 for the encoder; in steps, with the 242 training images
    that a category has on average, 12,000 and 1,600.
    """

    implementation: ClassVar[str] = "flawline.detectors.fanogan:FAnoGAN"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    unit: ClassVar[str] = "residual of the rebuilt image and of its features"
    explains: ClassVar[bool] = True

    method: Literal["fanogan"] = "fanogan"
    latent: int = Field(100, ge=1, description="Random numbers that an image is generated from.")
    width: int = Field(64, ge=1, description="Channels at full resolution; up to 8 times deeper.")
    encoder_output: Literal["tanh", "linear"] = Field(
        "tanh",
        description="`tanh` keeps codes between -1 and 1 (paper), where the generator has learned; "
        "`linear` lets them leave that range.",
    )
    gan_steps: int = Field(12_000, ge=1, description="Critic steps of the first stage.")
    encoder_steps: int = Field(1_600, ge=1, description="Steps of the second stage.")
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(2e-4, gt=0, description="Adam's, of all three networks.")
    generator_every: int = Field(5, ge=1, description="Critic steps for each generator step.")
    gradient_penalty: float = Field(10.0, ge=0, description="Its weight, lambda of WGAN-GP.")
    kappa: float = Field(1.0, ge=0, description="Weight of the feature residual.")
    flip: bool = Field(True, description="Mirror half of the training images.")
    score_from: Literal["cells"] = Field(
        "cells", description="The squared residuals, of which the map shows none."
    )
    largest: float = Field(1.0, ge=0, le=1)
    smoothing: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.object_mask == "memory":
            raise ValueError(
                "object_mask: fanogan generates whole images and cannot learn from the object "
                "alone; use `score` or `none`"
            )
        if self.gan_steps < self.generator_every:
            raise ValueError(
                f"gan_steps: {self.gan_steps} critic steps, and the generator learns at every "
                f"{self.generator_every}th (generator_every); it would never learn"
            )
        return self
