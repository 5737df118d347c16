"""PatchCore: a memory of good patches.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly
Detection, CVPR 2022. Section and equation numbers below are the paper's.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from flawline.detectors.base import (
    Data,
    Detector,
    ObjectMaskUse,
    Scores,
    smooth_maps,
)
from flawline.devices import to_tensor
from flawline.features.coreset import greedy_coreset, project
from flawline.features.neighbours import nearest
from flawline.seeding import derive

if TYPE_CHECKING:
    import torch


class PatchCoreOptions(ObjectMaskUse):
    """Defaults are the paper's, but for the image score: docs/results.md has the measurement."""

    method: Literal["patchcore"] = "patchcore"
    features: str = Field(description="Name of the feature set.")
    coreset_fraction: float = Field(0.1, gt=0, le=1, description="Part of the patches kept.")
    projection: int = Field(128, ge=1, description="Dimensions in which the coreset is chosen.")
    neighbours: int = Field(9, ge=2, description="b of equation 7.")
    reweight: bool = Field(False, description="Apply equation 7 to the image score (paper).")
    smoothing: float = Field(4.0, ge=0, description="Sigma of the map's Gaussian, pixels.")
    score_from: Literal["map", "patches"] = Field(
        "map", description="Largest value of the smoothed map, or of the patch scores (paper)."
    )


class PatchCore(Detector):
    """Anomaly score of a patch = distance to the nearest patch in memory."""

    Options = PatchCoreOptions
    needs = frozenset({"features"})
    options: PatchCoreOptions
    bank: "torch.Tensor"  # float32 (M, C)

    def fit(self, data: Data) -> list[dict[str, Any]]:
        """Memory bank: a greedy coreset of all training patches (section 3.2)."""

        assert data.features is not None
        _, height, width, channels = data.features.shape
        patches = to_tensor(data.features, self.device).reshape(-1, channels)
        if self.options.object_mask == "memory":
            inside = to_tensor(self.options.learned(data, (height, width)), self.device)
            patches = patches[inside.reshape(-1)]
        count = max(round(len(patches) * self.options.coreset_fraction), 1)
        projected = project(patches, self.options.projection, derive(self.seed, "projection"))
        chosen = greedy_coreset(projected, count, derive(self.seed, "coreset"))
        self.bank = patches[chosen].float()
        return [{"step": 1, "patches": len(patches), "memory": count}]

    def score(self, data: Data) -> Scores:
        """Distances to memory (section 3.3), reweighted by the density around the match."""
        import torch

        assert data.features is not None
        count, height, width, channels = data.features.shape
        patches = to_tensor(data.features, self.device).float()
        distances, matches = nearest(patches.reshape(-1, channels), self.bank)
        distances, matches = distances.reshape(count, -1), matches.reshape(count, -1)
        cells = self.options.known(distances.reshape(count, height, width).cpu().numpy(), data)
        maps = smooth_maps(cells, data.image_size, self.options.smoothing)
        on_object = np.where(self.options.inside(data, (height, width)), cells, -1)
        peak, where = torch.from_numpy(on_object.reshape(count, -1)).to(self.device).max(1)
        rows = torch.arange(count, device=self.device)
        scores = peak
        if self.options.score_from == "map":
            on_object = np.where(self.options.inside(data, maps.shape[1:]), maps, -1)
            scores = torch.from_numpy(on_object.max((1, 2)))
        if self.options.reweight:
            strange = patches.reshape(count, -1, channels)[rows, where]
            weights = self._weights(strange, matches[rows, where], peak)
            scores = scores * weights.to(scores.device)
        return Scores(scores.cpu().numpy().astype(np.float32), maps.astype(np.float16))

    def _weights(
        self, strange: "torch.Tensor", matches: "torch.Tensor", distances: "torch.Tensor"
    ) -> "torch.Tensor":
        """Equation 7: low where the matched memory vector's neighbours are as near as itself."""
        import torch

        _, around = nearest(self.bank[matches], self.bank, self.options.neighbours)
        to_around = (self.bank[around] - strange[:, None]).norm(dim=2)
        return 1 - torch.exp(distances - to_around.logsumexp(1))

    def state(self) -> dict[str, "torch.Tensor"]:
        """The memory bank, half precision as the features are."""
        return {"bank": self.bank.half()}

    def restore(self, state: dict[str, "torch.Tensor"]) -> None:
        """Take the memory bank."""
        self.bank = state["bank"].float()
