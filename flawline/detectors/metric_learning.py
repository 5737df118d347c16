"""Metric learning: embeddings that separate good images from copies with a drawn defect.

A pretrained network learns to separate good images from their twins with a line (and with a
distortion). The anomaly score of an image is the distance of its embedding to those of the good
training images. The heads are those of face recognition: learning/margin_heads.py names their
sources.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.base import Detector, below
from flawline.detectors.data import BATCH_IMAGES, Data, Scores
from flawline.detectors.maps import smooth_maps
from flawline.detectors.masks import quiet
from flawline.devices import autocast, to_tensor
from flawline.errors import FlawlineError
from flawline.features.backbones import load_weights, untrained
from flawline.features.extraction import standardized
from flawline.features.resizing import AreaResize
from flawline.features.split_network import split_network
from flawline.learning import margin_heads as heads
from flawline.learning.grad_cam import grad_cam
from flawline.learning.training import Checkpoint, Trainer, Training, minimize, precision_on
from flawline.options.metric_learning import (
    MARGINS,
    NEIGHBOURS,
    SCALES,
    MetricLearningOptions,
)
from flawline.options.synthetic import SyntheticSet
from flawline.seeding import derive, generator
from flawline.synthesis.base import Sources
from flawline.synthesis.synthesize import InvisibleError, draw_one

Twin = Callable[[str, int, np.random.Generator], np.ndarray]

LEAST_SCALE = 2.0  # of adacos, our choice: opposite embeddings then have a probability of 0.98


def build_network(options: MetricLearningOptions) -> nn.ModuleDict:
    """Build `early` and `late` convolutions, the `neck` that centres embeddings, and the `head`.

    Weights are random. Everything is in evaluation mode, so the convolutions' batch normalisation
    keeps its statistics.
    """
    count, side = options.trained_convolutions, options.network_size
    early, late = split_network(untrained(options.backbone), count or 1)
    early.requires_grad_(count is None)
    with torch.inference_mode():
        channels = late(*early(torch.zeros(1, 3, side, side))).shape[1]
    parts = {
        "early": early,
        "late": late,
        # rectified features all point the same way: unless their mean is subtracted, all cosines
        # are near 1
        "neck": nn.BatchNorm1d(channels, affine=False),
        "head": _build_head(options, channels),
    }
    return nn.ModuleDict(parts).eval()


def _build_head(options: MetricLearningOptions, dimensions: int) -> nn.Module:
    name, classes = options.head, 1 + len(options.kinds)
    if name == "softmax":
        return heads.Softmax(dimensions, classes)
    if name == "adacos" and options.scale in (None, "dynamic"):
        return heads.AdaCos(dimensions, classes, LEAST_SCALE)
    scale = SCALES.get(name) if options.scale is None else options.scale
    scale = heads.fixed_scale(classes) if scale == "fixed" else float(scale or 1)
    if name == "l2_softmax":
        return heads.L2Softmax(dimensions, classes, scale)
    if name == "adacos":
        return heads.Cosine(dimensions, classes, scale)
    margin = MARGINS[name] if options.margin is None else options.margin
    kind = heads.ArcFace if name == "arcface" else heads.CosFace
    return kind(dimensions, classes, scale, margin)


class MetricLearningGraph(nn.Module):
    """`MetricLearning.score` as one module: images to distances and Grad-CAM.

    Along a class's direction, the gradient of `_explained` is that direction everywhere.
    """

    memory: torch.Tensor
    typical: torch.Tensor
    directions: torch.Tensor

    def __init__(self, detector: "MetricLearning", shape: Shape) -> None:
        super().__init__()
        network, side = detector.network, detector.options.network_size
        self.early, self.late, self.neck = network["early"], network["late"], network["neck"]
        self.shrink = AreaResize(shape, (side, side))
        head: Any = network["head"]
        with torch.no_grad():
            along = head.projections(torch.eye(len(detector.typical), device=detector.device))
        tensors = {
            "memory": detector.memory,
            "typical": detector.typical,
            "directions": along[:, 1:] - along[:, :1],
        }
        self.neighbours = 0
        if detector.options.score_by == "local_outlier_factor":
            factor = detector.factor
            self.neighbours = factor.n_neighbors_
            tensors["reach"] = torch.from_numpy(factor._distances_fit_X_[:, -1])
            tensors["density"] = torch.from_numpy(factor._lrd)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.float())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score grey levels float32 (N, 3, H, W): distances (N,), cells (N, C - 1, h, w)."""
        pixels = standardized(self.shrink(images), white=255)
        feature_map = self.late(*self.early(pixels))
        count, channels, height, width = feature_map.shape
        flat = self.neck(feature_map.permute(0, 2, 3, 1).reshape(-1, channels))
        cells = flat.reshape(count, height, width, channels).permute(0, 3, 1, 2)
        away = (cells - self.typical).permute(0, 2, 3, 1) @ self.directions
        return self._distances(_embeddings(cells)), away.relu().permute(0, 3, 1, 2)

    def _distances(self, embeddings: torch.Tensor) -> torch.Tensor:
        similarity = embeddings @ self.memory.T
        if not self.neighbours:
            return 1 - similarity.amax(1)
        # all rows have the length 1
        near, rows = (2 - 2 * similarity).clamp(min=0).topk(self.neighbours, largest=False)
        reach = torch.maximum(near.sqrt(), self.get_buffer("reach")[rows])
        own = 1 / (reach.mean(1) + 1e-10)
        return self.get_buffer("density")[rows].mean(1) / own


