"""Read the files of one (category, detector, seed) for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flawline.evaluation.record import Counts, RunMetrics
from flawline.files import read_table
from flawline.layout import RunFolder
from flawline.metrics import Metric
from flawline.report.cases import read_cases
from flawline.stages import OF_RUN, STAGES

WORDS = frozenset({"protocol", "category", "metric", "detector", "detector_a", "detector_b"})


@dataclass(frozen=True)
class Cost:
    """The costs of a run, including shared features; None: not known."""

    train_seconds: float | None = None
    score_seconds: float | None = None
    peak_memory: float | None = None
    """MB"""
    model_size: float | None = None
    """MB"""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes
    ----------
    scores : float (N,) of each of `charts.GROUPS`.
    types : defect type of each of the defective scores.
    figures : folder of the run's figures, relative to the page; empty if there are none.
    training : rows of `training.csv`.
    cases : from `cases.read_cases`.
    pictures : a JPEG of the method's pictures besides its map.
    """

    metrics: RunMetrics
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    training: Sequence[Mapping[str, Any]] = ()
    cases: Mapping[str, Any] = field(default_factory=dict)
    pictures: bytes | None = None
    cost: Cost = Cost()
    types: Sequence[str] = ()
    figures: str = ""

    @property
    def category(self) -> str:
        return self.metrics.category

    @property
    def detector(self) -> str:
        return self.metrics.detector

    @property
    def protocol(self) -> str:
        return self.metrics.protocol

    @property
    def seed(self) -> int:
        return self.metrics.seed

    @property
    def threshold(self) -> float:
        return self.metrics.threshold.value

    @property
    def unit(self) -> str:
        return str(self.cases.get("unit") or "anomaly score")

    @property
    def counts(self) -> Counts:
        """Numbers of images."""
        return self.metrics.counts

    def value(self, metric: Metric) -> float | None:
        """Return a metric, or None where it was not measured."""
        return self.metrics.value(metric)

    def interval(self, metric: Metric) -> tuple[float, float] | None:
        """Return the ends of a metric's interval, if they are known."""
        return self.metrics.interval(metric)


def read_run(metrics: Path | str, benchmarks: Path | str, drawn: bool = True) -> Run:
    """Read the folder of a run; everything but the metrics may be missing.

    Parameters
    ----------
    metrics : the run's `metrics.json`.
    benchmarks : folder of Snakemake's benchmark files.
    drawn : whether the pictures there belong to these metrics.
    """
    run, about = RunFolder(Path(metrics).parent), RunMetrics.load(metrics)
    scores, types = _scores(run)
    return Run(
        about,
        scores,
        _rows(run.training),
        read_cases(run.cases) if drawn else {},
        run.pictures.read_bytes() if drawn and run.pictures.exists() else None,
        _cost(about, run, Path(benchmarks)),
        types,
    )


def comparison_rows(path: Path | str) -> list[dict[str, Any]]:
    """Read the rows of a comparison table: words, numbers, and None for empty cells."""
    return [
        {
            str(name): str(value) if name in WORDS else None if value == "" else float(value)
            for name, value in row.items()
        }
        for row in read_table(path, dtype=dict.fromkeys(WORDS, str)).to_dict("records")
    ]


def _scores(run: RunFolder) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the scores of each group, and the defect types of the defective ones."""
    scores, types = {}, []
    if run.scores("calibration").exists():
        calibration = read_table(run.scores("calibration"))
        scores["calibration"] = calibration["score"].to_numpy(float)
    if run.predictions.exists():
        test = read_table(run.predictions, dtype={"defect_type": str})
        for name, label in (("good", 0), ("defective", 1)):
            scores[name] = test.loc[test["label"] == label, "score"].to_numpy(float)
        types = test.loc[test["label"] == 1, "defect_type"].tolist()
    return scores, types


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists() or not path.stat().st_size:
        return []
    rows = read_table(path).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


def _cost(about: RunMetrics, run: RunFolder, benchmarks: Path) -> Cost:
    """Read the costs of a run; benchmarks may be missing, as they cannot be inputs of a rule."""
    names = {name: str(getattr(about, name)) for name in OF_RUN}

    def took(stage: str, **wildcards: str) -> list[tuple[float, float]]:
        job = STAGES[stage].job.format(**names | wildcards)
        return benchmark(benchmarks / stage / f"{job}.tsv")

    train, score = took("train"), took("score", subset="test")
    wanted = (about.provenance.get("options") or {}).get("features") or []
    for features in [wanted] if isinstance(wanted, str) else wanted:
        train += took("extract_features", subset="train", features=features)
        score += took("extract_features", subset="test", features=features)
    return Cost(
        sum(seconds for seconds, _ in train) if train else None,
        sum(seconds for seconds, _ in score) if score else None,
        max((memory for _, memory in train + score if memory), default=None),
        run.weights.stat().st_size / 1e6 if run.weights.exists() else None,
    )


def benchmark(path: Path) -> list[tuple[float, float]]:
    """Read seconds and peak memory (MB) of a job; nothing if it left no benchmark."""
    if not path.exists():
        return []
    rows = read_table(path, sep="\t").to_dict("records")
    try:
        return [(float(row["s"]), float(row["max_rss"])) for row in rows[:1]]
    except ValueError:  # a job too short to be measured has a dash
        return [(float(row["s"]), 0.0) for row in rows[:1]]
