"""Noise: smooth blobs on the object, filled with foreign texture or noise."""

import math

import cv2
import numpy as np

from flawline.options.synthetic import Noise
from flawline.synthesis.base import (
    Canvas,
    Drawn,
    blend,
    foreign_texture,
    likely_colour,
    log_uniform,
    object_or_whole,
    random_point,
    scaled,
    side_of,
    smooth_noise,
    uniform,
)


def draw_noise(options: Noise, canvas: Canvas) -> Drawn:
    """Cover blobs with noise or texture."""
    image, rng = canvas.image, canvas.rng
    shape = image.shape[:2]
    mask = object_or_whole(canvas.object_mask)
    fill = str(rng.choice(options.fills))
    cover, cells = log_uniform(rng, options.cover), uniform(rng, options.cells)
    opacity, edge = uniform(rng, options.opacity), uniform(rng, options.edge)
    parameters: dict[str, float | int | str] = {
        "fill": fill,
        "cover": cover,
        "cells": cells,
        "opacity": opacity,
        "edge": edge,
    }

    blobs = _blobs(mask, cover, cells, rng)
    if edge > 0:
        blobs = cv2.GaussianBlur(blobs, (0, 0), scaled(edge, shape) / 2)
    layer: np.ndarray
    if fill == "foreign":
        layer = foreign_texture(canvas.sources, canvas.row, shape, rng)
    elif fill == "drawn":
        layer = _drawn_texture(shape, rng)
    else:
        parameters["sigma"] = sigma = uniform(rng, options.sigma)
        layer = image + sigma * rng.standard_normal(image.shape, np.float32)
    return Drawn(blend(image, layer, opacity * mask * blobs), parameters)


def _blobs(mask: np.ndarray, cover: float, cells: float, rng: np.random.Generator) -> np.ndarray:
    """Draw blobs, float32 (H, W), 0 or 1: peaks of clouds on a fraction `cover` of the object."""
    height, width = mask.shape
    x, y = random_point(mask, rng)
    down, across = np.ogrid[:height, :width]
    # defects come in groups: clouds fade with the distance from one place
    distance = np.hypot(across - x, down - y) / side_of(mask.shape)
    clouds = smooth_noise(rng, (height, width), cells) - distance
    levels = clouds[mask > 0]
    peaks = max(round(cover * levels.size), 4)
    lowest = np.partition(levels, -min(peaks, levels.size))[-min(peaks, levels.size)]
    return ((clouds >= lowest) * mask).astype(np.float32)


def _drawn_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw stripes, a weave or clouds of two colours: float32 (H, W, 3), 0..255."""
    down, across = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), scaled(rng.uniform(3, 20), shape)
    along = (math.cos(angle) * across + math.sin(angle) * down) * (2 * math.pi / period)
    beside = (math.cos(angle) * down - math.sin(angle) * across) * (2 * math.pi / period)
    kind = rng.integers(3)
    if kind == 0:
        weight = 0.5 + 0.5 * np.sin(along)
    elif kind == 1:
        weight = 0.5 + 0.5 * np.sin(along) * np.sin(beside)
    else:
        weight = smooth_noise(rng, shape, side_of(shape) / period)
    first, second = likely_colour(rng), likely_colour(rng)
    return first + weight[..., None] * (second - first)
