"""Line: a scratch that starts on the object."""

import math

import numpy as np

from flawline.options.synthetic import Line
from flawline.synthesis.base import (
    Canvas,
    Drawn,
    blend,
    log_uniform,
    object_or_whole,
    random_point,
    reachable,
    scaled,
    side_of,
    smooth_noise,
    stroke,
    uniform,
)

POINTS = 33  # per curve; enough for the longest and most bent


def draw_line(options: Line, canvas: Canvas) -> Drawn:
    """Draw one scratch."""
    image, rng = canvas.image, canvas.rng
    shape = image.shape[:2]
    mask = object_or_whole(canvas.object_mask)
    kind, colour = str(rng.choice(options.kinds)), str(rng.choice(options.colours))
    x, y = random_point(mask, rng)
    angle = rng.uniform(0, 360)
    length = uniform(rng, options.length)
    width = min(log_uniform(rng, options.width), length / 2)
    opacity = uniform(rng, options.opacity)

    bend = 0.0 if kind == "straight" else rng.uniform(-0.5, 0.5)
    points = np.array([x, y]) + _arc(scaled(length, shape), math.radians(angle), bend)
    widths = scaled(width, shape) * _pressure(rng)
    inked = _gaps(rng) if kind == "broken" else np.ones(POINTS - 1, bool)
    coverage = stroke(shape, points, widths, inked)
    # a tool does not press evenly on a rough surface
    coverage *= 1 - rng.uniform(0, 0.8) * smooth_noise(rng, shape, side_of(shape) / 6, octaves=1)
    coverage *= reachable(mask, options.dilate)
    return Drawn(
        blend(image, _ink(colour, image, rng), opacity * coverage),
        {
            "kind": kind,
            "colour": colour,
            "x": x,
            "y": y,
            "angle": angle,
            "length": length,
            "width": width,
            "opacity": opacity,
        },
    )


def _arc(length: float, angle: float, bend: float) -> np.ndarray:
    """Return a quadratic Bézier curve from the origin, float (POINTS, 2).

    It departs from the straight line by `bend` times its length.
    """
    t = np.linspace(0, 1, POINTS)
    along, across = length * t, 2 * bend * length * t * (1 - t)
    cos, sin = math.cos(angle), math.sin(angle)
    return np.stack([along * cos - across * sin, along * sin + across * cos], axis=1)


def _pressure(rng: np.random.Generator) -> np.ndarray:
    """Draw relative widths, float (POINTS,), 0.3..1: scratches swell and thin out."""
    t = np.linspace(0, 1, POINTS)
    swell = 0.85 + 0.15 * np.sin(2 * math.pi * (rng.uniform(0.5, 2) * t + rng.uniform(0, 1)))
    ends = rng.uniform(0.01, 0.4, 2)
    taper = np.minimum(np.minimum(t / ends[0], (1 - t) / ends[1]), 1)
    return swell * (0.3 + 0.7 * taper)


def _gaps(rng: np.random.Generator) -> np.ndarray:
    """Draw gaps, bool (POINTS - 1,): False in two or three; the first and last piece stay."""
    inked = np.ones(POINTS - 1, bool)
    for _ in range(rng.integers(2, 4)):
        start = rng.integers(3, POINTS - 9)
        inked[start : start + rng.integers(3, 7)] = False
    return inked


def _ink(colour: str, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the line's colour, 0..255: (3,), or (H, W, 3) if the surface shines through."""
    if colour == "random":
        return rng.uniform(0, 255, 3)
    if colour == "grey":
        return np.full(3, rng.uniform(0, 255))
    strength = rng.uniform(0.3, 0.9)
    if colour == "darker":
        return image * (1 - strength)
    return image + (255.0 - image) * strength
