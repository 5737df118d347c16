"""PaDiM: a Gaussian of good patches for every place in the image.

Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for Anomaly
Detection and Localization, ICPR 2021. Section and equation numbers below are the paper's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from flawline.data.geometry import Geometry
from flawline.detectors.base import CellGraph, MapDetector, below
from flawline.detectors.data import Data
from flawline.detectors.maps import resize_cells
from flawline.detectors.masks import training_cells
from flawline.devices import to_tensor
from flawline.errors import FlawlineError
from flawline.learning.moments import Moments
from flawline.learning.training import Checkpoint, Training
from flawline.options.padim import PadimOptions
from flawline.seeding import derive

PLACES = 256  # at once, which bounds what computing takes besides the model
LARGEST = 4 << 30  # bytes of a model
LARGEST_EXPORTED = 2 << 30  # bytes of an ONNX file


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian for each of P places.

    Attributes
    ----------
    channels : int64 (D,), the channels that are looked at.
    means : float32 (P, D).
    matrices : float32 (P, D, D); the length of `(x - mean) @ matrix` is the Mahalanobis distance.
    """

    channels: torch.Tensor
    means: torch.Tensor
    matrices: torch.Tensor

    @classmethod
    def of(
        cls,
        features: np.ndarray,
        learned: np.ndarray | None,
        channels: torch.Tensor,
        shrinkage: float,
    ) -> Self:
        """Estimate them from good images (equation 1).

        Parameters
        ----------
        features : float16 (N, P, C).
        learned : bool (N, P), which patches are learned from; None for all.
        """
        (count, places), width = features.shape[:2], len(channels)
        device = channels.device
        means = torch.zeros(places, width, device=device)
        matrices = torch.zeros(places, width, width, device=device)
        seen = torch.full((places,), count, device=device)
        if learned is not None:
            seen = to_tensor(learned.sum(0), device)
        for some in _parts(places):
            patches = to_tensor(features[:, some], device)[..., channels].float()
            counts = torch.ones_like(patches[..., :1])
            if learned is not None:
                counts = to_tensor(learned[:, some], device)[..., None].float()
            total = seen[some, None]
            means[some] = (patches * counts).sum(0) / total.clamp(min=1)
            centred = ((patches - means[some]) * counts).transpose(0, 1)
            products = centred.transpose(1, 2) @ centred
            matrices[some] = products / (total[..., None] - 1).clamp(min=1)
        if (seen < 2).any():
            # one patch has no variance: such places take what all patches have in common
            alike = features if learned is None else features[learned]
            patches = to_tensor(alike.reshape(-1, features.shape[2]), device)
            common = Moments.of(patches[:, channels])
            means[seen < 2] = common.mean.float()
            matrices[seen < 2] = common.covariance.float()
        variance = float(matrices.diagonal(dim1=1, dim2=2).mean())
        added = max(shrinkage * variance, 1e-12) * torch.eye(width, device=device)
        for some in _parts(places):
            root = torch.linalg.cholesky((matrices[some] + added).double())
            one = torch.eye(width, dtype=root.dtype, device=device).expand_as(root)
            inverse = torch.linalg.solve_triangular(root, one, upper=False)
            matrices[some] = inverse.transpose(1, 2).float()
        return cls(channels, means, matrices)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Compute distances (equation 2): floating (N, P, C) to float32 (N, P).

        They are divided by the root of the number of channels, which is what good patches have.
        """
        apart = (features[..., self.channels].float() - self.means).transpose(0, 1)
        return (apart @ self.matrices).norm(dim=2).T / len(self.channels) ** 0.5

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything learned, as named tensors."""
        return {"channels": self.channels, "means": self.means, "matrices": self.matrices}


def _parts(places: int) -> list[slice]:
    return [slice(start, start + PLACES) for start in range(0, places, PLACES)]


