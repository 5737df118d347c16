"""New images for a trained detector."""

from pydantic import Field

from flawline.options.base import Name, Options


class Inspect(Options):
    """New images for a trained detector to judge."""

    folder: str = Field(description="The folder with the new images, searched recursively.")
    category: str | None = Field(None, description="May be left out if there is only one.")
    detector: str | None = Field(None, description="May be left out if there is only one.")
    seed: int | None = Field(None, ge=0, description="The first of `seeds`, if not given.")
    name: Name | None = Field(
        None, description="Names the results folder; that of the images' folder, if not given."
    )
