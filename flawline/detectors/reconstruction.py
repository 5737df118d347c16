"""What image autoencoders share: they learn to rebuild goods, and what they rebuild badly is
anomalous. Each method has its own network and its own error."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from flawline.detectors.base import Data, Detector, ObjectMaskUse, Scores, smooth_maps
from flawline.detectors.training import Budget, Checkpoint, Trainer, Training
from flawline.devices import autocast, inference_precision, to_tensor
from flawline.seeding import derive

if TYPE_CHECKING:
    import torch

AT_ONCE = 16  # images, where no gradient is needed; bounds memory


class ReconstructionOptions(ObjectMaskUse, Budget):
    """Options of detectors that rebuild images."""

    network_size: Literal[32, 64, 128, 256, 512] = Field(
        256, description="Side at which the network sees images, pixels; they are resized to it."
    )
    width: int = Field(32, ge=4, description="Channels of the first layer; others grow with it.")
    flip: bool = Field(True, description="Mirror half of the training images, drawn anew.")
    epochs: int = Field(300, ge=1)
    batch_size: int = Field(70, ge=2, description="Images a step.")
    learning_rate: float = Field(1e-3, gt=0)
    largest: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Part of the map, its largest values, whose mean is the image score; 1 is the "
        "mean over the whole image.",
    )
    smoothing: float = Field(4.0, ge=0, description="Sigma of the map's Gaussian, pixels.")


class Reconstruction(Detector):
    """Learns to rebuild training images; scores by the error of what it rebuilds."""

    needs = frozenset({"images"})
    explains = True
    options: Any
    network: "torch.nn.Module"

    @abstractmethod
    def build(self) -> "torch.nn.Module":
        """A new network, from images float32 (B, 3, S, S) in [-1, 1] to the same."""

    @abstractmethod
    def errors(self, target: "torch.Tensor", rebuilt: "torch.Tensor") -> "torch.Tensor":
        """How anomalous every pixel is: float32 (B, 3, S, S) in [-1, 1] twice to (B, S, S)."""

    def losses(self, target: "torch.Tensor", rebuilt: "torch.Tensor") -> "torch.Tensor":
        """What training lowers, as `errors`: the errors themselves, or with something added."""
        return self.errors(target, rebuilt)

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Adam on the mean loss; from synthetic anomalies to their clean images, if there are."""
        import torch

        clean = self._shrunk(data.images)
        given = clean if data.synthetic is None else self._shrunk(data.synthetic.images)
        learned = None
        if self.options.object_mask == "memory":
            side = self.options.network_size
            learned = to_tensor(self.options.learned(data, (side, side)), self.device)
        torch.manual_seed(derive(self.seed, "weights"))
        network = self.build().train()
        rate = self.options.learning_rate
        optimizer = torch.optim.Adam(network.parameters(), rate, fused=True)
        precision = inference_precision(self.device.type, "auto")

        def step(rows: "torch.Tensor") -> dict[str, "torch.Tensor"]:
            mirrored = (torch.rand(len(rows)) < 0.5 * self.options.flip).to(self.device)

            def mirror(images: "torch.Tensor") -> "torch.Tensor":
                some = mirrored.reshape(-1, *[1] * (images.ndim - 1))
                return torch.where(some, images.flip(-1), images)

            rows = rows.to(self.device)
            sources = rows % len(clean)
            target = _scaled(mirror(clean[sources]))
            with autocast(self.device, precision):
                rebuilt = network(target if given is clean else _scaled(mirror(given[rows])))
            losses = self.losses(target, rebuilt.float())
            loss = (losses if learned is None else losses[mirror(learned[sources])]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return {"loss": loss.detach()}

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
            count=len(given),
            batch_size=self.options.batch_size,
            epochs=self.options.epochs,
        )
        self.network = network.eval()
        return training

    def _shrunk(self, images: np.ndarray | None) -> "torch.Tensor":
        """Images at the network's size: uint8 (N, 3, S, S), as channels_last in memory."""
        import torch

        assert images is not None
        size = (self.options.network_size,) * 2
        parts = []
        for start in range(0, len(images), AT_ONCE):
            part = to_tensor(images[start : start + AT_ONCE], self.device).permute(0, 3, 1, 2)
            if part.shape[2:] != size:
                part = torch.nn.functional.interpolate(
                    part.float(), size, mode="bilinear", antialias=True
                )
                part = part.round().clamp(0, 255).byte()
            parts.append(part)
        return torch.cat(parts).contiguous(memory_format=torch.channels_last)

    def _rebuilt(self, data: Data) -> "tuple[torch.Tensor, torch.Tensor]":
        """What the network saw and what it made of it, float32 (N, 3, S, S) each."""
        import torch

        target = _scaled(self._shrunk(data.images))
        with torch.inference_mode():
            return target, self.network(target)

    def score(self, data: Data) -> Scores:
        """Mean of the largest errors for the image, the smoothed errors for the map."""
        parts = [self.errors(*self._rebuilt(part)).cpu().numpy() for part in data.chunks(AT_ONCE)]
        errors = self.options.known(np.concatenate(parts), data)
        maps = smooth_maps(errors, data.image_size, self.options.smoothing)
        scores = np.empty(len(data), np.float32)
        for i, inside in enumerate(self.options.inside(data, maps.shape[1:])):
            values = np.sort(maps[i][inside])
            scores[i] = values[-max(round(self.options.largest * len(values)), 1) :].mean()
        return Scores(scores, maps.astype(np.float16))

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """The rebuilt images."""
        parts = []
        for part in data.chunks(AT_ONCE):
            _, rebuilt = self._rebuilt(part)
            levels = ((rebuilt + 1) * 127.5).round().clamp(0, 255).byte()
            parts.append(levels.permute(0, 2, 3, 1).cpu().numpy())
        return {"rebuilt": np.concatenate(parts)}

    def state(self) -> dict[str, "torch.Tensor"]:
        """Network weights."""
        return dict(self.network.state_dict())

    def restore(self, state: dict[str, "torch.Tensor"]) -> None:
        """Rebuild the network and take its weights."""
        self.network = self.build().eval()
        self.network.load_state_dict(state)


def _scaled(images: "torch.Tensor") -> "torch.Tensor":
    """Grey levels to [-1, 1]."""
    return images.float() / 127.5 - 1
