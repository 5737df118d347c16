"""Leaderboards: metrics of detectors by category with their intervals, and costs."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from flawline.metrics import AUROC, BY_COLUMN, METRICS, Metric
from flawline.report.runs import Cost, Run


@dataclass(frozen=True)
class Value:
    """A mean over seeds, and an interval that contains those of all seeds; None: not measured."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    coverage: str = ""
    heat: float | None = None
    """How good it is, from 0 to 1, for its colour."""
    beside: str = ""
    """The metric without which this one misleads, in words."""


@dataclass(frozen=True)
class Row:
    """One detector: its mean over the categories and one value per category."""

    detector: str
    mean: Value
    cells: tuple[Value, ...]


@dataclass(frozen=True)
class Board:
    """Detectors by categories, for one metric."""

    metric: Metric
    categories: tuple[str, ...]
    rows: tuple[Row, ...]
    measured: int
    """Number of categories that have the metric for some detector."""

    @property
    def key(self) -> str:
        return f"{self.metric.part}-{self.metric.name}"


@dataclass(frozen=True)
class CostRow:
    """The costs of one detector, averaged over categories and seeds."""

    detector: str
    auroc: float | None
    cost: Cost


@dataclass(frozen=True)
class Ranking:
    """All tables of one protocol. Protocols are never ranked together."""

    protocol: str
    boards: tuple[Board, ...]
    costs: tuple[CostRow, ...]


def rank(runs: Sequence[Run]) -> tuple[Ranking, ...]:
    """Return the tables of each protocol, the supervised one last."""
    found = []
    for protocol in protocols(runs):
        chosen = [run for run in runs if run.protocol == protocol]
        boards = [_board(chosen, metric) for metric in METRICS if metric.ranked]
        measured = [b for b in boards if any(row.mean.mean is not None for row in b.rows)]
        found.append(Ranking(protocol, tuple(measured or boards[:1]), _costs(chosen)))
    return tuple(found)


def protocols(runs: Iterable[Run]) -> list[str]:
    return sorted({run.protocol for run in runs}, key=lambda name: (name == "supervised", name))


def by_detector(runs: Iterable[Run]) -> dict[tuple[str, str, str], list[Run]]:
    """Group runs by category, protocol and detector; seeds keep their order."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.category, run.protocol, run.detector), []).append(run)
    return {key: sorted(group, key=lambda run: run.seed) for key, group in groups.items()}


def summary(seeds: Sequence[Run], metric: Metric) -> Value:
    """Return the mean over seeds, and the widest ends of the seeds' intervals and values."""
    values = [run.value(metric) for run in seeds]
    measured = [value for value in values if value is not None]
    if not measured:
        return Value(None)
    intervals = [run.interval(metric) for run in seeds]
    ends = [end for interval in intervals for end in interval or ()]
    if len(measured) > 1:
        ends += measured
    mean = fmean(measured)
    return Value(
        mean, min(ends, default=None), max(ends, default=None), heat=_heat(mean, metric.higher)
    )


def leaderboard_csv(rankings: Sequence[Ranking]) -> str:
    """Return all boards as one table, a row per protocol, metric, detector and category."""
    rows = [
        (ranking.protocol, board.key.replace("-", "."), row.detector, category, value)
        for ranking in rankings
        for board in ranking.boards
        for row in board.rows
        for category, value in zip(board.categories, row.cells, strict=True)
    ]
    head = ("protocol", "metric", "detector", "category", "mean", "low", "high")
    return as_csv(head, [(*keys, value.mean, value.low, value.high) for *keys, value in rows])


def cost_csv(rankings: Sequence[Ranking]) -> str:
    """Return the costs of all detectors as one table."""
    head = ("protocol", "detector", "image_auroc", "train_s", "score_s", "memory_MB", "model_MB")
    rows = [
        (ranking.protocol, row.detector, row.auroc, *vars(row.cost).values())
        for ranking in rankings
        for row in ranking.costs
    ]
    return as_csv(head, rows)


