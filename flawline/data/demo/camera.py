"""The surface of a part, its pose, and the camera that photographs it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from flawline.data.demo.canvas import Field, Point, f32, rgb, side_of, soft, tint


@dataclass(frozen=True)
class Surface:
    """The surface that the camera sees: `height` in units of the coordinates, `colour` float32
    (3, R, C) in 0..1, `cover` 1 on the part and 0 on the `table`."""

    height: Field
    colour: np.ndarray
    cover: Field
    gloss: float = 0.0
    table: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def painted(
        self, where: Field, ink: Sequence[float], opacity: float, raised: float = 0.0
    ) -> "Surface":
        """Lay ink on the part, `raised` above its surface, or cut into it if negative."""
        where = where * self.cover
        colour = tint(self.colour, ink, opacity * where)
        return replace(self, height=self.height + raised * where, colour=colour)


@dataclass(frozen=True)
class Pose:
    """The pose of a part: turned by `angle`, enlarged by `scale`, moved by `shift`."""

    angle: float
    scale: float
    shift: Point

    def to_part(self, x: Field, y: Field) -> tuple[Field, Field]:
        cos, sin = math.cos(self.angle) / self.scale, math.sin(self.angle) / self.scale
        x, y = x - self.shift[0], y - self.shift[1]
        return cos * x + sin * y, cos * y - sin * x

    def to_image(self, points: np.ndarray) -> np.ndarray:
        cos, sin = math.cos(self.angle) * self.scale, math.sin(self.angle) * self.scale
        return points @ np.array([[cos, sin], [-sin, cos]]) + np.array(self.shift)


@dataclass(frozen=True)
class Camera:
    """The light and the sensor of one exposure. `grain` is float32 (H, W, 3)."""

    light: np.ndarray
    exposure: np.ndarray
    falloff: Point
    grain: np.ndarray

    @classmethod
    def expose(cls, rng: np.random.Generator, height: int, width: int) -> "Camera":
        light = np.array([-0.4, -0.45, 0.8]) + rng.normal(0, 0.015, 3)
        exposure = rng.normal(1, 0.01) * rng.normal(1, 0.004, 3)
        falloff = (rng.normal(-0.05, 0.006), rng.normal(-0.05, 0.006))
        # A sensor's colour filter correlates neighbours, hence the blur.
        grain = cv2.GaussianBlur(rng.standard_normal((height, width, 3), np.float32), (0, 0), 0.5)
        return cls(f32(light / np.linalg.norm(light)), f32(exposure), falloff, 0.014 * f32(grain))

    def photograph(self, surface: Surface) -> np.ndarray:
        """Photograph a surface: float32 (H, W, 3), RGB, 0..1."""
        size, side = side_of(self.grain), side_of(surface.cover)
        height = f32(surface.height)
        across = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=side / 16)
        down = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=side / 16)
        upright = 1 / np.sqrt(1 + across * across + down * down)

        def facing(direction: np.ndarray) -> Field:
            x, y, z = direction / np.linalg.norm(direction)
            return np.maximum((z - x * across - y * down) * upright, 0)

        hollow = np.clip((soft(height, 0.03) - height) * 6, 0, 0.5)
        shade = (0.45 + 0.78 * facing(self.light)) * (1 - hollow)
        image = surface.colour * shade
        if surface.gloss:
            mirrored = facing(self.light + f32([0, 0, 1]))
            image += surface.gloss * (cv2.pow(mirrored, 32) + 0.35 * cv2.pow(mirrored, 6))
        if surface.cover.min() < 1:
            image *= surface.cover
            image += self._table(surface) * (1 - surface.cover)

        image = cv2.merge(list(image))
        image = cv2.resize(image, self.grain.shape[1::-1], interpolation=cv2.INTER_AREA)
        image = cv2.GaussianBlur(image, (0, 0), max(0.6 * size / 256, 0.3))
        rows, columns = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape[:2])
        image *= (1 + columns * self.falloff[0] + rows[:, None] * self.falloff[1])[..., None]
        image *= self.exposure
        # Photon noise grows with the root of the light.
        return np.clip(image + self.grain * np.sqrt(np.maximum(image, 0.05)), 0, 1)

    def _table(self, surface: Surface) -> np.ndarray:
        height, width = surface.cover.shape
        shadow = np.zeros_like(surface.cover)
        for reach, blur, depth in ((0.015, 0.012, 0.35), (0.06, 0.06, 0.3)):
            dx, dy = -self.light[:2] * reach * side_of(shadow)
            moved = cv2.warpAffine(surface.cover, f32([[1, 0, dx], [0, 1, dy]]), (width, height))
            shadow = np.maximum(shadow, depth * soft(moved, blur))
        return rgb(surface.table) * (1 - shadow)
