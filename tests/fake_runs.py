"""Made-up runs as the pipeline leaves them on disk, to test the report and to look at it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from flawline.evaluation.evaluate import missing_in_words
from flawline.evaluation.record import RunMetrics
from flawline.files import write_table
from flawline.metrics import AUROC, METRICS
from flawline.report.cases import GAP
from flawline.report.detector_comparison import compare
from flawline.report.model import Origin, Page, assemble
from flawline.report.runs import Cost, Run

KINDS = ("miss", "false alarm", "closest call: good", "typical: defective", "typical: good")
CHECKS = ("drift", "contamination", "near_duplicates", "border")
TYPES = ("scratch", "dent", "stain")
HOSTILE = "<script>alert('x')</script>\"&"


def strip(rng: np.random.Generator, side: int = 256) -> bytes:
    """A WebP image about as large in bytes as a real case."""
    small = rng.integers(0, 255, (side // 10, 3 * side // 10, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((3 * side + 2 * GAP, side))
    content = io.BytesIO()
    picture.save(content, "WEBP", quality=55)
    return content.getvalue()


def metrics_of(
    good: np.ndarray, defective: np.ndarray, threshold: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`image` and `at_threshold`, measured on scores."""
    found, alarms = int((defective > threshold).sum()), int((good > threshold).sum())
    missed, passed = len(defective) - found, len(good) - alarms
    both = bool(len(good) and len(defective))
    wins = (defective[:, None] > good).mean() if both else None
    recall = found / len(defective) if len(defective) else None
    rate = alarms / len(good) if len(good) else None
    image = {
        "auroc": None if wins is None else float(wins),
        "average_precision": None if wins is None else float(wins) ** 0.5,
        "tpr_at_5_fpr": float((defective > good.max()).mean()) if both else None,
        "tpr_at_1_fpr": None,
        "fpr_at_95_tpr": float((good >= np.quantile(defective, 0.05)).mean()) if both else None,
    }
    at = {
        "accuracy": (found + passed) / max(len(good) + len(defective), 1),
        "balanced_accuracy": None if recall is None or rate is None else (recall + 1 - rate) / 2,
        "precision": found / (found + alarms) if found + alarms and both else None,
        "recall": recall,
        "f1": 2 * found / (2 * found + alarms + missed) if both else None,
        "false_alarm_rate": rate,
        "true_positive": found,
        "false_positive": alarms,
        "true_negative": passed,
        "false_negative": missed,
    }
    return image, at


def curves_of(good: np.ndarray, defective: np.ndarray) -> dict[str, Any]:
    if not (len(good) and len(defective)):
        return dict.fromkeys(("roc", "pr", "pixel_roc", "pixel_pr", "pro", "pimo"))
    cuts = np.sort(np.concatenate([good, defective]))[::-1]
    fpr = [0.0, *((good >= cut).mean() for cut in cuts)]
    tpr = [0.0, *((defective >= cut).mean() for cut in cuts)]
    hits = np.array([(defective >= cut).sum() for cut in cuts])
    alarms = np.array([(good >= cut).sum() for cut in cuts])
    x = np.linspace(0, 0.3, 60)
    return {
        "roc": {"fpr": fpr, "tpr": tpr, "threshold": [None, *cuts]},
        "pr": {"recall": tpr[1:], "precision": list(hits / (hits + alarms))},
        "pro": {"fpr": list(x), "overlap": list(1 - np.exp(-x * 25))},
        "pixel_roc": None,
        "pixel_pr": None,
        "pimo": None,
    }


def around(value: float | None, width: float = 0.04) -> list[float] | None:
    return None if value is None else [max(value - width, 0), min(value + width, 1)]


SECTIONS = ("counts", "checks", "threshold", "at_threshold", "image", "oracle", "risk")


