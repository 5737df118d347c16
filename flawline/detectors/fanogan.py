"""f-AnoGAN: a generator of good images, and an encoder that looks for each image's nearest one.

Schlegl, Seeboeck, Waldstein, Langs, Schmidt-Erfurth: f-AnoGAN: Fast unsupervised anomaly detection
with generative adversarial networks, Medical Image Analysis 2019. The generator is trained as in
Gulrajani et al.: Improved training of Wasserstein GANs, NeurIPS 2017 (WGAN-GP).
"""

from typing import Literal

import numpy as np
import torch
from torch import nn

from flawline.detectors.base import MapDetector, Scores
from flawline.detectors.data import Data
from flawline.detectors.masks import image_scores, object_cells
from flawline.devices import autocast, to_tensor
from flawline.learning.training import Checkpoint, Trainer, Training, precision_on
from flawline.options.fanogan import FAnoGANOptions
from flawline.seeding import derive

SIDE = 64  # of the images that the networks see, pixels, as in both papers
BETAS = (0.0, 0.9)  # Adam's, as in both papers
SCORED_AT_ONCE = 16  # images; bounds memory


def residual_block(wide: int, narrow: int, resample: Literal["up", "down"]) -> nn.Module:
    """Residual block that doubles or halves the resolution (WGAN-GP's), B x wide to B x narrow.

    Resampling and the 3x3 convolution beside it are one 4x4 convolution of stride 2, which can be
    the same function and takes less than half of the products.
    """
    if resample == "up":  # the generator's: batch norm
        main = nn.Sequential(
            nn.BatchNorm2d(wide),
            nn.ReLU(),
            nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, narrow, 3, padding=1),
        )
        shortcut = nn.Sequential(nn.Conv2d(wide, narrow, 1), nn.Upsample(scale_factor=2))
    else:  # the critic's: layer norm, as the gradient penalty is each image's own
        main = nn.Sequential(
            nn.GroupNorm(1, wide),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, bias=False),
            nn.GroupNorm(1, wide),
            nn.ReLU(),
            nn.Conv2d(wide, narrow, 4, stride=2, padding=1),
        )
        shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(wide, narrow, 1))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main, self.shortcut = main, shortcut

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.shortcut(images) + self.main(images)

    return Residual()


def build_generator(latent: int, width: int) -> nn.Sequential:
    """Float32 (B, latent) to images (B, 3, 64, 64) in [-1, 1]."""
    return nn.Sequential(
        nn.Linear(latent, 8 * width * 4 * 4),
        nn.Unflatten(1, (8 * width, 4, 4)),
        residual_block(8 * width, 8 * width, "up"),
        residual_block(8 * width, 4 * width, "up"),
        residual_block(4 * width, 2 * width, "up"),
        residual_block(2 * width, width, "up"),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 3, 3, padding=1),
        nn.Tanh(),
    )


def build_critic(outputs: int, width: int) -> nn.Sequential:
    """Images (B, 3, 64, 64) to (B, outputs); all but the last two layers give the features."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        residual_block(width, 2 * width, "down"),
        residual_block(2 * width, 4 * width, "down"),
        residual_block(4 * width, 8 * width, "down"),
        residual_block(8 * width, 8 * width, "down"),
        nn.Flatten(),
        nn.Linear(8 * width * 4 * 4, outputs),
    )


def build_encoder(latent: int, width: int, output: str) -> nn.Sequential:
    """Images (B, 3, 64, 64) to codes (B, latent): the critic's layers, and tanh as `output`."""
    layers = build_critic(latent, width)
    return layers.append(nn.Tanh()) if output == "tanh" else layers


