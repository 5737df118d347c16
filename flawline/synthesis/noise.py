"""Noise: smooth blobs on the object, filled with something that does not belong there."""

import math
from typing import Annotated, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from flawline.synthesis.base import (
    Drawn,
    Range,
    Recipe,
    Sources,
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
    within,
)


class Noise(Recipe):
    """Thresholded Perlin-like clouds; lengths in pixels at 224 pixels."""

    remedy: ClassVar[str] = "raise `cover`, `opacity` or `sigma`"

    recipe: Literal["noise"] = "noise"
    cover: Annotated[Range, within(1e-4, 1)] = Field(
        (0.005, 0.06), description="Part of the object that is covered; small ones prevail."
    )
    cells: Annotated[Range, within(1, 64)] = Field(
        (3, 12), description="Clouds to a side of the image: more make smaller blobs."
    )
    fills: list[Literal["foreign", "drawn", "gaussian"]] = Field(
        ["foreign", "drawn", "gaussian"],
        min_length=1,
        description="A piece of another training image; a drawn texture; Gaussian noise.",
    )
    sigma: Annotated[Range, within(0, 128)] = Field(
        (15, 50), description="Standard deviation of the Gaussian noise, of 255 grey levels."
    )
    opacity: Annotated[Range, within(0, 1)] = (0.3, 1.0)
    edge: Annotated[Range, within(0, 32)] = Field((0.5, 4), description="Width of the soft edge.")

    @model_validator(mode="after")
    def _sigma_of_gaussian_noise(self) -> Self:
        if "gaussian" not in self.fills and self.sigma != type(self).model_fields["sigma"].default:
            raise ValueError(
                "sigma: only the fill `gaussian` has one; add it to `fills`, or leave `sigma` out"
            )
        return self

    def draw(
        self,
        image: np.ndarray,
        object_mask: np.ndarray,
        sources: Sources,
        row: int,
        rng: np.random.Generator,
    ) -> Drawn:
        shape = image.shape[:2]
        mask = object_or_whole(object_mask)
        fill = str(rng.choice(self.fills))
        cover, cells = log_uniform(rng, self.cover), uniform(rng, self.cells)
        opacity, edge = uniform(rng, self.opacity), uniform(rng, self.edge)
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
            layer = foreign_texture(sources, row, shape, rng)
        elif fill == "drawn":
            layer = _drawn_texture(shape, rng)
        else:
            parameters["sigma"] = sigma = uniform(rng, self.sigma)
            layer = image + sigma * rng.standard_normal(image.shape, np.float32)
        return Drawn(blend(image, layer, opacity * mask * blobs), parameters)


def _blobs(mask: np.ndarray, cover: float, cells: float, rng: np.random.Generator) -> np.ndarray:
    """Float32 (H, W), 0 or 1: the peaks of the clouds near one place, on `cover` of the object."""
    height, width = mask.shape
    x, y = random_point(mask, rng)
    down, across = np.ogrid[:height, :width]
    # defects come in groups: clouds thin out with the distance from one place
    distance = np.hypot(across - x, down - y) / side_of(mask.shape)
    clouds = smooth_noise(rng, (height, width), cells) - distance
    levels = clouds[mask > 0]
    peaks = max(round(cover * levels.size), 4)
    lowest = np.partition(levels, -min(peaks, levels.size))[-min(peaks, levels.size)]
    return ((clouds >= lowest) * mask).astype(np.float32)


def _drawn_texture(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Float32 (H, W, 3), 0..255: stripes, a weave or clouds of two colours."""
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
