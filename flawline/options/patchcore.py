"""Options of `patchcore`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flawline.options.method import FeatureUse, MapUse


class PatchCoreOptions(FeatureUse, MapUse):
    """Defaults are the paper's, except for the image score (measured in docs/results.md)."""

    implementation: ClassVar[str] = "flawline.detectors.patchcore:PatchCore"
    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    unit: ClassVar[str] = "distance to the nearest remembered patch"
    apart: ClassVar[Literal["no", "memory", "wholly"]] = "wholly"

    method: Literal["patchcore"] = "patchcore"
    largest: float = Field(0.003, ge=0, le=1)
    coreset: Literal["greedy", "random"] = Field(
        "greedy",
        description="`greedy` keeps the patches that differ most from each other (paper). `random` "
        "is much faster, but loses rare patches.",
    )
    coreset_fraction: float = Field(0.1, gt=0, le=1, description="Part of the patches kept.")
    coreset_size: int | None = Field(
        None,
        ge=1,
        description="Number of patches kept, however many images there are, instead of "
        "`coreset_fraction`.",
    )
    coreset_from: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Fraction of patches, drawn at random, that the greedy coreset is chosen from.",
    )
    projection: int = Field(
        128, ge=1, description="Dimensions that patches are projected to for the greedy coreset."
    )
    poses: str | None = Field(
        None,
        description="Set of poses that the memory also knows the good images in; it does not grow.",
    )
    tile_memory: bool = Field(
        False,
        description="Compare each tile only with the same tile of the good images, for parts that "
        "always lie in the same place.",
    )
    reach: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Compare a patch only with remembered ones that were at most this part of the "
        "image's height and width away, for parts that always lie in the same place; a patch "
        "without any is compared with all. None: always with all.",
    )
    distance: Literal["euclidean", "cosine"] = Field(
        "euclidean", description="`cosine` compares features of length 1."
    )
    whitening: float | None = Field(
        None,
        gt=0,
        description="Whiten features to mean 0 and covariance 1, after adding this multiple of "
        "their mean variance, so that directions that hardly vary are not blown up. None: do not.",
    )
    neighbours: int | None = Field(
        None, ge=2, description="b of equation 7, for `reweight`; 9, if not given."
    )
    reweight: bool = Field(False, description="Apply equation 7 to the image score (paper).")
    search: Literal["auto", "exact"] = Field(
        "auto", description="auto: neighbours found in bfloat16 where the device has units for it."
    )

    @model_validator(mode="after")
    def _of_the_greedy_choice(self) -> Self:
        fields = type(self).model_fields
        for key in ("coreset_from", "projection"):
            if self.coreset == "random" and getattr(self, key) != fields[key].default:
                raise ValueError(
                    f"{key}: only the greedy choice has it; leave `{key}` out, or use `coreset: "
                    "greedy`"
                )
        return self

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        usual = type(self).model_fields["coreset_fraction"].default
        if self.coreset_size is not None and self.coreset_fraction != usual:
            raise ValueError(
                "coreset_size: it takes the place of `coreset_fraction`; leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _one_match(self) -> Self:
        if self.neighbours is not None and not self.reweight:
            raise ValueError(
                "neighbours: only equation 7 has them; set `reweight: true`, or leave `neighbours` "
                "out"
            )
        if self.reweight and len(self.feature_sets) > 1:
            raise ValueError(
                "reweight: equation 7 needs the one match of a patch, and an ensemble has several; "
                "use one feature set, or leave `reweight` out"
            )
        return self

    @model_validator(mode="after")
    def _reaches_a_place(self) -> Self:
        if self.reach is not None and self.reweight:
            raise ValueError(
                "reweight: equation 7 looks at the whole memory, `reach` at a part of it; leave "
                "one of them out"
            )
        if self.reach is not None and self.poses:
            raise ValueError(
                "reach: it is for parts that always lie in the same place, `poses` for others; "
                "leave one of them out"
            )
        return self

    @property
    def pose_set(self) -> str | None:
        """Name of the set of poses that the memory knows training images in."""
        return self.poses

    @property
    def needs_tiles(self) -> bool:
        """Check whether it can only work on tiles."""
        return self.tile_memory

    @property
    def why_untiled(self) -> str | None:
        """Return why it cannot work on tiles, or None if it can."""
        if self.reweight:
            return "`reweight` needs the one match of a photograph's patch"
        if self.tile_memory and self.poses:
            return "`tile_memory` is for parts in a fixed place, `poses` for others"
        return None
