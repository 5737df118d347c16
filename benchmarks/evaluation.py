"""Time the pixel metrics of one category: 160 maps of 256 px, 120 of them defective."""

import resource
import time

import cv2
import numpy as np
import pandas as pd

from flawline.evaluation.evaluate import evaluate
from flawline.evaluation.pixel_metrics import PRO_LIMITS, count_pixels, pixel_metrics, total

SIZE, GOOD, DEFECTIVE = 256, 40, 120
COSTS = {"miss": 10.0, "false_alarm": 1.0, "defect_rate": 0.05}


def main() -> None:
    maps, masks = draw()
    start = time.perf_counter()
    counts = total(count_pixels(*pair) for pair in zip(maps, masks, strict=True))
    good = total(count_pixels(*pair) for pair in zip(maps[:GOOD], masks[:GOOD], strict=True))
    assert counts is not None
    assert good is not None
    metrics = pixel_metrics(counts, good.normal)
    print(f"all pixel metrics: {time.perf_counter() - start:.2f} s")
    for name, value in metrics.items():
        print(f"  {name} {value:.6f}")
    kinds = ["good"] * GOOD + ["crack", "dent", "stain"] * (DEFECTIVE // 3)
    defective = np.repeat([0, 1], [GOOD, DEFECTIVE])
    labels = pd.DataFrame({"label": defective, "defect_type": kinds, "has_mask": defective})
    scores = maps.max(axis=(1, 2)).astype(float)
    start = time.perf_counter()
    evaluate(labels, scores, float(np.median(scores)), maps, masks, costs=COSTS)
    seconds = time.perf_counter() - start
    print(f"everything, three defect types and 1000 resamples each: {seconds:.2f} s")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    compare_with_anomalib(maps, masks)


def draw() -> tuple[np.ndarray, np.ndarray]:
    """Smooth noise, higher on two rectangles of each defective image."""
    rng = np.random.default_rng(0)
    masks = np.zeros((GOOD + DEFECTIVE, SIZE, SIZE), np.uint8)
    for mask in masks[GOOD:]:
        for y, x in rng.integers(0, SIZE - 30, size=(2, 2)):
            mask[y : y + 25, x : x + 20] = 1
    noise = [cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)), (0, 0), 4) for _ in masks]
    return (np.stack(noise) + 0.25 * masks).astype(np.float16), masks


def compare_with_anomalib(maps: np.ndarray, masks: np.ndarray) -> None:
    """Print anomalib's metrics of the same maps, if it is installed."""
    try:
        import torch
        from anomalib.metrics.aupro import _AUPRO
        from anomalib.metrics.pimo.functional import aupimo_scores
    except ImportError:
        print("anomalib is not installed: nothing to compare with")
        return
    values, truth = torch.from_numpy(maps.astype(np.float32)), torch.from_numpy(masks.astype(int))
    for name, limit in PRO_LIMITS.items():
        start = time.perf_counter()
        area = _AUPRO(fpr_limit=limit)
        area.update(values, truth)
        print(f"anomalib {name} {float(area.compute()):.6f}, {time.perf_counter() - start:.2f} s")
    start = time.perf_counter()
    classes, areas = aupimo_scores(values, truth.bool())[3:5]
    mean = float(areas[classes == 1].mean())
    print(f"anomalib aupimo {mean:.6f}, {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
