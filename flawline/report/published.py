"""Published figures of MVTec AD beside those of a run.

`published.csv` has a row for each method, setting and metric, with its source.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flawline.metrics import METRICS, Metric
from flawline.report.leaderboard import Value, by_detector, summary
from flawline.report.runs import Run

FILE = Path(__file__).with_name("published.csv")
KIND = "mvtec_ad"
# good images to train on, good ones to test, defective ones (Bergmann et al., CVPR 2019, table 2)
IMAGES = {
    "bottle": (209, 20, 63),
    "cable": (224, 58, 92),
    "capsule": (219, 23, 109),
    "carpet": (280, 28, 89),
    "grid": (264, 21, 57),
    "hazelnut": (391, 40, 70),
    "leather": (245, 32, 92),
    "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141),
    "screw": (320, 41, 119),
    "tile": (230, 33, 84),
    "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40),
    "wood": (247, 19, 60),
    "zipper": (240, 32, 119),
}


@dataclass(frozen=True)
class PublishedRow:
    """The figures of one source; the mean is over all fifteen categories."""

    method: str
    by: str
    setting: str
    source: str
    address: str
    mean: float
    cells: tuple[float | None, ...]


@dataclass(frozen=True)
class OwnRow:
    """The figures of one detector, and what it saw."""

    detector: str
    setting: str
    mean: float | None
    cells: tuple[Value, ...]


@dataclass(frozen=True)
class PublishedTable:
    """Published and own figures of one metric, by category.

    Attributes
    ----------
    complete : whether all fifteen categories ran, so that there is a mean.
    others : what differs in the test images, in words.
    """

    metric: Metric
    categories: tuple[str, ...]
    complete: bool
    published: tuple[PublishedRow, ...]
    own: tuple[OwnRow, ...]
    others: tuple[str, ...]


def published_tables(kind: str, runs: Iterable[Run]) -> tuple[PublishedTable, ...]:
    """Return a table for each metric that has published figures of categories that ran.

    Parameters
    ----------
    kind : of dataset. There are figures of MVTec AD alone.
    """
    chosen = [
        run
        for run in runs
        if kind == KIND and run.category in IMAGES and run.protocol == "unsupervised"
    ]
    categories = tuple(dict.fromkeys(run.category for run in chosen))
    complete = len(categories) == len(IMAGES)
    with FILE.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    tables = []
    for metric in METRICS if categories else ():
        found = [
            _published(row, categories)
            for row in rows
            if row["metric"] == metric.key and (complete or any(row[name] for name in categories))
        ]
        if found:
            own = _own(chosen, metric, categories, complete)
            others = _others(chosen, categories)
            tables.append(PublishedTable(metric, categories, complete, tuple(found), own, others))
    return tuple(tables)


def _published(row: Mapping[str, str], categories: Sequence[str]) -> PublishedRow:
    return PublishedRow(
        row["method"],
        row["by"],
        row["setting"],
        row["source"],
        row["address"],
        float(row["mean"]),
        tuple(float(row[name]) if row[name] else None for name in categories),
    )


def _own(
    runs: Sequence[Run], metric: Metric, categories: Sequence[str], complete: bool
) -> tuple[OwnRow, ...]:
    groups = by_detector(runs)
    rows = []
    for detector in dict.fromkeys(run.detector for run in runs):
        seeds = {name: groups.get((name, "unsupervised", detector), []) for name in categories}
        cells = tuple(summary(seeds[name], metric) for name in categories)
        values = [cell.mean for cell in cells if cell.mean is not None]
        mean = sum(values) / len(values) if complete and len(values) == len(categories) else None
        seen = _setting([run for of_category in seeds.values() for run in of_category])
        rows.append(OwnRow(detector, seen, mean, cells))
    return tuple(rows)


def _setting(runs: Sequence[Run]) -> str:
    """Say what a detector saw: size, networks, and how many of the good images it learned from."""
    sizes, networks, shares = [], [], []
    for run in runs:
        inputs = run.metrics.provenance.get("inputs") or {}
        if shape := (inputs.get("geometry") or {}).get("shape"):
            sizes.append(f"{shape[0]} x {shape[1]} px")
        networks += [str(one["backbone"]) for one in inputs.get("features") or ()]
        shares.append(run.counts.train / IMAGES[run.category][0])
    parts = [*dict.fromkeys(networks), *dict.fromkeys(sizes)]
    if shares:
        low, high = (round(100 * share) for share in (min(shares), max(shares)))
        learned = f"{low} %" if low == high else f"{low} to {high} %"
        parts.append(f"learned from {learned} of the good images")
    return ", ".join(parts)


def _others(runs: Sequence[Run], categories: Sequence[str]) -> tuple[str, ...]:
    """Name the categories whose numbers of test images are not MVTec AD's."""
    found = []
    for name in categories:
        counts = next(run.counts for run in runs if run.category == name)
        here, wanted = (counts.test_good, counts.test_defective), IMAGES[name][1:]
        if here != wanted:
            found.append(
                f"{name} has {here[0]} good and {here[1]} defective test images here, "
                f"{wanted[0]} and {wanted[1]} in MVTec AD"
            )
    return tuple(found)