class PadimGraph(CellGraph):
    """`Padim.cells` as one module: features to cells."""

    def __init__(self, gaussians: Sequence[Gaussians]) -> None:
        super().__init__()
        self.gaussians = gaussians
        self.means, self.matrices = (
            nn.ParameterList([nn.Parameter(one, False) for one in ones])
            for ones in ([g.means for g in gaussians], [g.matrices for g in gaussians])
        )

    def forward(self, sets: list[torch.Tensor]) -> torch.Tensor:
        """Score every position: float32 (N, C, h, w) of each set to float32 (N, h, w)."""
        grid = max((one.shape[2:] for one in sets), key=math.prod)
        parts = []
        for features, mean, matrix, gaussian in zip(
            sets, self.means, self.matrices, self.gaussians, strict=True
        ):
            chosen = features[:, gaussian.channels].flatten(2).permute(0, 2, 1)
            chosen = chosen.reshape(-1, mean.shape[0], mean.shape[1]).transpose(0, 1)
            mapped = (chosen - mean[:, None]) @ matrix
            distances = (mapped.square().mean(2)).sqrt().T
            part = distances.reshape(-1, *features.shape[2:]) / len(self.gaussians)
            if part.shape[1:] != grid:
                part = interpolate(part[:, None], grid, mode="bilinear")[:, 0]
            parts.append(part)
        return sum(parts[1:], parts[0])


class Padim(MapDetector):
    """Anomaly score of a patch = Mahalanobis distance from the good patches of its place.

    With several feature sets, the distances are averaged. Every tile has places of its own.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, Padim
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), features=(images[:, ::8, ::8].astype(np.float16),))
    >>> options = Padim.Options(features="any")
    >>> detector = Padim(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = PadimOptions
    options: PadimOptions
    gaussians: list[Gaussians]

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Learn a mean and a covariance for every place (section 3.2)."""
        self.gaussians, rows = [], []
        for number, features in enumerate(data.features):
            channels = self._channels(features.shape[3], number)
            places = data.geometry.pieces * math.prod(features.shape[1:3])
            _refuse_too_large(places, len(channels), LARGEST, "`channels` or `prepare.size`")
            learned = training_cells(self.options, data, features.shape[1:3])
            found = Gaussians.of(
                features.reshape(len(data), places, -1),
                None if learned is None else learned.reshape(len(data), places),
                channels,
                self.options.shrinkage,
            )
            self.gaussians.append(found)
            rows.append({"step": number + 1, "places": places, "channels": len(channels)})
        if self.options.calm_border:
            self.learn_border(data)
        return Training(rows, "mean and covariance of every place computed")

    def _channels(self, width: int, number: int) -> torch.Tensor:
        """Draw the channels (section 3.1), ascending: int64 (D,)."""
        order = torch.Generator().manual_seed(derive(self.seed, "channels", str(number)))
        drawn = torch.randperm(width, generator=order)[: self.options.channels]
        return drawn.sort().values.to(self.device)

    def cells(self, data: Data) -> np.ndarray:
        """Return the distances of all positions, averaged over the feature sets."""
        grid = max((one.shape[1:3] for one in data.features), key=math.prod)
        cells = np.zeros((len(data.features[0]), *grid), np.float32)
        for features, gaussian in zip(data.features, self.gaussians, strict=True):
            places = to_tensor(features, self.device).reshape(len(data), -1, features.shape[3])
            of_set = gaussian(places).cpu().numpy().reshape(features.shape[:3])
            cells += resize_cells(of_set, grid) / len(self.gaussians)
        return cells

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return `cells` as one exportable module."""
        for one in self.gaussians:
            places, channels = one.means.shape
            _refuse_too_large(places, channels, LARGEST_EXPORTED, "`channels` to export it")
        return PadimGraph(self.gaussians)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the Gaussians and the border's scales."""
        gaussians = {
            f"{number}.{name}": value
            for number, one in enumerate(self.gaussians)
            for name, value in one.state().items()
        }
        return gaussians | ({} if self.rings is None else {"rings": self.rings})

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Load the Gaussians."""
        self.rings = state.get("rings")
        sets = range(len(self.options.feature_sets))
        self.gaussians = [Gaussians(**below(state, f"{number}.")) for number in sets]


def _refuse_too_large(places: int, channels: int, limit: int, lower: str) -> None:
    size = places * channels**2 * 4
    if size > limit:
        raise FlawlineError(
            f"padim: {places} places with {channels} channels make a model of {size / 2**30:.1f} "
            f"GiB; at most {limit >> 30} are possible. Lower {lower}."
        )