def updated(metrics: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with other values: sections keep the keys that the changes do not have."""
    both = dict(metrics)
    for key, value in changes.items():
        own = metrics.get(key)
        if isinstance(own, dict) and isinstance(value, dict) and key in (*SECTIONS, *CHECKS):
            value = updated(own, value)
        both[key] = value
    return both


def fake_run(
    category: str = "bolt",
    detector: str = "patchcore",
    seed: int = 0,
    *,
    protocol: str = "unsupervised",
    apart: float = 3.0,
    good: int = 20,
    defects: int = 40,
    cases: Sequence[bytes] = (),
    losses: bool = False,
    **changes: Any,
) -> Run:
    """One run; `changes` replace values of its metrics.

    Parameters
    ----------
    apart : how far defective parts score from good ones.
    cases : contents of WebP files to show.
    """
    rng = np.random.default_rng([seed, len(category), len(detector), int(apart * 100)])
    scores = {
        "calibration": rng.normal(0, 1, 50),
        "good": rng.normal(0, 1, good),
        "defective": rng.normal(apart, 1.2, defects),
    }
    threshold = float(scores["calibration"].mean() + 2 * scores["calibration"].std())
    image, at = metrics_of(scores["good"], scores["defective"], threshold)
    pixel = {
        "auroc": 0.97,
        "average_precision": 0.6,
        "aupro_30": 0.91,
        "aupro_05": 0.7,
        "aupimo": None,
        "f1_oracle": 0.6,
        "regions": 60,
        "aupimo_note": "too few flawless pixels",
    }
    sections = {"image": image, "at_threshold": at, "pixel": pixel}
    intervals = {
        metric.key: ends
        for metric in METRICS
        if (ends := around(sections[metric.part].get(metric.name))) is not None
    }
    kinds = {}
    for number, kind in enumerate(TYPES if defects else ()):
        part_image, part_at = metrics_of(scores["good"], scores["defective"][number::3], threshold)
        kinds[kind] = {
            "n": len(scores["defective"][number::3]),
            "image_auroc": part_image["auroc"],
            "recall": part_at["recall"],
            "pixel_auroc": 0.96,
            "image": part_image,
            "at_threshold": part_at,
            "pixel": pixel,
            "oracle": {},
            "intervals": {
                key: ends
                for key, value, width in (
                    ("image.auroc", part_image["auroc"], 0.04),
                    ("at_threshold.recall", part_at["recall"], 0.15),
                )
                if (ends := around(value, width)) is not None
            },
        }
    costs = {"miss": 10.0, "false_alarm": 1.0, "defect_rate": 0.01}
    risk = 0.1 * (1 - (at["recall"] or 0)) + 0.99 * (at["false_alarm_rate"] or 0)
    spread = {"n": 50, "min": -2.0, "q25": -0.6, "median": 0.0, "q75": 0.6, "max": 2.5, "mean": 0.0}
    metrics = {
        "category": category,
        "detector": detector,
        "method": detector,
        "seed": seed,
        "protocol": protocol,
        "note": missing_in_words(good, defects),
        "counts": {
            "calibration": 50,
            "test_good": good,
            "test_defective": defects,
            "train": 200,
            "masked": defects,
        },
        **sections,
        "pixel": pixel if defects else None,
        "oracle": {
            "image_f1": 0.95,
            "image_f1_threshold": 1.5,
            "pixel_f1": 0.6,
            "pixel_f1_threshold": 2.0,
            "risk": 0.02,
            "risk_threshold": 1.7,
        },
        "intervals": intervals,
        "bootstrap": {"resamples": 1000, "confidence": 0.95},
        "by_defect_type": kinds,
        "curves": curves_of(scores["good"], scores["defective"]),
        "risk": costs
        | {
            "assumed": True,
            "at_threshold": risk,
            "call_none": 0.1,
            "call_all": 0.99,
            "threshold": [0.0, 1.0],
            "risk": [0.9, 0.1],
        }
        if defects and good
        else None,
        "threshold": {
            "rule": "mean_std",
            "value": threshold,
            "n": 50,
            "k": 2.0,
            "promise": "This rule promises nothing about the rate of false alarms.",
            "false_alarm_bound": None,
            "certified": None,
            "details": {},
        },
        "checks": {
            "drift": {
                "train": None,
                "calibration": spread,
                "test_good": spread,
                "auroc": 0.52,
                "p_value": 0.4,
                "drifted": False,
                "verdict": "No drift seen: good test images score like calibration images.",
            },
            "contamination": {
                "calibration_outliers": [],
                "limit": 3.0,
                "rate": 0.0,
                "rate_bound": 0.06,
                "train_suspects": [{"image_id": "train/good/007.png", "score": 2.9}],
                "verdict": "No calibration image scores far out.",
            },
            "near_duplicates": {"count": 0, "pairs": [], "verdict": "No pair is almost equal."},
            "border": {
                "count": 1,
                "n": 20,
                "share": 0.2,
                "gather": False,
                "verdict": "Scores of good parts peak at the border in 1 of 20 images.",
            },
        },
        "provenance": {
            "versions": {"flawline": "0.1.0", "torch": "2.9"},
            "options": {"epochs": 50, "learning_rate": 0.001},
            "code": "ab12cd34",
            "inputs": {"device": "cpu", "features": []},
            "training": "schedule completed",
        },
    }
    rows = [
        {"phase": "train", "epoch": e, "steps": 10 * e, "loss": 1 / e, "seconds": float(e)}
        for e in range(1, 51)
    ]
    shown = [
        {
            "file": f"{number:02d}.webp",
            "row": number,
            "name": f"scratch/{number:03d}.png",
            "kind": KINDS[number % len(KINDS)],
            "defect_type": "good" if "good" in KINDS[number % len(KINDS)] else "scratch",
            "score": 1.0 + number,
            "content": content,
        }
        for number, content in enumerate(cases, start=1)
    ]
    factor = 1 + len(detector) + len(category) / 10
    return Run(
        RunMetrics.model_validate(updated(metrics, changes)),
        scores,
        rows if losses else [{"step": 1, "patches": 1000, "memory": 100}],
        {"cases": shown, "scale": [0.0, 4.0], "unit": "distance to the nearest patch"},
        None,
        Cost(12.5 * factor, 1.3 * factor, 900.0 + 10 * factor, 3.1 * factor),
        [TYPES[number % 3] for number in range(defects)],
    )


def fake_pairs(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Rows of ``pairwise.csv`` for all pairs of the runs."""
    rows = []
    for number, a in enumerate(runs):
        for b in runs[number + 1 :]:
            same = ("category", "protocol", "seed")
            if any(getattr(a, key) != getattr(b, key) for key in same):
                continue
            ends = a.value(AUROC), b.value(AUROC)
            if None in ends:
                continue
            difference = ends[0] - ends[1]
            p = float(np.exp(-60 * abs(difference)))
            rows.append(
                {
                    "protocol": a.protocol,
                    "category": a.category,
                    "seed": a.seed,
                    "detector_a": a.detector,
                    "detector_b": b.detector,
                    "auroc_a": ends[0],
                    "auroc_b": ends[1],
                    "difference": difference,
                    "low": difference - 0.03,
                    "high": difference + 0.03,
                    "p": p,
                    "p_holm": min(3 * p, 1.0),
                }
            )
    return rows


def fake_ranks(names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of ``ranks.csv``."""
    return [
        {
            "protocol": "unsupervised",
            "metric": "image_auroc",
            "detector": name,
            "mean_rank": 1 + 0.9 * number,
            "categories": 15.0,
            "detectors": float(len(names)),
            "friedman_p": 0.0001,
            "critical_difference": 2.3,
            "needed": 3.0,
        }
        for number, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Grid:
    """Many runs, and what belongs to them."""

    runs: list[Run]
    page: Page


CATEGORIES = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
    *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
)
DETECTORS = (
    *("patchcore", "featcae", "autoencoder", "ssim_autoencoder", "fanogan"),
    *("metric_arcface", "metric_softmax", "cam_classifier"),
)


def fake_grid(seeds: int = 1, cases: int = 8) -> Grid:
    """15 categories x 8 detectors."""
    rng = np.random.default_rng(0)
    pool = [strip(rng) for _ in range(24)]
    runs = [
        fake_run(
            category,
            detector,
            seed,
            protocol="supervised" if detector == "cam_classifier" else "unsupervised",
            apart=4.2 - 0.3 * number + 0.05 * (place % 5) + 0.03 * seed,
            good=30,
            defects=80,
            cases=[pool[(place + seed + i) % len(pool)] for i in range(cases)],
            losses=number > 0,
        )
        for place, category in enumerate(CATEGORIES)
        for number, detector in enumerate(DETECTORS)
        for seed in range(seeds)
    ]
    ranks = fake_ranks(DETECTORS[:-1])
    origin = Origin("mvtec_ad", "2025-01-31 12:00 UTC", "dataset:\n  name: mvtec_ad\n")
    pairs = fake_pairs(runs)
    made = assemble(runs, origin, pairs=pairs, comparison=compare(ranks, []))
    return Grid(runs, made)


def write_run(run: Run, folder: Path) -> Path:
    """Leave a run's files on disk; return its ``metrics.json``."""
    run.metrics.save(folder / "metrics.json")
    calibration = run.scores["calibration"]
    rows = pd.DataFrame({"row": range(len(calibration)), "score": calibration})
    write_table(folder / "calibration/scores.csv", rows)
    test = [(0, "good", score) for score in run.scores["good"]]
    test += [(1, kind, s) for kind, s in zip(run.types, run.scores["defective"], strict=True)]
    columns = ["label", "defect_type", "score"]
    write_table(folder / "predictions.csv", pd.DataFrame(test, columns=columns))
    write_table(folder / "training.csv", pd.DataFrame(run.training))
    return folder / "metrics.json"
