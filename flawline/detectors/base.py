"""What every detector is: fitted on goods, asked for scores, saved and loaded without pickle."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flawline.data.geometry import Geometry, Shape
from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, read_table, replacing, write_json
from flawline.learning.training import Checkpoint, Training
from flawline.options import Options
from flawline.provenance import file_hash
from flawline.seeding import generator

if TYPE_CHECKING:
    import torch

CHUNK_IMAGES = 64


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
        """What was made from the training images `rows` (ascending) of `count`."""
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
        """The poses of the training images `rows` (ascending) of `count`."""
        own = _rounds(rows, count, len(self.counted))
        return Posed(tuple(array[own] for array in self.features), self.counted[own])


def _rounds(rows: np.ndarray, count: int, total: int) -> np.ndarray:
    """Rows of an array of `total` that repeats `count` images again and again."""
    own = (np.arange(0, total, count)[:, None] + rows).ravel()
    return own[own < total]


@dataclass(frozen=True)
class Data:
    """What a detector may see of one subset; it holds what the detector's `inputs` name.

    Where the category is tiled, images and features have one row for each of the T tiles of an
    image, those of the first image first; masks are always of whole images.

    Attributes
    ----------
    geometry : the shape of the prepared images, and the tiles.
    images : uint8 (N T, h, w, 3), RGB, or None.
    features : one float16 (N T, H, W, C) per feature set.
    object_masks : uint8 (N, H, W), 0 or 1, or None.
    counted : uint8 (N, H, W), 0 in letterbox bars and ignored regions, or None: all counts.
    synthetic, posed : for training alone.
    labels : int64 (N,), 1 = defective; for supervised training alone.
    own : int64 (N,), which training image each is, where training images are scored: what was
        learned from an image itself must not speak for it.
    kin : int64 (M,), numbers of what belongs together among all training images, such as
        photographs of one part: none of them speaks for another. None if each is alone.
    scheduled : how many images the schedule of a training counts, where these are only a part of
        them: models of cross-calibration take as many steps as the one they stand for.
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
        """Map those of `files` (name to path or paths) that a detector reads; ignore others."""
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

    def __len__(self) -> int:
        whole = (self.object_masks, self.counted)
        pieces = (self.images, *self.features)
        counts = [len(array) for array in whole if array is not None]
        counts += [len(array) // self.geometry.pieces for array in pieces if array is not None]
        return counts[0]

    def an_epoch(self, count: int, held_back: float = 0) -> int:
        """Rows of an epoch, where `count` rows were made of these images: all, and those of images
        that the schedule counts as well; but for the part that is held back of either."""
        scheduled = self.scheduled or len(self)
        parts = [images - _held_back(images, held_back) for images in (scheduled, len(self))]
        return round(count * parts[0] / parts[1])

    def held_back(self, fraction: float, seed: int) -> np.ndarray:
        """A random part of the images, one at least, that is not trained on: int (K,), ascending.

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
        """What is trained on, and what is held back for a validation loss, if anything is."""
        held = self.held_back(fraction, seed)
        if not len(held):
            return self, None
        scheduled = self.scheduled or len(self)
        left = replace(
            self.take(np.setdiff1d(np.arange(len(self)), held)),
            scheduled=scheduled - _held_back(scheduled, fraction),
        )
        return left, self.take(held)

    def take(self, rows: np.ndarray) -> "Data":
        """Some of the images, and what was made from them.

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
        """The same data without what is for training, at most `size` images or tiles at a time.

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
        """Cells of whole images, float32 (N, H, W), from those of their tiles (N T, h, w)."""
        tiling = self.geometry.tiling
        if tiling is None:
            return cells
        count = len(tiling)
        parts = (cells[start : start + count] for start in range(0, len(cells), count))
        return np.stack([tiling.stitch(part) for part in parts])

    def cut(self, masks: np.ndarray, grid: Shape) -> np.ndarray:
        """Masks of images (N, H, W) on the grid of what networks see: (N T, *grid)."""
        import cv2

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
        """What networks made of images or tiles, with the images' proportions.

        Parameters
        ----------
        pictures : uint8 (N T, S, S, 3), RGB.

        Returns
        -------
        uint8 (N, H, W, 3).
        """
        import cv2

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

    def quiet(self, cells: np.ndarray) -> np.ndarray:
        """What does not count is as calm as the calmest cell that does: float32 (N, h, w)."""
        if self.counted is None:
            return cells
        counts = cells_of(self.counted, cells.shape[1:], HALF)
        calmest = np.where(counts, cells, np.inf).min((1, 2), keepdims=True)
        return np.where(counts, cells, calmest).astype(np.float32)


RINGS = 6  # distances to an edge that are told apart; the last is everything farther away
RING_WIDTH = 8  # pixels of what networks see: a cell of most feature maps
BORDER_QUANTILE = 0.99  # of a ring's cells, compared with that of the inner cells
BORDER_IMAGES = 64  # training images that this is learned from

HALF = 0.499  # share of a cell from which it counts: half of it, rounded


def cells_of(masks: np.ndarray, shape: Shape, share: float) -> np.ndarray:
    """Cells of a grid of which more than `share` lies in a mask: (N, H, W) to bool (N, *shape)."""
    import cv2

    found = np.empty((len(masks), *shape), bool)
    for i, mask in enumerate(masks):
        values = np.asarray(mask, np.float32)
        smaller = tuple(min(pair) for pair in zip(shape, values.shape, strict=True))
        shares = cv2.resize(values, smaller[::-1], interpolation=cv2.INTER_AREA)
        found[i] = cv2.resize(shares, shape[::-1], interpolation=cv2.INTER_NEAREST) > share
    return found


class FeatureUse(Options):
    """Options of detectors that work on cached features."""

    features: str | list[str] = Field(
        description="Name of the feature set, or names of several to use together."
    )

    calm_border: bool = Field(
        True,
        description="Scale the cells near the border so that good images reach no higher there "
        "than inside; networks see little that is alike where a picture ends.",
    )

    @property
    def feature_sets(self) -> list[str]:
        """The names, as a list."""
        return [self.features] if isinstance(self.features, str) else self.features


# `object_mask: memory` learns more of the surroundings than it scores, because features at the
# outline see the background too. Pixels at 256 px; measured in docs/results.md.
MEMORY_MARGIN = 16
DILATION = 3


class ObjectMaskUse(Options):
    """Options of detectors whose image score can be restricted to the object."""

    object_mask: Literal["none", "score", "memory"] = Field(
        "none",
        description="`score` takes the image score from the object alone; `memory` learns from the "
        "object alone as well, so its anomaly map shows nothing beside it.",
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

    def inside(self, data: Data, shape: Shape, margin: int = 0) -> np.ndarray:
        """Which cells of a grid of `shape` count and touch the dilated object, if it matters.

        An image in which no object was found counts as a whole: a missing part is a defect too.
        `margin` is added to the dilation, pixels at 256 px.

        Returns
        -------
        bool (N, h, w).
        """
        import cv2

        found = np.ones((len(data), *shape), bool)
        if data.counted is not None:
            found = cells_of(data.counted, shape, HALF)
        if self.object_mask == "none":
            return found
        assert data.object_masks is not None
        scale = math.sqrt(math.prod(data.geometry.shape)) / 256
        around = DILATION if self.object_dilation is None else self.object_dilation
        side = 2 * round((around + margin) * scale) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        for i, mask in enumerate(data.object_masks):
            touched = found[i] & cells_of(cv2.dilate(np.asarray(mask), disc)[None], shape, 0)[0]
            found[i] = touched if touched.any() else found[i]
        return found

    def learned(self, data: Data, grid: Shape) -> np.ndarray | None:
        """Which cells of what networks see are learned from: bool (N T, *grid), or None: all."""
        shape = data.geometry.tiling.cells(grid) if data.geometry.tiling else grid
        if self.object_mask == "memory":
            found = self.inside(data, shape, MEMORY_MARGIN)
        elif data.counted is not None:
            found = cells_of(data.counted, shape, HALF)
        else:
            return None
        return data.cut(found, grid).astype(bool)

    def known(self, cells: np.ndarray, data: Data) -> np.ndarray:
        """Cell scores without what was not learned: as calm as the calmest that was.

        Parameters
        ----------
        cells : float32 (N, h, w).
        """
        if self.object_mask != "memory":
            return data.quiet(cells)
        inside = self.inside(data, cells.shape[1:])
        calmest = np.where(inside, cells, np.inf).min((1, 2), keepdims=True)
        return np.where(inside, cells, calmest).astype(np.float32)


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

    def image_scores(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Mean of each image's largest values: float32 (N,).

        Parameters
        ----------
        values : float32 (N, h, w), a map or its cells.
        inside : bool (N, h, w), where the score is taken from.
        """
        scores = np.empty(len(values), np.float32)
        for i, (one, where) in enumerate(zip(values, inside, strict=True)):
            chosen = one[where]
            count = max(round(self.largest * len(chosen)), 1)
            if count < len(chosen):
                chosen = np.partition(chosen, len(chosen) - count)[-count:]
            scores[i] = chosen.mean()
        return scores


def _held_back(images: int, fraction: float) -> int:
    return max(round(images * fraction), 1) if fraction else 0


@dataclass(frozen=True)
class Scores:
    """Anomaly scores float32 (N,) and anomaly maps float16 (N, h, w); higher is more anomalous."""

    scores: np.ndarray
    anomaly_maps: np.ndarray


class Detector(ABC):
    """A method with its options, learned state included once it is fitted or loaded."""

    Options: ClassVar[type[Options]]
    needs: ClassVar[frozenset[str]]
    """Of images, features and labels."""
    protocol: ClassVar[Literal["unsupervised", "supervised"]] = "unsupervised"
    unit: ClassVar[str]
    """What the anomaly score measures, as an axis is labelled."""
    boundary: ClassVar[float | None] = None
    """The score above which the method itself calls an image defective, if it has such a one."""
    explains: ClassVar[bool] = False
    """Whether `pictures` has something to show."""
    apart: ClassVar[Literal["no", "memory", "wholly"]] = "no"
    """Whether `score` leaves out what it remembers of `Data.own`, and whether that is all that it
    learned of it, so that thresholds can come from such scores."""

    def __init__(self, options: Any, seed: int, device: "torch.device") -> None:
        self.options = options
        self.seed = seed
        self.device = device

    @classmethod
    def inputs(cls, options: Any, *, training: bool) -> frozenset[str]:
        """What it must see: `needs` and what its options ask for.

        Returns
        -------
        Of images, features, object_masks and, in training alone, synthetic, poses and labels.
        """
        wanted = set(cls.needs)
        if getattr(options, "object_mask", "none") != "none":
            wanted.add("object_masks")
        for made in ("synthetic", "poses"):
            if getattr(options, made, None):
                wanted.add(made)
        return frozenset(wanted if training else wanted - {"synthetic", "poses", "labels"})

    @abstractmethod
    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Learn from the training subset; go on from `checkpoint` if it holds a beginning."""

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """What the method can show besides its anomaly map, by caption.

        Returns
        -------
        uint8 (N, h, w, 3), RGB, for images; float (N, h, w) for maps, higher is more anomalous.
        """
        return {}

    @abstractmethod
    def score(self, data: Data) -> Scores:
        """Score images, each independently of the others."""

    @abstractmethod
    def state(self) -> dict[str, "torch.Tensor"]:
        """Everything learned, as named tensors."""

    @abstractmethod
    def restore(self, state: dict[str, "torch.Tensor"]) -> None:
        """Take over what `state` returned."""

    def save(self, folder: Path | str, provenance: dict[str, Any] | None = None) -> None:
        """Write ``model.safetensors`` and ``model.json`` into `folder`."""
        from safetensors.torch import save_file

        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state().items()}
        with replacing(Path(folder) / "model.safetensors") as partial:
            save_file(tensors, partial)
            checksum = file_hash(partial)
        about = {
            "options": self.options.model_dump(mode="json"),
            "seed": self.seed,
            "provenance": provenance or {},
            "sha256": checksum,
        }
        write_json(Path(folder) / "model.json", about)

    @classmethod
    def load(cls, folder: Path | str, device: "torch.device") -> Self:
        """Read what `save` wrote.

        Raises
        ------
        FlawlineError
            If the files are missing, damaged, or of another method.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            about = read_json(folder / "model.json")
            if file_hash(folder / "model.safetensors") != about["sha256"]:
                raise ValueError("model.safetensors does not match its checksum in model.json")
            detector = cls(cls.Options.model_validate(about["options"]), about["seed"], device)
            detector.restore(load_file(folder / "model.safetensors", device=str(device)))
        except Exception as error:  # what is damaged can fail anywhere
            raise FlawlineError(
                f"{folder}: no readable {cls.__name__} model ({error}). Delete the folder and run "
                "the same command again to train it anew."
            ) from error
        return detector


class MapDetector(Detector):
    """A detector whose cells, each scored by itself, become the anomaly map and the image score.

    Attributes
    ----------
    rings : float32 (R, R), what cells are multiplied by, by their distance to the two nearest
        edges; None for 1 everywhere.
    """

    options: Any
    rings: "torch.Tensor | None" = None

    @abstractmethod
    def cells(self, data: Data) -> np.ndarray:
        """Score every cell of what the networks see: float32 (N T, h, w)."""

    def score(self, data: Data) -> Scores:
        """Smooth the cells to the map, and take the mean of its largest values for the image."""
        return self.judge(data.stitched(self.cells(data)), data)

    def learn_border(self, data: Data) -> None:
        """Calm the border, where it and not the part decides the scores of good images.

        A network that pads with zeros sees little like a pattern's cut edge, and few training
        patches look alike there. Each ring of cells, told apart by their distance to the two
        nearest edges, is scaled so that training images reach no higher in it than inside. No cell
        is left out. A memory must not know the image itself here, or its odd border patches, which
        it remembers first of all, would seem calm.
        """
        import torch

        rows = np.unique(np.linspace(0, len(data) - 1, min(len(data), BORDER_IMAGES)).astype(int))
        sample = replace(data.take(rows), own=rows)
        cells = np.concatenate([part.stitched(self.cells(part)) for part in sample.chunks()])
        counts: np.ndarray = np.ones(cells.shape, bool)
        if sample.counted is not None:
            counts = cells_of(sample.counted, cells.shape[1:], HALF)
        rings = ring_numbers(cells.shape[1:], sample.geometry)
        scales: np.ndarray = np.ones(RINGS**2, np.float32)
        inside = counts & (rings == RINGS**2 - 1)
        if inside.any():
            usual = float(np.quantile(cells[inside], BORDER_QUANTILE))
            for ring in range(RINGS**2 - 1):
                some = cells[counts & (rings == ring)]
                if len(some):
                    loud = max(float(np.quantile(some, BORDER_QUANTILE)), 1e-12)
                    scales[ring] = min(1.0, usual / loud)
        self.rings = torch.from_numpy(scales.reshape(RINGS, RINGS)).to(self.device)

    def _calmed(self, cells: np.ndarray, data: Data) -> np.ndarray:
        if self.rings is None:
            return cells
        scales = self.rings.cpu().numpy().ravel()
        return cells * scales[ring_numbers(cells.shape[1:], data.geometry)]

    def judge(self, cells: np.ndarray, data: Data) -> Scores:
        """Scores and maps from the cells of whole images, float32 (N, h, w)."""
        cells = self.options.known(self._calmed(cells, data), data)
        maps = smooth_maps(cells, data.geometry, self.options.smoothing)
        judged = maps if self.options.score_from == "map" else cells
        inside = self.options.inside(data, judged.shape[1:])
        return Scores(self.options.image_scores(judged, inside), maps.astype(np.float16))


def ring_numbers(grid: Shape, geometry: Geometry) -> np.ndarray:
    """How far each cell is from the two nearest edges: int (h, w), R * R - 1 for inner cells."""
    seen = geometry.tiling.canvas if geometry.tiling else geometry.shape
    down, across = (
        np.minimum(np.arange(cells), np.arange(cells)[::-1]) * (pixels / cells) // RING_WIDTH
        for cells, pixels in zip(grid, seen, strict=True)
    )
    near = np.minimum(down[:, None], across[None]).clip(max=RINGS - 1).astype(int)
    far = np.maximum(down[:, None], across[None]).clip(max=RINGS - 1).astype(int)
    return near * RINGS + far


def resize_cells(cells: np.ndarray, grid: Shape) -> np.ndarray:
    """Cell scores float32 (N, h, w) on another grid, bilinear."""
    import cv2

    if cells.shape[1:] == grid:
        return cells
    resized = [cv2.resize(cell, grid[::-1], interpolation=cv2.INTER_LINEAR) for cell in cells]
    return np.stack(resized)


def smooth_maps(cells: np.ndarray, geometry: Geometry, sigma: float) -> np.ndarray:
    """Cell scores to anomaly maps: bilinear to the image's shape, and a Gaussian.

    Parameters
    ----------
    cells : float32 (N, h, w), of whole images.
    sigma : standard deviation of the Gaussian, pixels of what networks see; 0 for none.

    Returns
    -------
    float32 (N, H, W), of the prepared images' shape.
    """
    import cv2

    shape = geometry.shape
    seen = geometry.tiling.canvas if geometry.tiling else shape
    finer = cells.shape[1] > shape[0]  # such cells are smoothed before they are averaged
    sigma *= (cells.shape[1] if finer else shape[0]) / seen[0]
    maps = np.empty((len(cells), *shape), np.float32)
    for i, cell in enumerate(cells):
        if finer:
            cell = _blurred(cell, sigma)
            maps[i] = cv2.resize(cell, shape[::-1], interpolation=cv2.INTER_AREA)
        else:
            cell = cv2.resize(cell, shape[::-1], interpolation=cv2.INTER_LINEAR)
            maps[i] = _blurred(cell, sigma)
    return maps


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    if not sigma:
        return values
    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
