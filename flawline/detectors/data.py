"""The data that a detector sees of a subset, and the pictures that training adds to it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import cv2
import numpy as np

from flawline.data.geometry import Geometry, Shape
from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, read_table
from flawline.seeding import generator

CHUNK_IMAGES = 64
BATCH_IMAGES = 16  # for passes without gradients; bounds memory


@dataclass(frozen=True)
class Synthetic:
    """A cached set of synthetic anomalies; row i was made from training image i modulo N.

    Attributes
    ----------
    images : uint8 (M, H, W, 3), RGB.
    masks : uint8 (M, H, W), 1 where the image changed.
    kinds : the recipe of each, joined by + where several were applied.
    """

    images: np.ndarray
    masks: np.ndarray
    kinds: list[str]

    def of(self, rows: np.ndarray, count: int) -> "Synthetic":
        """Return the anomalies made from the training images `rows` (ascending) of `count`."""
        own = _rounds(rows, count, len(self.images))
        return Synthetic(self.images[own], self.masks[own], [self.kinds[row] for row in own])


@dataclass(frozen=True)
class Posed:
    """Features of training images in other poses; row i shows training image i modulo N.

    Attributes
    ----------
    features : one float16 (M, h, w, C) per feature set.
    counted : uint8 (M, H, W), 1 where the photograph is, not what was filled in around it.
    """

    features: tuple[np.ndarray, ...]
    counted: np.ndarray

    def of(self, rows: np.ndarray, count: int) -> "Posed":
        """Return the poses of the training images `rows` (ascending) of `count`."""
        own = _rounds(rows, count, len(self.counted))
        return Posed(tuple(array[own] for array in self.features), self.counted[own])


def _rounds(rows: np.ndarray, count: int, total: int) -> np.ndarray:
    """Return the rows in an array of `total` that repeats `count` images."""
    own = (np.arange(0, total, count)[:, None] + rows).ravel()
    return own[own < total]


@dataclass(frozen=True)
class Data:
    """The data of one subset that a detector's `inputs` name.

    If the category is tiled, images and features have one row for each of the T tiles of an image,
    those of the first image first; masks are always of whole images.

    Attributes
    ----------
    geometry : the shape of the prepared images, and the tiles.
    images : uint8 (N T, h, w, 3), RGB, or None.
    features : one float16 (N T, H, W, C) per feature set.
    object_masks : uint8 (N, H, W), 0 or 1, or None.
    counted : uint8 (N, H, W), 0 in letterbox bars and ignored regions, or None: all pixels count.
    synthetic, posed : only for training.
    labels : int64 (N,), 1 = defective; only for supervised training.
    own : int64 (N,), the number of each training image, if training images are scored: what was
        learned from an image itself must not vouch for it.
    kin : int64 (M,), numbers of groups among all training images, such as photographs of one part:
        images of a group do not vouch for each other. None if each is alone.
    scheduled : number of images that a training schedule assumes, if these are only some of them:
        models of cross-calibration take as many steps as the model they stand for.

    Examples
    --------
    >>> import numpy as np
    >>> from flawline import Data, Geometry
    >>> data = Data(Geometry((32, 32)), images=np.zeros((4, 32, 32, 3), np.uint8))
    >>> len(data.take(np.array([0, 2])))
    2
    """

    geometry: Geometry
    images: np.ndarray | None = None
    features: tuple[np.ndarray, ...] = ()
    object_masks: np.ndarray | None = None
    counted: np.ndarray | None = None
    synthetic: Synthetic | None = None
    posed: Posed | None = None
    labels: np.ndarray | None = None
    own: np.ndarray | None = None
    kin: np.ndarray | None = None
    scheduled: int | None = None

    @classmethod
    def open(cls, files: Mapping[str, Any]) -> Self:
        """Memory-map those of `files` (name to path or paths) that a detector reads."""
        found: dict[str, Any] = {
            name: read_array(files[name])
            for name in ("images", "object_masks", "counted")
            if files.get(name)
        }
        if "features" in files:
            found["features"] = tuple(map(read_array, files["features"]))
        if "synthetic_images" in files:
            found["synthetic"] = Synthetic(
                read_array(files["synthetic_images"]),
                read_array(files["synthetic_masks"]),
                read_table(files["synthetic_index"])["kind"].tolist(),
            )
        if "posed_counted" in files:
            posed = tuple(map(read_array, files["posed_features"]))
            found["posed"] = Posed(posed, read_array(files["posed_counted"]))
        if "labels" in files:
            found["labels"] = read_table(files["labels"])["label"].to_numpy()
        return cls(Geometry.from_json(read_json(files["geometry"])), **found)

    def require(self, name: Literal["images", "object_masks", "labels"]) -> np.ndarray:
        """Return an array, or raise an error if it is missing.

        Raises
        ------
        ValueError
            If it was not given.
        """
        array: np.ndarray | None = getattr(self, name)
        if array is None:
            raise ValueError(f"data without {name}; this method needs them: Data({name}=...)")
        return array

    def batches(self, size: int = BATCH_IMAGES) -> Iterator[np.ndarray]:
        """Yield the images, or tiles, at most `size` at a time: uint8 (B, h, w, 3)."""
        images = self.require("images")
        for start in range(0, len(images), size):
            yield images[start : start + size]

    def __len__(self) -> int:
        whole = (self.object_masks, self.counted)
        pieces = (self.images, *self.features)
        counts = [len(array) for array in whole if array is not None]
        counts += [len(array) // self.geometry.pieces for array in pieces if array is not None]
        return counts[0]

    def rows_per_epoch(self, count: int, held_back: float = 0) -> int:
        """Return the rows per epoch, if `count` rows were made of these images.

        Images that the schedule assumes add to them; the fraction held back is left out.
        """
        scheduled = self.scheduled or len(self)
        parts = [images - _held_back(images, held_back) for images in (scheduled, len(self))]
        return round(count * parts[0] / parts[1])

    def held_back(self, fraction: float, seed: int) -> np.ndarray:
        """Draw images, at least one, that are not trained on: int (K,), ascending.

        Raises
        ------
        FlawlineError
            If fewer than two images are left.
        """
        count = _held_back(len(self), fraction)
        if count and len(self) - count < 2:
            raise FlawlineError(
                f"validation_fraction: {fraction:g} of {len(self)} training images leaves "
                f"{len(self) - count} to train on, and two are needed; set it to 0, or add images"
            )
        return np.sort(generator(seed, "validation").permutation(len(self))[:count])

    def parted(self, fraction: float, seed: int) -> "tuple[Data, Data | None]":
        """Split into data to train on and, if any is held back, data for a validation loss."""
        held = self.held_back(fraction, seed)
        if not len(held):
            return self, None
        scheduled = self.scheduled or len(self)
        left = replace(
            self.take(np.setdiff1d(np.arange(len(self)), held)),
            scheduled=scheduled - _held_back(scheduled, fraction),
        )
        return left, self.take(held)

    def joined(self, others: "Sequence[Data]") -> "Data":
        """Return these images followed by those of other categories, for training on features.

        Raises
        ------
        FlawlineError
            If they are not of one shape.
        """
        parts = [self, *others]
        seen = {(part.geometry.shape, part.geometry.tiling): None for part in parts}
        if len(seen) > 1:
            shapes = dict.fromkeys(f"{height} x {width}" for (height, width), _ in seen)
            raise FlawlineError(
                "shared: one model of all categories needs images of one shape, and tiles of one "
                f"layout; found {', '.join(shapes)}. Set prepare.size, or leave `shared` out."
            )

        def all_of(name: str) -> np.ndarray | None:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

        return Data(
            self.geometry,
            features=tuple(map(np.concatenate, zip(*(one.features for one in parts), strict=True))),
            object_masks=all_of("object_masks"),
            counted=all_of("counted"),
            scheduled=self.scheduled and self.scheduled + sum(map(len, others)),
        )

    def take(self, rows: np.ndarray) -> "Data":
        """Return some of the images, with the pictures made from them.

        Parameters
        ----------
        rows : int (K,), ascending.
        """
        count, pieces = len(self), self.geometry.pieces
        tiles = (rows[:, None] * pieces + np.arange(pieces)).ravel()

        def some(array: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
            return None if array is None else array[rows]

        return Data(
            self.geometry,
            some(self.images, tiles),
            tuple(array[tiles] for array in self.features),
            some(self.object_masks, rows),
            some(self.counted, rows),
            self.synthetic and self.synthetic.of(tiles, count * pieces),
            self.posed and self.posed.of(tiles, count * pieces),
            some(self.labels, rows),
            some(self.own, rows),
            self.kin,
        )

    def chunks(self, size: int = CHUNK_IMAGES) -> Iterator["Data"]:
        """Yield the data for scoring, at most `size` images or tiles at a time.

        The tiles of an image stay together.
        """
        pieces = self.geometry.pieces
        size = max(size // pieces, 1)
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            tiles = slice(start * pieces, (start + size) * pieces)
            yield Data(
                self.geometry,
                None if self.images is None else self.images[tiles],
                tuple(array[tiles] for array in self.features),
                None if self.object_masks is None else self.object_masks[part],
                None if self.counted is None else self.counted[part],
                own=None if self.own is None else self.own[part],
                kin=self.kin,
            )

    def stitched(self, cells: np.ndarray) -> np.ndarray:
        """Join cells of tiles, float32 (N T, h, w), to cells of whole images (N, H, W)."""
        tiling = self.geometry.tiling
        if tiling is None:
            return cells
        count = len(tiling)
        parts = (cells[start : start + count] for start in range(0, len(cells), count))
        return np.stack([tiling.stitch(part) for part in parts])

    def cut(self, masks: np.ndarray, grid: Shape) -> np.ndarray:
        """Resize masks of images (N, H, W) to the grid of what networks see: (N T, *grid)."""

        def resized(mask: np.ndarray, shape: Shape) -> np.ndarray:
            mask = np.asarray(mask).astype(np.uint8)
            if mask.shape == shape:
                return mask
            return cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST)

        tiling = self.geometry.tiling
        if tiling is None:
            return np.stack([resized(mask, grid) for mask in masks])
        wholes = (resized(mask, tiling.cells(grid)) for mask in masks)
        return np.stack([resized(tile, grid) for whole in wholes for tile in tiling.cut(whole)])

    def whole(self, pictures: np.ndarray) -> np.ndarray:
        """Join pictures that networks made of images or tiles, with the images' proportions.

        Parameters
        ----------
        pictures : uint8 (N T, S, S, 3), RGB.

        Returns
        -------
        uint8 (N, H, W, 3).
        """
        shape, tiling = self.geometry.shape, self.geometry.tiling
        if tiling is None:
            side = math.sqrt(math.prod(pictures.shape[1:3]) / math.prod(shape))
            size = tuple(round(length * side) for length in shape)
            if size == pictures.shape[1:3]:
                return pictures
            return np.stack([cv2.resize(one, size[::-1]) for one in pictures])
        channels = [self.stitched(pictures[..., c].astype(np.float32)) for c in range(3)]
        joined = np.stack(channels, axis=3).round().astype(np.uint8)
        area = cv2.INTER_AREA
        return np.stack([cv2.resize(one, shape[::-1], interpolation=area) for one in joined])


def _held_back(images: int, fraction: float) -> int:
    return max(round(images * fraction), 1) if fraction else 0


@dataclass(frozen=True)
class Scores:
    """Anomaly scores float32 (N,) and anomaly maps float16 (N, h, w); higher is more anomalous."""

    scores: np.ndarray
    anomaly_maps: np.ndarray

    def refuse_not_finite(self, detector: str) -> None:
        """Raise a FlawlineError if a score is not a finite number, or a pixel not a number."""
        if not np.isfinite(self.scores).all() or np.isnan(self.anomaly_maps).any():
            raise FlawlineError(
                f"{detector}: scores are not finite numbers. The model did not train well: look at "
                "training.csv, lower the learning rate, or change the seed."
            )
