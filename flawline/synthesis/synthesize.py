"""Sets of synthetic anomalies: images, masks of what changed, and a table of what was drawn."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from flawline.errors import FlawlineError
from flawline.files import new_array
from flawline.logs import hide_bar
from flawline.options.synthetic import SyntheticSet
from flawline.seeding import derive, generator
from flawline.synthesis.base import Canvas, Drawn, Sources, changed_mask, object_or_whole
from flawline.synthesis.cut_paste import draw_cut_paste
from flawline.synthesis.distortion import draw_distortion
from flawline.synthesis.line import draw_line
from flawline.synthesis.noise import draw_noise

DRAW: dict[str, Callable[[Any, Canvas], Drawn]] = {
    "line": draw_line,
    "distortion": draw_distortion,
    "cut_paste": draw_cut_paste,
    "noise": draw_noise,
}

VISIBLE = 0.0002  # least fraction of the image that must change
TRIES = 20


def synthesize(
    images: np.ndarray,
    object_masks: np.ndarray,
    options: SyntheticSet,
    *,
    seed: int,
    category: str,
    name: str,
    images_path: Path | str,
    masks_path: Path | str,
    workers: int,
    counted: np.ndarray | None = None,
) -> pd.DataFrame:
    """Make a set of synthetic anomalies; image i comes from training image i modulo N.

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB
        Good training images; may be a memory map.
    object_masks : uint8 (N, H, W), 0 or 1
        Where the object lies; an empty one counts as the whole image.
    options : which recipes, and how many images M
    seed, category, name : of the set; image i depends on them and on i alone
    images_path : .npy file for uint8 (M, H, W, 3)
    masks_path : .npy file for uint8 (M, H, W), 1 where the image changed
    workers : threads
    counted : uint8 (N, H, W), 1 where an image may change; everywhere, if None

    Returns
    -------
    One row per image: row, kind (the recipes, joined by +), source (row of the training image),
    x0, y0, x1, y1 (box of the changed pixels, upper ends exclusive), changed (their count), draws
    (attempts until the change was visible), seed (of the image's generator), parameters (what was
    drawn, as JSON: one object per recipe).

    Raises
    ------
    FlawlineError
        If a recipe's anomalies stay invisible.
    """
    rows = options.images or len(images)
    sources = Sources(images, object_masks)
    # the pool runs one image per thread: OpenCV's threads would only compete
    cv2.setNumThreads(1)
    with (
        new_array(images_path, (rows, *images.shape[1:]), np.uint8) as made,
        new_array(masks_path, (rows, *images.shape[1:3]), np.uint8) as masks,
        ThreadPoolExecutor(workers) as pool,
    ):

        def make(i: int) -> dict[str, Any]:
            names = (category, "synthesis", name, str(i))
            source = i % len(images)
            try:
                rng = generator(seed, *names)
                own = None if counted is None else counted[source]
                made[i], masks[i], about = draw_one(sources, source, options, rng, own)
            except InvisibleError as error:
                raise FlawlineError(
                    f"{category}: synthetic set {name!r}, image {i} (from training image "
                    f"{source}): {error}"
                ) from None
            return {"row": i, "source": source, "seed": derive(seed, *names)} | about

        bar = tqdm(range(rows), desc=f"synthetic set {name}", unit="image", disable=hide_bar())
        table = [about for _, about in zip(bar, pool.map(make, range(rows)), strict=True)]
    columns = ["row", "kind", "source", "x0", "y0", "x1", "y1", "changed", "draws", "seed"]
    return pd.DataFrame(table)[[*columns, "parameters"]]


class InvisibleError(FlawlineError):
    """A recipe drew repeatedly without a visible change."""


def draw_one(
    sources: Sources,
    row: int,
    options: SyntheticSet,
    rng: np.random.Generator,
    counted: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Draw on one training image, repeatedly until the change is visible.

    Parameters
    ----------
    sources : the training images
    row : of the image to draw on
    options : which recipes
    rng : draws all random choices
    counted : uint8 (H, W), 1 where the image may change; everywhere, if None

    Returns
    -------
    uint8 (H, W, 3), RGB; uint8 (H, W), 1 where it changed; what was drawn: kind, draws, box,
    changed, parameters, as in `synthesize`.

    Raises
    ------
    InvisibleError
        If a recipe's anomalies stay invisible.
    """
    before = np.array(sources.images[row])
    if counted is None:
        counted = np.ones(before.shape[:2], np.uint8)
    ground = object_or_whole(sources.object_masks[row]) * counted
    recipes = options.recipes
    if options.combine == "one_of":
        recipes = [recipes[rng.integers(len(recipes))]]
    least = max(4, round(VISIBLE * before.shape[0] * before.shape[1]))
    for draws in range(1, TRIES + 1):
        after, parameters = before, []
        for recipe in recipes:
            canvas = Canvas(after, ground, sources, row, rng)
            drawn = _as_seen(DRAW[recipe.recipe](recipe, canvas), before, counted)
            if changed_mask(after, drawn.image).sum() < least:
                break
            after = drawn.image
            parameters.append({"recipe": recipe.recipe} | drawn.parameters)
        else:
            mask = changed_mask(before, after) * counted  # its closed gaps may lie outside
            if mask.sum() >= least:
                about = {"kind": "+".join(recipe.recipe for recipe in recipes), "draws": draws}
                return after, mask, about | _box(mask) | {"parameters": _json(parameters)}
    raise InvisibleError(
        f"the recipe {recipe.recipe!r} changed fewer than {least} pixels visibly in each of "
        f"{TRIES} tries. {recipe.remedy.capitalize()}, and look at the object mask"
    )


def _as_seen(drawn: Drawn, before: np.ndarray, counted: np.ndarray) -> Drawn:
    """Make a defect grey for a grey camera, and restore pixels that do not count."""
    image = drawn.image
    if (before == before[..., :1]).all():
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return Drawn(np.where(counted[..., None] > 0, image, before), drawn.parameters)


def _box(mask: np.ndarray) -> dict[str, int]:
    x, y, width, height = cv2.boundingRect(mask)
    return {"x0": x, "y0": y, "x1": x + width, "y1": y + height, "changed": int(mask.sum())}


def _json(parameters: list[dict[str, float | int | str]]) -> str:
    rounded = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in one.items()}
        for one in parameters
    ]
    return json.dumps(rounded, sort_keys=True)
