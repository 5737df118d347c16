"""Several detectors together."""

from typing import ClassVar

from pydantic import Field, field_validator

from flawline.options.base import Options


class Fusion(Options):
    """Several detectors as one: a part is defective if any of them is alarmed enough."""

    method: ClassVar[str] = "fusion"
    protocol: ClassVar[str] = "unsupervised"
    boundary: ClassVar[float | None] = None
    apart: ClassVar[str] = "no"
    unit: ClassVar[str] = (
        "distance of the most alarmed detector beyond its threshold; 1 is as far as that is above "
        "its median score of good parts"
    )

    detectors: list[str] = Field(min_length=2, description="Unsupervised detectors, each once.")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="The false-alarm rate of all of them together to stay under.",
    )

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, detectors: list[str]) -> list[str]:
        if len(set(detectors)) < len(detectors):
            raise ValueError(f"{detectors} has a detector twice; list each once")
        return detectors
