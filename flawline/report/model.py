"""The content of the report: runs by category and detector, with their tables and charts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import yaml

from flawline.metrics import AUROC, FALSE_ALARMS, METRICS, RECALL, SECTIONS, Metric
from flawline.report import charts
from flawline.report.detector_comparison import Comparison, Sheet, cost_charts
from flawline.report.leaderboard import Ranking, Value, by_detector, protocols, rank, summary
from flawline.report.overview import (
    Attention,
    Best,
    attention,
    best_of_categories,
    complement,
    lead,
)
from flawline.report.runs import Run


@dataclass(frozen=True)
class Panel:
    """The content of one run."""

    run: Run
    anchor: str
    histogram: Mapping[str, Any]
    curves: tuple[tuple[charts.Curve, Mapping[str, Any] | None, tuple[float, float] | None], ...]
    losses: tuple[tuple[str, Mapping[str, Any]], ...]
    metrics: tuple[tuple[str, tuple[tuple[Metric, float, tuple[float, float] | None], ...]], ...]

    @property
    def data(self) -> dict[str, Any]:
        """The data with which the page's script moves the threshold."""
        risk = self.run.metrics.risk
        return {
            "threshold": self.run.threshold,
            "range": self.histogram["range"],
            "scores": {name: values.tolist() for name, values in self.run.scores.items()},
            "costs": None
            if risk is None
            else risk.model_dump(include={"miss", "false_alarm", "defect_rate"}),
        }

    @property
    def fixing(self) -> tuple[str, str] | None:
        """The line of a configuration that sets the category's threshold, around the value.

        None for a fusion, to which the category's rule does not apply.
        """
        if self.run.metrics.method == "fusion":
            return None
        line = {"overrides": {self.run.category: {"threshold": {"rule": "fixed"}}}}
        text = yaml.safe_dump(line, default_flow_style=True, width=math.inf, allow_unicode=True)
        before, rule, ends = text.strip()[1:-1].rpartition("fixed")
        return f"{before}{rule}, value: ", ends


