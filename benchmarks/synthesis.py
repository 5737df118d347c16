"""Time synthetic anomalies at 256 px."""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from flawline.data.demo.draw import draw
from flawline.data.folder_digest import SUFFIXES
from flawline.data.images import decode_image
from flawline.data.resize import resize_image
from flawline.options.synthetic import RECIPES, SyntheticSet
from flawline.synthesis.synthesize import synthesize

SIZE = 256
IMAGES = 20
RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="category folder in MVTec AD's layout")
    folder = parser.parse_args().folder
    images, object_masks = demo_bolt() if folder is None else good_photographs(folder)
    for recipe in RECIPES:
        options = SyntheticSet.model_validate({"recipes": [{"recipe": recipe}], "images": 60})
        seconds = [measure(images, object_masks, options, workers=1) for _ in range(RUNS)]
        print(f"{recipe}: {60 / statistics.median(seconds):.0f} images/s with one worker")
    options = SyntheticSet.model_validate(
        {"recipes": [{"recipe": name} for name in RECIPES], "combine": "all", "images": 1000}
    )
    seconds = measure(images, object_masks, options, workers=2)
    print(f"1000 images with all recipes on each, two workers: {seconds:.1f} s")


def demo_bolt() -> tuple[np.ndarray, np.ndarray]:
    samples = [draw("bolt", "train", "good", i, size=SIZE) for i in range(IMAGES)]
    masks = [sample.object_mask.astype(np.uint8) for sample in samples]
    return np.stack([sample.image for sample in samples]), np.stack(masks)


def good_photographs(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The first good training images; all of the image counts as object."""
    paths = sorted(path for path in (folder / "train/good").iterdir() if path.suffix in SUFFIXES)
    images = np.stack(
        [resize_image(decode_image(path), (SIZE, SIZE), "stretch") for path in paths[:IMAGES]]
    )
    return images, np.ones(images.shape[:3], np.uint8)


def measure(
    images: np.ndarray, object_masks: np.ndarray, options: SyntheticSet, workers: int
) -> float:
    """Seconds that one set takes, writing included."""
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        synthesize(
            images,
            object_masks,
            options,
            seed=0,
            category="benchmark",
            name="benchmark",
            images_path=Path(scratch, "images.npy"),
            masks_path=Path(scratch, "masks.npy"),
            workers=workers,
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
