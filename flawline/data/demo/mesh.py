"""The demo's wire mesh: a texture in any orientation, in oblong images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flawline.data.demo.camera import Pose, Surface
from flawline.data.demo.canvas import (
    Field,
    Point,
    anywhere,
    blob,
    bump,
    f32,
    mix,
    noise,
    rgb,
    sign,
    smoothstep,
    stroke,
    tint,
    wander,
)

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
        """Yield positions across and along the wires of either set, and where wires are."""
        warp, weft = self.warp - f32(fall[0]), self.weft - f32(fall[1])
        for name, across, along in (("warp", warp, weft), ("weft", weft, warp)):
            there = np.ones(across.shape, bool)
            if (cut := self.cut) and cut.wires == name:
                there = (np.floor(across) != cut.number) | (np.abs(along - cut.middle) > cut.half)
            yield across, along, there

    def _wires(self) -> list[tuple[Field, Field]]:
        """Return the height in spacings and brightness of either set."""
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
        """Draw a place in the image, one in three at its border."""
        place, at_border = rng.uniform(-1, 1, 2), rng.random(2) < 0.2
        place = np.where(at_border, np.sign(place) * (1 - 0.06 * np.abs(place)), place)
        return float(place[0] * self.x.max()), float(place[1] * self.y.max())

    def _wire_at(self, place: Point) -> tuple[str, int, float]:
        """Find the wire in view nearest to a place: its set, its number, the position along it."""
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
        """Fill the mesh with something up to `level`, in spacings."""
        surface = self.surface()
        filled = np.maximum(surface.height, level * SPACING)
        return replace(
            surface,
            height=mix(surface.height, filled, where),
            colour=tint(surface.colour, dye, opacity * where),
        )
