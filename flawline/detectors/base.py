"""The contract of every detector: fit on good images, score, save without pickle."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data, Scores
from flawline.detectors.maps import border_scales, ring_numbers, smooth_maps
from flawline.detectors.masks import image_scores, mask_scores, object_cells
from flawline.errors import FlawlineError
from flawline.files import read_json, replacing, write_json
from flawline.learning.training import Checkpoint, Training
from flawline.options.method import MapUse, MethodOptions
from flawline.provenance import file_hash


def below(state: dict[str, torch.Tensor], head: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with `head`, without it."""
    return {key.removeprefix(head): state[key] for key in state if key.startswith(head)}


class Detector(ABC):
    """A method with its options and, once fitted or loaded, its learned state."""

    Options: ClassVar[type[MethodOptions]]

    def __init__(self, options: Any, seed: int, device: torch.device) -> None:
        self.options = options
        self.seed = seed
        self.device = device

    @abstractmethod
    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Learn from the training subset; go on from `checkpoint` if it holds a beginning."""

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """Return pictures that the method can show besides its anomaly map, by caption.

        Returns
        -------
        uint8 (N, h, w, 3), RGB, for images; float (N, h, w) for maps, higher is more anomalous.
        """
        return {}

    @abstractmethod
    def score(self, data: Data) -> Scores:
        """Score images, each independently of the others."""

    @abstractmethod
    def state(self) -> dict[str, torch.Tensor]:
        """Return everything learned, as named tensors."""

    @abstractmethod
    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over what `state` returned."""

    def graph(self, geometry: Geometry) -> nn.Module | None:
        """Return the scoring as one exportable module, or None if there is none.

        It takes a list of features, float32 (N, C, h, w) each, or images, float32 (N, 3, H, W),
        grey levels, and returns scores, float32 (N,), and cells of maps, (N, K, h, w), of which the
        largest are shown. That of a `MapDetector` is a `CellGraph`. Tiles are rows of their own.
        """
        return None

    def save(self, folder: Path | str, provenance: dict[str, Any] | None = None) -> None:
        """Write ``model.safetensors`` and ``model.json`` into `folder`."""
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
    def load(cls, folder: Path | str, device: torch.device) -> Self:
        """Load a saved detector.

        Raises
        ------
        FlawlineError
            If the files are missing, damaged, or of another method.
        """
        folder = Path(folder)
        try:
            about = read_json(folder / "model.json")
            if file_hash(folder / "model.safetensors") != about["sha256"]:
                raise ValueError("model.safetensors does not match its checksum in model.json")
            detector = cls(cls.Options.model_validate(about["options"]), about["seed"], device)
            detector.restore(load_file(folder / "model.safetensors", device=str(device)))
        except Exception as error:  # a damaged file can raise any exception
            raise FlawlineError(
                f"{folder}: not a readable {cls.__name__} model ({error}). Delete the folder and "
                "run the same command again to train a new one."
            ) from error
        return detector


class CellGraph(nn.Module):
    """`MapDetector.cells` as one module, which returns float32 (N, h, w).

    It may return a list of several such arrays, of which the first are the cells.
    """

    def image_scores(
        self, means: list[torch.Tensor], seen: Any, cells: torch.Tensor
    ) -> torch.Tensor:
        """Return the scores of images, float32 (N,).

        Parameters
        ----------
        means : of the largest values of each array, float32 (N,).
        seen : the module's input.
        cells : float32 (N, h, w), before the border is calmed; -1 beside the object.
        """
        return means[0]


class MapDetector(Detector):
    """A detector that scores cells independently, from which map and image score follow.

    Attributes
    ----------
    rings : float32 (R, R), factors of cells by their distance to the two nearest edges; None for
        1 everywhere.
    """

    options: MapUse
    rings: torch.Tensor | None = None

    @abstractmethod
    def cells(self, data: Data) -> np.ndarray:
        """Score every cell of what the networks see: float32 (N T, h, w)."""

    def score(self, data: Data) -> Scores:
        """Smooth the cells to the map, and take the mean of its largest values for the image."""
        return self.judge(data.stitched(self.cells(data)), data)

    def learn_border(self, data: Data) -> None:
        """Learn to calm the border, as in `border_scales`."""
        scales = border_scales(self.cells, data)
        self.rings = torch.from_numpy(scales).to(self.device)

    def _calmed(self, cells: np.ndarray, data: Data) -> np.ndarray:
        if self.rings is None:
            return cells
        scales = self.rings.cpu().numpy().ravel()
        return cells * scales[ring_numbers(cells.shape[1:], data.geometry)]

    def judge(self, cells: np.ndarray, data: Data) -> Scores:
        """Compute scores and maps from the cells of whole images, float32 (N, h, w)."""
        cells = mask_scores(self.options, self._calmed(cells, data), data)
        maps = smooth_maps(cells, data.geometry, self.options.smoothing)
        judged = maps if self.options.score_from == "map" else cells
        inside = object_cells(self.options, data, judged.shape[1:])
        return Scores(image_scores(self.options, judged, inside), maps.astype(np.float16))
