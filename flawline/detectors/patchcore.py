"""PatchCore: a memory of good patches.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly
Detection, CVPR 2022. Section and equation numbers below are the paper's.
"""

from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from flawline.detectors.base import (
    Data,
    Detector,
    FeatureUse,
    ObjectMaskUse,
    Scores,
    resize_cells,
    smooth_maps,
)
from flawline.detectors.training import Checkpoint, Training
from flawline.devices import has_half_precision_units, readable_tensor, to_tensor
from flawline.features.coreset import greedy_coreset, project
from flawline.features.neighbours import nearest, nearest_by_candidates
from flawline.seeding import derive

if TYPE_CHECKING:
    import torch

TYPICAL_PATCHES = 20_000  # enough for a mean; only ensembles need it


class PatchCoreOptions(FeatureUse, ObjectMaskUse):
    """Defaults are the paper's, but for the image score: docs/results.md has the measurement."""

    method: Literal["patchcore"] = "patchcore"
    coreset_fraction: float = Field(0.1, gt=0, le=1, description="Part of the patches kept.")
    coreset_from: float = Field(
        1.0, gt=0, le=1, description="Random part of the patches that it is chosen from; 1: of all."
    )
    projection: int = Field(128, ge=1, description="Dimensions in which the coreset is chosen.")
    neighbours: int = Field(9, ge=2, description="b of equation 7.")
    reweight: bool = Field(False, description="Apply equation 7 to the image score (paper).")
    smoothing: float = Field(4.0, ge=0, description="Sigma of the map's Gaussian, pixels.")
    search: Literal["auto", "exact"] = Field(
        "auto", description="auto: neighbours found in bfloat16 where the device has units for it."
    )
    score_from: Literal["map", "patches"] = Field(
        "map", description="Largest value of the smoothed map, or of the patch scores (paper)."
    )

    @model_validator(mode="after")
    def _one_match(self) -> Self:
        if self.reweight and len(self.feature_sets) > 1:
            raise ValueError(
                "reweight: equation 7 needs the one match of a patch, and an ensemble has several; "
                "use one feature set, or leave `reweight` out"
            )
        return self


class PatchCore(Detector):
    """Anomaly score of a patch = distance to the nearest patch in memory.

    With several feature sets there is a memory for each (the paper's ensemble, section 4.4). Their
    distances are averaged after division by the typical distance of a training patch.
    """

    Options = PatchCoreOptions
    needs = frozenset({"features"})
    unit = "distance to the nearest remembered patch"
    options: PatchCoreOptions
    banks: "list[torch.Tensor]"  # float32 (M, C) each
    scales: list[float]

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Memory banks: greedy coresets of all training patches (section 3.2)."""
        self.banks, self.scales = [], []
        rows = []
        for number, features in enumerate(data.features):
            _, height, width, channels = features.shape
            patches = readable_tensor(features, self.device).reshape(-1, channels)
            if self.options.object_mask == "memory":
                inside = to_tensor(self.options.learned(data, (height, width)), self.device)
                patches = patches[inside.reshape(-1)]
            total = len(patches)
            count = max(round(total * self.options.coreset_fraction), 1)
            names = [] if number == 0 else [str(number)]
            patches = self._sample(patches, count, names)
            projection = derive(self.seed, "projection", *names)
            projected = project(patches, self.options.projection, projection)
            chosen = greedy_coreset(projected, count, derive(self.seed, "coreset", *names))
            self.banks.append(patches[chosen].float())
            self.scales.append(self._typical(patches) if len(data.features) > 1 else 1.0)
            rows.append({"step": number + 1, "patches": total, "memory": count})
        return Training(rows, "memory filled")

    def _sample(self, patches: "torch.Tensor", count: int, names: list[str]) -> "torch.Tensor":
        import torch

        if self.options.coreset_from == 1:
            return patches
        order = torch.Generator().manual_seed(derive(self.seed, "coreset_from", *names))
        kept = torch.randperm(len(patches), generator=order)
        kept = kept[: max(round(len(patches) * self.options.coreset_from), count)]
        return patches[kept.sort().values.to(self.device)]

    def _typical(self, patches: "torch.Tensor") -> float:
        import torch

        order = torch.Generator().manual_seed(derive(self.seed, "typical"))
        sample = torch.randperm(len(patches), generator=order)[:TYPICAL_PATCHES].to(self.device)
        # the second nearest: a patch that is itself in memory has the distance 0 to it
        distances, _ = nearest(patches[sample].float(), self.banks[-1], 2)
        return max(float(distances[:, -1].mean()), 1e-6)

    def score(self, data: Data) -> Scores:
        """Distances to memory (section 3.3), reweighted by the density around the match."""
        import torch

        half = self.options.search == "auto" and has_half_precision_units(self.device.type)
        search = nearest_by_candidates if half else nearest
        count = len(data)
        grid = data.features[0].shape[1:3]
        cells = np.zeros((count, *grid), np.float32)
        for features, bank, scale in zip(data.features, self.banks, self.scales, strict=True):
            _, height, width, channels = features.shape
            patches = to_tensor(features, self.device)
            distances, matches = search(patches.reshape(-1, channels), bank)
            found = distances.reshape(count, height, width).cpu().numpy()
            cells += resize_cells(found, grid) / (scale * len(self.banks))
        cells = self.options.known(cells, data)
        maps = smooth_maps(cells, data.image_size, self.options.smoothing)
        on_object = np.where(self.options.inside(data, grid), cells, -1)
        peak, where = torch.from_numpy(on_object.reshape(count, -1)).to(self.device).max(1)
        scores = peak
        if self.options.score_from == "map":
            on_object = np.where(self.options.inside(data, maps.shape[1:]), maps, -1)
            scores = torch.from_numpy(on_object.max((1, 2)))
        if self.options.reweight:
            rows = torch.arange(count, device=self.device)
            strange = patches.reshape(count, -1, channels)[rows, where].float()
            weights = self._weights(strange, matches.reshape(count, -1)[rows, where], peak)
            scores = scores * weights.to(scores.device)
        return Scores(scores.cpu().numpy().astype(np.float32), maps.astype(np.float16))

    def _weights(
        self, strange: "torch.Tensor", matches: "torch.Tensor", distances: "torch.Tensor"
    ) -> "torch.Tensor":
        """Equation 7: low where the matched memory vector's neighbours are as near as itself."""
        import torch

        bank = self.banks[0]
        _, around = nearest(bank[matches], bank, self.options.neighbours)
        to_around = (bank[around] - strange[:, None]).norm(dim=2)
        return 1 - torch.exp(distances - to_around.logsumexp(1))

    def state(self) -> dict[str, "torch.Tensor"]:
        """The memory banks, half precision as the features are, and their scales."""
        import torch

        banks = {f"bank.{number}": bank.half() for number, bank in enumerate(self.banks)}
        return banks | {"scales": torch.tensor(self.scales, dtype=torch.float64)}

    def restore(self, state: dict[str, "torch.Tensor"]) -> None:
        """Take the memory banks."""
        self.scales = state["scales"].tolist()
        self.banks = [state[f"bank.{number}"].float() for number in range(len(self.scales))]
