"""Draw the demo dataset in the folder layout of MVTec AD.

Every part is modelled as a `Surface` (relief, colour, gloss, outline) and seen through a `Camera`
(light, lens, sensor). A defect changes the model, never the photograph; both models go through the
same camera, and the ground truth is where the two photographs differ.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from flawline.data.demo.bolt import Bolt
from flawline.data.demo.camera import Camera
from flawline.data.demo.canvas import Point, coordinates
from flawline.data.demo.mesh import Mesh
from flawline.data.demo.tablet import Tablet
from flawline.data.demo.weave import Weave
from flawline.errors import FlawlineError
from flawline.logs import hide_bar

VISIBLE = 0.03  # difference in brightness (of 1) that the sensor's grain does not hide

# Moved threads look the same here and there: a person would mark the whole place. Gaps of its mask
# up to this width are closed, in sides of the square of the image's area.
GAPS = {("weave", "pulled_thread"): 0.105}


@dataclass(frozen=True)
class Sample:
    """One image and its ground truth.

    Attributes
    ----------
    image : uint8 (H, W, 3), RGB
    defect_mask : bool (H, W)
        Where the image differs from the same part without its defect, with `GAPS` closed; all False
        for a good part.
    object_mask : bool (H, W)
        The part as it lies in this image, defect included; all True for a texture.
    """

    image: np.ndarray
    defect_mask: np.ndarray
    object_mask: np.ndarray


PARTS: dict[str, Any] = {"bolt": Bolt, "tablet": Tablet, "weave": Weave, "mesh": Mesh}
# Height and width of an image in sides of the square of about the same area.
SHAPES: dict[str, Point] = {"mesh": (5 / 8, 13 / 8)}
# A defect type is the method of that name.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "bolt": ("scratch", "worn_thread", "bent", "chipped_head", "stain"),
    "tablet": ("crack", "chip", "contamination", "print"),
    "weave": ("broken_thread", "hole", "stain", "pulled_thread", "foreign_fibre"),
    "mesh": ("broken_wire", "bent_wire", "contamination", "foreign_fibre"),
}


def draw(
    category: str, split: str, defect_type: str, number: int, *, size: int = 256, seed: int = 0
) -> Sample:
    """Draw one image of the demo dataset.

    Parameters
    ----------
    category : one of `CATEGORIES`
    split : `train` or `test`
    defect_type : `good` or one of the category's defect types
    number : the image's number within its folder
    size : side in pixels of the square image; an image of another shape has about the same area
    seed : seed of the whole dataset

    Returns
    -------
    Sample
        Depends on the arguments alone, not on other images or their order.
    """
    clean, image, cover = photographs(category, split, defect_type, number, size, seed)
    difference = np.abs(image - clean).max(axis=2)
    # The faintest defects are outlined by half their own strength instead.
    mask = difference > min(VISIBLE, 0.5 * difference.max())
    mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3)))
    if gap := GAPS.get((category, defect_type)):
        mask = _closed(mask, round(gap * size))
    return Sample(np.round(image * 255).astype(np.uint8), mask > 0, cover > 0.5)


def _closed(mask: np.ndarray, width: int) -> np.ndarray:
    """Close the gaps of a mask, uint8 (H, W), that are narrower than a width, pixels."""
    # with zeros around it, the mask does not grow towards the border
    around = np.pad(mask, width)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return cv2.morphologyEx(around, cv2.MORPH_CLOSE, kernel)[width:-width, width:-width]


def photographs(
    category: str, split: str, defect_type: str, number: int, size: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photograph one part before and after it took its defect, with the same grain.

    Returns
    -------
    clean, image : float32 (H, W, 3), RGB, 0..1
        Equal for a good part.
    cover : float32 (H, W)
        How much of each pixel of `image` the part fills.
    """
    _check("category", category, tuple(CATEGORIES))
    _check("split", split, ("train", "test"))
    _check("defect type", defect_type, ("good", *CATEGORIES[category]))
    name = f"{seed}/{category}/{split}/{defect_type}/{number}"
    entropy = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big")
    for_part, for_camera, for_defect = np.random.default_rng(entropy).spawn(3)

    height, width = (round(size * factor) for factor in SHAPES.get(category, (1, 1)))
    part = PARTS[category].make(for_part, *coordinates(height, width))
    camera = Camera.expose(for_camera, height, width)
    surface = part.surface()
    clean = image = camera.photograph(surface)
    if defect_type != "good":
        surface = getattr(part, defect_type)(for_defect, severity=for_defect.uniform(0, 1))
        image = camera.photograph(surface)
    return clean, image, cv2.resize(surface.cover, (width, height), interpolation=cv2.INTER_AREA)


def write_category(
    folder: Path,
    category: str,
    *,
    size: int = 256,
    seed: int = 0,
    train_good: int = 60,
    test_good: int = 20,
    test_defective: int = 40,
) -> None:
    """Draw one category into `folder` as MVTec AD lays it out: `train/good`, `test/good`,
    `test/<defect type>` and `ground_truth/<defect type>`.

    The folder appears, or replaces its predecessor, once it is complete. `test_defective` images
    are spread evenly over the defect types. The other parameters are those of `draw`.
    """
    _check("category", category, tuple(CATEGORIES))
    kinds = CATEGORIES[category]
    share, rest = divmod(test_defective, len(kinds))
    counts = [("train", "good", train_good), ("test", "good", test_good)]
    counts += [("test", kind, share + (i < rest)) for i, kind in enumerate(kinds)]
    wanted = [(split, kind, i) for split, kind, count in counts for i in range(count)]

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        fresh = Path(scratch, "fresh")
        for split, kind, number in tqdm(wanted, desc=f"Drawing {category}", disable=hide_bar()):
            sample = draw(category, split, kind, number, size=size, seed=seed)
            _write_png(fresh / split / kind / f"{number:03d}.png", sample.image[..., ::-1])
            if kind != "good":
                mask = sample.defect_mask.astype(np.uint8) * 255
                _write_png(fresh / "ground_truth" / kind / f"{number:03d}_mask.png", mask)
        if folder.exists():
            folder.rename(Path(scratch, "old"))
        fresh.rename(folder)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _check(what: str, found: str, allowed: Sequence[str]) -> None:
    if found not in allowed:
        choices = ", ".join(allowed)
        raise FlawlineError(f"The demo dataset has no {what} {found!r}. Choose one of: {choices}.")
