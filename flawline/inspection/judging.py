"""What every detector shares that judges photographs: preparation, threshold, object masks.

Nothing here imports torch: an exported detector judges without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from flawline.data.geometry import Geometry, Shape
from flawline.data.prepare import prepared
from flawline.data.regions import Counting
from flawline.data.samples import Levels
from flawline.detectors.data import Scores
from flawline.detectors.maps import HALF_MAX
from flawline.detectors.masks import surroundings
from flawline.options.object_masks import ObjectMaskOptions
from flawline.synthesis.object_masks import ObjectModel, mask_of


@dataclass(frozen=True)
class Photograph:
    """A photograph prepared for a detector.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB, prepared.
    original : height and width of the photograph.
    tiles : uint8 (T, h, w, 3), if the category is tiled.
    counted : uint8 (H, W), 1 = counts; None if all pixels do.
    """

    image: np.ndarray
    original: Shape
    tiles: np.ndarray | None = None
    counted: np.ndarray | None = None

    @property
    def seen(self) -> np.ndarray:
        """The images or tiles that networks see: uint8 (T, h, w, 3)."""
        return self.image[None] if self.tiles is None else self.tiles


@dataclass(frozen=True, kw_only=True)
class Judge(ABC):
    """What is needed to judge a photograph, but for the network.

    Attributes
    ----------
    settings : from `settings_of`.
    threshold : the content of ``threshold.json``.
    calibration : float64 (n,), anomaly scores of calibration images, ascending.
    scale : ends of the maps' colours, the same for all inspections: the median pixel of calibration
        images, and twice as far above it as most of them reach.
    limit : pixels of a map above it are boxed.
    geometry : as the detector was trained.
    levels : values of white in the photographs that it was trained on.
    """

    settings: Mapping[str, Any]
    threshold: Mapping[str, Any]
    calibration: np.ndarray
    scale: tuple[float, float]
    limit: float
    geometry: Geometry
    object_model: ObjectModel | None = None
    levels: Levels = field(default_factory=Levels)

    @property
    def image_shape(self) -> Shape:
        """Height and width of the prepared images, pixels."""
        return self.geometry.shape

    @cached_property
    def _counting(self) -> Counting:
        return self._counting_of(self.geometry.shape)

    @cached_property
    def _tiled(self) -> Counting | None:
        tiling = self.geometry.tiling
        return None if tiling is None else self._counting_of(tiling.canvas)

    def _counting_of(self, shape: Shape) -> Counting:
        settings = self.settings
        return Counting.of_options(settings["regions"], shape, settings["prepare"]["resize"])

    def prepare(self, image: np.ndarray) -> Photograph:
        """Prepare a decoded photograph for the detector.

        Parameters
        ----------
        image : uint8 (h, w, 3), RGB, of any size.
        """
        original = (image.shape[0], image.shape[1])
        tiling = self.geometry.tiling
        return Photograph(
            prepared(image, self._counting),
            original,
            tiling.cut(prepared(image, self._tiled)) if tiling and self._tiled else None,
            self._counting.of(original) if self._restricted else None,
        )

    @property
    def _restricted(self) -> bool:
        regions = self._counting.regions
        return self.settings["prepare"]["resize"] == "letterbox" or bool(regions)

    @abstractmethod
    def _found(self, photographs: Sequence[Photograph]) -> Scores:
        """Compute anomaly scores and maps."""

    def score(self, photographs: Sequence[Photograph]) -> Scores:
        """Compute anomaly scores and maps, as the pipeline does.

        Returns
        -------
        scores rounded to the nine digits of a table; maps float16 (N, H, W).
        """
        found = self._found(photographs)
        maps = np.clip(found.anomaly_maps, -HALF_MAX, HALF_MAX).astype(np.float16)
        found.refuse_not_finite(self.settings["detector"]["method"])
        # the threshold comes from rounded scores in a table, which must be equal here
        scores = np.array([float(f"{score:.9g}") for score in found.scores])
        return Scores(scores, maps)

    def defective(self, scores: np.ndarray) -> np.ndarray:
        """Return which scores are above the threshold."""
        return scores > self.threshold["value"]

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return conformal p-values: how often a good part would score as high, float64 (N,).

        (1 + the number of calibration images that score as high or higher) / (n + 1).
        """
        n = len(self.calibration)
        higher = n - np.searchsorted(self.calibration, scores, side="left")
        return (1 + higher) / (n + 1)

    def counted(self, photographs: Sequence[Photograph]) -> np.ndarray | None:
        """Return which pixels count, uint8 (N, H, W); None if all do."""
        if not self._restricted:
            return None
        return np.stack([self._counting.of(one.original) for one in photographs])

    def object_masks(self, photographs: Sequence[Photograph]) -> np.ndarray | None:
        """Return where the object is, uint8 (N, H, W), 0 or 1; None if that is not asked."""
        if self.object_model is None:
            return None
        options = ObjectMaskOptions.model_validate(self.settings["object_masks"])
        model = self.object_model
        return np.stack([mask_of(one.image, model, options, one.counted) for one in photographs])

    def inputs(self, photographs: Sequence[Photograph]) -> dict[str, np.ndarray]:
        """Return what an exported graph takes, by the names of `graph.Graph`."""
        tiled = self.geometry.tiling is not None
        found = {"images": np.stack([one.seen if tiled else one.image for one in photographs])}
        if (counted := self.counted(photographs)) is not None:
            found["counted"] = counted
        if (masks := self.object_masks(photographs)) is not None:
            disc = surroundings(self.settings["detector"]["object_dilation"], self.geometry.shape)
            found["objects"] = np.stack([cv2.dilate(mask, disc) for mask in masks])
        return found
