"""Cut-paste: cut-outs laid on the image after flip, rotation and resize."""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from flawline.data.images import open_image
from flawline.errors import FlawlineError
from flawline.options.synthetic import CutPaste
from flawline.synthesis.base import (
    Canvas,
    Drawn,
    Sources,
    dilated,
    foreign_texture,
    log_uniform,
    object_or_whole,
    random_point,
    reachable,
    scaled,
    smooth_noise,
    stroke,
    uniform,
)

FOLDER_SIDE = 512  # larger files are shrunk to this side, pixels
DEFECTS = ("stain", "crack", "hole")
# Margin around a cut-out that Poisson blending solves for, pixels: OpenCV drops three of them, and
# the others hold the cut-out's outline.
MARGIN = 5
PAD = MARGIN + 2  # pixels beyond the image's border, so that a cut-out may lie across it


@dataclass(frozen=True)
class Cutout:
    """Something to paste.

    Attributes
    ----------
    colour : float32 (H, W, 3), 0..255
    alpha : float32 (H, W), 0..1
    name : what it shows
    """

    colour: np.ndarray
    alpha: np.ndarray
    name: str


def draw_cut_paste(options: CutPaste, canvas: Canvas) -> Drawn:
    """Paste cut-outs."""
    image, rng = canvas.image, canvas.rng
    shape = image.shape[:2]
    whole = np.ones(shape, np.uint8)
    ground = object_or_whole(canvas.object_mask) if options.place == "object" else whole
    allowed = reachable(ground, options.dilate)
    parameters: dict[str, float | int | str] = {}
    for number in range(options.count):
        x, y = random_point(ground, rng)
        length = log_uniform(rng, options.size)
        side = max(round(scaled(length, shape)), 2)
        cutout = _cutout(options, canvas, image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3], side)
        angle = uniform(rng, options.angle)
        flipped = bool(rng.integers(2)) and options.flip
        opacity, edge = uniform(rng, options.opacity), uniform(rng, options.edge)
        layer, alpha = _placed(
            cutout, shape, (x, y), side, angle, flipped, scaled(edge, shape), opacity
        )
        layer, alpha = layer * allowed[..., None], alpha * allowed
        if options.blending == "poisson":
            image = _poisson(image, layer, alpha, allowed)
        else:
            over = image * (1 - alpha[..., None]) + layer
            image = np.clip(np.rint(over), 0, 255).astype(np.uint8)
        parameters |= {
            f"{number}.object": cutout.name,
            f"{number}.x": x,
            f"{number}.y": y,
            f"{number}.size": length,
            f"{number}.angle": angle,
            f"{number}.flipped": int(flipped),
            f"{number}.opacity": opacity,
            f"{number}.edge": edge,
        }
    return Drawn(image, parameters)


def _cutout(options: CutPaste, canvas: Canvas, around: np.ndarray, side: int) -> Cutout:
    """Draw what to paste; `around` is the surface at its place, uint8 (h, w, 3)."""
    rng = canvas.rng
    if options.folder is not None:
        cutouts = read_cutouts(options.folder)
        return cutouts[rng.integers(len(cutouts))]
    if options.objects == "random_objects":
        return _random_object(side, rng)
    defect = rng.choice(options.defects or DEFECTS)
    surface = around.mean((0, 1))
    if defect == "stain":
        return _stain(side, canvas.sources, canvas.row, rng)
    return _crack(side, surface, rng) if defect == "crack" else _hole(side, surface, rng)


