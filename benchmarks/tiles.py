"""Scratches 3 to 8 px wide in drawn photographs of up to 4,000 x 3,000 px, with tiles and without.

    python benchmarks/tiles.py [WEIGHTS] [--sizes WIDTH ...] [--tile SIZE]

WEIGHTS is a state dict of torchvision's resnet18; without it, the Gabor filter bank is used. Each
photograph is a brushed, unevenly lit sheet; a scratch is a few hundred pixels long. PatchCore, 1 %
coreset, 6 training photographs, 8 good and 8 scratched ones. Seconds are of the whole job.
"""

import argparse
import time

import cv2
import numpy as np
import pandas as pd
import torch
from machine import describe, peak_memory
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry, geometry_of
from flawline.data.prepare import prepared
from flawline.data.regions import Counting
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.devices import choose_device
from flawline.features.backbones import build_backbone
from flawline.features.extraction import patch_features
from flawline.options.patchcore import PatchCoreOptions
from flawline.options.regions import Regions

TRAIN, TEST, FRACTION, BATCH = 6, 8, 0.01, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", nargs="?")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--tile", type=int, default=512)
    chosen = parser.parse_args()
    choose_device(0, 2)
    print(describe())
    for width in chosen.sizes:
        for tiles in (None, {"size": chosen.tile, "overlap": 64}):
            run(width, tiles, chosen.weights)


def run(width: int, tiles: dict[str, int] | None, weights: str | None) -> None:
    """One line of the table."""
    height = width * 3 // 4
    table = pd.DataFrame({"split": ["train"], "height": [height], "width": [width]})
    geometry = geometry_of(table, "auto", tiles)
    start = time.perf_counter()
    train = features_of([(seed, False) for seed in range(TRAIN)], width, geometry, weights)
    options = PatchCoreOptions(features="x", coreset_fraction=FRACTION)
    detector = PatchCore(options, 0, torch.device("cpu"))
    detector.fit(Data(geometry, features=(train,)))
    scores, hits = [], []
    for number in range(2 * TEST):
        scratched = number >= TEST
        seen = features_of([(100 + number, scratched)], width, geometry, weights)
        found = detector.score(Data(geometry, features=(seen,)))
        scores.append(float(found.scores[0]))
        if scratched:
            hits.append(hit(found.anomaly_maps[0], 100 + number, width))
    seconds = time.perf_counter() - start
    auroc = roc_auc_score(np.repeat([0, 1], TEST), scores)
    print(
        f"{width:5} x {height:4}  {geometry.pieces:4} of {geometry.seen[0]} x {geometry.seen[1]}  "
        f"image AUROC {auroc:.3f}  peak on the scratch {sum(hits)} of {TEST}  "
        f"{seconds / (TRAIN + 2 * TEST):6.1f} s a photograph  {peak_memory():6.0f} MiB",
        flush=True,
    )


def features_of(
    wanted: list[tuple[int, bool]], width: int, geometry: Geometry, weights: str | None
) -> np.ndarray:
    """Features of photographs that are drawn, prepared and cut one after the other."""
    tiling = geometry.tiling
    counting = Counting(Regions(), tiling.canvas if tiling else geometry.shape, "stretch")
    if weights:
        network = build_backbone("resnet18", weights, ["layer2", "layer3"])
        settings = {"pool": 3, "normalize": True, "precision": "float32"}
    else:
        network = build_backbone("gabor", "none", ["fine", "medium", "coarse"])
        settings = {"pool": 1, "normalize": False, "precision": "float32"}
    parts = []
    for seed, scratched in wanted:
        image = prepared(photograph(seed, width, scratched)[0], counting)
        tiles = tiling.cut(image) if tiling else image[None]
        for start in range(0, len(tiles), BATCH):
            parts.append(patch_features(network, tiles[start : start + BATCH], **settings).numpy())
    return np.concatenate(parts)


def photograph(seed: int, width: int, scratched: bool) -> tuple[np.ndarray, np.ndarray]:
    """A brushed sheet, uint8 (h, w, 3), and the ends of its scratch, float (2, 2)."""
    rng = np.random.default_rng(seed)
    height = width * 3 // 4
    brushed = cv2.GaussianBlur(rng.normal(size=(height, width)).astype(np.float32), (0, 0), 9, 0.8)
    light = cv2.resize(rng.uniform(120, 170, (4, 5)).astype(np.float32), (width, height))
    sheet = light + 12 * brushed / brushed.std() + rng.normal(0, 3, (height, width))
    ends = np.repeat(rng.uniform(0.2, 0.8, (1, 2)) * (width, height), 2, axis=0)
    angle, length = rng.uniform(0, np.pi), rng.uniform(150, 400)
    ends[1] += length * np.array([np.cos(angle), np.sin(angle)])
    if scratched:
        ink = np.zeros((height, width), np.float32)
        points = np.rint(ends).astype(int)
        thick = int(rng.integers(3, 9))
        cv2.line(ink, points[0].tolist(), points[1].tolist(), 1.0, thick, cv2.LINE_AA)
        sheet += 45 * cv2.GaussianBlur(ink, (0, 0), 1)
    grey = np.clip(sheet, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2), ends


def hit(anomaly_map: np.ndarray, seed: int, width: int) -> bool:
    """Check whether the map's peak lies within 40 px of the scratch."""
    _, ends = photograph(seed, width, True)
    y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    peak = (np.array([x, y]) + 0.5) * width / anomaly_map.shape[1]
    along = ends[1] - ends[0]
    part = np.clip((peak - ends[0]) @ along / (along @ along), 0, 1)
    return bool(np.linalg.norm(peak - ends[0] - part * along) < 40)


if __name__ == "__main__":
    main()