def as_csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as text, with empty cells for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def _board(runs: Sequence[Run], metric: Metric) -> Board:
    groups = by_detector(runs)
    categories = tuple(dict.fromkeys(run.category for run in runs))
    detectors: dict[str, dict[str, list[Run]]] = {}
    for (category, _, detector), seeds in groups.items():
        detectors.setdefault(detector, {})[category] = seeds
    measured = {run.category for run in runs if run.value(metric) is not None}
    other = BY_COLUMN.get(metric.beside)
    rows = []
    for detector, by_category in detectors.items():
        mean = _over_categories(by_category, metric, len(measured))
        cells = [summary(by_category.get(category, []), metric) for category in categories]
        if other:
            mean = _with(mean, other, _over_categories(by_category, other, len(measured)))
            cells = [
                _with(cell, other, summary(by_category.get(category, []), other))
                for cell, category in zip(cells, categories, strict=True)
            ]
        rows.append(Row(detector, mean, tuple(cells)))
    sign = -1 if metric.higher else 1
    worst = math.inf
    # A mean over fewer categories is not comparable: it comes last and cannot win.
    rows.sort(
        key=lambda row: (
            row.mean.coverage != "",
            worst if row.mean.mean is None else sign * row.mean.mean,
        )
    )
    return Board(metric, categories, _with_best(rows, metric.higher), len(measured))


def _with(value: Value, other: Metric, beside: Value) -> Value:
    """Add another metric in words."""
    if value.mean is None or beside.mean is None:
        return value
    return replace(value, beside=f"{other.label.lower()} {beside.mean:.3f}")


def _over_categories(by_category: Mapping[str, Sequence[Run]], metric: Metric, total: int) -> Value:
    """Return the mean over categories; its ends are those of the seeds that all share."""
    per_category = [
        {run.seed: value for run in seeds if (value := run.value(metric)) is not None}
        for seeds in by_category.values()
    ]
    measured = [by_seed for by_seed in per_category if by_seed]
    if not measured:
        return Value(None)
    shared = set.intersection(*(set(by_seed) for by_seed in measured))
    over_seeds = [fmean(by_seed[seed] for by_seed in measured) for seed in shared]
    several = len(over_seeds) > 1
    mean = fmean(fmean(by_seed.values()) for by_seed in measured)
    return Value(
        mean,
        min(over_seeds) if several else None,
        max(over_seeds) if several else None,
        coverage="" if len(measured) == total else f"{len(measured)} of {total}",
        heat=_heat(mean, metric.higher),
    )


def _heat(value: float, higher: bool) -> float:
    """Return 0 for 0.5 or worse to 1 for 0.998 or better, logarithmic: each nine is one step."""
    lack = max(1 - value if higher else value, 0.0)
    return round(min(max(math.log(lack + 0.002, 0.004) - math.log(0.5, 0.004), 0) / 0.874, 1), 3)


def _with_best(rows: Sequence[Row], higher: bool) -> tuple[Row, ...]:
    means = _mark_best([row.mean for row in rows], higher)
    columns = [
        _mark_best(column, higher) for column in zip(*(row.cells for row in rows), strict=True)
    ]
    return tuple(
        Row(row.detector, mean, tuple(column[number] for column in columns))
        for number, (row, mean) in enumerate(zip(rows, means, strict=True))
    )


def _mark_best(values: Sequence[Value], higher: bool) -> list[Value]:
    """Mark the best values after rounding: an invisible difference makes no winner."""
    rivals = [value.mean for value in values if value.mean is not None and not value.coverage]
    if len(rivals) < 2:
        return list(values)
    best = round(max(rivals) if higher else min(rivals), 3)
    return [
        replace(
            value,
            best=value.mean is not None and not value.coverage and round(value.mean, 3) == best,
        )
        for value in values
    ]


def _costs(runs: Sequence[Run]) -> tuple[CostRow, ...]:
    rows = []
    for detector in dict.fromkeys(run.detector for run in runs):
        chosen = [run for run in runs if run.detector == detector]
        names = Cost.__dataclass_fields__
        costs = [
            _mean([getattr(run.cost, name) for run in chosen], max if "peak" in name else fmean)
            for name in names
        ]
        auroc = _mean([run.value(AUROC) for run in chosen], fmean)
        rows.append(CostRow(detector, auroc, Cost(*costs)))
    return tuple(sorted(rows, key=lambda row: -(row.auroc or 0)))


def _mean(values: Iterable[float | None], over: Callable[[list[float]], float]) -> float | None:
    known = [value for value in values if value is not None]
    return over(known) if known else None
