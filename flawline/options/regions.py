"""Regions of the photographs that are ignored."""

from pathlib import Path

from pydantic import Field, field_validator

from flawline.files import given_path
from flawline.options.base import Options

Polygon = list[tuple[float, float]]


class Regions(Options):
    """Regions of the photographs that are not learned, not scored and not counted."""

    mask: str | None = Field(
        None,
        description="A picture, not black where photographs are ignored; it is stretched to their "
        "size.",
    )
    polygons: list[Polygon] = Field(
        [], description="Corners [x, y] of ignored regions, pixels of the photographs."
    )

    @field_validator("polygons")
    @classmethod
    def _closed(cls, polygons: list[Polygon]) -> list[Polygon]:
        for polygon in polygons:
            if len(polygon) < 3:
                raise ValueError(
                    f"a polygon needs three corners [x, y] or more; found {len(polygon)}"
                )
            if min(map(min, polygon)) < 0:
                raise ValueError("corners are pixels from the photograph's top left: 0 or more")
        return polygons

    def __bool__(self) -> bool:
        return self.mask is not None or bool(self.polygons)

    @property
    def mask_file(self) -> Path | None:
        """The mask's path."""
        return None if self.mask is None else given_path(self.mask)
