"""Class-activation-map classifier: learns from labelled defects, and shows where it saw one.

Zhou, Khosla, Lapedriza, Oliva, Torralba: Learning Deep Features for Discriminative Localization,
CVPR 2016. Defaults are those of a published VGG16 detector; docs/methods.md has its results.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, max_pool2d

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.base import Detector
from flawline.detectors.data import Data, Scores
from flawline.detectors.maps import smooth_maps
from flawline.detectors.masks import quiet
from flawline.devices import autocast, to_tensor
from flawline.errors import FlawlineError
from flawline.features.backbones import load_weights, untrained
from flawline.features.extraction import standardized
from flawline.features.resizing import resized, resizing_matrices
from flawline.features.split_network import split_network
from flawline.learning.training import Checkpoint, Trainer, Training, minimize, precision_on
from flawline.options.cam_classifier import CamClassifierOptions
from flawline.seeding import derive

FLIPS = ((), (3,), (2,), (2, 3))  # dimensions of (N, C, H, W)
CHUNK = {"cpu": 4, "cuda": 64}  # images at once: few fit into a CPU's caches, many fill a GPU


def build_network(options: CamClassifierOptions) -> nn.ModuleDict:
    """Build frozen layers `early`, the last convolutions `late`, and the linear `head`.

    The head has two outputs, good and defective. Weights are random. Everything is in evaluation
    mode, so batch normalisation keeps its statistics.
    """
    early, late = split_network(untrained(options.backbone), options.trained_convolutions)
    early = early.to(memory_format=torch.channels_last)
    side = options.image_size
    with torch.inference_mode():
        channels = late(*early(torch.zeros(1, 3, side, side))).shape[1]
    network = nn.ModuleDict({"early": early, "late": late, "head": nn.Linear(channels, 2)})
    network.eval().requires_grad_(False)
    for module in late.modules():
        if isinstance(module, nn.Conv2d):
            module.requires_grad_(True)
    network["head"].requires_grad_(True)
    return network


class CamClassifierGraph(nn.Module):
    """`CamClassifier.score` as one module: images to log-odds and their parts."""

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, network: nn.ModuleDict, options: CamClassifierOptions, shape: Shape) -> None:
        super().__init__()
        self.network, self.options = network, options
        side = options.image_size
        self.same = shape == (side, side)
        down, across = resizing_matrices(shape, (side, side))
        self.register_buffer("down", down)
        self.register_buffer("across", across)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score grey levels float32 (N, 3, H, W): scores (N,), cells (N, 1, h, w)."""
        pixels = images / 255
        if self.options.normalize:
            pixels = standardized(pixels)
        if not self.same:
            pixels = resized(pixels, self.down, self.across)
        early = [part.half().float() for part in self.network["early"](pixels)]
        feature_map = self.network["late"](*early)
        weight, bias = (part[1] - part[0] for part in self.network["head"].parameters())
        local = (feature_map * weight[:, None, None]).sum(1, keepdim=True) + bias
        if self.options.max_pool:
            feature_map = max_pool2d(feature_map, 2, ceil_mode=True)
        return feature_map.mean((2, 3)) @ weight + bias, local


