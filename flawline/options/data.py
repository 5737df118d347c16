"""Which image files are accepted, and which photographs belong together."""

import re
from pathlib import PurePosixPath
from typing import Literal, Self

from pydantic import Field, model_validator

from flawline.options.base import Options


class Groups(Options):
    """Which photographs belong together because they show one part, lot or day."""

    pattern: str | None = Field(
        None,
        description="Regular expression searched in a photograph's path below the category; its "
        "parentheses capture the name of the group.",
    )
    level: int | None = Field(
        None, ge=1, description="The folder this many levels above a photograph names its group."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.pattern is None) == (self.level is None):
            raise ValueError("needs either pattern or level")
        if self.pattern is not None:
            try:
                parentheses = re.compile(self.pattern).groups
            except re.error as error:
                raise ValueError(f"pattern: not a regular expression ({error})") from None
            if not parentheses:
                raise ValueError("pattern: has no parentheses around what names the group")
        return self

    def of(self, image_id: str) -> str:
        """Return the group of a photograph; empty if it has none."""
        if self.level is not None:
            folders = PurePosixPath(image_id).parent.parts
            return folders[-self.level] if self.level <= len(folders) else ""
        found = re.search(self.pattern or "", image_id)
        return "/".join(part or "" for part in found.groups()) if found else ""


class DataOptions(Options):
    """Which image files are accepted."""

    on_problem: Literal["error", "skip"] = Field(
        "error",
        description="`error` stops at any problem; `skip` goes on without the files concerned.",
    )
    min_train_good: int = Field(
        8, ge=2, description="Least number of good training images of a category."
    )
    max_megapixels: float = Field(100.0, gt=0, description="Larger images are not decoded.")
    groups: Groups | None = Field(
        None,
        description="Which photographs show one part, lot or day; they stay on one side of every "
        "split and fold.",
    )
    white: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The value that shows as white in files of more than 8 bits, such as 4095; "
        "found, if not given.",
    )
