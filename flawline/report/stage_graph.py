"""The stages that a run went through, drawn as a graph with what each of them took."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.report.runs import benchmark

# What each rule may follow; those that did not run are skipped.
AFTER: dict[str, tuple[str, ...]] = {
    "download": (),
    "unpack": ("download",),
    "draw_demo": (),
    "index": ("unpack", "draw_demo"),
    "split": ("index",),
    "prepare": ("split",),
    "ground_truth": ("split",),
    "train_labels": ("split",),
    "near_duplicates": ("prepare",),
    "object_model": ("prepare",),
    "object_masks": ("object_model",),
    "synthesize": ("object_masks",),
    "extract_features": ("prepare",),
    "train": ("prepare", "train_labels", "extract_features", "object_masks", "synthesize"),
    "train_fold": ("prepare", "train_labels", "extract_features", "object_masks", "synthesize"),
    "score": ("train",),
    "score_fold": ("train_fold",),
    "gather_folds": ("score_fold",),
    "fuse": ("score", "gather_folds"),
    "fuse_scores": ("fuse",),
    "threshold": ("score", "gather_folds"),
    "boxes": ("score", "gather_folds", "fuse_scores"),
    "evaluate": ("threshold", "fuse_scores", "ground_truth", "near_duplicates"),
    "compare": ("evaluate",),
    "figures": ("evaluate", "boxes"),
    "pictures": ("evaluate",),
    "report_page": ("compare", "figures", "pictures", "synthesize"),
}
BOX, GAP = (104.0, 38.0), (26.0, 14.0)


@dataclass(frozen=True)
class Stage:
    """A rule that ran: how many jobs, their seconds, and where its box is."""

    name: str
    jobs: int
    seconds: float
    x: float
    y: float


def graph(benchmarks: Path | str) -> dict[str, Any]:
    """Boxes and arrows of all rules that left benchmark files, in their order."""
    ran = {name: _took(Path(benchmarks), name) for name in AFTER}
    ran["report_page"] = (1, 0.0)  # this very job: its benchmark is written when it ends
    ran = {name: took for name, took in ran.items() if took[0]}
    arrows = [(a, name) for name in ran for a in _direct(name, ran)]
    column: dict[str, int] = {}
    for name in ran:
        column[name] = max((column[a] + 1 for a, b in arrows if b == name), default=0)
    reach = {name: max([column[b] for a, b in arrows if a == name], default=99) for name in ran}
    rows = _rows(column, reach, _longest(arrows, column))
    stages = {
        name: Stage(
            name,
            jobs,
            seconds,
            column[name] * (BOX[0] + GAP[0]) + 1,
            rows[name] * (BOX[1] + GAP[1]) + 1,
        )
        for name, (jobs, seconds) in ran.items()
    }
    return {
        "width": (max(column.values()) + 1) * (BOX[0] + GAP[0]) - GAP[0] + 2,
        "height": (max(rows.values()) + 1) * (BOX[1] + GAP[1]) - GAP[1] + 2,
        "box": BOX,
        "stages": list(stages.values()),
        "arrows": [
            (
                stages[a].x + BOX[0],
                stages[a].y + BOX[1] / 2,
                stages[b].x,
                stages[b].y + BOX[1] / 2,
            )
            for a, b in arrows
        ],
    }


def _longest(arrows: list[tuple[str, str]], column: dict[str, int]) -> set[str]:
    """One longest way through the graph."""
    at = max(column, key=lambda name: column[name])
    way = {at}
    while before := [a for a, b in arrows if b == at and column[a] == column[at] - 1]:
        at = before[-1]
        way.add(at)
    return way


def _rows(column: dict[str, int], reach: dict[str, int], top: set[str]) -> dict[str, int]:
    """The top row for the longest way; below it, no arrow runs through another stage's box."""
    rows = dict.fromkeys(top, 0)
    for name in column:
        if name in top:
            continue
        taken = {
            rows[other]
            for other in rows
            if other not in top
            and column[other] < max(reach[name], column[name] + 1)
            and column[name] < max(reach[other], column[other] + 1)
        }
        rows[name] = next(row for row in range(1, len(column) + 1) if row not in taken)
    return rows


def _took(benchmarks: Path, name: str) -> tuple[int, float]:
    files = [*sorted((benchmarks / name).glob("*.tsv")), *benchmarks.glob(f"{name}.tsv")]
    times = [seconds for file in files for seconds, _ in benchmark(file)]
    return len(times), sum(times)


def _before(name: str, ran: dict[str, tuple[int, float]]) -> set[str]:
    """All that ran before a rule, directly or not."""
    found = set(AFTER[name])
    for other in AFTER[name]:
        found |= _before(other, ran)
    return found & set(ran)


def _direct(name: str, ran: dict[str, tuple[int, float]]) -> list[str]:
    """What ran before a rule with nothing between."""
    before = _before(name, ran)
    return [a for a in sorted(before) if not any(a in _before(b, ran) for b in before)]
