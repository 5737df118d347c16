"""The stages of a run, drawn as a graph with the time of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.report.runs import benchmark
from flawline.stages import STAGES, before

BOX, GAP = (104.0, 38.0), (26.0, 14.0)
ACROSS, BAND = 7, 30.0  # columns side by side; room between a band of columns and the next


@dataclass(frozen=True)
class Box:
    """A stage that ran: its number of jobs, their seconds, and the place of its box."""

    name: str
    jobs: int
    seconds: float
    x: float
    y: float


def graph(benchmarks: Path | str) -> dict[str, Any]:
    """Return boxes and arrows of all stages before the report that left benchmark files."""
    drawn = before("report_page")
    ran = {name: _took(Path(benchmarks), name) for name in STAGES if name in drawn}
    ran["report_page"] = (1, 0.0)  # this job itself: its benchmark is written when it ends
    ran = {name: took for name, took in ran.items() if took[0]}
    arrows = [(a, name) for name in ran for a in _direct(name, ran)]
    column: dict[str, int] = {}
    for name in ran:
        column[name] = max((column[a] + 1 for a, b in arrows if b == name), default=0)
    reach = {name: max([column[b] for a, b in arrows if a == name], default=99) for name in ran}
    rows = _rows(column, reach, _longest(arrows, column))
    rows = _without_gaps(column, rows)
    tops = _tops(column, rows)
    stages = {
        name: Box(
            name,
            jobs,
            seconds,
            column[name] % ACROSS * (BOX[0] + GAP[0]) + GAP[0] / 2,
            tops[column[name] // ACROSS] + rows[name] * (BOX[1] + GAP[1]),
        )
        for name, (jobs, seconds) in ran.items()
    }
    return {
        "width": min(max(column.values()) + 1, ACROSS) * (BOX[0] + GAP[0]),
        "height": tops[-1] - BAND + 1,
        "box": BOX,
        "stages": list(stages.values()),
        "arrows": [_arrow(stages[a], stages[b], tops) for a, b in arrows],
    }


def _without_gaps(column: dict[str, int], rows: dict[str, int]) -> dict[str, int]:
    """Number the rows of each band of columns without gaps."""
    used: dict[int, list[int]] = {}
    for name, row in sorted(rows.items(), key=lambda pair: pair[1]):
        of_band = used.setdefault(column[name] // ACROSS, [])
        if row not in of_band:
            of_band.append(row)
    return {name: used[column[name] // ACROSS].index(row) for name, row in rows.items()}


def _tops(column: dict[str, int], rows: dict[str, int]) -> list[float]:
    """Return where each band of columns begins, and where the next one would."""
    tops = [1.0]
    for band in range(max(column.values()) // ACROSS + 1):
        depth = 1 + max(rows[name] for name in column if column[name] // ACROSS == band)
        tops.append(tops[-1] + depth * (BOX[1] + GAP[1]) - GAP[1] + BAND)
    return tops


def _arrow(a: Box, b: Box, tops: list[float]) -> str:
    """Return the path from one box to another; into a later band it goes between the bands."""
    x0, y0, x1, y1 = a.x + BOX[0], a.y + BOX[1] / 2, b.x, b.y + BOX[1] / 2
    top = max(top for top in tops if top <= b.y)
    if top <= a.y:
        return f"M{x0} {y0}H{x1 - 26}C{x1 - 8} {y0} {x1 - 18} {y1} {x1} {y1}"
    half = GAP[0] / 2 - 1
    return f"M{x0} {y0}h{half}V{top - BAND / 2}H{x1 - half}V{y1}H{x1}"


def _longest(arrows: list[tuple[str, str]], column: dict[str, int]) -> set[str]:
    """Return one longest path through the graph."""
    at = max(column, key=lambda name: column[name])
    way = {at}
    while before := [a for a, b in arrows if b == at and column[a] == column[at] - 1]:
        at = before[-1]
        way.add(at)
    return way


def _rows(column: dict[str, int], reach: dict[str, int], top: set[str]) -> dict[str, int]:
    """Place the longest path in the top row, and no arrow through another stage's box."""
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


def _direct(name: str, ran: dict[str, tuple[int, float]]) -> list[str]:
    """Return the stages that ran directly before a stage."""
    earlier = before(name) & set(ran)
    return [a for a in sorted(earlier) if not any(a in before(b) for b in earlier)]
