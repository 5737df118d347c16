"""Subspace: how far a patch is from the directions in which good patches vary.

`residual`: SubspaceAD (CVPR 2026, arXiv 2602.23013): the length of what the leading principal
components of good patches leave unexplained. `mahalanobis`: Rippel, Mertens, Merhof, Modeling the
Distribution of Normal Data in Pre-Trained Deep Features for Anomaly Detection, ICPR 2020; here for
patches instead of images, with a covariance shrunk towards its mean variance. Both are the length
of a patch's feature vector after one linear map, which follows from mean and covariance of all
good patches: one pass over the features, no training, no memory.
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
from flawline.devices import readable_tensor, to_tensor
from flawline.learning.moments import CHUNK, Moments
from flawline.learning.training import Checkpoint, Training
from flawline.learning.whitening import Whitening
from flawline.options.subspace import SubspaceOptions


@dataclass(frozen=True)
class LinearDistance:
    """The length of `(x - mean) @ matrix`, divided by that of a typical good patch.

    Attributes
    ----------
    moments : of the good patches; those of more patches can be merged with them.
    mean, matrix : float32 (C,) and (C, D).
    scale : root of the mean square of good patches' lengths.
    """

    moments: Moments
    mean: torch.Tensor
    matrix: torch.Tensor
    scale: float

    @classmethod
    def of(cls, moments: Moments, options: SubspaceOptions) -> Self:
        """Derive the map from the moments of good patches."""
        if options.distance == "mahalanobis":
            matrix = Whitening.by(moments, options.shrinkage).matrix
        else:
            variances, axes = moments.principal()
            # ascending: the first ones are those that may be left unexplained
            shares = variances.cumsum(0) / variances.sum().clamp(min=1e-12)
            count = max(int((shares <= 1 - options.variance).sum()), 1)
            matrix = axes[:, :count].float().contiguous()
        wide = matrix.double()
        mean_square = float(((moments.covariance @ wide) * wide).sum())
        return cls(moments, moments.mean.float(), matrix, max(mean_square, 1e-12) ** 0.5)

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        """Compute distances: floating (N, C) to float32 (N,)."""
        return ((patches.float() - self.mean) @ self.matrix).norm(dim=1) / self.scale

    def state(self) -> dict[str, torch.Tensor]:
        """Return everything learned, as named tensors."""
        numbers = {"count": self.moments.count, "scale": self.scale}
        return {
            "mean": self.moments.mean,
            "covariance": self.moments.covariance,
            "matrix": self.matrix,
            **{name: torch.tensor(one, dtype=torch.float64) for name, one in numbers.items()},
        }

    @classmethod
    def restore(cls, state: dict[str, torch.Tensor]) -> Self:
        """Rebuild from what `state` returned."""
        moments = Moments(int(state["count"]), state["mean"], state["covariance"])
        return cls(moments, moments.mean.float(), state["matrix"], float(state["scale"]))


class SubspaceGraph(CellGraph):
    """`Subspace.cells` as one module: features to cells."""

    def __init__(self, distances: Sequence[LinearDistance]) -> None:
        super().__init__()
        self.means, self.matrices = (
            nn.ParameterList([nn.Parameter(one, False) for one in ones])
            for ones in ([d.mean for d in distances], [d.matrix for d in distances])
        )
        self.scales = [one.scale * len(distances) for one in distances]

    def forward(self, sets: list[torch.Tensor]) -> torch.Tensor:
        """Score every position: float32 (N, C, h, w) of each set to float32 (N, h, w)."""
        grid = max((one.shape[2:] for one in sets), key=math.prod)
        parts = []
        for features, mean, matrix, scale in zip(
            sets, self.means, self.matrices, self.scales, strict=True
        ):
            mapped = (features.permute(0, 2, 3, 1) - mean) @ matrix
            part = mapped.square().sum(3).sqrt() / scale
            if part.shape[1:] != grid:
                part = interpolate(part[:, None], grid, mode="bilinear")[:, 0]
            parts.append(part)
        return sum(parts[1:], parts[0])


class Subspace(MapDetector):
    """Anomaly score of a patch = its distance to the subspace of good patches.

    With several feature sets, the distances are averaged; each is relative to that of a typical
    good patch.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, Subspace
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), features=(images[:, ::8, ::8].astype(np.float16),))
    >>> options = Subspace.Options(features="any")
    >>> detector = Subspace(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = SubspaceOptions
    options: SubspaceOptions
    distances: list[LinearDistance]

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Learn mean and covariance of the good patches, in one pass for each."""
        self.distances, rows = [], []
        for number, features in enumerate(data.features):
            learned = training_cells(self.options, data, features.shape[1:3])
            patches = readable_tensor(features, self.device).reshape(-1, features.shape[3])
            if learned is not None:
                patches = patches[to_tensor(learned, self.device).reshape(-1)]
            distance = LinearDistance.of(Moments.of(patches), self.options)
            self.distances.append(distance)
            dimensions = distance.matrix.shape[1]
            rows.append({"step": number + 1, "patches": len(patches), "dimensions": dimensions})
        if self.options.calm_border:
            self.learn_border(data)
        return Training(rows, "mean and covariance computed")

    def cells(self, data: Data) -> np.ndarray:
        """Return the distances of all positions, averaged over the feature sets."""
        grid = max((one.shape[1:3] for one in data.features), key=math.prod)
        cells = np.zeros((len(data.features[0]), *grid), np.float32)
        for features, distance in zip(data.features, self.distances, strict=True):
            patches = to_tensor(features, self.device).reshape(-1, features.shape[3])
            found = torch.cat([distance(part) for part in patches.split(CHUNK)])
            of_set = found.reshape(features.shape[:3]).cpu().numpy()
            cells += resize_cells(of_set, grid) / len(self.distances)
        return cells

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return `cells` as one exportable module."""
        return SubspaceGraph(self.distances)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the moments, the maps made from them, and the border's scales."""
        distances = {
            f"{number}.{name}": value
            for number, distance in enumerate(self.distances)
            for name, value in distance.state().items()
        }
        return distances | ({} if self.rings is None else {"rings": self.rings})

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Load the moments and the maps."""
        self.rings = state.get("rings")
        self.distances = [
            LinearDistance.restore(below(state, f"{number}."))
            for number in range(len(self.options.feature_sets))
        ]
