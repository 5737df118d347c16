"""Detectors against each other over all categories: mean ranks, signed ranks, accuracy by cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from flawline.report import charts, figures
from flawline.report.leaderboard import Ranking

COSTS = (
    ("train_seconds", "training, seconds"),
    ("score_seconds", "scoring the test images, seconds"),
    ("peak_memory", "peak memory, MB"),
    ("model_size", "model file, MB"),
)


@dataclass(frozen=True)
class Sheet:
    """A picture of the page: the bytes of its file, and its words."""

    content: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Comparison:
    """Detectors against each other over all categories.

    Attributes
    ----------
    diagrams : the critical-difference diagrams, as SVG.
    words : why a protocol has no diagram.
    tests : rows of ``wilcoxon.csv``, numbers as numbers.
    """

    diagrams: tuple[Sheet, ...] = ()
    words: tuple[str, ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()

    @property
    def any(self) -> bool:
        """Check whether there is anything to show."""
        return bool(self.diagrams or self.words or self.tests)


def compare(ranks: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> Comparison:
    """Compare detectors over all categories.

    Parameters
    ----------
    ranks, tests : rows of ``ranks.csv`` and of ``wilcoxon.csv``.
    """
    diagrams, words = [], []
    for protocol in dict.fromkeys(row["protocol"] for row in ranks):
        rows = _ranked(ranks, protocol)
        own = "Supervised detectors: " if protocol == "supervised" else ""
        if rows[0]["critical_difference"] is None:
            if len(rows) > 2:
                words.append(_sentence(own + _no_diagram(rows)))
            continue
        means = ", ".join(f"{row['detector']} {row['mean_rank']:.2f}" for row in rows)
        caption = (
            f"{own}mean rank in image AUROC over {rows[0]['categories']:g} categories. Friedman's "
            f"test finds a difference (p = {_p(rows[0]['friedman_p'])}); detectors under one bar "
            "cannot be told apart (Nemenyi's test at 5 %)."
        )
        picture = figures.as_svg(rank_figure(ranks, protocol))
        alt = f"Critical-difference diagram, mean ranks: {means}."
        diagrams.append(Sheet(picture, _sentence(caption), alt))
    return Comparison(tuple(diagrams), tuple(words), tuple(tests))


def rank_figure(ranks: Sequence[Mapping[str, Any]], protocol: str) -> Figure:
    """Draw the critical-difference diagram of one protocol in image AUROC."""
    rows = _ranked(ranks, protocol)
    difference = rows[0]["critical_difference"] if rows else None
    means = [(row["detector"], row["mean_rank"]) for row in rows]
    return figures.critical_difference(means, difference, _no_diagram(rows))


def _no_diagram(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say why mean ranks separate no detectors; for two, the signed-rank test is enough."""
    if len(rows) < 3:
        return "a comparison of ranks needs three detectors"
    known = rows[0]
    if known["categories"] < known["needed"] or known["friedman_p"] <= 0.05:
        needed = max(known["needed"], known["categories"] + 1)
        return (
            f"It takes at least {needed:g} categories to rank {len(rows)} detectors; all of them "
            f"could be measured on {known['categories']:g}."
        )
    return (
        f"Friedman's test finds no difference between {len(rows)} detectors in image AUROC over "
        f"{known['categories']:g} categories (p = {_p(known['friedman_p'])}), so none is ranked "
        "above another."
    )


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "below 0.001"


def cost_figure(rankings: Sequence[Ranking], protocol: str) -> Figure:
    """Draw image AUROC against each cost, for a paper."""
    ranking = next((one for one in rankings if one.protocol == protocol), None)
    named = [(label, cost_points(ranking, name)) for name, label in COSTS] if ranking else []
    return figures.accuracy_cost(named)


def cost_charts(ranking: Ranking) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return charts of image AUROC against each known cost."""
    found = []
    for name, label in COSTS:
        points = cost_points(ranking, name)
        if len(points) > 1:
            found.append((label, charts.scatter(points)))
    return tuple(found)


def cost_points(ranking: Ranking, name: str) -> list[tuple[str, float, float]]:
    """Return (detector, cost, image AUROC) where both are known."""
    return [
        (row.detector, cost, row.auroc)
        for row in ranking.costs
        if (cost := getattr(row.cost, name)) and row.auroc is not None
    ]


def _ranked(ranks: Sequence[Mapping[str, Any]], protocol: str) -> list[Mapping[str, Any]]:
    return [r for r in ranks if (r["protocol"], r["metric"]) == (protocol, "image_auroc")]
