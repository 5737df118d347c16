"""Options of detectors that train in steps."""

from typing import Literal

from pydantic import Field

from flawline.options.base import Options


class Budget(Options):
    """Options of detectors that train in steps."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of training; `auto` takes bfloat16 where the device has units for "
        "it.",
    )
    validation_fraction: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Fraction of training images kept out for a validation loss, which shows "
        "whether training went on too long; 0 for none.",
    )
    max_steps: int | None = Field(
        None, ge=1, description="Stop after this many optimiser steps, whatever `epochs` says."
    )
    max_seconds: float | None = Field(
        None, gt=0, description="Stop after this many seconds. Results then depend on the machine."
    )
