"""How object masks are found."""

from typing import Literal, Self

from pydantic import Field, model_validator

from flawline.options.base import Options


class ObjectMaskOptions(Options):
    """How object masks are found."""

    method: Literal["auto", "mean_difference", "border_color", "whole"] = Field(
        "auto", description="`auto` decides from the training images and records why."
    )
    smoothing: float = Field(
        1.0, ge=0, description="Sigma of the Gaussian before comparing, pixels at 256 px."
    )
    opening: int = Field(3, ge=0, description="Narrower specks are removed, pixels at 256 px.")
    closing: int = Field(5, ge=0, description="Narrower gaps are closed, pixels at 256 px.")

    @model_validator(mode="after")
    def _finds_something(self) -> Self:
        if self.method == "whole" and self != ObjectMaskOptions.model_construct(method="whole"):
            raise ValueError(
                "method: `whole` looks for no object, so `smoothing`, `opening` and `closing` do "
                "nothing; leave them out, or use another method"
            )
        return self