@lru_cache(maxsize=4)
def read_cutouts(folder: Path) -> list[Cutout]:
    """Read the PNG files of a folder, in the order of their names, once in a process.

    Raises
    ------
    FlawlineError
        If there is none, or if one has no transparency or nothing but transparency.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() == ".png")
    if not paths:
        raise FlawlineError(f"{folder}: no PNG files to paste; put some there or fix `folder`")
    return [_read_cutout(path) for path in paths]


def _read_cutout(path: Path) -> Cutout:
    with open_image(path, max_megapixels=100) as file:
        if file.mode != "RGBA":
            raise FlawlineError(
                f"{path}: has the mode {file.mode}, but must be RGBA: export it with an alpha "
                "channel that is 0 around the object"
            )
        box = file.getchannel("A").getbbox()
        if box is None:
            raise FlawlineError(f"{path}: nothing in it is opaque; paint the object or remove it")
        cut = file.crop(box)
    cut.thumbnail((FOLDER_SIDE, FOLDER_SIDE))
    pixels = np.asarray(cut, np.float32)
    return Cutout(pixels[..., :3], pixels[..., 3] / 255, path.name)


def _stain(side: int, sources: Sources, row: int, rng: np.random.Generator) -> Cutout:
    colour = foreign_texture(sources, row, (side, side), rng)
    return Cutout(colour, _inside(_irregular(side, rng), side), "stain")


def _crack(side: int, surface: np.ndarray, rng: np.random.Generator) -> Cutout:
    """Draw a jagged, tapering line across the cut-out, with branches."""
    thickness = max(1.2, rng.uniform(0.03, 0.09) * side)
    x = np.linspace(0.04, 0.96, 12) * side
    y = side / 2 + np.cumsum(rng.normal(0, 0.05 * side, 12))
    trunk = np.stack([x, np.clip(y, 0, side)], axis=1)
    alpha = stroke((side, side), trunk, thickness * np.linspace(1, 0.4, 12))
    for _ in range(rng.integers(0, 4)):
        start = trunk[rng.integers(1, 9)]
        heading = rng.choice([-1, 1]) * rng.uniform(0.35, 1.1) + rng.normal(0, 0.3, 6)
        step = rng.uniform(0.04, 0.09) * side
        steps = step * np.stack([np.cos(heading), np.sin(heading)], axis=1)
        branch = np.concatenate([start[None], start + np.cumsum(steps, axis=0)])
        widths = thickness * np.linspace(0.6, 0.2, len(branch))
        alpha = np.maximum(alpha, stroke((side, side), branch, widths))
    # a crack is a shadow; on a dark surface its broken flanks catch the light
    shade = rng.uniform(0.1, 0.6)
    colour = shade * surface if surface.mean() > 60 else surface + shade * (255 - surface)
    flat = np.broadcast_to(colour.astype(np.float32), (side, side, 3))
    return Cutout(flat, alpha, "crack")


def _hole(side: int, surface: np.ndarray, rng: np.random.Generator) -> Cutout:
    """Draw a pit: dark, its far wall lit and its rim bright on that side."""
    depth = _irregular(side, rng)
    offset = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    light = rng.uniform(0, 2 * math.pi)
    facing = math.cos(light) * offset[None] + math.sin(light) * offset[:, None]
    wall = np.clip(1 - 2.5 * depth, 0, 1) * np.clip(facing, 0, 1)
    brightness = rng.uniform(0.1, 0.5) + rng.uniform(0.3, 1.2) * wall
    colour = np.clip(brightness[..., None] * surface.astype(np.float32), 0, 255)
    return Cutout(colour.astype(np.float32), _inside(depth, side), "hole")


def _irregular(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an uneven, oblong blob, float32 (side, side): above 0 inside, near 1 in its middle."""
    offset = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
    oblong = rng.uniform(1, 2)
    radius = np.hypot(offset[None], oblong * offset[:, None])
    rough = smooth_noise(rng, (side, side), rng.uniform(2, 4)) - 0.5
    # the noise must not carry the blob over the border of its cut-out
    return np.minimum(0.75 - radius + rough, 1.5 * (1 - radius))


def _inside(depth: np.ndarray, side: int) -> np.ndarray:
    """Return the coverage of pixels where `depth`, which falls by 2 over the side, is above 0."""
    return np.clip(depth * side / 2 + 0.5, 0, 1)


