"""The number of good images that a detector needs."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from flawline.options.base import Options

Count = Annotated[int, Field(ge=1)] | Literal["all"]


class LearningCurve(Options):
    """Trainings on a few good images, to see how many are needed."""

    train_images: list[Count] = Field(
        [],
        description="Numbers of good images to train each unsupervised detector on, such as "
        "[1, 2, 4, 8, 16, all]; none for no curve. No other metric uses these trainings.",
    )
    draws: int = Field(5, ge=1, description="How often the images are drawn, by seeds 0, 1, ...")

    @field_validator("train_images")
    @classmethod
    def _each_once(cls, counts: list[Count]) -> list[Count]:
        if len(set(counts)) < len(counts):
            raise ValueError(f"{counts} has a number twice; list each once")
        return sorted(counts, key=lambda count: (count == "all", count))
