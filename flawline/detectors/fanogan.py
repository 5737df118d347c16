"""f-AnoGAN: a generator of good images, and an encoder that finds the nearest one to each image.

Schlegl, Seeboeck, Waldstein, Langs, Schmidt-Erfurth: f-AnoGAN: Fast unsupervised anomaly detection
with generative adversarial networks, Medical Image Analysis 2019. The generator is trained as in
Gulrajani et al.: Improved training of Wasserstein GANs, NeurIPS 2017 (WGAN-GP).
"""

from functools import partial
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.base import CellGraph, MapDetector, below
from flawline.detectors.data import BATCH_IMAGES, Data, Scores
from flawline.detectors.masks import image_scores, object_cells
from flawline.devices import autocast, to_tensor
from flawline.features.resizing import AreaResize
from flawline.learning.pixels import to_levels, to_signed
from flawline.learning.training import Checkpoint, Trainer, Training, minimize, precision_on
from flawline.options.fanogan import FAnoGANOptions
from flawline.seeding import derive

SIDE = 64  # of the images that the networks see, pixels, as in both papers
BETAS = (0.0, 0.9)  # Adam's, as in both papers


class Residual(nn.Module):
    """Residual block that doubles or halves the resolution (WGAN-GP's), B x wide to B x narrow.

    Resampling and its 3x3 convolution are one 4x4 convolution of stride 2, which can represent the
    same function with less than half of the products.
    """

    def __init__(self, wide: int, narrow: int, resample: Literal["up", "down"]) -> None:
        super().__init__()
        if resample == "up":  # generator: batch norm
            self.main = nn.Sequential(
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(),
                nn.Conv2d(narrow, narrow, 3, padding=1),
            )
            self.shortcut = nn.Sequential(nn.Conv2d(wide, narrow, 1), nn.Upsample(scale_factor=2))
        else:  # critic: layer norm, because the gradient penalty is per image
            self.main = nn.Sequential(
                nn.GroupNorm(1, wide),
                nn.ReLU(),
                nn.Conv2d(wide, wide, 3, padding=1, bias=False),
                nn.GroupNorm(1, wide),
                nn.ReLU(),
                nn.Conv2d(wide, narrow, 4, stride=2, padding=1),
            )
            self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(wide, narrow, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map float32 (B, wide, h, w) to (B, narrow, 2h, 2w) or (B, narrow, h/2, w/2)."""
        return self.shortcut(images) + self.main(images)


def build_generator(latent: int, width: int) -> nn.Sequential:
    """Build the generator: float32 (B, latent) to images (B, 3, 64, 64) in [-1, 1]."""
    return nn.Sequential(
        nn.Linear(latent, 8 * width * 4 * 4),
        nn.Unflatten(1, (8 * width, 4, 4)),
        Residual(8 * width, 8 * width, "up"),
        Residual(8 * width, 4 * width, "up"),
        Residual(4 * width, 2 * width, "up"),
        Residual(2 * width, width, "up"),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 3, 3, padding=1),
        nn.Tanh(),
    )


def build_critic(outputs: int, width: int) -> nn.Sequential:
    """Build the critic: images (B, 3, 64, 64) to (B, outputs).

    All but the last two layers give the features.
    """
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        Residual(width, 2 * width, "down"),
        Residual(2 * width, 4 * width, "down"),
        Residual(4 * width, 8 * width, "down"),
        Residual(8 * width, 8 * width, "down"),
        nn.Flatten(),
        nn.Linear(8 * width * 4 * 4, outputs),
    )


def build_encoder(latent: int, width: int, output: str) -> nn.Sequential:
    """Build the encoder from the critic's layers: images (B, 3, 64, 64) to codes (B, latent)."""
    layers = build_critic(latent, width)
    return layers.append(nn.Tanh()) if output == "tanh" else layers


def shrink(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Resize images uint8 (N, S, S, 3) for the networks: uint8 (N, 3, 64, 64), channels last."""
    small = [cv2.resize(i, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in images]
    return to_tensor(np.stack(small), device).permute(0, 3, 1, 2)


class FAnoGANGraph(CellGraph):
    """Images to absolute and squared residuals of pixels, and squared ones of features."""

    def __init__(self, networks: dict[str, nn.Sequential], kappa: float, shape: Shape) -> None:
        super().__init__()
        self.rebuild = nn.Sequential(networks["encoder"], networks["generator"])
        self.features, self.kappa = networks["critic"][:-2], kappa
        self.shrink = AreaResize(shape, (SIDE, SIDE))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute residuals: grey levels float32 (N, 3, H, W) to float32 (N, h, w) each."""
        real = to_signed(self.shrink(images))
        rebuilt = self.rebuild(real)
        residual = real - rebuilt
        seen = (self.features(real) - self.features(rebuilt)).square().mean(1)
        return [residual.abs().mean(1), residual.square().mean(1), seen]

    def image_scores(
        self, means: list[torch.Tensor], seen: torch.Tensor, cells: torch.Tensor
    ) -> torch.Tensor:
        """Add the squared residuals of pixels and features."""
        return means[1] + self.kappa * means[2]


class FAnoGAN(MapDetector):
    """Anomaly score = squared residual of the rebuilt image + kappa x that of its features.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, FAnoGAN
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), images=images)
    >>> steps = {"gan_steps": 5, "encoder_steps": 1}
    >>> options = FAnoGAN.Options(width=4, batch_size=4, **steps)
    >>> detector = FAnoGAN(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = FAnoGANOptions
    options: FAnoGANOptions
    networks: dict[str, nn.Sequential]

    def _build(self) -> dict[str, nn.Sequential]:
        options = self.options
        networks = {
            "generator": build_generator(options.latent, options.width),
            "critic": build_critic(1, options.width),
            "encoder": build_encoder(options.latent, options.width, options.encoder_output),
        }
        return {name: network.to(self.device) for name, network in networks.items()}

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train generator against critic, then the encoder with both of them fixed."""
        options = self.options
        data, held = data.parted(options.validation_fraction, self.seed)
        images = shrink(data.require("images"), self.device)
        torch.manual_seed(derive(self.seed, "weights"))
        self.networks = self._build()
        adam = {
            name: torch.optim.Adam(
                network.parameters(), options.learning_rate, betas=BETAS, fused=True
            )
            for name, network in self.networks.items()
        }
        trainer = Trainer("fanogan", options, self.seed, self.networks, adam, checkpoint)

        def gan_step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            losses = self._critic_step(self._drawn(images, rows), adam["critic"])
            if (trainer.steps + 1) % options.generator_every == 0:
                self._generator_step(len(rows), adam["generator"])
            return losses

        def encoder_step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            image, feature = self._losses(self._drawn(images, rows))
            minimize(image + options.kappa * feature, adam["encoder"])
            return {"image residual": image.detach(), "feature residual": feature.detach()}

        schedule: dict[str, Any] = {
            "count": len(images),
            "rows_per_epoch": data.rows_per_epoch(len(images)),
            "batch_size": options.batch_size,
        }
        share = options.gan_steps / (options.gan_steps + options.encoder_steps)
        trainer.run(gan_step, **schedule, steps=options.gan_steps, phase="gan", share=share)
        for name in ("generator", "critic"):
            self.networks[name].eval().requires_grad_(False)
        training = trainer.run(
            encoder_step,
            **schedule,
            steps=options.encoder_steps,
            phase="encoder",
            validate=None if held is None else partial(self._validation, held.require("images")),
        )
        self.networks["encoder"].eval()
        return training

    def _drawn(self, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the images of a step, some of them mirrored: float32 (B, 3, 64, 64)."""
        mirrored = (torch.rand(len(rows)) < 0.5 * self.options.flip).to(self.device)
        taken = to_signed(images[rows.to(self.device)])
        return torch.where(mirrored.view(-1, 1, 1, 1), taken.flip(3), taken)

    def _generated(self, count: int) -> torch.Tensor:
        """Generate images of random codes, float32 (count, 3, 64, 64)."""
        noise = torch.randn(count, self.options.latent).to(self.device)
        with autocast(self.device, precision_on(self.device, self.options)):
            return self.networks["generator"](noise).float()

    def _critic_step(
        self, real: torch.Tensor, adam: torch.optim.Optimizer
    ) -> dict[str, torch.Tensor]:
        """Train the critic to separate real from generated images, with a penalty (WGAN-GP)."""
        critic = self.networks["critic"]
        with torch.no_grad():
            fake = self._generated(len(real))
        # the critic is float32 throughout, because its gradients are differentiated again
        judged_real, judged_fake = critic(torch.cat([real, fake])).chunk(2)
        between = torch.rand(len(real), 1, 1, 1).to(self.device)
        mixed = torch.lerp(real, fake, between).requires_grad_()
        (slopes,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        penalty = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
        distance = judged_real.mean() - judged_fake.mean()
        minimize(self.options.gradient_penalty * penalty - distance, adam)
        return {"distance": distance.detach(), "penalty": penalty.detach()}

    def _generator_step(self, count: int, adam: torch.optim.Optimizer) -> None:
        """Train the generator to make images that the critic takes for real."""
        critic = self.networks["critic"]
        critic.requires_grad_(False)
        minimize(-critic(self._generated(count)).mean(), adam)
        critic.requires_grad_(True)

    def _losses(self, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mean squared residuals of the encoder's images and of their features."""
        generator, critic, encoder = self.networks.values()
        with autocast(self.device, precision_on(self.device, self.options)):
            rebuilt = generator(encoder(real)).float()
        image = (rebuilt - real).square().mean()
        with torch.no_grad():
            features = critic[:-2](real)
        return image, (critic[:-2](rebuilt) - features).square().mean()

    def _validation(self, images: np.ndarray) -> dict[str, torch.Tensor]:
        """Return the encoder's losses on images that it does not train on."""
        self.networks["encoder"].eval()
        losses = []
        with torch.inference_mode():
            real = to_signed(shrink(images, self.device))
            for part in real.split(BATCH_IMAGES):
                losses.append(torch.stack(self._losses(part)) * len(part))
        self.networks["encoder"].train()
        image, feature = (torch.stack(losses).sum(0) / len(real)).unbind()
        return {"image residual": image, "feature residual": feature}

    def _rebuild(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and their reconstructions, float32 (N, 3, 64, 64)."""
        real = to_signed(shrink(images, self.device))
        with torch.inference_mode():
            return real, self.networks["generator"](self.networks["encoder"](real))

    def _residuals(self, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return absolute and squared residuals of pixels, and squared ones of features."""
        features = self.networks["critic"][:-2]
        residuals: tuple[list, list, list] = ([], [], [])
        for images in data.batches():
            real, rebuilt = self._rebuild(images)
            with torch.inference_mode():
                seen = (features(real) - features(rebuilt)).square().mean(1)
                residual = real - rebuilt
                parts = (residual.abs().mean(1), residual.square().mean(1), seen)
            for kind, part in zip(residuals, parts, strict=True):
                kind.append(part.cpu().numpy())
        absolute, squared, feature = map(np.concatenate, residuals)
        return absolute, squared, feature

    def cells(self, data: Data) -> np.ndarray:
        """Return the absolute residuals of the pixels."""
        return self._residuals(data)[0]

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return all residuals as one exportable module."""
        return FAnoGANGraph(self.networks, self.options.kappa, geometry.seen)

    def score(self, data: Data) -> Scores:
        """Score images by squared residuals of pixels and features, maps by absolute ones."""
        absolute, *squared = map(data.stitched, self._residuals(data))
        pixels, features = (
            image_scores(self.options, cells, object_cells(self.options, data, cells.shape[1:]))
            for cells in squared
        )
        maps = self.judge(absolute, data).anomaly_maps
        return Scores(pixels + np.float32(self.options.kappa) * features, maps)

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """Return the rebuilt images, with the photographs' proportions."""
        parts = []
        for images in data.batches():
            _, rebuilt = self._rebuild(images)
            parts.append(to_levels(rebuilt))
        return {"rebuilt": data.whole(np.concatenate(parts))}

    def state(self) -> dict[str, torch.Tensor]:
        """Return the weights of all three networks."""
        return {
            f"{name}.{key}": value
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the networks and take their weights."""
        self.networks = self._build()
        for name, network in self.networks.items():
            network.load_state_dict(below(state, f"{name}."))
            network.eval()
