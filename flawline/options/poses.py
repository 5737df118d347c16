"""Further poses of training images."""

from typing import Self

from pydantic import Field, model_validator

from flawline.options.base import Options


class Poses(Options):
    """Which further poses a memory knows each training image in."""

    flips: bool = Field(True, description="Mirrored left to right and top to bottom.")
    quarter_turns: bool = Field(True, description="Turned by 90, 180 and 270 degrees.")
    rotations: int = Field(
        0,
        ge=0,
        le=64,
        description="Copies turned by other angles: an object so that it stays in the picture, "
        "and so that the axes of all copies point everywhere; a texture by any angle.",
    )
    seed: int = Field(0, ge=0, description="Of the angles.")

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not (self.flips or self.quarter_turns or self.rotations):
            raise ValueError("has no pose: set flips, quarter_turns or rotations")
        if self.seed and not self.rotations:
            raise ValueError(
                "seed: only the angles of `rotations` are drawn at random; leave it out"
            )
        return self

    @property
    def count(self) -> int:
        """The number of poses of each image, besides its own."""
        return len(self.square) + self.rotations

    @property
    def square(self) -> list[tuple[int, bool]]:
        """Quarter turns, and whether the image is mirrored first, without the image itself."""
        turns = range(4) if self.quarter_turns else (0, 2) if self.flips else (0,)
        found = [(turn, mirrored) for mirrored in (False, True) for turn in turns]
        return [one for one in found if one != (0, False) and (self.flips or not one[1])]
