"""Options of detectors that train in steps."""

from typing import Literal

from pydantic import Field

from flawline.options.base import Options


class Budget(Options):
    """Options of detectors that train in steps."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the trained networks; `auto` takes bfloat16 where the device has units for "
        "it.",
    )
    validation_fraction: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Part of the training images that is not trained on, but for a loss that shows "
        "whether training went on for too long; 0 for none.",
    )
    max_steps: int | None = Field(
        None, ge=1, description="Stop after so many optimiser steps, whatever the epochs say."
    )
    max_seconds: float | None = Field(
        None, gt=0, description="Stop after so many seconds. Results then depend on the machine."
    )
