"""What every detector is: fitted on goods, asked for scores, saved and loaded without pickle."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from flawline.detectors.training import Checkpoint, Training
from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, read_table, replacing, write_json
from flawline.options import Options
from flawline.provenance import file_hash

if TYPE_CHECKING:
    import torch

CHUNK_IMAGES = 64


@dataclass(frozen=True)
class Synthetic:
    """A cached set of synthetic anomalies; row i was made from training image i modulo N.

    Attributes
    ----------
    images : uint8 (M, S, S, 3), RGB.
    masks : uint8 (M, S, S), 1 where the image changed.
    kinds : the recipe of each, joined by + where several were applied.
    """

    images: np.ndarray
    masks: np.ndarray
    kinds: list[str]

    def of(self, rows: np.ndarray, count: int) -> "Synthetic":
        """What was made from the training images `rows` (ascending) of `count`."""
        rounds = np.arange(0, len(self.images), count)
        own = (rounds[:, None] + rows).ravel()
        own = own[own < len(self.images)]
        return Synthetic(self.images[own], self.masks[own], [self.kinds[row] for row in own])


@dataclass(frozen=True)
class Data:
    """What a detector may see of one subset; it holds what the detector's `inputs` name.

    Attributes
    ----------
    image_size : side of the prepared images, pixels.
    images : uint8 (N, S, S, 3), RGB, or None.
    features : one float16 (N, H, W, C) per feature set.
    object_masks : uint8 (N, S, S), 0 or 1, or None.
    synthetic : for training alone.
    labels : int64 (N,), 1 = defective; for supervised training alone.
    """

    image_size: int
    images: np.ndarray | None = None
    features: tuple[np.ndarray, ...] = ()
    object_masks: np.ndarray | None = None
    synthetic: Synthetic | None = None
    labels: np.ndarray | None = None

    @classmethod
    def open(cls, image_size: int, files: Mapping[str, Any]) -> Self:
        """Map those of `files` (name to path or paths) that a detector reads; ignore others."""
        found: dict[str, Any] = {
            name: read_array(files[name]) for name in ("images", "object_masks") if name in files
        }
        if "features" in files:
            found["features"] = tuple(map(read_array, files["features"]))
        if "synthetic_images" in files:
            found["synthetic"] = Synthetic(
                read_array(files["synthetic_images"]),
                read_array(files["synthetic_masks"]),
                read_table(files["synthetic_index"])["kind"].tolist(),
            )
        if "labels" in files:
            found["labels"] = read_table(files["labels"])["label"].to_numpy()
        return cls(image_size, **found)

    def __len__(self) -> int:
        arrays = (self.images, *self.features, self.object_masks)
        return next(len(array) for array in arrays if array is not None)

    def take(self, rows: np.ndarray) -> "Data":
        """Some of the images, and what was synthesised from them.

        Parameters
        ----------
        rows : int (K,), ascending.
        """

        def some(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[rows]

        return Data(
            self.image_size,
            some(self.images),
            tuple(array[rows] for array in self.features),
            some(self.object_masks),
            self.synthetic and self.synthetic.of(rows, len(self)),
            some(self.labels),
        )

    def chunks(self, size: int = CHUNK_IMAGES) -> Iterator["Data"]:
        """The same data without what is for training, at most `size` images at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield Data(
                self.image_size,
                None if self.images is None else self.images[part],
                tuple(array[part] for array in self.features),
                None if self.object_masks is None else self.object_masks[part],
            )


class FeatureUse(Options):
    """Options of detectors that work on cached features."""

    features: str | list[str] = Field(
        description="Name of the feature set, or names of several to use together."
    )

    @property
    def feature_sets(self) -> list[str]:
        """The names, as a list."""
        return [self.features] if isinstance(self.features, str) else self.features


# `object_mask: memory` learns more of the surroundings than it scores, because features at the
# outline see the background too. Pixels at 256 px; measured in docs/results.md.
MEMORY_MARGIN = 16


class ObjectMaskUse(Options):
    """Options of detectors whose image score can be restricted to the object."""

    object_mask: Literal["none", "score", "memory"] = Field(
        "none",
        description="`score` takes the image score from the object alone; `memory` learns from the "
        "object alone as well, so its anomaly map shows nothing beside it.",
    )
    object_dilation: int = Field(
        3, ge=0, description="How far around the object still counts, pixels at 256 px."
    )

    def inside(self, data: Data, shape: tuple[int, int], margin: int = 0) -> np.ndarray:
        """Which cells of a grid of `shape` touch the dilated object; all, without `object_mask`.

        An image in which no object was found counts as a whole: a missing part is a defect too.
        `margin` is added to the dilation, pixels at 256 px.

        Returns
        -------
        bool (N, h, w).
        """
        import cv2

        if self.object_mask == "none":
            return np.ones((len(data), *shape), bool)
        assert data.object_masks is not None
        side = 2 * round((self.object_dilation + margin) * data.image_size / 256) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        found = np.empty((len(data), *shape), bool)
        for i, mask in enumerate(data.object_masks):
            grown = cv2.dilate(np.asarray(mask), disc).astype(np.float32)
            touched = cv2.resize(grown, shape[::-1], interpolation=cv2.INTER_AREA) > 0
            found[i] = touched if touched.any() else True
        return found

    def learned(self, data: Data, shape: tuple[int, int]) -> np.ndarray:
        """Which cells `memory` learns from: bool (N, h, w)."""
        return self.inside(data, shape, MEMORY_MARGIN)

    def known(self, cells: np.ndarray, data: Data) -> np.ndarray:
        """Cell scores without what was kept out of memory: as calm as the calmest of the object.

        Parameters
        ----------
        cells : float32 (N, h, w).
        """
        if self.object_mask != "memory":
            return cells
        inside = self.inside(data, cells.shape[1:])
        calmest = np.where(inside, cells, np.inf).min((1, 2), keepdims=True)
        return np.where(inside, cells, calmest).astype(np.float32)


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

    def __init__(self, options: Any, seed: int, device: "torch.device") -> None:
        self.options = options
        self.seed = seed
        self.device = device

    @classmethod
    def inputs(cls, options: Any, *, training: bool) -> frozenset[str]:
        """What it must see: `needs` and what its options ask for.

        Returns
        -------
        Of images, features, object_masks and, in training alone, synthetic and labels.
        """
        wanted = set(cls.needs)
        if getattr(options, "object_mask", "none") != "none":
            wanted.add("object_masks")
        if getattr(options, "synthetic", None):
            wanted.add("synthetic")
        return frozenset(wanted if training else wanted - {"synthetic", "labels"})

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


def resize_cells(cells: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Cell scores float32 (N, h, w) on another grid, bilinear."""
    import cv2

    if cells.shape[1:] == grid:
        return cells
    resized = [cv2.resize(cell, grid[::-1], interpolation=cv2.INTER_LINEAR) for cell in cells]
    return np.stack(resized)


def smooth_maps(cells: np.ndarray, image_size: int, sigma: float) -> np.ndarray:
    """Cell scores to anomaly maps: bilinear to the image's size, then a Gaussian.

    Parameters
    ----------
    cells : float32 (N, h, w).
    image_size : side of the result, pixels.
    sigma : standard deviation of the Gaussian, pixels; 0 for none.

    Returns
    -------
    float32 (N, S, S).
    """
    import cv2

    maps = np.empty((len(cells), image_size, image_size), np.float32)
    for i, cell in enumerate(cells):
        maps[i] = cv2.resize(cell, (image_size, image_size), interpolation=cv2.INTER_LINEAR)
        if sigma:
            maps[i] = cv2.GaussianBlur(maps[i], (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return maps
