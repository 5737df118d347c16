"""PatchCore by flawline's library, in one process, with all goods in the memory."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry
from flawline.data.images import SUFFIXES
from flawline.data.prepare import prepare_images, prepare_masks
from flawline.data.regions import Counting, Regions
from flawline.detectors.base import Data
from flawline.detectors.patchcore import PatchCore, PatchCoreOptions
from flawline.devices import choose_device
from flawline.features.extraction import extract
from flawline.files import read_array

LIMITS = {"max_megapixels": 100, "workers": 2}
FEATURES = {
    "backbone": "resnet18",
    "layers": ["layer2", "layer3"],
    "pool": 3,
    "normalize": True,
    "precision": "auto",
    "batch_size": 0,
    "images_hash": "",
}


def main() -> None:
    root, weights, category = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    shape = int(sys.argv[4]), int(sys.argv[5])
    device = choose_device(gpus_granted=1, threads=os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.perf_counter()
        train = images_in(root / category / "train" / "good")
        test = images_in(root / category / "test")
        data = [
            load(paths, folder / part, weights, shape, device)
            for part, paths in (("train", train), ("test", test))
        ]
        options = PatchCoreOptions(features="r", coreset_fraction=0.02)
        detector = PatchCore(options, 0, device)
        detector.fit(data[0])
        fitted = time.perf_counter()
        found = [detector.score(chunk) for chunk in data[1].chunks()]
        scores = np.concatenate([part.scores for part in found])
        maps = np.concatenate([part.anomaly_maps for part in found])
        done = time.perf_counter()
        masks = [mask_of(root / category, path) for path in test]
        prepare_masks(masks, folder / "masks.npy", shape=shape, resize="stretch", **LIMITS)
        labels = np.array([path.parent.name != "good" for path in test])
        truth = read_array(folder / "masks.npy")
        figures = {
            "image_auroc": roc_auc_score(labels, scores),
            "fit_seconds": fitted - start,
            "score_seconds": done - fitted,
            "peak_MiB": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
        }
        if truth.any():
            pixels = maps.ravel().astype(np.float32)
            figures["pixel_auroc"] = roc_auc_score(truth.ravel() > 0, pixels)
    print(json.dumps(figures))


def images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def load(
    paths: list[Path], path: Path, weights: str, shape: tuple[int, int], device: torch.device
) -> Data:
    images = path.with_suffix(".images.npy")
    prepare_images(paths, images, Counting(Regions(), shape, "stretch"), **LIMITS)
    features = path.with_suffix(".npy")
    extract(read_array(images), features, weights=weights, device=device, **FEATURES)
    return Data(Geometry(shape), features=(read_array(features),))


def mask_of(category: Path, image: Path) -> Path | None:
    found = category / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
    return found if found.exists() else None


if __name__ == "__main__":
    main()
