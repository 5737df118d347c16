"""How photographs become arrays of one shape."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flawline.options.base import Options
from flawline.options.messages import as_yaml
from flawline.options.sizes import MULTIPLE

Side = Annotated[int, Field(ge=32, le=4096)]


class Tiles(Options):
    """Overlapping tiles of the photographs at full resolution, for small defects in large ones."""

    size: int = Field(512, ge=64, le=4096, description="Side of a tile, pixels.")
    overlap: int = Field(64, ge=0, description="Least number of pixels that neighbours share.")

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        for key, value in (("size", self.size), ("overlap", self.overlap)):
            if value % MULTIPLE:
                raise ValueError(
                    f"{key}: must be a multiple of {MULTIPLE}, so that the cells of neighbouring "
                    f"tiles fall on each other; found {value}"
                )
        if 2 * self.overlap > self.size:
            raise ValueError(
                f"overlap: must be at most half of size ({self.size}); found {self.overlap}"
            )
        return self


class Prepare(Options):
    """How photographs become arrays of one shape."""

    size: Side | tuple[Side, Side] | Literal["auto"] = Field(
        "auto",
        description="Side of a square or [height, width], pixels; `auto` takes the training "
        "photographs' median shape at the area of a 256 px square, in multiples of 32.",
    )
    resize: Literal["stretch", "letterbox", "center_crop"] = Field(
        "stretch",
        description="Photographs of another shape: `stretch` ignores their proportions; "
        "`letterbox` adds bars, which do not count; `center_crop` takes their middle.",
    )
    tiles: Tiles | None = Field(
        None,
        description="Networks see tiles of the photographs at full resolution, not the image of "
        "`size`, which is what is shown and measured.",
    )

    @field_validator("size", mode="before")
    @classmethod
    def _shape(cls, given: Any) -> Any:
        sides = given if isinstance(given, list | tuple) else [given]
        whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
        number = whole and all(32 <= side <= 4096 for side in sides)
        if given != "auto" and not (number and (len(sides) == 2 or sides == [given])):
            raise ValueError(
                "must be a number of pixels from 32 to 4096, [height, width], or auto; found "
                f"{as_yaml(given)}"
            )
        return given
