"""Shapes and noise on the canvas that the demo's parts are drawn on.

Coordinates start in the middle, x to the right and y down, and give the image the area 4 (a square
reaches from -1 to 1), so that a part looks alike at every image size.
"""

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import cv2
import numpy as np

SUPERSAMPLING = 2
Field = np.ndarray  # float32 (R, C), the canvas: SUPERSAMPLING times the image's (H, W)
Point = tuple[float, float]


def side_of(field: Field) -> float:
    """Return the side, pixels, of a square with the area of this canvas or image: two units."""
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
    """Return red, green and blue as float32 (3, 1, 1), to spread over a canvas."""
    return f32(colour)[:, None, None]


def tint(colour: np.ndarray, ink: Sequence[float], amount: Field) -> np.ndarray:
    tinted = rgb(ink) - colour
    tinted *= amount
    tinted += colour
    return tinted


def coordinates(height: int, width: int) -> tuple[Field, Field]:
    """Return x and y of every pixel of the canvas of an image of `height` x `width` pixels."""
    unit = SUPERSAMPLING * math.sqrt(height * width) / 2
    across, down = (
        (np.arange(length, dtype=np.float32) + 0.5) * (1 / unit) - length / unit / 2
        for length in (SUPERSAMPLING * width, SUPERSAMPLING * height)
    )
    x, y = np.meshgrid(across, down)
    return x, y


def inside(*distances: Field) -> Field:
    """Return a shape's coverage from distances to its edges, positive inside, over one pixel."""
    distance = reduce(np.minimum, distances)
    return np.clip(distance * (side_of(distance) / 2) + 0.5, 0, 1)


def sign(rng: np.random.Generator) -> float:
    return math.copysign(1, rng.uniform(-1, 1))


def anywhere(rng: np.random.Generator, reach: float) -> Point:
    return rng.uniform(-reach, reach), rng.uniform(-reach, reach)


def polar(angle: float, radius: float) -> Point:
    return radius * math.cos(angle), radius * math.sin(angle)


def noise(rng: np.random.Generator, x: Field, y: Field, cells: float) -> Field:
    """Draw smooth noise of about unit variance with `cells` per unit length, fixed to (x, y)."""
    lattice = rng.standard_normal((192, 192), np.float32)
    u, v = f32(x * cells + 96), f32(y * cells + 96)
    return f32(cv2.remap(lattice, u, v, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP))


def blob(
    rng: np.random.Generator, x: Field, y: Field, centre: Point, radius: float, edge: float = 0.15
) -> Field:
    """Draw a ragged spot: 1 inside, 0 outside, falling over `edge` of its radius."""
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    distance += 0.18 * noise(rng, x, y, 1.3 / radius) + 0.08 * noise(rng, x, y, 4 / radius)
    return smoothstep(1 + edge, 1 - edge, distance)


def distance_to(lines: Sequence[np.ndarray], shape: tuple[int, ...]) -> Field:
    """Return each pixel's distance from polylines [n x 2], both in image coordinates."""
    canvas = np.full(shape, 255, np.uint8)
    side = side_of(canvas)
    middle = np.array(shape[::-1]) / side
    pixels = [np.round(((line + middle) / 2 * side - 0.5) * 16).astype(np.int32) for line in lines]
    cv2.polylines(canvas, pixels, isClosed=False, color=0, shift=4)
    return f32(cv2.distanceTransform(canvas, cv2.DIST_L2, 5) * (2 / side))


def stroke(lines: Sequence[np.ndarray], shape: tuple[int, ...], width: float) -> Field:
    """Draw polylines with a soft pen of half-width `width`, but not finer than the canvas."""
    distance = distance_to(lines, shape)
    return np.exp(-((distance / max(width, 1.6 / side_of(distance))) ** 2))


def wander(
    rng: np.random.Generator, start: Point, heading: float, length: float, bend: float
) -> np.ndarray:
    """Draw a polyline [n x 2] whose heading drifts by about `bend` radians over its length."""
    n = 24
    headings = heading + np.cumsum(rng.normal(0, bend / np.sqrt(n), n))
    steps = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / n)
    return np.array(start) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def soft(field: Field, radius: float) -> Field:
    """Blur by a Gaussian of `radius` in image coordinates, for speed at a quarter resolution."""
    height, width = field.shape
    small = cv2.resize(field, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(radius * side_of(field) / 8, 0.3))
    return f32(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