class CamClassifier(Detector):
    """Anomaly score = log-odds of being defective; anomaly map = what each place adds to them.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, CamClassifier
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), images=images, labels=np.arange(8) % 2)
    >>> network = {"backbone": "mobilenet_v2", "weights": "none", "image_size": 32}
    >>> options = CamClassifier.Options(**network, epochs=1, batch_size=4)
    >>> detector = CamClassifier(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = CamClassifierOptions
    options: CamClassifierOptions
    network: nn.ModuleDict

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train with Adam on the weighted cross-entropy of the two classes."""
        data, held = data.parted(self.options.validation_fraction, self.seed)
        images, labels = data.require("images"), self._labels(data)
        torch.manual_seed(derive(self.seed, "weights"))
        network = build_network(self.options)
        for half in ("early", "late"):
            load_weights(network[half], self.options.backbone, self.options.weights)
        self.network = network.to(self.device)
        # Frozen layers give the same for an image in every epoch, so they run once.
        flips = FLIPS if self.options.flips else FLIPS[:1]
        early_parts = [self._early(images, flip) for flip in flips]
        views = [torch.cat(parts) for parts in zip(*early_parts, strict=True)]
        weights = torch.tensor([1.0, self.options.defect_weight], device=self.device)
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(trained, self.options.learning_rate, fused=True)

        def step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            flip = torch.randint(len(flips), rows.shape)
            row_of_view = (flip * len(labels) + rows).to(self.device)
            target = labels[rows.to(self.device)]
            logits = self._logits(self._feature_map([part[row_of_view] for part in views]))
            loss = cross_entropy(logits, target, weights)
            minimize(loss, optimizer)
            right = (logits.argmax(1) == target).float().mean()
            return {"loss": loss.detach(), "accuracy": right}

        def validate() -> dict[str, torch.Tensor]:
            assert held is not None
            logits = []
            with torch.inference_mode():
                for images in held.batches(CHUNK[self.device.type]):
                    logits.append(self._logits(self._feature_map(self._early(images))))
            target = to_tensor(held.require("labels").astype(np.int64), self.device)
            return {"loss": cross_entropy(torch.cat(logits), target, weights)}

        trainer = Trainer(
            "cam_classifier",
            self.options,
            self.seed,
            {"late": network["late"], "head": network["head"]},
            {"adam": optimizer},
            checkpoint,
        )
        return trainer.run(
            step,
            count=len(labels),
            rows_per_epoch=data.rows_per_epoch(len(labels)),
            batch_size=self.options.batch_size,
            epochs=self.options.epochs,
            stop=self._accurate_enough,
            validate=validate if held is not None else None,
        )

    def _labels(self, data: Data) -> torch.Tensor:
        labels = data.require("labels")
        defective = int((labels == 1).sum())
        if not 0 < defective < len(labels):
            raise FlawlineError(
                f"cam_classifier: {len(labels)} training images, {defective} of them "
                "defective; expected good and defective ones. Add images of the missing class, or "
                "use an unsupervised method."
            )
        return to_tensor(labels.astype(np.int64), self.device)

    def _accurate_enough(self, row: dict[str, float]) -> str | None:
        target = self.options.stop_accuracy
        if target is None or row["accuracy"] < target - 1e-6:  # of float32
            return None
        return f"stopped at a training accuracy of {row['accuracy']:.3f}"

    def _early(self, images: np.ndarray, flip: tuple[int, ...] = ()) -> list[torch.Tensor]:
        """Return the outputs of the frozen layers: float16 tensors, one row for each image."""
        side = self.options.image_size
        parts, chunk = [], CHUNK[self.device.type]
        for start in range(0, len(images), chunk):
            pixels = to_tensor(images[start : start + chunk], self.device).permute(0, 3, 1, 2)
            pixels = (pixels.float() / 255).flip(flip)
            if self.options.normalize:
                pixels = standardized(pixels)
            if pixels.shape[2:] != (side, side):
                pixels = interpolate(pixels, (side, side), mode="bilinear", antialias=True)
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            precision = precision_on(self.device, self.options)
            with torch.inference_mode(), autocast(self.device, precision):
                parts.append([found.half() for found in self.network["early"](pixels)])
        return [torch.cat(found) for found in zip(*parts, strict=True)]

    def _feature_map(self, early: list[torch.Tensor]) -> torch.Tensor:
        with autocast(self.device, precision_on(self.device, self.options)):
            return self.network["late"](*(part.float() for part in early)).float()

    def _logits(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Return the logits of good and defective, (N, 2)."""
        if self.options.max_pool:
            feature_map = max_pool2d(feature_map, 2, ceil_mode=True)
        return self.network["head"](feature_map.mean((2, 3)))

    def score(self, data: Data) -> Scores:
        """Apply the head to the averaged feature map for the score, to each place for the map."""
        scores, cells = [], []
        for images in data.batches(CHUNK[self.device.type]):
            with torch.inference_mode():
                feature_map = self._feature_map(self._early(images))
                good, defective = self._logits(feature_map).unbind(1)
                weight, bias = (part[1] - part[0] for part in self.network["head"].parameters())
                local = torch.einsum("nchw,c->nhw", feature_map, weight) + bias
            scores.append((defective - good).cpu())
            cells.append(local.cpu())
        maps = quiet(smooth_maps(torch.cat(cells).numpy(), data.geometry, 0), data)
        return Scores(torch.cat(scores).numpy(), maps.astype(np.float16))

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return the scoring as one exportable module."""
        return CamClassifierGraph(self.network, self.options, geometry.seen)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all weights, including frozen ones, so that nothing else is needed to score."""
        return self.network.state_dict()

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the network and take its weights."""
        self.network = build_network(self.options).to(self.device)
        self.network.load_state_dict(state)
