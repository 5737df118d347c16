"""Time each stage of the library on one category, and compare it with the machine's ceilings.

    python benchmarks/stages.py MVTEC_AD WEIGHTS [CATEGORY]

MVTEC_AD is the dataset's folder, WEIGHTS a state dict of torchvision's resnet18. The part of the
ceiling is floating-point operations over the measured rate of matrix products in that precision;
convolutions count in full, also where a faster method multiplies less.
Memory is the whole process's, at its largest during the stage.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import copy_rate, describe, matrix_rate, peak_memory, timed
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from flawline.data.geometry import Geometry
from flawline.data.prepare import prepare_images
from flawline.data.regions import Counting
from flawline.detectors.data import Data
from flawline.detectors.featcae import FeatCAE
from flawline.devices import choose_device, has_half_precision_units
from flawline.features.extraction import made_fast, patch_features
from flawline.files import read_array, write_array
from flawline.learning.coreset import greedy_coreset, project
from flawline.learning.neighbours import nearest, nearest_by_candidates
from flawline.options.featcae import FeatCAEOptions
from flawline.options.regions import Regions

SIZE, BATCH, FRACTION = 256, 8, 0.02
LAYERS = ["layer2", "layer3"]
CPU = torch.device("cpu")
PRECISIONS = {"float32": torch.float32}
if has_half_precision_units("cpu"):  # elsewhere bfloat16 is hundreds of times slower
    PRECISIONS["bfloat16"] = torch.bfloat16


def main() -> None:
    choose_device(gpus_granted=0, threads=os.cpu_count() or 1)
    root, weights = Path(sys.argv[1]), sys.argv[2]
    category = sys.argv[3] if len(sys.argv) > 3 else "screw"
    rates = {name: matrix_rate(dtype) for name, dtype in PRECISIONS.items()}
    print(describe())
    ceilings = [f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items()]
    print(f"matrix products: {', '.join(ceilings)}; copy {copy_rate() / 1e9:.1f} GB/s")
    peak_memory()  # that of the ceilings does not count
    with tempfile.TemporaryDirectory() as folder:
        paths = sorted((root / category / "train" / "good").glob("*.png"))
        images = prepared(paths, Path(folder))
        for backbone in ("resnet18", "wide_resnet50_2"):
            for precision, rate in rates.items():
                extraction(backbone, precision, rate, images, weights)
        features = cached(images, weights, Path(folder))
    coreset_and_search(features, rates)
    featcae(features)


def show(stage: str, seconds: float, count: int, unit: str, ceiling: float | None = None) -> None:
    """One line of the table; `ceiling` is the time that the machine would need at least."""
    part = "" if ceiling is None else f"{ceiling / seconds:6.0%} of the ceiling"
    rate = f"{count / seconds:10.1f} {unit}/s"
    print(f"{stage:34} {seconds:8.2f} s {rate:20} {peak_memory():6.0f} MiB {part}", flush=True)


def prepared(paths: list[Path], folder: Path) -> np.ndarray:
    counting = Counting(Regions(), (SIZE, SIZE), "stretch")
    path = folder / "images.npy"
    seconds = timed(lambda: prepare_images(paths, path, counting, max_megapixels=100, workers=2), 3)
    show("prepare (PNG to array)", seconds, len(paths), "images")
    return np.array(read_array(path))


def network(backbone: str, weights: str) -> torch.nn.Module:
    """Of the backbones but resnet18 the speed alone is measured: their weights are random."""
    built = get_model(backbone, weights=None)
    if backbone == "resnet18":
        built.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    return create_feature_extractor(built.eval(), LAYERS).requires_grad_(False)


def extraction(
    backbone: str, precision: str, rate: float, images: np.ndarray, weights: str
) -> None:
    net = network(backbone, weights)
    batch = images[:BATCH]

    def run() -> None:
        patch_features(net, batch, pool=3, normalize=True, precision=precision)

    with FlopCounterMode(display=False) as counter:
        run()
    made_fast(net, CPU, precision)
    ceiling = counter.get_total_flops() / rate
    show(f"extract {backbone}, {precision}", timed(run), len(batch), "images", ceiling)


def cached(images: np.ndarray, weights: str, folder: Path) -> np.ndarray:
    net = made_fast(network("resnet18", weights), CPU, "float32")
    parts = [
        patch_features(
            net, images[start : start + BATCH], pool=3, normalize=True, precision="float32"
        )
        for start in range(0, len(images), BATCH)
    ]
    write_array(folder / "features.npy", torch.cat(parts).numpy())
    return np.array(read_array(folder / "features.npy"))


def coreset_and_search(features: np.ndarray, rates: dict[str, float]) -> None:
    patches = torch.from_numpy(features).reshape(-1, features.shape[-1])
    count = round(len(patches) * FRACTION)
    seconds = timed(lambda: project(patches, 128, 0))
    show("project to 128 dimensions", seconds, len(patches), "patches")
    projected = project(patches, 128, 0)
    start = time.perf_counter()
    picks = greedy_coreset(projected, count, 0)
    seconds = time.perf_counter() - start
    ceiling = 2 * len(patches) * count * projected.shape[1] / rates["float32"]
    show(f"coreset, {count} of {len(patches)}", seconds, count, "picks", ceiling)
    bank, queries = patches[picks].float(), patches[: 32 * 1024]
    operations = 2 * len(queries) * len(bank) * bank.shape[1]
    for name, search, precision in (
        ("search, exact", nearest, "float32"),
        ("search, bfloat16 candidates", nearest_by_candidates, "bfloat16"),
    ):
        if precision not in rates:
            continue
        seconds = timed(lambda search=search: search(queries, bank))
        show(name, seconds, len(queries), "patches", operations / rates[precision])


def featcae(features: np.ndarray) -> None:
    options = FeatCAEOptions(features="r")
    detector = FeatCAE(options, 0, torch.device("cpu"))
    start = time.perf_counter()
    training = detector.fit(Data(Geometry((SIZE, SIZE)), features=(features,)))
    steps = len(training.rows)
    show(f"featcae, {steps} epochs", time.perf_counter() - start, steps * len(features), "images")


if __name__ == "__main__":
    main()
