"""Accuracy of a detector on a folder of photographs, trained on all good images, over seeds.

    python benchmarks/accuracy.py CATEGORY [--weights FILE] [--backbone NAME --layers NAME ...]
        [--size auto | SIDE | HEIGHT WIDTH] [--scale 1] [--seeds 0 1 2 3 4] [--poses YAML]
        [--try NAME='{option: value, ...}' ...]

CATEGORY is a folder in MVTec AD's layout. Training images that are test images are left out. Each
--try is one detector: YAML of its options; patchcore with a coreset of 2 % if it says nothing else.
Methods that read images see the same ones; synthetic anomalies are drawn on `auto` object masks.
All share the features. Without --weights, the Gabor filter bank is used. Prints a
line per detector and seed, a table of medians with the smallest and the largest, and JSON.
"""

import argparse
import hashlib
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from machine import describe, peak_memory
from PIL import Image
from pydantic import TypeAdapter
from sklearn.metrics import roc_auc_score

from flawline.data.folder_digest import SUFFIXES
from flawline.data.geometry import geometry_of
from flawline.data.prepare import prepare_images, prepare_masks
from flawline.data.regions import Counting
from flawline.detectors.data import Data, Posed
from flawline.detectors.registry import method_class
from flawline.devices import choose_device
from flawline.evaluation.pixel_metrics import count_pixels, pixel_metrics, total
from flawline.features.extraction import extract
from flawline.files import read_array
from flawline.options.detectors import METHODS, DetectorOptions
from flawline.options.object_masks import ObjectMaskOptions
from flawline.options.poses import Poses
from flawline.options.regions import Regions
from flawline.synthesis.object_masks import fit, mask_all
from flawline.synthesis.poses import pose_images

