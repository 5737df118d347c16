"""Compare the promises of thresholds and calibration checks with what they reach.

    python benchmarks/calibration.py [CATEGORY ...] [--weights RESNET18] [--splits N]
                                     [--good-images ...]

CATEGORY is a folder in MVTec AD's layout. Of its good training images, some are drawn at random to
learn from and calibrate with; all others are new good images, of which nothing drifted: false
alarms among them are compared with what the conformal threshold aims at, and the drift check, with
20 of them, should be silent. "before" is cross-calibration whose models count epochs, not steps.
Planted are five defects among the training images: their ranks by what is known of the other
images, and by the plain scores ("before"). Without a category only the limit for odd images is
simulated.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from machine import describe

from flawline.data.geometry import Geometry
from flawline.decisions.thresholds import choose_threshold
from flawline.detectors.autoencoder import Autoencoder
from flawline.detectors.base import Detector
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.devices import choose_device
from flawline.evaluation.contamination import far_out
from flawline.evaluation.drift import MIN_SCORES, drift
from flawline.features.backbones import build_backbone
from flawline.features.extraction import patch_features
from flawline.options.autoencoder import AutoencoderOptions
from flawline.options.patchcore import PatchCoreOptions

SIZE, FOLDS, HELD_BACK, TESTED, PLANTED = 128, 5, 0.2, 20, 5
ALPHAS = (0.05, 0.10)
CPU = torch.device("cpu")
MAKERS: dict[str, Callable[[int], Detector]] = {
    "patchcore": lambda seed: PatchCore(PatchCoreOptions(features="x"), seed, CPU),
    "autoencoder": lambda seed: Autoencoder(
        AutoencoderOptions(network_size=64, width=16, latent=128, epochs=40, batch_size=16),
        seed,
        CPU,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("categories", nargs="*", type=Path)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--good-images", type=int, nargs="+", default=[20, 60])
    parser.add_argument("--methods", nargs="+", default=list(MAKERS), choices=list(MAKERS))
    chosen = parser.parse_args()
    choose_device(0, 2)
    print(describe(), flush=True)
    odd_images()
    for category in chosen.categories:
        good_images = opened(sorted((category / "train/good").iterdir()), chosen.weights)
        defects = sorted((category / "test").glob("[!g]*/*"))
        for method in chosen.methods:
            for count in chosen.good_images:
                thresholds(category.name, method, good_images, count, chosen.splits)
        if "patchcore" in chosen.methods:
            planted(category.name, good_images, defects, chosen.weights)


def opened(paths: list[Path], weights: str) -> Data:
    """Images and features of photographs."""
    images = np.stack(
        [
            cv2.resize(cv2.imread(str(path))[..., ::-1], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            for path in paths
        ]
    )
    network = build_backbone("resnet18", weights, ["layer2", "layer3"])
    settings = {"pool": 3, "normalize": True, "precision": "float32"}
    with torch.inference_mode():
        parts = [patch_features(network, part, **settings).numpy() for part in batches(images)]
    return Data(Geometry((SIZE, SIZE)), images=images, features=(np.concatenate(parts),))


def batches(images: np.ndarray) -> list[np.ndarray]:
    return [images[start : start + 8] for start in range(0, len(images), 8)]


def scores_of(method: str, seed: int, learned: Data, *asked: Data) -> list[np.ndarray]:
    """Score other good images by a model that learned some."""
    detector = MAKERS[method](seed)
    detector.fit(learned)
    return [detector.score(part).scores.astype(float) for part in asked]


def thresholds(name: str, method: str, good_images: Data, count: int, splits: int) -> None:
    """False alarms among new good images, and how often the drift check sees what is not there."""
    rates: dict[tuple[str, float], list[float]] = {}
    drifts: dict[str, list[bool]] = {}
    for seed in range(splits):
        lot = np.random.default_rng(seed)
        order = lot.permutation(len(good_images))
        known, new = np.sort(order[:count]), np.sort(order[count:])
        own, test = good_images.take(known), good_images.take(new)
        tested = lot.choice(len(new), min(TESTED, len(new)), replace=False)
        parts = np.array_split(lot.permutation(count), FOLDS)
        found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        held = np.sort(lot.permutation(count)[: round(HELD_BACK * count)])
        rest = np.setdiff1d(np.arange(count), held)
        of_held, of_new = scores_of(method, seed, own.take(rest), own.take(held), test)
        found["split"] = of_held, of_new
        itself = replace(own, own=np.arange(count))
        alone, of_new = scores_of(method, seed, own, itself, test)
        folds: list[tuple[np.ndarray, np.ndarray]] = []
        for kind in ("before", "cross") if method != "patchcore" else ("cross",):
            folds, pooled = [], np.empty(count)
            for part in parts:
                part = np.sort(part)
                learned = own.take(np.setdiff1d(np.arange(count), part))
                if kind == "cross":
                    learned = replace(learned, scheduled=count)
                by_fold = scores_of(method, seed, learned, own.take(part), test)
                pooled[part] = by_fold[0]
                folds.append((by_fold[0], by_fold[1][tested]))
            found[kind] = pooled, of_new
        if method == "patchcore":
            found["leave_one_out"] = alone, of_new
        for kind, (calibration, new_scores) in found.items():
            for alpha in ALPHAS:
                value = choose_threshold(calibration, "conformal", alpha=alpha)["value"]
                rates.setdefault((kind, alpha), []).append(float((new_scores > value).mean()))
        checked: dict[str, dict[str, Any]] = {
            kind: drift(calibration, new_scores[tested], alone, higher_only=kind == "leave_one_out")
            for kind, (calibration, new_scores) in found.items()
            if kind not in ("cross", "before") and len(calibration) >= MIN_SCORES
        }
        pooled, of_new = found["cross"]
        checked["cross, all scores together"] = drift(pooled, of_new[tested], alone)
        checked["cross, by folds"] = drift(pooled, of_new[tested], alone, folds)
        for kind, one in checked.items():
            drifts.setdefault(kind, []).append(bool(one["drifted"]))
    head = f"{name}, {method}, {count} good images, {len(good_images) - count} new, {splits} splits"
    print(head, flush=True)
    for (kind, alpha), found_rates in rates.items():
        spread = f"mean {np.mean(found_rates):.3f}, sd {np.std(found_rates, ddof=1):.3f}"
        print(f"  {kind}: aimed {alpha:.2f}, {spread}, most {max(found_rates):.3f}", flush=True)
    for kind, flags in drifts.items():
        print(f"  drift, {kind}: {sum(flags)} of {len(flags)}", flush=True)


def planted(name: str, good_images: Data, defects: list[Path], weights: str) -> None:
    """Ranks of defects among training images."""
    for seed in range(3):
        lot = np.random.default_rng(seed)
        chosen = [defects[i] for i in np.sort(lot.choice(len(defects), PLANTED, replace=False))]
        bad = opened(chosen, weights)
        some = good_images.take(
            np.sort(lot.choice(len(good_images), min(len(good_images), 105), replace=False))
        )
        assert some.images is not None
        assert bad.images is not None
        images = np.concatenate([bad.images, some.images])
        features = np.concatenate([bad.features[0], some.features[0]])
        data = Data(good_images.geometry, images=images, features=(features,))
        itself = replace(data, own=np.arange(len(data)))
        apart, plain = scores_of("patchcore", seed, data, itself, data)
        ranks = [sorted((one > one[:PLANTED, None]).sum(1) + 1) for one in (apart, plain)]
        print(
            f"{name}, {PLANTED} defects planted among {len(some)} good images: ranks "
            f"{list(map(int, ranks[0]))}, before {list(map(int, ranks[1]))}",
            flush=True,
        )


def odd_images(samples: int = 400) -> None:
    """Count clean samples with a score beyond the limit for odd images."""
    lot = np.random.default_rng(0)
    for kind in ("gumbel", "lognormal", "normal"):
        for n in (12, 42, 209):
            drawn = {
                "gumbel": lot.gumbel(size=(samples, n)),
                "lognormal": lot.lognormal(0, 0.5, (samples, n)),
                "normal": lot.normal(10, 1, (samples, n)),
            }[kind]
            low, high = np.quantile(drawn, [0.25, 0.75], axis=1)
            tops = drawn.max(axis=1)
            before = (tops > high + 3 * (high - low)).mean()
            after = np.mean([top > far_out(one) for top, one in zip(tops, drawn, strict=True)])
            print(f"odd images, {kind}, n = {n}: {after:.3f}, before {before:.3f}", flush=True)


if __name__ == "__main__":
    main()
