"""The demo's tablets: parts that lie nearly alike."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from flawline.data.demo.camera import Pose, Surface
from flawline.data.demo.canvas import (
    Field,
    Point,
    blob,
    bump,
    distance_to,
    f32,
    inside,
    noise,
    polar,
    rgb,
    sign,
    smoothstep,
    stroke,
    tint,
    wander,
)

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
