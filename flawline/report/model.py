"""The content of the report: runs by category and detector, with their tables and charts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import yaml

from flawline.metrics import AUROC, FALSE_ALARMS, METRICS, RECALL, SECTIONS, Metric
from flawline.options.report import Report
from flawline.report import charts
from flawline.report.detector_comparison import Comparison, Sheet, cost_charts
from flawline.report.leaderboard import Ranking, Value, by_detector, protocols, rank, summary
from flawline.report.learning_curves import LearningCurve
from flawline.report.overview import (
    Attention,
    attention,
    best_of_categories,
    complement,
)
from flawline.report.published import PublishedTable, published_tables
from flawline.report.runs import Run
from flawline.report.verdict import Card, cards, in_words


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
            "types": list(self.run.types),
            "confidence": self.run.metrics.bootstrap.confidence,
            "costs": None
            if risk is None
            else risk.model_dump(include={"miss", "false_alarm", "defect_rate"}),
        }

    @property
    def oracle_rejects_all(self) -> bool:
        """Check whether the best F1 takes a threshold below all test scores."""
        at = self.run.metrics.oracle.image_f1_threshold
        tested = [self.run.scores.get(kind, ()) for kind in ("good", "defective")]
        return at is not None and all(at < score for scores in tested for score in scores)

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
    cards: tuple[Card, ...] = ()
    learning: tuple[LearningCurve, ...] = ()


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
    """The content of the report. Equal pages give equal bytes.

    Attributes
    ----------
    confidence : of all intervals, in words.
    lead : the verdicts in a sentence.
    attention : of the best detectors; `attention_others`: of all others.
    rankings : of the protocols with several detectors.
    comparison : None where there is nothing to compare.
    """

    title: str
    origin: Origin
    facts: tuple[tuple[str, str], ...]
    confidence: str
    limits: Report
    lead: str
    cards: tuple[Card, ...]
    failures: tuple[Attention, ...]
    attention: tuple[Attention, ...]
    attention_others: tuple[Attention, ...]
    rankings: tuple[Ranking, ...]
    costs: tuple[tuple[str, tuple[tuple[str, Mapping[str, Any]], ...]], ...]
    comparison: Comparison | None
    categories: tuple[CategorySection, ...]
    published: tuple[PublishedTable, ...]
    tables: Mapping[str, str]


def assemble(
    runs: Sequence[Run],
    origin: Origin,
    *,
    failures: Sequence[Attention] = (),
    pairs: Sequence[Mapping[str, Any]] = (),
    comparison: Comparison | None = None,
    sheets: Mapping[str, Sequence[Sheet]] | None = None,
    learning: Mapping[str, Sequence[LearningCurve]] | None = None,
    limits: Report | None = None,
    tables: Mapping[str, str] | None = None,
    kind: str = "",
) -> Page:
    """Group runs by category and detector, compare detectors, and note what needs attention.

    Parameters
    ----------
    runs : one per (category, detector, seed); categories keep the order of their first ones.
    failures : what did not run; comes first under what needs attention.
    pairs : rows of ``pairwise.csv``.
    sheets : contact sheets of synthetic anomalies by category.
    learning : learning curves by category.
    limits : options of the report; its own, if None.
    tables : tables for papers by the names of their files, to take away.
    kind : of dataset, for published figures of its categories.
    """
    limits = limits or Report()
    made = cards(runs, best_of_categories(runs, pairs), limits)
    chosen = {(c.best.category, c.best.protocol, c.run.detector) for c in made}
    best = [run for run in runs if (run.category, run.protocol, run.detector) in chosen]
    rankings = tuple(r for r in rank(runs) if len(r.boards[0].rows) > 1)
    categories = []
    for number, name in enumerate(dict.fromkeys(run.category for run in runs), start=1):
        anchor = f"category-{number}"
        detectors = _detectors(anchor, [run for run in runs if run.category == name])
        anchors = {(one.protocol, one.detector): one.anchor for one in detectors}
        own = [
            replace(card, anchor=anchors[card.best.protocol, card.run.detector])
            for card in made
            if card.best.category == name
        ]
        of_category = _pairs([pair for pair in pairs if pair["category"] == name])
        drawn = tuple((sheets or {}).get(name, ()))
        curves = tuple((learning or {}).get(name, ()))
        categories.append(
            CategorySection(name, anchor, detectors, of_category, drawn, tuple(own), curves)
        )
    made = tuple(card for category in categories for card in category.cards)
    unsupervised = [card for card in made if card.best.protocol == "unsupervised"]
    return Page(
        title=f"Defect detection on {origin.dataset}",
        origin=origin,
        facts=_facts(runs, origin),
        confidence=next((_confidence(run) for run in runs), ""),
        limits=limits,
        lead=in_words(unsupervised or made),
        cards=made,
        failures=tuple(failures),
        attention=attention(best),
        attention_others=attention([run for run in runs if run not in best], beside=best),
        rankings=rankings,
        costs=tuple((r.protocol, cost_charts(r)) for r in rankings),
        comparison=comparison if comparison and comparison.any else None,
        categories=tuple(categories),
        published=published_tables(kind, runs),
        tables=tables or {},
    )


def _facts(runs: Sequence[Run], origin: Origin) -> tuple[tuple[str, str], ...]:
    detectors = sorted({run.detector for run in runs})
    seeds = sorted({run.seed for run in runs})
    devices = sorted({str(_device(run)) for run in runs if _device(run)})
    counts = {run.category: run.counts for run in reversed(runs)}.values()
    train = sum(count.train for count in counts)
    test = sum(count.test_good + count.test_defective for count in counts)
    facts = [
        ("Finished", origin.when),
        ("Products", str(len(counts))),
        ("Images", f"{train} to train on, {test} to test"),
        ("Detectors", f"{len(detectors)}: {', '.join(detectors)}"),
        ("Seeds", ", ".join(map(str, seeds)) if len(seeds) > 1 else ""),
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