LIMITS = {"max_megapixels": 100, "workers": os.cpu_count() or 1}
METRICS = ["image_auroc", "pixel_auroc", "aupro_30", "fit_seconds", "score_seconds"]
METRICS += ["cpu_seconds", "peak_MiB"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("category", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--layers", nargs="+", default=["layer2", "layer3"])
    parser.add_argument("--size", nargs="+", default=["auto"])
    parser.add_argument("--scale", type=float, default=1.0, help="of the network's input")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--poses", help="YAML; for detectors with `poses: given`")
    parser.add_argument("--try", dest="tries", nargs="+", default=["usual={}"])
    chosen = parser.parse_args()
    device = choose_device(gpus_granted=1, threads=os.cpu_count() or 1)
    print(describe(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        start, began = time.perf_counter(), time.process_time()
        train, test, labels, masks = load(chosen, Path(folder), device)
        loaded = {"load_seconds": time.perf_counter() - start}
        loaded["load_cpu_seconds"] = time.process_time() - began
        print(
            f"{train.geometry.shape}: {len(train)} good images, {len(test)} test images", flush=True
        )
        found = []
        for name, options in (one.split("=", 1) for one in chosen.tries):
            options = {"method": "patchcore"} | yaml.safe_load(options)
            if "features" in METHODS[options["method"]].needs:
                options = {"features": "given"} | options
            if options["method"] == "patchcore":
                options = {"coreset_fraction": 0.02} | options
            posed = train if options.get("poses") else replace(train, posed=None)
            for seed in chosen.seeds:
                peak_memory()
                metrics = measure(options, seed, device, posed, test, labels, masks)
                metrics = {"detector": name, "seed": seed, **loaded, **metrics}
                print(json.dumps(metrics), flush=True)
                found.append(metrics)
    show(pd.DataFrame(found))
    print(json.dumps(found[-1]))


def measure(
    options: dict[str, Any],
    seed: int,
    device: torch.device,
    train: Data,
    test: Data,
    labels: np.ndarray,
    masks: np.ndarray | None,
) -> dict[str, float | None]:
    """Return the metrics of one detector with one seed."""
    start, began = time.perf_counter(), time.process_time()
    chosen = TypeAdapter(DetectorOptions).validate_python(options)
    detector = method_class(chosen.method)(chosen, seed, device)
    detector.fit(train)
    fitted = time.perf_counter()
    parts = [detector.score(chunk) for chunk in test.chunks()]
    scored, ended = time.perf_counter(), time.process_time()
    metrics: dict[str, float | None] = {
        "image_auroc": roc_auc_score(labels, np.concatenate([part.scores for part in parts])),
        "fit_seconds": fitted - start,
        "score_seconds": scored - fitted,
        "cpu_seconds": ended - began,
        "peak_MiB": peak_memory(),
    }
    if masks is not None:
        maps = [one.astype(np.float16) for part in parts for one in part.anomaly_maps]
        counts = total(count_pixels(*pair) for pair in zip(maps, masks, strict=True))
        assert counts is not None
        pixels = pixel_metrics(counts, None)
        metrics |= {"pixel_auroc": pixels["auroc"], "aupro_30": pixels["aupro_30"]}
    return metrics


def show(found: pd.DataFrame) -> None:
    """Print medians over the seeds, with the smallest and the largest."""
    for name, rows in found.groupby("detector", sort=False):
        shown = [
            f"{metric} {rows[metric].median():.3f} [{rows[metric].min():.3f}, "
            f"{rows[metric].max():.3f}]"
            for metric in METRICS
            if metric in rows
        ]
        print(f"{name}: " + ", ".join(shown), flush=True)


def load(
    chosen: argparse.Namespace, folder: Path, device: torch.device
) -> tuple[Data, Data, np.ndarray, np.ndarray | None]:
    """Load training data, test data, its labels and, if there are any, masks uint8 (N, H, W)."""
    category = chosen.category
    test = images_in(category / "test")
    tested = {hashlib.sha256(path.read_bytes()).digest() for path in test}
    train = [
        path
        for path in images_in(category / "train" / "good")
        if hashlib.sha256(path.read_bytes()).digest() not in tested
    ]
    geometry = geometry_of(sizes(train), "auto" if chosen.size == ["auto"] else side(chosen.size))
    counting = Counting(Regions(), geometry.shape, "stretch")
    data = []
    for part, paths in (("train", train), ("test", test)):
        images = folder / f"{part}.images.npy"
        prepare_images(paths, images, counting, **LIMITS)
        data.append(Data(geometry, read_array(images), (featured(images, chosen, device),)))
    if any("metric_learning" in one for one in chosen.tries):
        assert data[0].images is not None
        options = ObjectMaskOptions()
        model = fit(data[0].images, options)
        mask_all(data[0].images, folder / "drawn_on.npy", model, options)
        data[0] = replace(data[0], object_masks=read_array(folder / "drawn_on.npy"))
    if chosen.poses:
        data[0] = with_poses(data[0], folder, chosen, device)
    labels = np.array([path.parent.name != "good" for path in test])
    masks = [mask_of(category, path) for path in test]
    if not any(masks):
        return data[0], data[1], labels, None
    prepare_masks(masks, folder / "masks.npy", shape=geometry.shape, resize="stretch", **LIMITS)
    return data[0], data[1], labels, read_array(folder / "masks.npy")


def with_poses(train: Data, folder: Path, chosen: argparse.Namespace, device: torch.device) -> Data:
    """Return the same data with the images in other poses."""
    options, poses = ObjectMaskOptions(), Poses.model_validate(yaml.safe_load(chosen.poses))
    assert train.images is not None
    mask_all(train.images, folder / "objects.npy", fit(train.images, options), options)
    files = folder / "posed.images.npy", folder / "posed.counted.npy"
    pose_images(train.images, read_array(folder / "objects.npy"), *files, poses, "category")
    posed = Posed((featured(files[0], chosen, device),), read_array(files[1]))
    return replace(train, posed=posed)


def featured(images: Path, chosen: argparse.Namespace, device: torch.device) -> np.ndarray:
    """Features of the images of a file: float16 (N, h, w, C)."""
    bank = chosen.weights is None
    extract(
        read_array(images),
        path := images.with_suffix(".features.npy"),
        backbone="gabor" if bank else chosen.backbone,
        weights="none" if bank else chosen.weights,
        layers=["fine", "medium", "coarse"] if bank else chosen.layers,
        pool=3,
        scale=chosen.scale,
        normalize=not bank,
        precision="float32" if bank else "auto",
        batch_size=0,
        images_hash="",
        device=device,
    )
    return read_array(path)


def images_in(folder: Path) -> list[Path]:
    """Images below a folder, in order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def sizes(paths: list[Path]) -> pd.DataFrame:
    """Height and width of training photographs."""
    rows = []
    for path in paths:
        with Image.open(path) as image:
            rows.append({"split": "train", "height": image.height, "width": image.width})
    return pd.DataFrame(rows)


def side(given: list[str]) -> int | list[int]:
    """The side of a square, or height and width."""
    numbers = [int(one) for one in given]
    return numbers[0] if len(numbers) == 1 else numbers


def mask_of(category: Path, image: Path) -> Path | None:
    """The mask of a test image, if it has one."""
    found = category / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
    return found if found.exists() else None


if __name__ == "__main__":
    main()
