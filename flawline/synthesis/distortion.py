"""Distortion (partial rotation): the content of a rectangle on the object is turned and shifted."""

import cv2
import numpy as np

from flawline.options.synthetic import Distortion
from flawline.synthesis.base import (
    Canvas,
    Drawn,
    blend,
    object_or_whole,
    random_point,
    reachable,
    scaled,
    uniform,
)

SHRINK = 0.8  # factor by which a rectangle that does not fit is shrunk


def draw_distortion(options: Distortion, canvas: Canvas) -> Drawn:
    """Turn and shift the content of one rectangle."""
    image, rng = canvas.image, canvas.rng
    shape = image.shape[:2]
    mask = object_or_whole(canvas.object_mask)
    sides = [scaled(uniform(rng, options.size), shape) for _ in range(2)]
    x, y, width, height = _place(mask, sides[0], sides[1], options.overlap, rng)
    angle = uniform(rng, options.angle)
    shift_x, shift_y = uniform(rng, options.shift), uniform(rng, options.shift)
    edge = uniform(rng, options.edge)

    warp = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    warp[:, 2] += np.array([shift_x * width, shift_y * height])
    there = np.s_[y : y + height, x : x + width]
    turned = cv2.warpAffine(image[there], warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
    alpha = _soft_rectangle(width, height, scaled(edge, shape))
    alpha *= reachable(mask, options.dilate)[there]
    result = image.copy()
    result[there] = blend(image[there], turned, alpha)
    return Drawn(
        result,
        {
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "angle": angle,
            "shift_x": shift_x,
            "shift_y": shift_y,
            "edge": edge,
        },
    )


def _place(
    mask: np.ndarray, width: float, height: float, overlap: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a rectangle around a pixel of the object: x, y, width and height.

    It lies inside the image, with at least `overlap` of its area on the object.
    """
    rows, columns = mask.shape
    while True:
        w, h = min(max(round(width), 1), columns), min(max(round(height), 1), rows)
        share = cv2.boxFilter(
            mask, cv2.CV_32F, (w, h), anchor=(w // 2, h // 2), borderType=cv2.BORDER_CONSTANT
        )
        # only rectangles that lie completely inside the image
        inside = np.zeros_like(mask)
        inside[h // 2 : rows - h + h // 2 + 1, w // 2 : columns - w + w // 2 + 1] = 1
        centres = mask & inside & (share >= overlap - 1e-6)
        if centres.any():  # true at the latest for a single pixel
            x, y = random_point(centres, rng)
            return x - w // 2, y - h // 2, w, h
        width, height = SHRINK * w, SHRINK * h


def _soft_rectangle(width: int, height: int, edge: float) -> np.ndarray:
    """Return float (height, width): 1 inside, falling towards the border over `edge` pixels."""
    across, down = (
        np.minimum(np.arange(side) + 1, side - np.arange(side)) / (edge + 1)
        for side in (width, height)
    )
    return np.minimum(np.minimum(across[None], down[:, None]), 1)
