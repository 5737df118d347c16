"""The demo's bolts: parts that lie in any direction."""

import math
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from flawline.data.demo.camera import Pose, Surface
from flawline.data.demo.canvas import (
    Field,
    anywhere,
    blob,
    bump,
    inside,
    mix,
    noise,
    rgb,
    sign,
    smoothstep,
    stroke,
    tint,
    wander,
)

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
