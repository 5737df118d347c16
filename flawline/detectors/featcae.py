"""FeatCAE: a convolutional autoencoder on frozen features.

Each position's feature vector is squeezed through 1x1 convolutions, which rebuild the features of
defects badly. After deep feature reconstruction (Yang, Shi, Qi: DFR, 2020). As the convolutions
are 1x1, positions are independent of each other and train as rows of one matrix.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry
from flawline.detectors.base import CellGraph, MapDetector, below
from flawline.detectors.data import Data
from flawline.detectors.masks import training_cells
from flawline.devices import autocast, to_tensor
from flawline.learning.training import Checkpoint, Trainer, Training, minimize, precision_on
from flawline.options.featcae import FeatCAEOptions
from flawline.seeding import derive

VALIDATED = 4096  # positions of the validation loss; more would only take longer


def build_network(channels: int, latent: int) -> torch.nn.Sequential:
    """Build C -> (C+2L)/2 -> 2L -> L and back, rectified except for latent vector and output."""
    middle = (channels + 2 * latent) // 2
    widths = [channels, middle, 2 * latent, latent, 2 * latent, middle, channels]
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(wide, narrow))
        if i not in (2, 5):
            layers += [nn.BatchNorm1d(narrow), nn.ReLU()]
    return nn.Sequential(*layers)


class FeatCAEGraph(CellGraph):
    """`FeatCAE.cells` as one module: features to cells."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, sets: list[torch.Tensor]) -> torch.Tensor:
        """Score every position: float32 (N, C, h, w) of each set to float32 (N, h, w)."""
        grid = max((one.shape[2:] for one in sets), key=math.prod)
        sets = [
            one
            if one.shape[2:] == grid
            else nn.functional.interpolate(one, grid, mode="bilinear").half().float()
            for one in sets
        ]
        joined = torch.cat(sets, 1).permute(0, 2, 3, 1)
        target = (joined.reshape(-1, joined.shape[3]) - self.mean) / self.std
        errors = (self.network(target) - target).square().mean(1)
        return errors.reshape(-1, grid[0], grid[1])


class FeatCAE(MapDetector):
    """Anomaly score of a position = mean squared error of its rebuilt features.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, FeatCAE
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), features=(images[:, ::8, ::8].astype(np.float16),))
    >>> options = FeatCAE.Options(features="any", latent=2, epochs=1)
    >>> detector = FeatCAE(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = FeatCAEOptions
    options: FeatCAEOptions
    network: torch.nn.Sequential
    mean: torch.Tensor  # float32 (C,)
    std: torch.Tensor  # float32 (C,)

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train with Adam on the mean squared error."""
        positions, grid = self._positions(data)
        trained, held = self._parted(data, grid)
        self._standardize_by(positions, trained)
        torch.manual_seed(derive(self.seed, "weights"))
        network = build_network(positions.shape[1], self.options.latent).to(self.device).train()
        optimizer = torch.optim.Adam(network.parameters(), self.options.learning_rate, fused=True)
        precision = precision_on(self.device, self.options)
        fraction = self.options.validation_fraction

        def step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            target = self._standardized(positions[trained[rows.to(self.device)]])
            with autocast(self.device, precision):
                rebuilt = network(target)
            loss = torch.nn.functional.mse_loss(rebuilt.float(), target)
            minimize(loss, optimizer)
            return {"loss": loss.detach()}

        def validate() -> dict[str, torch.Tensor]:
            with torch.inference_mode(), autocast(self.device, precision):
                target = self._standardized(positions[held])
                rebuilt = network.eval()(target).float()
            network.train()
            return {"loss": torch.nn.functional.mse_loss(rebuilt, target)}

        trainer = Trainer(
            "featcae",
            self.options,
            self.seed,
            {"network": network},
            {"adam": optimizer},
            checkpoint,
        )
        training = trainer.run(
            step,
            count=len(trained),
            rows_per_epoch=min(
                self.options.positions_per_epoch, data.rows_per_epoch(len(trained), fraction)
            ),
            batch_size=self.options.batch_size,
            epochs=self.options.epochs,
            validate=validate if len(held) else None,
        )
        self.network = network.eval()
        if self.options.calm_border:
            self.learn_border(data)
        return training

    def _positions(self, data: Data) -> tuple[torch.Tensor, tuple[int, int]]:
        """Return features of all sets as rows, float16 (N * H * W, C), and the finest grid."""
        grid = max((one.shape[1:3] for one in data.features), key=math.prod)
        sets = [to_tensor(features, self.device) for features in data.features]
        for number, features in enumerate(sets):
            if features.shape[1:3] != grid:
                moved = features.permute(0, 3, 1, 2).float()
                moved = torch.nn.functional.interpolate(moved, grid, mode="bilinear")
                sets[number] = moved.permute(0, 2, 3, 1).half()
        joined = sets[0] if len(sets) == 1 else torch.cat(sets, 3)
        return joined.reshape(-1, joined.shape[3]), grid

    def _parted(self, data: Data, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rows of positions to train on, and of some for the validation loss."""
        images = torch.zeros(len(data), dtype=torch.bool)
        images[data.held_back(self.options.validation_fraction, self.seed)] = True
        held = images.repeat_interleave(data.geometry.pieces * math.prod(grid))
        learned = training_cells(self.options, data, grid)
        counts = torch.ones_like(held) if learned is None else torch.from_numpy(learned.ravel())
        trained, held = (torch.nonzero(part)[:, 0] for part in (counts & ~held, counts & held))
        order = torch.Generator().manual_seed(derive(self.seed, "validation"))
        held = held[torch.randperm(len(held), generator=order)[:VALIDATED]]
        return trained.to(self.device), held.to(self.device)

    def _standardize_by(self, positions: torch.Tensor, trained: torch.Tensor) -> None:
        channels = positions.shape[1]
        if self.options.standardize:
            total = torch.zeros(2, channels, dtype=torch.float64, device=self.device)
            for rows in trained.split(65_536):
                values = positions[rows].double()
                total += torch.stack([values.sum(0), values.square().sum(0)])
            mean, square = total / len(trained)
            self.mean = mean.float()
            self.std = (square - mean.square()).clamp(min=1e-8).sqrt().float()
        else:
            self.mean = torch.zeros(channels, device=self.device)
            self.std = torch.ones(channels, device=self.device)

    def _standardized(self, positions: torch.Tensor) -> torch.Tensor:
        return (positions.float() - self.mean).div_(self.std)

    def cells(self, data: Data) -> np.ndarray:
        """Return the errors of the rebuilt features."""
        positions, grid = self._positions(data)
        errors = []
        with torch.inference_mode():
            for part in positions.split(65_536):
                target = self._standardized(part)
                errors.append((self.network(target) - target).square().mean(1).cpu())
        return torch.cat(errors).reshape(-1, *grid).numpy()

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return `cells` as one exportable module."""
        return FeatCAEGraph(self.network, self.mean, self.std)

    def state(self) -> dict[str, torch.Tensor]:
        """Return standardisation and network weights."""
        weights = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        rings = {} if self.rings is None else {"rings": self.rings}
        return {"mean": self.mean, "std": self.std, **rings, **weights}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the network and take its weights."""
        self.mean, self.std = state["mean"], state["std"]
        self.rings = state.get("rings")
        self.network = build_network(len(self.mean), self.options.latent).to(self.device).eval()
        self.network.load_state_dict(below(state, "network."))
