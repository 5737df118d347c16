"""The common base of image autoencoders, which learn to rebuild good images.

What they rebuild badly is anomalous. Each method has its own network and error.
"""

from abc import abstractmethod

import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.base import CellGraph, MapDetector
from flawline.detectors.data import BATCH_IMAGES, Data
from flawline.detectors.masks import training_cells
from flawline.devices import autocast, to_tensor
from flawline.features.resizing import resized, resizing_matrices
from flawline.learning.pixels import to_levels, to_signed
from flawline.learning.training import Checkpoint, Trainer, Training, minimize, precision_on
from flawline.options.reconstruction import ReconstructionOptions
from flawline.seeding import derive

Pairs = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]


class ReconstructionGraph(CellGraph):
    """`Reconstruction.cells` as one module: images to cells."""

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, detector: "Reconstruction", shape: Shape) -> None:
        super().__init__()
        side = detector.options.network_size
        self.network, self.errors = detector.network, detector.errors
        self.same = shape == (side, side)
        down, across = resizing_matrices(shape, (side, side))
        self.register_buffer("down", down)
        self.register_buffer("across", across)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score every pixel: grey levels float32 (N, 3, H, W) to float32 (N, S, S)."""
        if not self.same:
            images = resized(images, self.down, self.across).round().clamp(0, 255)
        target = to_signed(images)
        return self.errors(target, self.network(target))


class Reconstruction(MapDetector):
    """Learns to rebuild training images, and scores by the errors of rebuilt images."""

    options: ReconstructionOptions
    network: torch.nn.Module

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """Build a network from images float32 (B, 3, S, S) in [-1, 1] to the same."""

    @abstractmethod
    def errors(self, target: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """Return the error of every pixel: float32 (B, 3, S, S) in [-1, 1] twice to (B, S, S)."""

    def losses(self, target: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
        """Return the losses of training, with the shapes of `errors`; by default, the errors."""
        return self.errors(target, rebuilt)

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train with Adam on the mean loss, from synthetic anomalies, if any, to clean images."""
        data, held = data.parted(self.options.validation_fraction, self.seed)
        pairs, kept = self._pairs(data), None if held is None else self._pairs(held)
        torch.manual_seed(derive(self.seed, "weights"))
        network = self.build().train()
        rate = self.options.learning_rate
        optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
        precision = precision_on(self.device, self.options)

        def losses(pairs: Pairs, rows: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
            """Return the losses of the pixels that are learned, in one row."""
            clean, given, learned = pairs

            def mirror(images: torch.Tensor) -> torch.Tensor:
                some = mirrored.reshape(-1, *[1] * (images.ndim - 1))
                return torch.where(some, images.flip(-1), images)

            sources = rows % len(clean)
            target = to_signed(mirror(clean[sources]))
            with autocast(self.device, precision):
                rebuilt = network(target if given is clean else to_signed(mirror(given[rows])))
            found = self.losses(target, rebuilt.float())
            return (found if learned is None else found[mirror(learned[sources])]).flatten()

        def step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            mirrored = torch.rand(len(rows)) < 0.5 * self.options.flip
            loss = losses(pairs, rows.to(self.device), mirrored.to(self.device)).mean()
            minimize(loss, optimizer)
            return {"loss": loss.detach()}

        def validate() -> dict[str, torch.Tensor]:
            assert kept is not None
            network.eval()
            with torch.inference_mode():
                rows = torch.arange(len(kept[1]), device=self.device).split(BATCH_IMAGES)
                plain = torch.zeros(BATCH_IMAGES, dtype=torch.bool, device=self.device)
                found = torch.cat([losses(kept, part, plain[: len(part)]) for part in rows])
            network.train()
            return {"loss": found.mean()}

        trainer = Trainer(
            self.options.method,
            self.options,
            self.seed,
            {"network": network},
            {"adam": optimizer},
            checkpoint,
        )
        training = trainer.run(
            step,
            count=len(pairs[1]),
            rows_per_epoch=data.rows_per_epoch(len(pairs[1])),
            batch_size=self.options.batch_size,
            epochs=self.options.epochs,
            validate=validate if kept is not None else None,
        )
        self.network = network.eval()
        return training

    def _pairs(self, data: Data) -> Pairs:
        """Return clean images, inputs to rebuild them from, and which clean pixels are learned.

        Input i belongs to image i modulo N: uint8 (N, 3, S, S), (M, 3, S, S) and bool (N, S, S),
        or None for all.
        """
        clean = self._shrunk(data.require("images"))
        given = clean if data.synthetic is None else self._shrunk(data.synthetic.images)
        inside = training_cells(self.options, data, (self.options.network_size,) * 2)
        return clean, given, None if inside is None else to_tensor(inside, self.device)

    def _shrunk(self, images: np.ndarray) -> torch.Tensor:
        """Resize images for the network: uint8 (N, 3, S, S), channels_last in memory."""
        size = (self.options.network_size,) * 2
        parts = []
        for start in range(0, len(images), BATCH_IMAGES):
            part = to_tensor(images[start : start + BATCH_IMAGES], self.device).permute(0, 3, 1, 2)
            if part.shape[2:] != size:
                part = torch.nn.functional.interpolate(
                    part.float(), size, mode="bilinear", antialias=True
                )
                part = part.round().clamp(0, 255).byte()
            parts.append(part)
        return torch.cat(parts).contiguous(memory_format=torch.channels_last)

    def _rebuilt(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network's input and output, float32 (N, 3, S, S) each."""
        target = to_signed(self._shrunk(images))
        with torch.inference_mode():
            return target, self.network(target)

    def cells(self, data: Data) -> np.ndarray:
        """Return the errors of the rebuilt images."""
        parts = [self.errors(*self._rebuilt(part)).cpu().numpy() for part in data.batches()]
        return np.concatenate(parts)

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return `cells` as one exportable module."""
        return ReconstructionGraph(self, geometry.seen)

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """Return the rebuilt images, with the photographs' proportions."""
        parts = []
        for part in data.batches():
            _, rebuilt = self._rebuilt(part)
            parts.append(to_levels(rebuilt))
        return {"rebuilt": data.whole(np.concatenate(parts))}

    def state(self) -> dict[str, torch.Tensor]:
        """Return the network's weights."""
        return dict(self.network.state_dict())

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the network and take its weights."""
        self.network = self.build().eval()
        self.network.load_state_dict(state)
