"""The embedded demo dataset: four kinds of product, drawn rather than photographed, in the folder
layout of MVTec AD.

Every part is modelled as a `Surface` (relief, colour, gloss, outline) and seen through a `Camera`
(light, lens, sensor). A defect changes the model, never the photograph; both models go through the
same camera, and the ground truth is where the two photographs differ. Coordinates start in the
middle, x to the right and y down, and give the image the area 4 (a square reaches from -1 to 1), so
that a part looks alike at every image size.
"""

import hashlib
import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from flawline.errors import FlawlineError

SUPERSAMPLING = 2
VISIBLE = 0.03  # difference in brightness (of 1) that the sensor's grain does not hide

Field = np.ndarray  # float32 (R, C), the canvas: SUPERSAMPLING times the image's (H, W)
Point = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB
    defect_mask : bool (H, W)
        Where the image differs from the same part without its defect; all False for a good part.
    object_mask : bool (H, W)
        The part as it lies in this image, defect included; all True for a texture.
    """

    image: np.ndarray
    defect_mask: np.ndarray
    object_mask: np.ndarray


@dataclass(frozen=True)
class Surface:
    """What the camera looks at: `height` in units of the coordinates, `colour` float32 (3, R, C)
    in 0..1, `cover` 1 on the part and 0 on the `table`."""

    height: Field
    colour: np.ndarray
    cover: Field
    gloss: float = 0.0
    table: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def painted(
        self, where: Field, ink: Sequence[float], opacity: float, raised: float = 0.0
    ) -> "Surface":
        """Ink laid on the part; `raised` above its surface, or cut into it if negative."""
        where = where * self.cover
        colour = tint(self.colour, ink, opacity * where)
        return replace(self, height=self.height + raised * where, colour=colour)


@dataclass(frozen=True)
class Pose:
    """Where a part lies: turned by `angle`, enlarged by `scale`, moved by `shift`."""

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


def side_of(field: Field) -> float:
    """Side in pixels of the square that has the area of this canvas or image: two units long."""
    return math.sqrt(field.shape[0] * field.shape[1])


def f32(values: Any) -> np.ndarray:
    return np.asarray(values, np.float32)


def smoothstep(low: float, high: float, value: Field) -> Field:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(value: Field, centre: float, width: float) -> Field:
    return np.exp(-(((value - centre) / width) ** 2))


def mix(a: Any, b: Any, weight: Any) -> Any:
    return a + (b - a) * weight


def rgb(colour: Any) -> np.ndarray:
    """Red, green and blue as float32 (3, 1, 1), to spread over a canvas."""
    return f32(colour)[:, None, None]


def tint(colour: np.ndarray, ink: Sequence[float], amount: Field) -> np.ndarray:
    tinted = rgb(ink) - colour
    tinted *= amount
    tinted += colour
    return tinted


def coordinates(height: int, width: int) -> tuple[Field, Field]:
    """x and y of every pixel of the canvas of an image of `height` x `width` pixels."""
    unit = SUPERSAMPLING * math.sqrt(height * width) / 2
    across, down = (
        (np.arange(length, dtype=np.float32) + 0.5) * (1 / unit) - length / unit / 2
        for length in (SUPERSAMPLING * width, SUPERSAMPLING * height)
    )
    x, y = np.meshgrid(across, down)
    return x, y


def inside(*distances: Field) -> Field:
    """Coverage of a shape given distances from its edges, positive inside: one pixel of ramp."""
    distance = reduce(np.minimum, distances)
    return np.clip(distance * (side_of(distance) / 2) + 0.5, 0, 1)


def sign(rng: np.random.Generator) -> float:
    return math.copysign(1, rng.uniform(-1, 1))


def anywhere(rng: np.random.Generator, reach: float) -> Point:
    return rng.uniform(-reach, reach), rng.uniform(-reach, reach)


def polar(angle: float, radius: float) -> Point:
    return radius * math.cos(angle), radius * math.sin(angle)


def noise(rng: np.random.Generator, x: Field, y: Field, cells: float) -> Field:
    """Smooth noise of about unit variance with `cells` cells per unit length, fixed to (x, y)."""
    lattice = rng.standard_normal((192, 192), np.float32)
    u, v = f32(x * cells + 96), f32(y * cells + 96)
    return f32(cv2.remap(lattice, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP))


def blob(
    rng: np.random.Generator, x: Field, y: Field, centre: Point, radius: float, edge: float = 0.15
) -> Field:
    """A ragged spot: 1 inside, 0 outside, falling over `edge` of its radius."""
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    distance += 0.18 * noise(rng, x, y, 1.3 / radius) + 0.08 * noise(rng, x, y, 4 / radius)
    return smoothstep(1 + edge, 1 - edge, distance)


def distance_to(lines: Sequence[np.ndarray], shape: tuple[int, ...]) -> Field:
    """Distance of each pixel of a canvas from polylines [n x 2], both in image coordinates."""
    canvas = np.full(shape, 255, np.uint8)
    side = side_of(canvas)
    middle = np.array(shape[::-1]) / side
    pixels = [np.round(((line + middle) / 2 * side - 0.5) * 16).astype(np.int32) for line in lines]
    cv2.polylines(canvas, pixels, isClosed=False, color=0, shift=4)
    return f32(cv2.distanceTransform(canvas, cv2.DIST_L2, 5) * (2 / side))


def stroke(lines: Sequence[np.ndarray], shape: tuple[int, ...], width: float) -> Field:
    """Polylines drawn with a soft pen of half-width `width`, but not finer than the canvas."""
    distance = distance_to(lines, shape)
    return np.exp(-((distance / max(width, 1.6 / side_of(distance))) ** 2))


def wander(
    rng: np.random.Generator, start: Point, heading: float, length: float, bend: float
) -> np.ndarray:
    """A polyline [n x 2] whose heading drifts by about `bend` radians over its length."""
    n = 24
    headings = heading + np.cumsum(rng.normal(0, bend / np.sqrt(n), n))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / n)
    return np.array(start) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def soft(field: Field, radius: float) -> Field:
    """Gaussian blur by `radius` in image coordinates, at a quarter of the resolution for speed."""
    height, width = field.shape
    small = cv2.resize(field, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(radius * side_of(field) / 8, 0.3))
    return f32(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


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
        # A sensor's colour filter makes neighbours alike, hence the blur.
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


PITCH, THREAD_DEPTH, SHANK, FLANGE, FLAT = 0.078, 0.03, 0.125, 0.29, 0.235
HEAD_TOP, HEAD_END, FLANGE_END, THREAD_START, TIP = -0.74, -0.5, -0.455, -0.12, 0.74
AXIS_HEIGHT = 0.2


@dataclass(frozen=True)
class Bolt:
    """A hexagon flange bolt lying on its side in any direction, its axis along x; `roll` turns it
    on that axis, `wear` (0..1) flattens the thread."""

    pose: Pose
    x: Field
    y: Field
    metal: np.ndarray
    roll: float
    phase: float
    finish: int
    wear: Field | float = 0.0

    @classmethod
    def make(cls, rng: np.random.Generator, x: Field, y: Field) -> "Bolt":
        pose = Pose(rng.uniform(0, 2 * math.pi), rng.uniform(1.0, 1.06), anywhere(rng, 0.06))
        metal = np.array([0.56, 0.54, 0.5]) * rng.normal(1, 0.015) + rng.normal(0, 0.003, 3)
        return cls(
            pose,
            *pose.to_part(x, y),
            metal=rgb(metal),
            roll=rng.normal(0, 0.04),
            phase=rng.uniform(0, 1),
            finish=int(rng.integers(2**32)),
        )

    def surface(self) -> Surface:
        x, y, rng = self.x, self.y, np.random.default_rng(self.finish)
        around = np.arcsin(np.clip(y / SHANK, -1, 1)) / (2 * math.pi)
        turn = x / PITCH - around + self.phase
        valley = np.abs(2 * (turn - np.floor(turn)) - 1)
        cut = smoothstep(THREAD_START, THREAD_START + 0.08, x)
        radius = SHANK - THREAD_DEPTH * cut * mix(valley, 0.6, self.wear)
        radius = np.minimum(radius, 0.075 + (TIP - x))
        shaft = np.sqrt(np.maximum(radius**2 - y**2, 0))
        shaft_cover = inside(radius - np.abs(y), TIP - x, x - HEAD_END)

        flange = np.sqrt(np.maximum(FLANGE**2 - y**2, 0))
        flange_cover = inside(FLANGE - np.abs(y), x - HEAD_END, FLANGE_END - x)

        faces = [self.roll + k * math.pi / 3 for k in (-1, 0, 1)]
        flats = [(FLAT - y * math.sin(a)) / math.cos(a) for a in faces]
        corners = [FLAT / math.cos(math.pi / 6) * math.sin(a + math.pi / 6) for a in faces]
        corners.append(-corners[-1])
        chamfer = 0.225 + 0.55 * (x - HEAD_TOP)
        head = reduce(np.minimum, [*flats, np.sqrt(np.maximum(chamfer**2 - y**2, 0))])
        beside = chamfer - np.abs(y)
        head_cover = inside(max(corners) - y, y - min(corners), beside, x - HEAD_TOP, HEAD_END - x)

        solids = [(shaft, shaft_cover), (flange, flange_cover), (head, head_cover)]
        height = reduce(np.maximum, [(AXIS_HEIGHT + top) * cover for top, cover in solids])
        brushed = 0.02 * noise(rng, x * 0.15, y, 60) + 0.01 * noise(rng, x, y, 5)
        return Surface(
            height=height + 0.0002 * noise(rng, x, y, 40),
            colour=self.metal * (1 + brushed + 0.35 * cut * self.wear),
            cover=reduce(np.maximum, [cover for _, cover in solids]),
            gloss=0.25,
            table=(0.8, 0.8, 0.79),
        )

    def scratch(self, rng: np.random.Generator, severity: float) -> Surface:
        start = (rng.uniform(HEAD_TOP + 0.05, 0.4), rng.uniform(-0.06, 0.06))
        line = wander(rng, start, rng.uniform(0, 2 * math.pi), 0.2 + 0.35 * severity, 0.2)
        mark = stroke([self.pose.to_image(line)], self.x.shape, 0.01 + 0.008 * severity)
        opacity = 0.6 + 0.4 * severity
        return self.surface().painted(mark, (1.0, 0.98, 0.95), opacity, -0.008 * severity)

    def worn_thread(self, rng: np.random.Generator, severity: float) -> Surface:
        centre = rng.uniform(THREAD_START + 0.16, TIP - 0.14)
        stretch = bump(self.x, centre, PITCH * (0.8 + 1.6 * severity))
        flank = smoothstep(-0.1, -0.04, self.y * sign(rng))
        return replace(self, wear=np.minimum(1.6 * stretch * flank, 1)).surface()

    def bent(self, rng: np.random.Generator, severity: float) -> Surface:
        knee = rng.uniform(-0.1, 0.3)
        along = np.maximum(self.x - knee, 0)
        reach = (0.14 + 0.2 * severity) * sign(rng)
        return replace(self, y=self.y - reach * along**2 / (along + 0.1)).surface()

    def chipped_head(self, rng: np.random.Generator, severity: float) -> Surface:
        surface = self.surface()
        corner = (rng.uniform(HEAD_TOP, HEAD_TOP + 0.14), 0.23 * sign(rng))
        bite = blob(rng, self.x, self.y, corner, 0.07 + 0.08 * severity, edge=0.25)
        bite *= smoothstep(HEAD_END, HEAD_END - 0.03, self.x)
        broken = bite * (1 - bite) * 4
        return replace(
            surface,
            height=surface.height - 0.15 * bite + 0.004 * broken * noise(rng, self.x, self.y, 30),
            colour=tint(surface.colour, (1.0, 0.98, 0.95), broken * 0.8),
            cover=surface.cover * (1 - bite),
        )

    def stain(self, rng: np.random.Generator, severity: float) -> Surface:
        centre = (rng.uniform(HEAD_TOP + 0.1, TIP - 0.1), rng.uniform(-0.07, 0.07))
        rust = blob(rng, self.x, self.y, centre, 0.05 + 0.1 * severity, edge=0.5)
        rust *= np.clip(0.75 + 0.3 * noise(rng, self.x, self.y, 25), 0, 1)
        return self.surface().painted(rust, (0.38, 0.19, 0.08), 0.3 + 0.6 * severity)


RADIUS = 0.72
# Where each sign of the printed code stands, and its pen strokes in a unit square.
GLYPHS: dict[str, tuple[Point, list[list[Point]]]] = {
    "F": ((-0.2, -0.4), [[(0, 1), (0, 0), (1, 0)], [(0, 0.5), (0.8, 0.5)]]),
    "L": ((0.05, -0.4), [[(0, 0), (0, 1), (1, 1)]]),
    "4": ((-0.2, 0.16), [[(0.7, 1), (0.7, 0), (0, 0.65), (1, 0.65)]]),
    "7": ((0.05, 0.16), [[(0, 0), (1, 0), (0.35, 1)]]),
}


@dataclass(frozen=True)
class Tablet:
    """A round coated tablet, always the same way up, with a score line and a printed code."""

    pose: Pose
    x: Field
    y: Field
    coat: np.ndarray
    finish: int
    ink: Field

    @classmethod
    def make(cls, rng: np.random.Generator, x: Field, y: Field) -> "Tablet":
        shift = (rng.normal(0, 0.008), rng.normal(0, 0.008))
        pose = Pose(rng.normal(0, 0.015), rng.normal(1, 0.006), shift)
        coat = np.array([0.86, 0.79, 0.68]) * rng.normal(1, 0.01) + rng.normal(0, 0.003, 3)
        register = rng.normal(0, 0.006, 2)
        lines = [
            pose.to_image(np.array(line) * [0.15, 0.24] + place + register)
            for place, lines in GLYPHS.values()
            for line in lines
        ]
        pen = rng.normal(0.022, 0.001)
        printed = smoothstep(pen + 0.006, pen - 0.006, distance_to(lines, x.shape))
        return cls(
            pose,
            *pose.to_part(x, y),
            coat=rgb(coat),
            finish=int(rng.integers(2**32)),
            ink=printed * (rng.normal(0.85, 0.02) + 0.05 * noise(rng, x, y, 20)),
        )

    def surface(self) -> Surface:
        x, y, rng = self.x, self.y, np.random.default_rng(self.finish)
        r = np.hypot(x, y)
        height = 0.56 - 0.5 * r**2 - 0.12 * smoothstep(RADIUS - 0.07, RADIUS, r)
        height -= 0.022 * bump(y, 0, 0.02) * smoothstep(RADIUS, RADIUS - 0.08, np.abs(x))
        mottle = 1 + 0.008 * noise(rng, x, y, 4) + 0.008 * noise(rng, x, y, 20)
        speckle = 0.12 * smoothstep(1.7, 2.6, noise(rng, x, y, 28))
        colour = tint(self.coat * mottle, (0.45, 0.33, 0.2), speckle)
        return Surface(
            height=height + 0.0003 * noise(rng, x, y, 35),
            colour=tint(colour, (0.12, 0.16, 0.3), self.ink),
            cover=inside(RADIUS - r),
            gloss=0.1,
            table=(0.2, 0.24, 0.27),
        )

    def crack(self, rng: np.random.Generator, severity: float) -> Surface:
        outwards = rng.uniform(0, 2 * math.pi)
        inwards = outwards + math.pi + rng.normal(0, 0.5)
        start = polar(outwards, rng.uniform(0.2, RADIUS))
        main = wander(rng, start, inwards, 0.15 + 0.55 * severity, 1.5)
        branch = wander(rng, main[12], inwards + 0.8 * sign(rng), 0.3 * severity, 1.5)
        lines = [self.pose.to_image(line) for line in (main, branch)]
        gap = stroke(lines, self.x.shape, 0.003 + 0.006 * severity)
        depth = 0.001 + 0.005 * severity
        return self.surface().painted(gap, (0.35, 0.28, 0.2), 0.1 + 0.6 * severity, -depth)

    def chip(self, rng: np.random.Generator, severity: float) -> Surface:
        surface = self.surface()
        angle, radius = rng.uniform(0, 2 * math.pi), 0.04 + 0.14 * severity
        chip = blob(rng, self.x, self.y, polar(angle, RADIUS), radius, edge=0.25)
        lost = blob(rng, self.x, self.y, polar(angle, RADIUS + 0.6 * radius), radius)
        rough = 0.02 + 0.002 * noise(rng, self.x, self.y, 20)
        return replace(
            surface,
            height=surface.height - rough * chip,
            colour=tint(surface.colour, (0.95, 0.93, 0.9), 0.8 * chip),
            cover=surface.cover * (1 - lost),
        )

    def contamination(self, rng: np.random.Generator, severity: float) -> Surface:
        dirt = np.zeros_like(self.x)
        for _ in range(rng.integers(1, 4)):
            centre = polar(rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.85) * RADIUS)
            radius = rng.uniform(0.6, 1) * (0.02 + 0.05 * severity)
            dirt = np.maximum(dirt, blob(rng, self.x, self.y, centre, radius, edge=0.4))
        dye = [(0.16, 0.12, 0.09), (0.5, 0.16, 0.12), (0.22, 0.34, 0.2)][rng.integers(3)]
        opacity = 0.15 + 0.65 * severity
        return self.surface().painted(dirt, dye, opacity, raised=0.004 * severity)

    def print(self, rng: np.random.Generator, severity: float) -> Surface:
        side = len(self.ink)
        if rng.random() < 0.5:  # faded
            corner = (0.13 * sign(rng), 0.28 * sign(rng))
            bare = blob(rng, self.x, self.y, corner, 0.08 + 0.16 * severity, edge=0.4)
            ink = self.ink * (1 - (0.15 + 0.8 * severity) * bare)
        else:  # printed twice
            reach = (0.008 + 0.035 * severity) * side / 2
            dx, dy = polar(rng.uniform(0, 2 * math.pi), reach)
            ghost = cv2.warpAffine(self.ink, f32([[1, 0, dx], [0, 1, dy]]), (side, side))
            ink = np.maximum(self.ink, (0.25 + 0.6 * severity) * f32(ghost))
        return replace(self, ink=ink).surface()


THREADS = 28
WARP_DYE, WEFT_DYE, GAP = (0.3, 0.37, 0.47), (0.74, 0.71, 0.64), (0.1, 0.1, 0.11)


@dataclass(frozen=True)
class Weave:
    """A 2/2 twill that fills the image. `across` and `along` count threads; `warp` and `weft` say
    how much of each thread is there (1 whole, 0 missing)."""

    x: Field
    y: Field
    across: Field
    along: Field
    finish: int
    warp: Field | float = 1.0
    weft: Field | float = 1.0

    @classmethod
    def make(cls, rng: np.random.Generator, x: Field, y: Field) -> "Weave":
        pose = Pose(rng.normal(0, 0.015), rng.normal(1, 0.01), anywhere(rng, 0.15))
        across, along = (
            w * (THREADS / 2) + 0.06 * noise(rng, x, y, 3) + 0.03 * noise(rng, x, y, 14)
            for w in pose.to_part(x, y)
        )
        return cls(x, y, across, along, finish=int(rng.integers(2**32)))

    def surface(self) -> Surface:
        rng = np.random.default_rng(self.finish)
        warp, warp_tone = yarn(rng, self.across, self.along, self.warp, 0)
        weft, weft_tone = yarn(rng, self.along, self.across, self.weft, 3)
        top = np.maximum(warp, weft)
        dye = np.where(warp > weft, rgb(WARP_DYE), rgb(WEFT_DYE))
        dye *= np.where(warp > weft, warp_tone, weft_tone)
        colour = tint(dye, GAP, f32(top < -0.5))
        return Surface(height=top * (2 / THREADS), colour=colour, cover=np.ones_like(top))

    def broken_thread(self, rng: np.random.Generator, severity: float) -> Surface:
        centre, length = anywhere(rng, 0.6), 0.08 + 0.25 * severity
        sets = [("warp", self.across, self.y), ("weft", self.along, self.x)]
        name, across, position = sets[rng.integers(2)]
        nearest = np.argmin((self.x - centre[0]) ** 2 + (self.y - centre[1]) ** 2)
        thread = np.floor(across) == np.floor(across.flat[nearest])
        gone = thread * (np.abs(position - position.flat[nearest]) < length)
        return replace(self, **{name: 1 - gone.astype(np.float32)}).surface()

    def hole(self, rng: np.random.Generator, severity: float) -> Surface:
        centre, radius = anywhere(rng, 0.75), 0.04 + 0.13 * severity
        warp, weft = (1 - blob(rng, self.x, self.y, centre, radius, edge=0.3) for _ in "xy")
        return replace(self, warp=warp, weft=weft).surface()

    def stain(self, rng: np.random.Generator, severity: float) -> Surface:
        spot = blob(rng, self.x, self.y, anywhere(rng, 0.7), 0.12 + 0.16 * severity, edge=0.2)
        # A drying drop carries its dirt to the edge.
        dirt = 0.6 * spot + 1.6 * spot * (1 - spot)
        return self.surface().painted(dirt, (0.25, 0.16, 0.05), 0.4 + 0.55 * severity)

    def pulled_thread(self, rng: np.random.Generator, severity: float) -> Surface:
        centre = anywhere(rng, 0.6)
        directions = [("along", self.y, self.x), ("across", self.x, self.y)]
        name, position, far = directions[rng.integers(2)]
        stretch = bump(far, centre[0], 0.12 + 0.2 * severity)
        distance = (position - centre[1]) * (THREADS / 2)
        gather = (0.7 + 1.1 * severity) * stretch * np.tanh(distance) * bump(distance, 0, 2.2)
        return replace(self, **{name: getattr(self, name) + gather}).surface()

    def foreign_fibre(self, rng: np.random.Generator, severity: float) -> Surface:
        heading = rng.uniform(0, 2 * math.pi)
        line = wander(rng, anywhere(rng, 0.7), heading, 0.2 + 0.6 * severity, 1.5)
        fibre = stroke([line], self.x.shape, 0.008 + 0.009 * severity)
        dye = [(0.12, 0.1, 0.1), (0.62, 0.2, 0.18), (0.95, 0.93, 0.9)][rng.integers(3)]
        return self.surface().painted(fibre, dye, 0.6 + 0.4 * severity, raised=0.02)


def yarn(
    rng: np.random.Generator,
    across: Field,
    along: Field,
    presence: Field | float,
    phase: int,
) -> tuple[Field, Field]:
    """One of the two sets of threads: its height in thread spacings and its brightness."""
    thread = np.floor(across).astype(np.int32)
    crossing = np.floor(along - 0.5).astype(np.int32)
    over = f32([1, 1, -1, -1])
    before, after = (over[(thread - crossing - step + phase) & 3] for step in (0, 1))
    lift = mix(before, after, smoothstep(0.2, 0.8, along - 0.5 - crossing))
    width, shade = f32(rng.normal(0.45, 0.01, 64)), f32(rng.normal(1, 0.02, 64))
    offset = (across - thread - 0.5) / np.maximum(width[thread & 63] * presence, 0.02)
    fibres = noise(rng, across, along * 0.35, 5)
    twist = np.sin(2 * math.pi * (2 * along + 1.2 * across))
    profile = np.sqrt(np.maximum(1 - offset**2, 0))
    height = 0.26 * profile + 0.13 * lift + 0.012 * (fibres + twist)
    there = (np.abs(offset) < 1) & (np.asarray(presence) > 0.15)
    tone = shade[thread & 63] * (1 + 0.05 * fibres)
    return np.where(there, height, np.float32(-0.6)), tone


SPACING = 0.12
WIRE, CRIMP, BELT_BELOW = 0.15, 0.13, 0.5  # radius, half a wave, depth: in spacings
STEEL, BELT, SHADOW = (0.52, 0.52, 0.5), (0.3, 0.33, 0.35), (0.035, 0.04)


@dataclass(frozen=True)
class Cut:
    """The piece of a wire that is cut away: of warp or weft, its number, around where along it."""

    wires: str
    number: int
    middle: float
    half: float


@dataclass(frozen=True)
class Mesh:
    """A wire mesh of plain weave on a belt, in any direction and larger than its oblong image.
    `warp` and `weft` count the wires of the two sets; the shadow lies `fall` wires away."""

    x: Field
    y: Field
    warp: Field
    weft: Field
    fall: Point
    finish: int
    cut: Cut | None = None

    @classmethod
    def make(cls, rng: np.random.Generator, x: Field, y: Field) -> "Mesh":
        pose = Pose(rng.uniform(0, 2 * math.pi), rng.normal(1, 0.01), anywhere(rng, SPACING))
        warp, weft = (
            w / SPACING + 0.04 * noise(rng, x, y, 1.5) + 0.015 * noise(rng, x, y, 6)
            for w in pose.to_part(x, y)
        )
        across, along = replace(pose, shift=(0, 0)).to_part(*f32(SHADOW))
        fall = (float(across / SPACING), float(along / SPACING))
        return cls(x, y, warp, weft, fall, finish=int(rng.integers(2**32)))

    def surface(self) -> Surface:
        (warp, warp_tone), (weft, weft_tone) = self._wires()
        top = np.maximum(warp, weft)
        steel = rgb(STEEL) * np.where(warp > weft, warp_tone, weft_tone)
        light = np.ones_like(top)
        for across, _, there in self._sets(self.fall):
            away = np.abs(across - np.floor(across) - 0.5)
            light *= 1 - 0.5 * smoothstep(WIRE + 0.1, WIRE - 0.1, away) * there
        rng = np.random.default_rng([self.finish, 1])
        grime = 1 + 0.05 * noise(rng, self.x, self.y, 4) + 0.05 * noise(rng, self.x, self.y, 30)
        colour = np.where(top > -BELT_BELOW, steel, rgb(BELT) * grime * light)
        return Surface(height=top * SPACING, colour=colour, cover=np.ones_like(top), gloss=0.35)

    def _sets(self, fall: Point = (0, 0)) -> Iterator[tuple[Field, Field, Field]]:
        """Position across the wires of either set, along them, and whether the wire is there."""
        warp, weft = self.warp - f32(fall[0]), self.weft - f32(fall[1])
        for name, across, along in (("warp", warp, weft), ("weft", weft, warp)):
            there = np.ones(across.shape, bool)
            if (cut := self.cut) and cut.wires == name:
                there = (np.floor(across) != cut.number) | (np.abs(along - cut.middle) > cut.half)
            yield across, along, there

    def _wires(self) -> list[tuple[Field, Field]]:
        """Height in spacings and brightness of either set."""
        rng = np.random.default_rng(self.finish)
        found = []
        for phase, (across, along, there) in enumerate(self._sets()):
            number = np.floor(across).astype(np.int32)
            place, gauge, shade = f32(rng.normal(0, [[0.015], [0.008], [0.03]], (3, 64)))
            offset = (across - number - 0.5 - place[number & 63]) / (WIRE + gauge[number & 63])
            over = np.where((number + phase) & 1, f32(CRIMP), f32(-CRIMP))
            height = WIRE * np.sqrt(np.maximum(1 - offset**2, 0)) + over * np.sin(math.pi * along)
            there &= np.abs(offset) < 1
            tone = 1 + shade[number & 63] + 0.06 * noise(rng, across * 4, along * 0.3, 5)
            found.append((np.where(there, height, f32(-BELT_BELOW)), tone))
        return found

    def _somewhere(self, rng: np.random.Generator) -> Point:
        """A place in the image, one in three at its border."""
        place, at_border = rng.uniform(-1, 1, 2), rng.random(2) < 0.2
        place = np.where(at_border, np.sign(place) * (1 - 0.06 * np.abs(place)), place)
        return float(place[0] * self.x.max()), float(place[1] * self.y.max())

    def _wire_at(self, place: Point) -> tuple[str, int, float]:
        """The wire in view that is nearest to a place: its set, its number, where along it."""
        (warp, _), (weft, _) = self._wires()
        away = (self.x - place[0]) ** 2 + (self.y - place[1]) ** 2
        nearest = np.argmin(np.where(np.maximum(warp, weft) > 0, away, np.inf))
        across, along = float(self.warp.flat[nearest]), float(self.weft.flat[nearest])
        if warp.flat[nearest] > weft.flat[nearest]:
            return "warp", math.floor(across), along
        return "weft", math.floor(along), across

    def broken_wire(self, rng: np.random.Generator, severity: float) -> Surface:
        half = 0.8 + 1.2 * severity if severity < 0.7 else math.inf
        return replace(self, cut=Cut(*self._wire_at(self._somewhere(rng)), half)).surface()

    def bent_wire(self, rng: np.random.Generator, severity: float) -> Surface:
        name, number, middle = self._wire_at(self._somewhere(rng))
        across, along = (self.warp, self.weft) if name == "warp" else (self.weft, self.warp)
        push = (0.6 + 0.4 * severity) * sign(rng) * bump(along, middle, 1.2 + 1.5 * severity)
        # Neighbours give way, or the wire would cross them.
        bent: dict[str, Any] = {name: across - push * bump(across - push, number + 0.5, 1.2)}
        return replace(self, **bent).surface()

    def contamination(self, rng: np.random.Generator, severity: float) -> Surface:
        lump = blob(rng, self.x, self.y, self._somewhere(rng), 0.07 + 0.11 * severity, edge=0.3)
        dye = [(0.16, 0.13, 0.1), (0.42, 0.2, 0.1), (0.66, 0.62, 0.5)][rng.integers(3)]
        return self._laid_on(lump, dye, 0.5 + 0.45 * severity, level=-0.05)

    def foreign_fibre(self, rng: np.random.Generator, severity: float) -> Surface:
        heading = rng.uniform(0, 2 * math.pi)
        line = wander(rng, self._somewhere(rng), heading, 0.4 + 0.7 * severity, 1.5)
        fibre = stroke([line], self.x.shape, 0.016 + 0.012 * severity)
        dye = [(0.1, 0.08, 0.08), (0.16, 0.25, 0.6), (0.62, 0.16, 0.13)][rng.integers(3)]
        return self._laid_on(fibre, dye, 0.75 + 0.25 * severity, level=0.3)

    def _laid_on(self, where: Field, dye: Sequence[float], opacity: float, level: float) -> Surface:
        """Something that fills the mesh up to `level`, in spacings."""
        surface = self.surface()
        filled = np.maximum(surface.height, level * SPACING)
        return replace(
            surface,
            height=mix(surface.height, filled, where),
            colour=tint(surface.colour, dye, opacity * where),
        )


PARTS: dict[str, Any] = {"bolt": Bolt, "tablet": Tablet, "weave": Weave, "mesh": Mesh}
# Height and width of an image in sides of the square of about the same area.
SHAPES: dict[str, Point] = {"mesh": (5 / 8, 13 / 8)}
# A defect type is the method of that name.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "bolt": ("scratch", "worn_thread", "bent", "chipped_head", "stain"),
    "tablet": ("crack", "chip", "contamination", "print"),
    "weave": ("broken_thread", "hole", "stain", "pulled_thread", "foreign_fibre"),
    "mesh": ("broken_wire", "bent_wire", "contamination", "foreign_fibre"),
}


def draw(
    category: str, split: str, defect_type: str, number: int, *, size: int = 256, seed: int = 0
) -> Sample:
    """Draw one image of the demo dataset.

    Parameters
    ----------
    category : one of `CATEGORIES`
    split : `train` or `test`
    defect_type : `good` or one of the category's defect types
    number : the image's number within its folder
    size : side in pixels of the square image; an image of another shape has about the same area
    seed : seed of the whole dataset

    Returns
    -------
    Sample
        Depends on nothing but the arguments, so neither on what else is drawn nor in what order.
    """
    clean, image, cover = photographs(category, split, defect_type, number, size, seed)
    difference = np.abs(image - clean).max(axis=2)
    # The faintest defects are outlined by half their own strength instead.
    mask = difference > min(VISIBLE, 0.5 * difference.max())
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3))) > 0
    return Sample(np.round(image * 255).astype(np.uint8), mask, cover > 0.5)


def photographs(
    category: str, split: str, defect_type: str, number: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photograph one part before and after it took its defect, with the same grain.

    Returns
    -------
    clean, image : float32 (H, W, 3), RGB, 0..1
        Equal for a good part.
    cover : float32 (H, W)
        How much of each pixel of `image` the part fills.
    """
    _check("category", category, tuple(CATEGORIES))
    _check("split", split, ("train", "test"))
    _check("defect type", defect_type, ("good", *CATEGORIES[category]))
    name = f"{seed}/{category}/{split}/{defect_type}/{number}"
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    for_part, for_camera, for_defect = np.random.default_rng(entropy).spawn(3)

    height, width = (round(size * factor) for factor in SHAPES.get(category, (1, 1)))
    part = PARTS[category].make(for_part, *coordinates(height, width))
    camera = Camera.expose(for_camera, height, width)
    surface = part.surface()
    clean = image = camera.photograph(surface)
    if defect_type != "good":
        surface = getattr(part, defect_type)(for_defect, severity=for_defect.uniform(0, 1))
        image = camera.photograph(surface)
    return clean, image, cv2.resize(surface.cover, (width, height), interpolation=cv2.INTER_AREA)


