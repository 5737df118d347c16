"""Boxes around regions of the anomaly maps."""

from pydantic import Field

from flawline.options.base import Options


class Boxes(Options):
    """Boxes around regions that stand out in the anomaly maps. All defaults are our choice."""

    quantile: float = Field(
        0.95,
        gt=0,
        le=1,
        description="Fraction of new good images whose map stays below level 1 everywhere.",
    )
    level: float = Field(
        1.0, gt=0, description="Pixels above this are boxed. 0 is the median pixel of good images."
    )
    min_area: int = Field(
        16, ge=1, description="Least area of a boxed region, pixels of the prepared image."
    )
