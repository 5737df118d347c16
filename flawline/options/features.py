"""Sets of frozen features."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from flawline.options.base import Options
from flawline.options.weights import PACKAGE, SUFFIXES, weights_file


def _preset_has_layers(schema: dict[str, Any]) -> None:
    """Let editors accept an entry without `layers`, which a preset's has."""
    del schema["required"]


class Features(Options):
    """One set of frozen features."""

    model_config = ConfigDict(json_schema_extra=_preset_has_layers)

    backbone: str = Field(
        "resnet18",
        description="`gabor`, a torchvision classification model, or `timm/` and a model of timm.",
    )
    weights: str = Field(
        "default",
        description="`default`, a name in torchvision's weights enum, a path to a state dict, or "
        "`package/` and a Python package that contains one.",
    )
    layers: list[str] = Field(
        min_length=1, description="The network's layer names, shallow to deep."
    )
    pool: int = Field(3, ge=1, description="Side of the average over neighbouring positions.")
    scale: float = Field(
        1.0,
        ge=0.1,
        le=8,
        description="Size of the network's input relative to the prepared image. Sets of several "
        "scales see defects of several sizes.",
    )
    normalize: bool = Field(
        True,
        description="Apply mean and standard deviation of the network's training images: those of "
        "ImageNet for torchvision, its own for a model of timm.",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto` takes bfloat16 where the device has units for it."
    )
    batch_size: int = Field(0, ge=0, description="Images per batch; 0: what suits the device.")

    @field_validator("pool")
    @classmethod
    def _odd(cls, pool: int) -> int:
        if pool % 2 == 0:
            raise ValueError(f"must be odd, so that it has a centre; found {pool}")
        return pool

    @model_validator(mode="after")
    def _gabor_is_exact(self) -> Self:
        if self.backbone == "gabor" and self.precision == "bfloat16":
            raise ValueError(
                "precision: gabor is always computed in float32; leave `precision` out"
            )
        return self

    @field_validator("weights")
    @classmethod
    def _installed(cls, weights: str) -> str:
        file = weights_file(weights)
        if weights.startswith(PACKAGE) and not (file and file.is_file()):
            name = weights.removeprefix(PACKAGE)
            raise ValueError(
                f"no installed Python package {name!r} has one file of weights ("
                f"{', '.join(SUFFIXES)}); install it, or give another source"
            )
        return weights

    @property
    def weights_file(self) -> Path | None:
        """The weights' path, if they are a local file."""
        return weights_file(self.weights)