def _random_object(side: int, rng: np.random.Generator) -> Cutout:
    fine = 2 * side  # drawn at twice its size for smooth edges
    canvas = np.zeros((fine, fine), np.uint8)
    shape = str(rng.choice(["polygon", "ellipse", "letter"]))
    if shape == "polygon":
        corners = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 9)))
        reach = fine * rng.uniform(0.25, 0.5, len(corners))
        points = np.stack([np.cos(corners), np.sin(corners)], axis=1) * reach[:, None] + fine / 2
        cv2.fillPoly(canvas, [points.astype(np.int32)], 255)
    elif shape == "ellipse":
        axes = (fine // 2, max(int(fine * rng.uniform(0.1, 0.5)), 1))
        # rings as well as discs
        thickness = -1 if rng.random() < 0.7 else max(fine // 10, 1)
        inner = tuple(max(axis - max(thickness, 0), 1) for axis in axes)
        cv2.ellipse(canvas, (fine // 2, fine // 2), inner, 0, 0, 360, 255, thickness)
    else:
        text = chr(rng.integers(ord("A"), ord("Z") + 1))
        scale = fine / 30
        cv2.putText(
            canvas,
            text,
            (fine // 8, fine * 7 // 8),
            cv2.FONT_HERSHEY_SIMPLEX,
            scale,
            255,
            max(int(fine / 8), 1),
        )
    alpha = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    ramp = np.linspace(0, 1, side, dtype=np.float32)
    weight = ramp if rng.random() < 0.5 else np.zeros_like(ramp)  # a gradient, or plain
    colour = first + weight[None, :, None] * (second - first)
    return Cutout(np.broadcast_to(colour, (side, side, 3)), alpha, shape)


def _placed(
    cutout: Cutout,
    shape: tuple[int, int],
    centre: tuple[int, int],
    side: int,
    angle: float,
    flipped: bool,
    edge: float,
    opacity: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Resize, mirror, turn and move a cut-out to its place.

    Returns
    -------
    layer : float32 (*shape, 3)
        Colour times alpha, so that nothing from outside the cut-out bleeds in.
    alpha : float32 `shape`, 0..1
    """
    stacked = np.dstack([cutout.colour * cutout.alpha[..., None], cutout.alpha])
    height, width = cutout.alpha.shape
    shrink = side / max(height, width)
    if shrink != 1:
        width, height = max(round(width * shrink), 1), max(round(height * shrink), 1)
        method = cv2.INTER_AREA if shrink < 1 else cv2.INTER_LINEAR
        stacked = cv2.resize(stacked, (width, height), interpolation=method)
    if flipped:
        stacked = stacked[:, ::-1]
    middle = ((width - 1) / 2, (height - 1) / 2)
    warp = cv2.getRotationMatrix2D(middle, angle, 1)
    warp[:, 2] += np.subtract(centre, middle)
    placed = cv2.warpAffine(np.ascontiguousarray(stacked), warp, shape[::-1])
    fade = np.full(shape, opacity, np.float32)
    if edge > 0:
        # relative to its peak: thin lines keep their strength
        soft = cv2.GaussianBlur(placed[..., 3], (0, 0), edge)
        fade = fade * soft / max(float(soft.max()), 1e-6)
    return placed[..., :3] * fade[..., None], placed[..., 3] * fade


def _poisson(
    image: np.ndarray, layer: np.ndarray, alpha: np.ndarray, allowed: np.ndarray
) -> np.ndarray:
    """Keep the gradients of the cut-out over a plain surface, and the image around them."""

    def padded(pixels: np.ndarray, border: int) -> np.ndarray:
        return cv2.copyMakeBorder(pixels, PAD, PAD, PAD, PAD, border)

    ground, cover = padded(image, cv2.BORDER_REPLICATE), padded(alpha, cv2.BORDER_REPLICATE)
    mask = dilated((cover > 0.02).astype(np.uint8), MARGIN)
    mask *= padded(allowed, cv2.BORDER_REPLICATE)
    mask[[0, -1]] = mask[:, [0, -1]] = 0  # the clone needs a border that it keeps
    if not mask.any():
        return image
    x, y, width, height = cv2.boundingRect(mask)
    box = np.s_[y - 1 : y + height + 1, x - 1 : x + width + 1]
    plain = ground[mask > 0].mean(axis=0)
    cut = plain * (1 - cover[box][..., None]) + padded(layer, cv2.BORDER_REPLICATE)[box]
    cloned = cv2.seamlessClone(
        np.clip(np.rint(cut), 0, 255).astype(np.uint8),
        np.ascontiguousarray(ground[box]),
        mask[box] * 255,
        (1 + width // 2, 1 + height // 2),
        cv2.NORMAL_CLONE,
    )
    ground[box] = np.where(mask[box][..., None] > 0, cloned, ground[box])
    return ground[PAD:-PAD, PAD:-PAD].copy()
