"""Options of `featcae`."""

from typing import ClassVar, Literal

from pydantic import Field

from flawline.options.method import FeatureUse, MapUse
from flawline.options.training import Budget


class FeatCAEOptions(FeatureUse, MapUse, Budget):
    """Defaults are the published ones, except for standardised features and random positions."""

    implementation: ClassVar[str] = "flawline.detectors.featcae:FeatCAE"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    unit: ClassVar[str] = "mean squared error of the rebuilt features"

    method: Literal["featcae"] = "featcae"
    latent: int = Field(100, ge=1, description="Channels of the narrowest layer.")
    epochs: int = Field(50, ge=1)
    positions_per_epoch: int = Field(
        65_536, ge=256, description="Positions drawn for each epoch, at most all there are."
    )
    batch_size: int = Field(1024, ge=2, description="Positions per step.")
    learning_rate: float = Field(1e-3, gt=0)
    standardize: bool = Field(True, description="Mean 0 and variance 1 for every channel.")
    score_from: Literal["map", "cells"] = "cells"
    largest: float = Field(0.01, ge=0, le=1)
