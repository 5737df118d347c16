"""Options of `subspace`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flawline.options.method import FeatureUse, MapUse


class SubspaceOptions(FeatureUse, MapUse):
    """What is not the papers' was measured in docs/results.md."""

    implementation: ClassVar[str] = "flawline.detectors.subspace:Subspace"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    unit: ClassVar[str] = "distance to the subspace of good patches"

    method: Literal["subspace"] = "subspace"
    distance: Literal["residual", "mahalanobis"] = Field(
        "residual",
        description="`residual` is the length of what the leading principal components leave "
        "unexplained. `mahalanobis` weighs every direction by how little good patches vary in it.",
    )
    variance: float = Field(
        0.95, gt=0, lt=1, description="Share of the variance that `residual` counts as explained."
    )
    shrinkage: float = Field(
        0.07,
        gt=0,
        description="Multiple of the mean variance that `mahalanobis` adds to every variance.",
    )
    score_from: Literal["map", "cells"] = "cells"
    largest: float = Field(0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _of_the_other_distance(self) -> Self:
        other = "shrinkage" if self.distance == "residual" else "variance"
        if getattr(self, other) != type(self).model_fields[other].default:
            raise ValueError(
                f"{other}: `distance: {self.distance}` does not have it; leave `{other}` out"
            )
        return self
