"""What every detector is: fitted on goods, asked for scores, saved and loaded without pickle."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, replacing, write_json
from flawline.options import Options

if TYPE_CHECKING:
    import torch

CHUNK_IMAGES = 64


@dataclass(frozen=True)
class Data:
    """What a detector may see of one subset; it holds what the detector's `needs` name.

    Attributes
    ----------
    image_size : side of the prepared images, pixels.
    images : uint8 (N, S, S, 3), RGB, or None.
    features : float16 (N, H, W, C), or None.
    object_masks : uint8 (N, S, S), 0 or 1, or None.
    """

    image_size: int
    images: np.ndarray | None = None
    features: np.ndarray | None = None
    object_masks: np.ndarray | None = None

    @classmethod
    def open(cls, image_size: int, files: Mapping[str, str]) -> Self:
        """Map those of `files` (name to path) that are arrays of this class; others are ignored."""
        names = [name for name in ("images", "features", "object_masks") if name in files]
        return cls(image_size, **{name: read_array(files[name]) for name in names})

    def __len__(self) -> int:
        return next(len(array) for array in (self.images, self.features) if array is not None)

    def chunks(self, size: int = CHUNK_IMAGES) -> Iterator["Data"]:
        """The same data, at most `size` images at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield replace(
                self,
                images=None if self.images is None else self.images[part],
                features=None if self.features is None else self.features[part],
                object_masks=None if self.object_masks is None else self.object_masks[part],
            )


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
    """Of images and features; object masks are needed where the options use them."""

    def __init__(self, options: Any, seed: int, device: "torch.device") -> None:
        self.options = options
        self.seed = seed
        self.device = device

    @abstractmethod
    def fit(self, data: Data) -> list[dict[str, Any]]:
        """Learn from good images; return the training log, one row an epoch or step."""

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
        about = {
            "options": self.options.model_dump(mode="json"),
            "seed": self.seed,
            "provenance": provenance or {},
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
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        try:
            about = read_json(folder / "model.json")
            detector = cls(cls.Options.model_validate(about["options"]), about["seed"], device)
            detector.restore(load_file(folder / "model.safetensors", device=str(device)))
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise FlawlineError(
                f"{folder}: no readable {cls.__name__} model ({error}). Delete the folder and run "
                "the same command again to train it anew."
            ) from error
        return detector


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