def write_category(
    folder: Path,
    category: str,
    *,
    size: int = 256,
    seed: int = 0,
    train_good: int = 60,
    test_good: int = 20,
    test_defective: int = 40,
) -> None:
    """Draw one category into `folder` as MVTec AD lays it out: `train/good`, `test/good`,
    `test/<defect type>` and `ground_truth/<defect type>`.

    The folder appears, or replaces its predecessor, once all of it is drawn. `test_defective` is
    shared out evenly over the defect types. The other parameters are those of `draw`.
    """
    _check("category", category, tuple(CATEGORIES))
    kinds = CATEGORIES[category]
    share, rest = divmod(test_defective, len(kinds))
    counts = [("train", "good", train_good), ("test", "good", test_good)]
    counts += [("test", kind, share + (i < rest)) for i, kind in enumerate(kinds)]
    wanted = [(split, kind, i) for split, kind, count in counts for i in range(count)]

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch, "fresh")
        for split, kind, number in tqdm(wanted, desc=f"Drawing {category}", disable=None):
            sample = draw(category, split, kind, number, size=size, seed=seed)
            _write_png(fresh / split / kind / f"{number:03d}.png", sample.image[..., ::-1])
            if kind != "good":
                mask = sample.defect_mask.astype(np.uint8) * 255
                _write_png(fresh / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _check(what: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        choices = ", ".join(allowed)
        raise FlawlineError(f"The demo dataset has no {what} {found!r}. Choose one of: {choices}.")