class MetricLearning(Detector):
    """Anomaly score = distance to embeddings of good training images; anomaly map = Grad-CAM.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, MetricLearning
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), images=images, object_masks=np.ones((8, 32, 32), np.uint8))
    >>> options = MetricLearning.Options(weights="none", network_size=32, epochs=1, batch_size=4)
    >>> detector = MetricLearning(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = MetricLearningOptions
    options: MetricLearningOptions
    network: nn.ModuleDict
    memory: torch.Tensor  # float32 (N, D), rows of length 1
    typical: torch.Tensor  # float32 (D, h, w), mean feature map of good training images

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train with Adam on the cross-entropy of logits of good images and their twins."""
        options = self.options
        good_images = self._shrunk(data.require("images"))
        pieces = data.geometry.pieces
        held = data.held_back(options.validation_fraction, self.seed)
        held_rows = (held[:, None] * pieces + np.arange(pieces)).ravel()
        trained = np.setdiff1d(np.arange(len(good_images)), held_rows)
        twin = self._drawing(good_images, data) if data.synthetic is None else self._picking(data)
        torch.manual_seed(derive(self.seed, "weights"))
        network = build_network(options)
        for half in ("early", "late"):
            load_weights(network[half], options.backbone, options.weights)
        self.network = network.to(self.device)
        groups: list[dict[str, Any]] = [
            {"params": network["late"].parameters()},
            {"params": network["head"].parameters(), "lr": options.head_learning_rate},
        ]
        if options.trained_convolutions is None:
            groups.append({"params": network["early"].parameters()})
        optimizer = torch.optim.Adam(groups, options.learning_rate, fused=True)
        # the pool runs one image per thread: OpenCV's threads would only compete
        cv2.setNumThreads(1)

        def seen(rows: np.ndarray, when: str) -> tuple[torch.Tensor, torch.Tensor]:
            """Return good images and their twins as the network's input, and their classes."""

            def twin_of(kind: str, row: int) -> np.ndarray:
                return twin(kind, row, generator(self.seed, "synthesis", when, kind, str(row)))

            pairs = [(kind, row) for kind in options.kinds for row in rows.tolist()]
            twins = pool.map(twin_of, *zip(*pairs, strict=True))
            labels = torch.arange(1 + len(options.kinds)).repeat_interleave(len(rows))
            return self._pixels(np.stack([*good_images[rows], *twins])), labels.to(self.device)

        def validate() -> dict[str, torch.Tensor]:
            total = torch.zeros((), device=self.device)
            for start in range(0, len(held_rows), BATCH_IMAGES):
                pixels, labels = seen(held_rows[start : start + BATCH_IMAGES], "validation")
                with torch.no_grad():
                    embeddings = network["neck"](self._feature_map(pixels).mean((2, 3)))
                    logits = network["head"](embeddings, labels)
                    total += cross_entropy(logits, labels) * len(labels)
            return {"loss": total / (len(held_rows) * (1 + len(options.kinds)))}

        def step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            pixels, labels = seen(trained[rows.numpy()], str(trainer.steps))
            network["neck"].train()
            network["head"].train()
            feature_map = self._feature_map(_turned(pixels) if options.turn else pixels)
            embeddings = network["neck"](feature_map.mean((2, 3)))
            loss = cross_entropy(network["head"](embeddings, labels), labels)
            minimize(loss, optimizer)
            network.eval()
            with torch.no_grad():
                right = (network["head"](embeddings).argmax(1) == labels).float().mean()
            return {"loss": loss.detach(), "accuracy": right}

        trainer = Trainer(
            "metric_learning",
            options,
            self.seed,
            {"network": network},
            {"adam": optimizer},
            checkpoint,
        )
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            training = trainer.run(
                step,
                count=len(trained),
                rows_per_epoch=data.rows_per_epoch(len(trained), options.validation_fraction),
                batch_size=options.batch_size,
                epochs=options.epochs,
                validate=validate if len(held_rows) else None,
            )
        embeddings, total = [], torch.zeros((), device=self.device)
        for part in data.batches():
            found = self._seen(part)
            embeddings.append(_embeddings(found))
            total = total + found.sum(0)
        self.typical = total / len(good_images)
        self._remember(torch.cat(embeddings))
        return training

    def _drawing(self, good_images: np.ndarray, data: Data) -> Twin:
        """Return a function that draws twins, at the network's size to save resizing each."""
        seen = good_images.shape[1:3]
        sources = Sources(good_images, data.cut(data.require("object_masks"), seen))
        counted = None if data.counted is None else data.cut(data.counted, seen)
        sets = {
            kind: SyntheticSet(recipes=[getattr(self.options, kind)]) for kind in self.options.kinds
        }

        def draw(kind: str, row: int, rng: np.random.Generator) -> np.ndarray:
            counts = None if counted is None else counted[row]
            try:
                return draw_one(sources, row, sets[kind], rng, counts)[0]
            except InvisibleError as error:
                raise FlawlineError(f"metric_learning, training image {row}: {error}") from None

        return draw

    def _picking(self, data: Data) -> Twin:
        """Return a function that picks twins from the set, of the same image if there are any."""
        assert data.synthetic is not None
        kinds = np.array(data.synthetic.kinds)
        if missing := [kind for kind in self.options.kinds if kind not in kinds]:
            raise FlawlineError(
                f"metric_learning: the synthetic set {self.options.synthetic!r} has no image with "
                f"a {missing[0]} alone, which classes {self.options.classes} needs; it has "
                f"{', '.join(sorted(set(kinds))) or 'none'}. Add {{recipe: {missing[0]}}} to its "
                "recipes with `combine: one_of`, or leave `synthetic` out to draw new ones."
            )
        made = self._shrunk(data.synthetic.images)

        def pick(kind: str, row: int, rng: np.random.Generator) -> np.ndarray:
            rows = np.flatnonzero(kinds == kind)
            own = rows[rows % (len(data) * data.geometry.pieces) == row]
            return made[rng.choice(own if len(own) else rows)]

        return pick

    def _shrunk(self, images: np.ndarray) -> np.ndarray:
        """Resize images for the network: uint8 (N, S, S, 3)."""
        side = self.options.network_size
        return np.stack([_resized(image, side, cv2.INTER_AREA) for image in images])

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        """Return images as the network's input: float32 (N, 3, S, S), channels_last in memory."""
        return standardized(to_tensor(images, self.device).permute(0, 3, 1, 2), white=255)

    def _feature_map(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the last feature map, float32 (N, D, h, w)."""
        trained = torch.is_grad_enabled() and self.options.trained_convolutions is None
        with autocast(self.device, precision_on(self.device, self.options)):
            with torch.set_grad_enabled(trained):
                early = self.network["early"](pixels)
            return self.network["late"](*early).float()

    def _remember(self, memory: torch.Tensor) -> None:
        self.memory = memory
        if self.options.score_by == "local_outlier_factor":
            from sklearn.neighbors import LocalOutlierFactor

            count = min(self.options.neighbours or NEIGHBOURS, len(memory) - 1)
            self.factor = LocalOutlierFactor(n_neighbors=count, novelty=True)
            self.factor.fit(memory.cpu().numpy())

    def _distances(
        self, embeddings: torch.Tensor, own: np.ndarray | None = None, pieces: int = 1
    ) -> np.ndarray:
        """Return the distances of images, or tiles, to the memory of images other than `own`."""
        if self.options.score_by == "local_outlier_factor":
            if own is None:
                outlier_scores = self.factor.score_samples(embeddings.cpu().numpy())
            else:  # a remembered embedding among the others
                rows = (own[:, None] * pieces + np.arange(pieces)).ravel()
                outlier_scores = self.factor.negative_outlier_factor_[rows]
            return -outlier_scores.astype(np.float32)
        similarity = embeddings @ self.memory.T
        if own is not None:
            images = torch.arange(len(self.memory), device=self.device) // pieces
            itself = to_tensor(own.repeat(pieces), self.device)[:, None] == images
            similarity = similarity.masked_fill(itself, -1)
        return (1 - similarity.amax(1)).cpu().numpy()

    def _seen(self, images: np.ndarray) -> torch.Tensor:
        """Return feature maps of at most BATCH_IMAGES images, whose averages are the embeddings.

        Here the neck (linear after training) is applied before pooling, so that the maps see it.
        """
        with torch.no_grad():
            feature_map = self._feature_map(self._pixels(self._shrunk(images))).permute(0, 2, 3, 1)
            cells = self.network["neck"](feature_map.flatten(0, 2))
        return cells.reshape(feature_map.shape).permute(0, 3, 1, 2)

    def score(self, data: Data) -> Scores:
        """Score images by their distance to memory, maps by the maximum over anomalous classes.

        The score of a tiled image is that of its worst tile.
        """
        embeddings, cells = [], []
        for part in data.batches():
            feature_maps = self._seen(part)
            embeddings.append(_embeddings(feature_maps))
            cells.append(self._explained(feature_maps))
        distances = self._distances(torch.cat(embeddings), data.own, data.geometry.pieces)
        scores = distances.reshape(len(data), -1).max(1)
        maps = self._maps(np.concatenate(cells), data).max(1)
        return Scores(scores, quiet(maps, data).astype(np.float16))

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """Return the maps of the anomalous classes, all on one scale."""
        cells = np.concatenate([self._explained(self._seen(part)) for part in data.batches()])
        maps = self._maps(cells, data).swapaxes(0, 1)
        return dict(zip(self.options.kinds, maps, strict=True))

    def _maps(self, cells: np.ndarray, data: Data) -> np.ndarray:
        """Turn cells into maps of images, float32 (N, C - 1, H, W)."""
        kinds = (data.stitched(cells[:, kind]) for kind in range(cells.shape[1]))
        smoothing = self.options.smoothing
        return np.stack([smooth_maps(kind, data.geometry, smoothing) for kind in kinds], axis=1)

    def _explained(self, feature_maps: torch.Tensor) -> np.ndarray:
        """Compute Grad-CAM of the anomalous classes: float32 (N, C - 1, h, w).

        The mean feature map of good training images, large at the border, is subtracted first.
        """
        head: Any = self.network["head"]

        def class_scores(feature_maps: torch.Tensor) -> torch.Tensor:
            along = head.projections(feature_maps.mean((2, 3)))
            return along - along[:, :1]  # relative to the good class

        return grad_cam(feature_maps - self.typical, class_scores)[:, 1:].cpu().numpy()

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return the scoring as one exportable module."""
        return MetricLearningGraph(self, geometry.seen)

    def state(self) -> dict[str, torch.Tensor]:
        """Return all weights, including frozen ones, and the memory of good training images."""
        weights = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        return {"memory": self.memory, "typical": self.typical, **weights}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the network and take its weights."""
        self._remember(state["memory"])
        self.typical = state["typical"]
        self.network = build_network(self.options).to(self.device)
        self.network.load_state_dict(below(state, "network."))


def _resized(image: np.ndarray, side: int, interpolation: int) -> np.ndarray:
    return cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=interpolation)


def _embeddings(feature_map: torch.Tensor) -> torch.Tensor:
    """Average feature maps (N, D, h, w) to rows of length 1."""
    return normalize(feature_map.mean((2, 3)), dim=1)


def _turned(pixels: torch.Tensor) -> torch.Tensor:
    """Turn and mirror each image at random to one of the eight positions of a square."""
    positions = torch.randint(8, (len(pixels),)).tolist()
    turned = [image.rot90(p % 4, (1, 2)) for image, p in zip(pixels, positions, strict=True)]
    turned = [im.flip(2) if p > 3 else im for im, p in zip(turned, positions, strict=True)]
    return torch.stack(turned).contiguous(memory_format=torch.channels_last)
