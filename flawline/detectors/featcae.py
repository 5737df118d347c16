"""FeatCAE: a convolutional autoencoder on frozen features.

Each position's feature vector is squeezed through 1x1 convolutions; a defect's features are
rebuilt badly. After deep feature reconstruction (Yang, Shi, Qi: DFR, 2020). As the convolutions
are 1x1, positions are independent of each other and train as rows of one matrix.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field
from tqdm import trange

from flawline.detectors.base import (
    Data,
    Detector,
    ObjectMaskUse,
    Scores,
    smooth_maps,
)
from flawline.devices import autocast, inference_precision, to_tensor
from flawline.seeding import derive

if TYPE_CHECKING:
    import torch


class FeatCAEOptions(ObjectMaskUse):
    """Defaults are the published ones, but for standardised features and random positions."""

    method: Literal["featcae"] = "featcae"
    features: str = Field(description="Name of the feature set.")
    latent: int = Field(100, ge=1, description="Channels of the narrowest layer.")
    epochs: int = Field(50, ge=1)
    positions_per_epoch: int = Field(
        65_536, ge=256, description="Positions drawn anew for each epoch; at most all there are."
    )
    batch_size: int = Field(1024, ge=2, description="Positions a step.")
    learning_rate: float = Field(1e-3, gt=0)
    standardize: bool = Field(True, description="Mean 0 and variance 1 for every channel.")
    border: int = Field(1, ge=0, description="Cells at the border that do not count.")
    largest: int = Field(10, ge=1, description="Cells whose mean is the image score.")
    smoothing: float = Field(4.0, ge=0, description="Sigma of the map's Gaussian, pixels.")


def build_network(channels: int, latent: int) -> "torch.nn.Sequential":
    """C -> (C+2L)/2 -> 2L -> L and back; normalised and rectified but for latent and output."""
    from torch import nn

    middle = (channels + 2 * latent) // 2
    widths = [channels, middle, 2 * latent, latent, 2 * latent, middle, channels]
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(wide, narrow))
        if i not in (2, 5):
            layers += [nn.BatchNorm1d(narrow), nn.ReLU()]
    return nn.Sequential(*layers)


class FeatCAE(Detector):
    """Anomaly score of a position = mean squared error of its rebuilt features."""

    Options = FeatCAEOptions
    needs = frozenset({"features"})
    options: FeatCAEOptions
    network: "torch.nn.Sequential"
    mean: "torch.Tensor"  # float32 (C,)
    std: "torch.Tensor"  # float32 (C,)

    def fit(self, data: Data) -> list[dict[str, Any]]:
        """Adam on the mean squared error."""
        import torch

        assert data.features is not None
        _, height, width, channels = data.features.shape
        positions = to_tensor(data.features, self.device).reshape(-1, channels)
        if self.options.object_mask == "memory":
            inside = to_tensor(self.options.learned(data, (height, width)), self.device)
            positions = positions[inside.reshape(-1)]
        self._standardize_by(positions)
        torch.manual_seed(derive(self.seed, "weights"))
        self.network = build_network(channels, self.options.latent).to(self.device).train()
        optimizer = torch.optim.Adam(
            self.network.parameters(), self.options.learning_rate, fused=True
        )
        order = torch.Generator().manual_seed(derive(self.seed, "order"))
        precision = inference_precision(self.device, "auto")
        log = []
        for epoch in trange(1, self.options.epochs + 1, desc="featcae", unit="epoch", disable=None):
            drawn = torch.randperm(len(positions), generator=order)
            drawn = drawn[: self.options.positions_per_epoch].to(self.device)
            losses = torch.zeros((), device=self.device)
            batches = [part for part in drawn.split(self.options.batch_size) if len(part) > 1]
            for part in batches:
                target = (positions[part].float() - self.mean) / self.std
                with autocast(self.device, precision):
                    rebuilt = self.network(target)
                loss = torch.nn.functional.mse_loss(rebuilt.float(), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses += loss.detach()
            log.append({"epoch": epoch, "loss": float(losses) / len(batches)})
        self.network.eval()
        return log

    def _standardize_by(self, positions: "torch.Tensor") -> None:
        import torch

        channels = positions.shape[1]
        if self.options.standardize:
            total = torch.zeros(2, channels, dtype=torch.float64, device=self.device)
            for part in positions.split(65_536):
                values = part.double()
                total += torch.stack([values.sum(0), values.square().sum(0)])
            mean, square = total / len(positions)
            self.mean = mean.float()
            self.std = (square - mean.square()).clamp(min=1e-8).sqrt().float()
        else:
            self.mean = torch.zeros(channels, device=self.device)
            self.std = torch.ones(channels, device=self.device)

    def score(self, data: Data) -> Scores:
        """Mean of the largest errors for the image, the smoothed errors for the map."""
        import torch

        assert data.features is not None
        count, height, width, channels = data.features.shape
        positions = to_tensor(data.features, self.device).reshape(-1, channels)
        errors = []
        with torch.inference_mode():
            for part in positions.split(65_536):
                target = (part.float() - self.mean) / self.std
                errors.append((self.network(target) - target).square().mean(1).cpu())
        cells = torch.cat(errors).reshape(count, height, width).numpy()
        cells = self.options.known(cells, data)
        edge = min(self.options.border, (min(height, width) - 1) // 2)
        kept = slice(edge, height - edge), slice(edge, width - edge)
        inner = np.pad(cells[:, *kept], ((0, 0), (edge, edge), (edge, edge)), mode="edge")
        maps = smooth_maps(inner, data.image_size, self.options.smoothing)
        on_object = np.where(self.options.inside(data, (height, width)), cells, 0)[:, *kept]
        largest = np.sort(on_object.reshape(count, -1), axis=1)[:, -self.options.largest :]
        return Scores(largest.mean(axis=1), maps.astype(np.float16))

    def state(self) -> dict[str, "torch.Tensor"]:
        """Standardisation and network weights."""
        weights = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return {"mean": self.mean, "std": self.std, **weights}

    def restore(self, state: dict[str, "torch.Tensor"]) -> None:
        """Rebuild the network and take its weights."""
        self.mean, self.std = state.pop("mean"), state.pop("std")
        self.network = build_network(len(self.mean), self.options.latent).to(self.device).eval()
        self.network.load_state_dict(
            {name.removeprefix("network."): value for name, value in state.items()}
        )
