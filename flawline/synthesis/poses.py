"""Good training images in other poses, for memories of parts and textures in any direction."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from flawline.files import new_array
from flawline.logs import hide_bar
from flawline.options.poses import Poses
from flawline.seeding import generator
from flawline.synthesis.base import object_or_whole

TRIES = 20  # angles drawn at most until a part stays in the picture
ROUND = 1.2  # length over breadth below which an object has no axis


@dataclass(frozen=True)
class Posed:
    """An image in another pose.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB.
    counted : uint8 (H, W), 1 where the image was, not what was filled in around it.
    """

    image: np.ndarray
    counted: np.ndarray


def pose_images(
    images: np.ndarray,
    object_masks: np.ndarray,
    images_path: Path | str,
    counted_path: Path | str,
    options: Poses,
    category: str,
    counted: np.ndarray | None = None,
) -> None:
    """Write the poses of all images; row i shows image i modulo N.

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB.
    object_masks : uint8 (N, H, W), 0 or 1; a whole image is a texture.
    images_path : .npy file for uint8 (N P, H, W, 3).
    counted_path : .npy file for uint8 (N P, H, W), 0 outside the turned image.
    category : with the options' seed, determines the angles.
    counted : uint8 (N, H, W), 1 where pixels count; all, if None.
    """
    total = len(images) * options.count
    with (
        new_array(images_path, (total, *images.shape[1:]), np.uint8) as made,
        new_array(counted_path, (total, *images.shape[1:3]), np.uint8) as counts,
    ):
        for row in tqdm(range(len(images)), desc="poses", unit="image", disable=hide_bar()):
            rng = generator(options.seed, category, "poses", str(row))
            whole = np.ones(images.shape[1:3], np.uint8) if counted is None else counted[row]
            poses = poses_of(
                np.array(images[row]), np.array(object_masks[row]), whole, options, rng
            )
            for number, posed in enumerate(poses):
                made[number * len(images) + row] = posed.image
                counts[number * len(images) + row] = posed.counted


def poses_of(
    image: np.ndarray,
    object_mask: np.ndarray,
    counted: np.ndarray,
    options: Poses,
    rng: np.random.Generator,
) -> Iterator[Posed]:
    """Make all further poses of one image.

    Parameters
    ----------
    image : uint8 (H, W, 3).
    object_mask, counted : uint8 (H, W), 0 or 1.
    rng : draws the angles.
    """
    height, width = counted.shape
    middle = ((width - 1) / 2, (height - 1) / 2)
    for turn, mirrored in options.square:
        if height == width or turn % 2 == 0:
            both = (np.rot90(one[:, ::-1] if mirrored else one, turn) for one in (image, counted))
            yield Posed(*map(np.ascontiguousarray, both))
        else:
            yield _warped(image, counted, _turn(middle, 90.0 * turn, mirrored))
    place = object_or_whole(object_mask)
    for number in range(options.rotations):
        mirrored = options.flips and bool(rng.integers(2))
        yield _rotated(image, place, counted, number / options.rotations, mirrored, options, rng)


def _rotated(
    image: np.ndarray,
    place: np.ndarray,
    counted: np.ndarray,
    part: float,
    mirrored: bool,
    options: Poses,
    rng: np.random.Generator,
) -> Posed:
    """Turn an image so that its axis points into one part of the circle."""
    height, width = counted.shape
    y, x = np.nonzero(place)
    points = np.stack([x, y], axis=1).astype(np.float64)
    centre = points.mean(0)
    corners = cv2.convexHull(points.astype(np.float32))[:, 0]
    texture = place.mean() > 0.95
    axis = 0.0 if texture else _axis(points - centre)
    for _ in range(TRIES):
        wanted = 360 * (part + rng.random() / options.rotations)
        turn = _turn(tuple(centre), wanted + (180 - axis if mirrored else axis), mirrored)
        moved = corners @ turn[:, :2].T + turn[:, 2]
        low, high = moved.min(0), moved.max(0)
        if texture:
            break
        room = np.array([width, height]) - 1 - (high - low)
        if (room >= 0).all():
            # its centre stays where it is, as far as the picture's sides allow
            turn[:, 2] += np.clip(0, -low, np.array([width, height]) - 1 - high)
            break
        part = rng.random()
    else:
        turn = _turn(((width - 1) / 2, (height - 1) / 2), 180.0, mirrored)
    return _warped(image, counted, turn)


def _axis(points: np.ndarray) -> float:
    """Return the direction of the longest extent of points, degrees; 0 for round objects."""
    variances, directions = np.linalg.eigh(points.T @ points)
    if variances[1] < ROUND**2 * variances[0]:
        return 0.0
    return math.degrees(math.atan2(directions[1, 1], directions[0, 1]))


def _turn(centre: tuple[float, float], degrees: float, mirrored: bool) -> np.ndarray:
    """Return an affine map, float64 (2, 3), that mirrors left to right and turns about a point."""
    turn = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    if mirrored:
        mirror = np.array([[-1, 0, 2 * centre[0]], [0, 1, 0], [0, 0, 1]])
        turn = turn @ mirror
    return turn


def _warped(image: np.ndarray, counted: np.ndarray, turn: np.ndarray) -> Posed:
    size = counted.shape[::-1]
    seen = cv2.warpAffine(
        image, turn, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return Posed(seen, cv2.warpAffine(counted, turn, size, flags=cv2.INTER_NEAREST))
