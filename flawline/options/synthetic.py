"""Sets of synthetic anomalies and their recipes."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flawline.options.base import Options, union_by_tag

Range = tuple[float, float]


def within(low: float, high: float) -> AfterValidator:
    """Return a validator of a range: low <= first <= second <= high."""

    def check(given: Range) -> Range:
        if not low <= given[0] <= given[1] <= high:
            raise ValueError(
                f"must be [lowest, highest] between {low:g} and {high:g}; "
                f"found [{given[0]:g}, {given[1]:g}]"
            )
        return given

    return AfterValidator(check)


class Recipe(Options):
    """A way to put an anomaly on a good image, with the ranges that it draws from."""

    remedy: ClassVar[str]
    """What to change if the anomalies cannot be seen."""

    recipe: str

    @property
    def cutouts(self) -> list[Path]:
        """Return the user's own pictures that it pastes."""
        return []


class Line(Recipe):
    """Straight, curved or broken lines; lengths in pixels at 224 pixels.

    Widths, reach and the colours `random` and `grey` are the source's. Ours are `darker` and
    `lighter`, opacity, kinds, and the log-uniform distribution of widths.
    """

    remedy: ClassVar[str] = "raise `width` or `opacity`"

    recipe: Literal["line"] = "line"
    width: Annotated[Range, within(0.5, 64)] = Field(
        (1, 16), description="Drawn log-uniformly; never over half the length."
    )
    length: Annotated[Range, within(1, 224)] = (10, 45)
    colours: list[Literal["random", "grey", "darker", "lighter"]] = Field(
        ["random", "grey", "darker", "lighter"],
        min_length=1,
        description="`darker` and `lighter` than the surface under the line.",
    )
    kinds: list[Literal["straight", "curved", "broken"]] = Field(
        ["straight", "curved", "broken"], min_length=1
    )
    opacity: Annotated[Range, within(0, 1)] = (0.3, 1.0)
    dilate: float | None = Field(
        None,
        ge=0,
        le=64,
        description="How far a line may reach beyond the object's edge; as far as it is long, if "
        "not given.",
    )


class Distortion(Recipe):
    """Rectangles turned and shifted, never mirrored; lengths in pixels at 224 pixels."""

    remedy: ClassVar[str] = "raise `size`, `angle` or `shift`"

    recipe: Literal["distortion"] = "distortion"
    # methods.md, "Synthetic anomalies": within +-30 degrees, up to 20 % of the rectangle's size
    angle: Annotated[Range, within(-90, 90)] = Field((-30, 30), description="Degrees.")
    shift: Annotated[Range, within(-0.5, 0.5)] = Field(
        (-0.2, 0.2), description="As a part of the rectangle's width and height."
    )
    size: Annotated[Range, within(4, 224)] = Field(
        (20, 80), description="Width and height; a rectangle that finds no place is made smaller."
    )
    overlap: float = Field(
        0.5, gt=0, le=1, description="Least part of the rectangle that lies on the object."
    )
    edge: Annotated[Range, within(0, 32)] = Field((0, 3), description="Width of the soft edge.")
    # None puts the whole rectangle back, as the source does: a turned tip stands out of the outline
    dilate: float | None = Field(
        None,
        ge=0,
        le=64,
        description="How far the change may reach beyond the object's edge; as far as it does, if "
        "not given.",
    )