@dataclass(frozen=True)
class DetectorSection:
    """One detector on one category: a panel for every seed."""

    anchor: str
    detector: str
    protocol: str
    method: str
    auroc: Value
    missed: Value
    rejected: Value
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Pair:
    """The difference of two detectors in image AUROC; the most cautious of all seeds."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class CategorySection:
    """All detectors of one category, the unsupervised ones first, the best ones first."""

    name: str
    anchor: str
    detectors: tuple[DetectorSection, ...]
    pairs: tuple[tuple[str, tuple[Pair, ...]], ...]
    sheets: tuple[Sheet, ...]


@dataclass(frozen=True)
class Origin:
    """The origin of the results: the configuration as YAML, versions, and the stages run."""

    dataset: str = ""
    when: str = ""
    configuration: str = ""
    versions: Mapping[str, str] | None = None
    stages: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Page:
    """The content of the report. Equal pages give equal bytes."""

    title: str
    origin: Origin
    facts: tuple[tuple[str, str], ...]
    confidence: str
    """Confidence of all intervals, in words."""
    lead: str
    best: tuple[Best, ...]
    attention: tuple[Attention, ...]
    rankings: tuple[Ranking, ...]
    costs: tuple[tuple[str, tuple[tuple[str, Mapping[str, Any]], ...]], ...]
    comparison: Comparison
    categories: tuple[CategorySection, ...]


def assemble(
    runs: Sequence[Run],
    origin: Origin,
    *,
    failures: Sequence[Attention] = (),
    pairs: Sequence[Mapping[str, Any]] = (),
    comparison: Comparison | None = None,
    sheets: Mapping[str, Sequence[Sheet]] | None = None,
) -> Page:
    """Group runs by category and detector, compare detectors, and note what needs attention.

    Parameters
    ----------
    runs : one per (category, detector, seed); categories keep the order of their first ones.
    failures : what did not run; comes first under what needs attention.
    pairs : rows of ``pairwise.csv``.
    sheets : contact sheets of synthetic anomalies by category.
    """
    names = list(dict.fromkeys(run.category for run in runs))
    best, rankings = best_of_categories(runs, pairs), rank(runs)
    return Page(
        title=f"Defect detection on {origin.dataset}",
        origin=origin,
        facts=_facts(runs, origin),
        confidence=next((_confidence(run) for run in runs), ""),
        lead=lead([one for one in best if one.protocol == "unsupervised"] or best),
        best=best,
        attention=(*failures, *attention(runs)),
        rankings=rankings,
        costs=tuple((r.protocol, cost_charts(r)) for r in rankings),
        comparison=comparison or Comparison(),
        categories=tuple(
            CategorySection(
                name,
                f"category-{number}",
                _detectors(f"category-{number}", [run for run in runs if run.category == name]),
                _pairs([pair for pair in pairs if pair["category"] == name]),
                tuple((sheets or {}).get(name, ())),
            )
            for number, name in enumerate(names, start=1)
        ),
    )


def _facts(runs: Sequence[Run], origin: Origin) -> tuple[tuple[str, str], ...]:
    detectors = sorted({run.detector for run in runs})
    seeds = sorted({run.seed for run in runs})
    devices = sorted({str(_device(run)) for run in runs if _device(run)})
    categories = dict.fromkeys(run.category for run in runs)
    facts = [
        ("Dataset", origin.dataset),
        ("Finished", origin.when),
        ("Categories", str(len(categories))),
        ("Detectors", f"{len(detectors)}: {', '.join(detectors)}"),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Device", ", ".join(devices)),
        ("Made with", f"flawline {(origin.versions or {}).get('flawline', '')}".strip()),
    ]
    return tuple((label, value) for label, value in facts if value)


def _confidence(run: Run) -> str:
    return f"{100 * run.metrics.bootstrap.confidence:g}\N{NO-BREAK SPACE}%"


def _device(run: Run) -> Any:
    return (run.metrics.provenance.get("inputs") or {}).get("device")


def _detectors(anchor: str, runs: Sequence[Run]) -> tuple[DetectorSection, ...]:
    order = protocols(runs)
    groups = sorted(
        by_detector(runs).values(),
        key=lambda seeds: (order.index(seeds[0].protocol), -(summary(seeds, AUROC).mean or 0)),
    )
    return tuple(
        DetectorSection(
            f"{anchor}-{number}",
            seeds[0].detector,
            seeds[0].protocol,
            seeds[0].metrics.method,
            summary(seeds, AUROC),
            complement(summary(seeds, RECALL)),
            summary(seeds, FALSE_ALARMS),
            tuple(_panel(run, f"{anchor}-{number}-{run.seed}") for run in seeds),
        )
        for number, seeds in enumerate(groups, start=1)
    )


def _panel(run: Run, anchor: str) -> Panel:
    at = run.metrics.at_threshold
    marks = {"roc": (at.false_alarm_rate, at.recall), "pr": (at.recall, at.precision)}
    curves = []
    for about in charts.CURVES:
        points = getattr(run.metrics.curves, about.key)
        chart = None
        if points:
            line = points[about.x], points[about.y]
            chart = charts.lines(
                [line], (0, about.x_end), (0, 1), tick_count=4 if about.x_end < 1 else 3
            )
        x, y = marks.get(about.key, (None, None))
        curves.append((about, chart, None if x is None or y is None else (x, y)))
    tables = [
        (
            title,
            tuple(
                (metric, value, run.interval(metric))
                for metric in METRICS
                if metric.part == part and (value := run.value(metric)) is not None
            ),
        )
        for part, title in SECTIONS.items()
    ]
    return Panel(
        run,
        anchor,
        charts.histogram(run.scores, run.threshold),
        tuple(curves),
        tuple((one["title"], charts.loss_chart(one)) for one in charts.loss_series(run.training)),
        tuple((title, rows) for title, rows in tables if rows),
    )


def _pairs(rows: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, tuple[Pair, ...]], ...]:
    """Group pairs by protocol, with mean difference, widest interval and largest p over seeds."""
    groups: dict[str, dict[tuple[str, str], list[Mapping[str, Any]]]] = {}
    for row in rows:
        if all(row[key] not in ("", None) for key in ("difference", "low", "high", "p", "p_holm")):
            names = str(row["detector_a"]), str(row["detector_b"])
            groups.setdefault(str(row["protocol"]), {}).setdefault(names, []).append(row)
    found = []
    for protocol, by_names in groups.items():
        pairs = [
            Pair(
                a,
                b,
                fmean(float(row["difference"]) for row in seeds),
                min(float(row["low"]) for row in seeds),
                max(float(row["high"]) for row in seeds),
                max(float(row["p"]) for row in seeds),
                max(float(row["p_holm"]) for row in seeds),
            )
            for (a, b), seeds in by_names.items()
        ]
        found.append((protocol, tuple(sorted(pairs, key=lambda pair: pair.p_holm))))
    return tuple(found)
