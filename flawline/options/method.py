"""The common options of all methods, and what the pipeline knows about a method.

The workflow plans with these alone: the code of a method, and with it torch, is loaded in its jobs.
"""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flawline.options.base import Options
from flawline.options.weights import weights_file


class MethodOptions(Options):
    """Options of a detector, and constant facts about its method."""

    implementation: ClassVar[str]
    """Where the method's class is, as `module:name`."""
    needs: ClassVar[frozenset[str]]
    """Which of images, features, object_masks and labels it always reads."""
    protocol: ClassVar[Literal["unsupervised", "supervised"]] = "unsupervised"
    unit: ClassVar[str]
    """What the anomaly score measures, as an axis is labelled."""
    boundary: ClassVar[float | None] = None
    """The score above which the method itself calls an image defective, if it has one."""
    explains: ClassVar[bool] = False
    """Whether the method can show more than its anomaly map."""
    apart: ClassVar[Literal["no", "memory", "wholly"]] = "no"
    """Whether scoring can leave out all that was learned of an image, because the method only
    remembers, so that thresholds can come from such scores."""

    method: str

    @property
    def feature_sets(self) -> list[str]:
        """Names of the feature sets that it reads."""
        return []

    @property
    def synthetic_set(self) -> str | None:
        """Name of the set of synthetic anomalies that it learns from."""
        return None

    @property
    def pose_set(self) -> str | None:
        """Name of the set of poses that it knows training images in."""
        return None

    @property
    def uses_object_masks(self) -> bool:
        """Check whether object masks change what is learned or scored."""
        return False

    @property
    def is_shared(self) -> bool:
        """Check whether all categories have one model."""
        return False

    @property
    def network(self) -> tuple[str, str] | None:
        """Names of the backbone that it trains, and of its weights."""
        return None

    @property
    def local_weights(self) -> Path | None:
        """The weights of its backbone, if they are a local file."""
        return weights_file(self.network[1]) if self.network else None

    @property
    def needs_tiles(self) -> bool:
        """Check whether it can only work on tiles."""
        return False

    @property
    def why_untiled(self) -> str | None:
        """Return why it cannot work on tiles, or None if it can."""
        if self.protocol == "supervised":
            return "a label is of a whole photograph, so no tile can be learned from"
        return None

    @property
    def why_not_exported(self) -> str | None:
        """Return why its models cannot be exported, or None if they can."""
        return None

    def inputs(self, *, training: bool) -> frozenset[str]:
        """Return its inputs: `needs`, and what its options ask for.

        Returns
        -------
        Some of images, features, object_masks and, in training only, synthetic, poses and labels.
        """
        names = set(self.needs)
        if self.uses_object_masks:
            names.add("object_masks")
        if training and self.synthetic_set:
            names.add("synthetic")
        if training and self.pose_set:
            names.add("poses")
        return frozenset(names if training else names - {"labels"})


class FeatureUse(MethodOptions):
    """Options of detectors that work on cached features."""

    features: str | list[str] = Field(
        "balanced",
        description="Name of a feature set or of a preset (fast, balanced, accurate), or names of "
        "several to use together.",
    )

    calm_border: bool = Field(
        True,
        description="Scale the cells near the border so that good images reach no higher there "
        "than inside; networks see few similar surroundings where a picture ends.",
    )

    shared: bool = Field(
        False,
        description="Learn one model from the good images of all categories that run. Each "
        "category keeps its own threshold and metrics.",
    )

    @property
    def is_shared(self) -> bool:
        """Check whether all categories have one model."""
        return self.shared

    @property
    def feature_sets(self) -> list[str]:
        """The names, as a list."""
        return [self.features] if isinstance(self.features, str) else self.features


class ObjectMaskUse(MethodOptions):
    """Options of detectors whose image score can be restricted to the object."""

    object_mask: Literal["none", "score", "memory"] = Field(
        "none",
        description="`score` takes the image score from the object alone. `memory` also learns "
        "from the object alone, so its anomaly map shows nothing beside it.",
    )
    object_dilation: int | None = Field(
        None,
        ge=0,
        description="How far around the object still counts, pixels at 256 px; 3, if not given.",
    )

    @model_validator(mode="after")
    def _dilates_something(self) -> Self:
        if self.object_dilation is not None and self.object_mask == "none":
            raise ValueError(
                "object_dilation: without object masks there is no object to dilate; set "
                "`object_mask` to `score` or `memory`, or leave `object_dilation` out"
            )
        return self

    @property
    def uses_object_masks(self) -> bool:
        """Check whether object masks change what is learned or scored."""
        return self.object_mask != "none"


class MapUse(ObjectMaskUse):
    """Options of detectors whose image score comes from their anomaly map."""

    score_from: Literal["map", "cells"] = Field(
        "map", description="The image score comes from the smoothed map, or from its raw cells."
    )
    largest: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Part of the map, its largest values, whose mean is the image score: 0 is the "
        "largest value alone, 1 the mean over the whole image.",
    )
    smoothing: float = Field(
        4.0, ge=0, description="Sigma of the map's Gaussian, pixels of what networks see."
    )


class NetworkUse(MethodOptions):
    """Options of detectors that train their backbone."""

    backbone: str
    weights: str = Field(
        "default",
        description="`default`, a name in torchvision's weights enum, a path to a state dict, or "
        "`none` for random weights.",
    )

    @property
    def network(self) -> tuple[str, str] | None:
        """Names of the backbone and of its weights."""
        return self.backbone, self.weights