def shrink(images: np.ndarray | None, device: torch.device) -> torch.Tensor:
    """Images uint8 (N, S, S, 3) at the networks' size: uint8 (N, 3, 64, 64), channels last."""
    import cv2

    assert images is not None
    small = [cv2.resize(i, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in images]
    return to_tensor(np.stack(small), device).permute(0, 3, 1, 2)


def scaled(images: torch.Tensor) -> torch.Tensor:
    """Grey levels to [-1, 1]."""
    return images.float() / 127.5 - 1


class FAnoGAN(MapDetector):
    """Anomaly score = squared residual of the rebuilt image + kappa x that of its features."""

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
        """Stage 1: generator against critic. Stage 2: the encoder, with both of them fixed."""
        options = self.options
        data, held = data.parted(options.validation_fraction, self.seed)
        images = shrink(data.images, self.device)
        torch.manual_seed(derive(self.seed, "weights"))
        self.networks = self._build()
        generator, critic, encoder = self.networks.values()
        adam = {
            name: torch.optim.Adam(
                network.parameters(), options.learning_rate, betas=BETAS, fused=True
            )
            for name, network in self.networks.items()
        }
        trainer = Trainer("fanogan", options, self.seed, self.networks, adam, checkpoint)
        precision = precision_on(self.device, options)

        def batch(rows: torch.Tensor) -> torch.Tensor:
            mirrored = (torch.rand(len(rows)) < 0.5 * options.flip).to(self.device)
            taken = scaled(images[rows.to(self.device)])
            return torch.where(mirrored.view(-1, 1, 1, 1), taken.flip(3), taken)

        def noise(count: int) -> torch.Tensor:
            return torch.randn(count, options.latent).to(self.device)

        def minimize(loss: torch.Tensor, name: str) -> None:
            adam[name].zero_grad()
            loss.backward()
            adam[name].step()

        def gan_step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            real = batch(rows)
            with torch.no_grad(), autocast(self.device, precision):
                fake = generator(noise(len(real))).float()
            # the critic is float32 throughout: its slopes are differentiated once more
            judged_real, judged_fake = critic(torch.cat([real, fake])).chunk(2)
            between = torch.rand(len(real), 1, 1, 1).to(self.device)
            mixed = torch.lerp(real, fake, between).requires_grad_()
            (slopes,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
            penalty = (slopes.flatten(1).norm(dim=1) - 1).square().mean()
            distance = judged_real.mean() - judged_fake.mean()
            minimize(options.gradient_penalty * penalty - distance, "critic")
            if (trainer.steps + 1) % options.generator_every == 0:
                critic.requires_grad_(False)
                with autocast(self.device, precision):
                    fake = generator(noise(len(real)))
                minimize(-critic(fake.float()).mean(), "generator")
                critic.requires_grad_(True)
            return {"distance": distance.detach(), "penalty": penalty.detach()}

        def residuals(real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with autocast(self.device, precision):
                rebuilt = generator(encoder(real)).float()
            image = (rebuilt - real).square().mean()
            with torch.no_grad():
                wanted = critic[:-2](real)
            return image, (critic[:-2](rebuilt) - wanted).square().mean()

        def encoder_step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
            image, feature = residuals(batch(rows))
            minimize(image + options.kappa * feature, "encoder")
            return {"image residual": image.detach(), "feature residual": feature.detach()}

        def validate() -> dict[str, torch.Tensor]:
            assert held is not None
            encoder.eval()
            found = []
            with torch.inference_mode():
                real = scaled(shrink(held.images, self.device))
                for part in real.split(SCORED_AT_ONCE):
                    found.append(torch.stack(residuals(part)) * len(part))
            encoder.train()
            image, feature = (torch.stack(found).sum(0) / len(real)).unbind()
            return {"image residual": image, "feature residual": feature}

        count, batch_size = len(images), options.batch_size
        an_epoch = data.an_epoch(count)
        share = options.gan_steps / (options.gan_steps + options.encoder_steps)
        trainer.run(
            gan_step,
            count=count,
            an_epoch=an_epoch,
            batch_size=batch_size,
            steps=options.gan_steps,
            phase="gan",
            share=share,
        )
        for network in (generator, critic):
            network.eval().requires_grad_(False)
        training = trainer.run(
            encoder_step,
            count=count,
            an_epoch=an_epoch,
            batch_size=batch_size,
            steps=options.encoder_steps,
            phase="encoder",
            validate=validate if held is not None else None,
        )
        encoder.eval()
        return training

    def _rebuild(self, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and what the generator makes of their codes, float32 (N, 3, 64, 64)."""
        real = scaled(shrink(images, self.device))
        with torch.inference_mode():
            return real, self.networks["generator"](self.networks["encoder"](real))

    def _residuals(self, data: Data) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Absolute and squared residuals of the pixels, squared ones of the features."""
        assert data.images is not None
        features = self.networks["critic"][:-2]
        found: tuple[list, list, list] = ([], [], [])
        for start in range(0, len(data.images), SCORED_AT_ONCE):
            real, rebuilt = self._rebuild(data.images[start : start + SCORED_AT_ONCE])
            with torch.inference_mode():
                seen = (features(real) - features(rebuilt)).square().mean(1)
                residual = real - rebuilt
                parts = (residual.abs().mean(1), residual.square().mean(1), seen)
            for kind, part in zip(found, parts, strict=True):
                kind.append(part.cpu().numpy())
        absolute, squared, feature = map(np.concatenate, found)
        return absolute, squared, feature

    def cells(self, data: Data) -> np.ndarray:
        """Absolute residuals of the pixels."""
        return self._residuals(data)[0]

    def score(self, data: Data) -> Scores:
        """Squared residuals of pixels and features for the image; absolute ones for the map."""
        absolute, *squared = map(data.stitched, self._residuals(data))
        pixels, features = (
            image_scores(self.options, cells, object_cells(self.options, data, cells.shape[1:]))
            for cells in squared
        )
        maps = self.judge(absolute, data).anomaly_maps
        return Scores(pixels + np.float32(self.options.kappa) * features, maps)

    def pictures(self, data: Data) -> dict[str, np.ndarray]:
        """The rebuilt images, of the photographs' proportions."""
        assert data.images is not None
        parts = []
        for start in range(0, len(data.images), SCORED_AT_ONCE):
            _, rebuilt = self._rebuild(data.images[start : start + SCORED_AT_ONCE])
            levels = ((rebuilt + 1) * 127.5).round().clamp(0, 255).byte()
            parts.append(levels.permute(0, 2, 3, 1).cpu().numpy())
        return {"rebuilt": data.whole(np.concatenate(parts))}

    def state(self) -> dict[str, torch.Tensor]:
        """The weights of all three networks."""
        return {
            f"{name}.{key}": value
            for name, network in self.networks.items()
            for key, value in network.state_dict().items()
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Rebuild the networks and take their weights."""
        self.networks = self._build()
        for name, network in self.networks.items():
            head = f"{name}."
            own = {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}
            network.load_state_dict(own)
            network.eval()
