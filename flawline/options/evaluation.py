"""Options of the intervals."""

from pydantic import Field

from flawline.options.base import Options


class Evaluation(Options):
    """How the uncertainty of metrics is measured."""

    resamples: int = Field(1000, ge=100, le=100_000, description="Bootstrap resamples.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of every interval.")
