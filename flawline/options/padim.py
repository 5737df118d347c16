"""Options of `padim`."""

from typing import ClassVar, Literal

from pydantic import Field

from flawline.options.method import FeatureUse, MapUse


class PadimOptions(FeatureUse, MapUse):
    """Defaults are the paper's for ResNet18, but for what `shrinkage` is relative to."""

    implementation: ClassVar[str] = "flawline.detectors.padim:Padim"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    unit: ClassVar[str] = "Mahalanobis distance from the good patches of the same place"

    method: Literal["padim"] = "padim"
    channels: int = Field(
        100,
        ge=1,
        description="Number of the features' channels, drawn at random, that are looked at; all, "
        "if there are fewer. The model grows with its square.",
    )
    shrinkage: float = Field(
        0.01,
        gt=0,
        description="Multiple of the mean variance of all places that is added to every variance.",
    )
    calm_border: bool = Field(
        False,
        description="Scale the cells near the border so that good images reach no higher there "
        "than inside. Each place has its own scale here already.",
    )