class CutPaste(Recipe):
    """Foreign objects or defects cut out and pasted; lengths in pixels at 224 pixels."""

    remedy: ClassVar[str] = "raise `size` or `opacity`, or paste other objects"

    recipe: Literal["cut_paste"] = "cut_paste"
    objects: Literal["defect_like", "random_objects", "folder"] = Field(
        "defect_like",
        description="`defect_like`: stains, cracks and holes; `random_objects`: shapes unrelated "
        "to the product; `folder`: your own PNG files with transparency.",
    )
    defects: list[Literal["stain", "crack", "hole"]] | None = Field(
        None, min_length=1, description="Which ones `defect_like` draws; all, if not given."
    )
    folder: Path | None = Field(None, description="The PNG files for `objects: folder`.")
    # methods.md, "Synthetic anomalies": two per image, after flip, rotation and resize
    count: int = Field(2, ge=1, le=50, description="Objects per image.")
    flip: bool = Field(True, description="Mirror every other object.")
    angle: Annotated[Range, within(-180, 180)] = Field((-180, 180), description="Degrees.")
    size: Annotated[Range, within(2, 224)] = Field(
        (8, 48), description="Longer side, drawn log-uniformly."
    )
    opacity: Annotated[Range, within(0, 1)] = (0.5, 1.0)
    edge: Annotated[Range, within(0, 32)] = Field((0.5, 2), description="Width of the soft edge.")
    blending: Literal["alpha", "poisson"] = Field(
        "alpha", description="`poisson` carries the surroundings' shading into the object."
    )
    place: Literal["object", "anywhere"] = Field(
        "object", description="Where objects have their centre."
    )
    dilate: float | None = Field(
        None,
        ge=0,
        le=64,
        description="How far a defect may reach beyond the object's edge; as far as it does, if "
        "not given. Of `defect_like` on the `object` alone.",
    )

    @property
    def cutouts(self) -> list[Path]:
        """Return the files in the folder."""
        return sorted(self.folder.glob("*")) if self.folder else []

    @model_validator(mode="after")
    def _folder_belongs_to_its_objects(self) -> Self:
        if (self.objects == "folder") != (self.folder is not None):
            raise ValueError("`folder` must be given with `objects: folder`, and only then")
        return self

    @model_validator(mode="after")
    def _defects_alone(self) -> Self:
        drawn = self.objects == "defect_like"
        if self.defects is not None and not drawn:
            raise ValueError(
                f"defects: with `objects: {self.objects}` none are drawn; leave `defects` out"
            )
        if self.dilate is not None and not (drawn and self.place == "object"):
            raise ValueError(
                "dilate: only defects on the object end with it; leave `dilate` out, or use "
                "`objects: defect_like` and `place: object`"
            )
        return self


class Noise(Recipe):
    """Thresholded Perlin-like clouds; lengths in pixels at 224 pixels."""

    remedy: ClassVar[str] = "raise `cover`, `opacity` or `sigma`"

    recipe: Literal["noise"] = "noise"
    cover: Annotated[Range, within(1e-4, 1)] = Field(
        (0.005, 0.06), description="Fraction of the object covered, drawn log-uniformly."
    )
    cells: Annotated[Range, within(1, 64)] = Field(
        (3, 12), description="Clouds along a side of the image: more make smaller blobs."
    )
    fills: list[Literal["foreign", "drawn", "gaussian"]] = Field(
        ["foreign", "drawn", "gaussian"],
        min_length=1,
        description="A piece of another training image; a drawn texture; Gaussian noise.",
    )
    sigma: Annotated[Range, within(0, 128)] = Field(
        (15, 50), description="Standard deviation of the Gaussian noise, of 255 grey levels."
    )
    opacity: Annotated[Range, within(0, 1)] = (0.3, 1.0)
    edge: Annotated[Range, within(0, 32)] = Field((0.5, 4), description="Width of the soft edge.")

    @model_validator(mode="after")
    def _sigma_of_gaussian_noise(self) -> Self:
        if "gaussian" not in self.fills and self.sigma != type(self).model_fields["sigma"].default:
            raise ValueError(
                "sigma: only the fill `gaussian` has one; add it to `fills`, or leave `sigma` out"
            )
        return self


RecipeOptions = Annotated[Line | Distortion | CutPaste | Noise, Field(discriminator="recipe")]
RECIPES = union_by_tag(RecipeOptions)


class SyntheticSet(Options):
    """One named set of synthetic anomalies."""

    recipes: list[RecipeOptions] = Field(min_length=1)
    combine: Literal["one_of", "all"] = Field(
        "one_of", description="An image takes one of the recipes, or all, in their order."
    )
    images: int | None = Field(
        None, ge=1, description="Number of images; one per training image, if not given."
    )
