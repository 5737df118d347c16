"""Four drawn categories that come with flawline."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from flawline.data.datasets.base import Dataset, Listing
from flawline.data.datasets.layout import Layout
from flawline.options.base import Name

CATEGORIES = ("bolt", "tablet", "weave", "mesh")


class Demo(Dataset):
    """Four drawn categories that come with flawline."""

    provided: ClassVar[bool] = False
    kind: Literal["demo"] = "demo"
    name: Name = "demo"
    seed: int = Field(0, ge=0)
    size: int = Field(256, ge=64, le=1024, description="Side of the drawn images, pixels.")
    train_good: int = Field(60, ge=8)
    test_good: int = Field(20, ge=1)
    test_defective: int = Field(40, ge=0)

    @property
    def folder(self) -> Path:
        """The folder that they are drawn to."""
        return Path("data") / self.name / "images"

    def categories(self) -> list[str]:
        """Return their names."""
        return list(CATEGORIES)

    def listing(self, category: str) -> Listing:
        """List all photographs of a category."""
        return Layout().listing(self.folder / category, self.folder)
