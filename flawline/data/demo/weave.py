"""The demo's woven fabric: a texture in one orientation."""

import math
from dataclasses import dataclass, replace

import numpy as np

from flawline.data.demo.camera import Pose, Surface
from flawline.data.demo.canvas import (
    Field,
    anywhere,
    blob,
    bump,
    f32,
    mix,
    noise,
    rgb,
    smoothstep,
    stroke,
    tint,
    wander,
)

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
    """Return one of the two sets of threads: its height in thread spacings and its brightness."""
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
