"""The report: HTML that needs no network and no other file.

`assemble` turns runs into what the page shows, `render` writes it: one file, or, where that would
grow too large, an overview and one page for each category.
"""

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from flawline.decisions.thresholds import images_needed
from flawline.evaluation.image_metrics import FALSE_ALARM_RATES
from flawline.files import replacing
from flawline.report import charts, figures
from flawline.report.cases import format_score
from flawline.report.figures import INK
from flawline.report.leaderboard import (
    AUROC,
    FALSE_ALARMS,
    RECALL,
    Ranking,
    Value,
    by_detector,
    cost_csv,
    leaderboard_csv,
    protocols,
    rank,
    summary,
)
from flawline.report.overview import (
    Attention,
    Best,
    attention,
    best_of_categories,
    complement,
    lead,
    percent,
)
from flawline.report.runs import Run

LARGEST_PAGE = 18e6
"""Bytes; a report that would grow larger is split into one page per category."""

TEMPLATES = Path(__file__).parent / "templates"
DRAWING_TAGS = frozenset({"clipPath", "defs", "g", "path", "rect", "svg", "text", "tspan", "use"})
SHEET_WIDTH, SHEET_QUALITY = 1000, 70
NARROWEST, WIDEST = 13, 34  # rem: a column of a gallery
COSTS = (
    ("train_seconds", "training, seconds"),
    ("score_seconds", "scoring the test images, seconds"),
    ("peak_memory", "peak memory, MB"),
    ("model_size", "model file, MB"),
)

MEASURED = (
    (
        "Ranking, without a threshold",
        "image",
        (
            ("auroc", "Image AUROC"),
            ("average_precision", "Average precision"),
            ("fpr_at_95_tpr", "False alarms at 95 % found"),
            ("tpr_at_5_fpr", "Found at 5 % false alarms"),
            ("tpr_at_1_fpr", "Found at 1 % false alarms"),
        ),
    ),
    (
        "At the threshold",
        "at_threshold",
        (
            ("recall", "Recall"),
            ("false_alarm_rate", "False-alarm rate"),
            ("precision", "Precision"),
            ("f1", "F1"),
            ("balanced_accuracy", "Balanced accuracy"),
            ("accuracy", "Accuracy"),
        ),
    ),
    (
        "Locating defects",
        "pixel",
        (
            ("auroc", "Pixel AUROC"),
            ("average_precision", "Pixel average precision"),
            ("aupro_30", "AUPRO"),
            ("aupro_05", "AUPRO to 5 %"),
            ("aupimo", "AUPIMO"),
            ("f1_oracle", "Best pixel F1 (oracle)"),
        ),
    ),
)


@dataclass(frozen=True)
class Sheet:
    """A picture of the page: the bytes of its file, and its words."""

    content: bytes
    caption: str
    alt: str


@dataclass(frozen=True)
class Panel:
    """What one run shows."""

    run: Run
    anchor: str
    histogram: Mapping[str, Any]
    curves: tuple[tuple[charts.Curve, Mapping[str, Any] | None, tuple[float, float] | None], ...]
    losses: tuple[tuple[str, Mapping[str, Any]], ...]
    figures: tuple[tuple[str, tuple[tuple[str, float, Sequence[float] | None], ...]], ...]

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script needs to move the threshold."""
        risk = self.run.part("risk")
        return {
            "threshold": self.run.threshold,
            "range": self.histogram["range"],
            "scores": {name: values.tolist() for name, values in self.run.scores.items()},
            "costs": {key: risk[key] for key in ("miss", "false_alarm", "defect_rate")}
            if risk
            else None,
        }

    @property
    def fixing(self) -> tuple[str, str] | None:
        """The line of a configuration that sets the category's threshold, around the value.

        None for a fusion, which has no use for the category's rule.
        """
        if self.run.metrics["method"] == "fusion":
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
class Comparison:
    """Detectors against each other over all categories.

    Attributes
    ----------
    diagrams : the critical-difference diagrams, as SVG.
    words : of each protocol without a diagram, why there is none.
    tests : rows of ``wilcoxon.csv``, numbers as numbers.
    """

    diagrams: tuple[Sheet, ...] = ()
    words: tuple[str, ...] = ()
    tests: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Origin:
    """Where the results come from: the configuration as YAML, versions, and the stages run."""

    dataset: str = ""
    when: str = ""
    configuration: str = ""
    versions: Mapping[str, str] | None = None
    stages: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Page:
    """All that the report shows. Equal pages give equal bytes."""

    title: str
    origin: Origin
    facts: tuple[tuple[str, str], ...]
    confidence: str
    """Of all intervals, in words."""
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
    failures : what did not run; comes first of all that needs attention.
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


def compare(ranks: Sequence[Mapping[str, Any]], tests: Sequence[Mapping[str, Any]]) -> Comparison:
    """Detectors against each other.

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
    """The critical-difference diagram of one protocol in image AUROC."""
    rows = _ranked(ranks, protocol)
    difference = rows[0]["critical_difference"] if rows else None
    means = [(row["detector"], row["mean_rank"]) for row in rows]
    return figures.critical_difference(means, difference, _no_diagram(rows))


def _no_diagram(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why mean ranks tell no detectors apart; for two, the signed-rank test says all there is."""
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


def cost_figure(page: Page, protocol: str) -> Figure:
    """Image AUROC against each cost, for a paper."""
    ranking = next((one for one in page.rankings if one.protocol == protocol), None)
    named = [(label, cost_points(ranking, name)) for name, label in COSTS] if ranking else []
    return figures.accuracy_cost(named)


def cost_charts(ranking: Ranking) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Image AUROC against each known cost."""
    found = []
    for name, label in COSTS:
        points = cost_points(ranking, name)
        if len(points) > 1:
            found.append((label, charts.scatter(points)))
    return tuple(found)


def cost_points(ranking: Ranking, name: str) -> list[tuple[str, float, float]]:
    """(detector, cost, image AUROC) where both are known."""
    return [
        (row.detector, cost, row.auroc)
        for row in ranking.costs
        if (cost := getattr(row.cost, name)) and row.auroc is not None
    ]


def contact_sheet(category: str, name: str, path: Path | str) -> Sheet:
    """The contact sheet of one set of synthetic anomalies, small enough for the page."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
        picture.thumbnail((SHEET_WIDTH, 4 * SHEET_WIDTH))
        content = io.BytesIO()
        picture.save(content, "WEBP", quality=SHEET_QUALITY)
    return Sheet(
        content.getvalue(),
        f"Set {name}. From left to right: good image, object mask, synthetic image, the same with "
        "the change outlined, the pixels that really changed.",
        f"Examples of the synthetic anomalies {name} of {category}.",
    )


def render(path: Path | str, page: Page, largest: float = LARGEST_PAGE) -> None:
    """Write the page; beside it, in the folder of its name, the pages of its categories, if any.

    Parameters
    ----------
    largest : bytes; a file that would be larger is split.
    """
    path = Path(path)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.html"):
        old.unlink()
    environment = _environment(page)
    text = ""
    if _picture_bytes(page) < largest:  # otherwise not worth rendering
        text = _page(environment, page, {c.name: f"#{c.anchor}" for c in page.categories})
    if not text or len(text.encode()) > largest:
        links = {c.name: quote(f"{folder.name}/{c.name}.html") for c in page.categories}
        text = _page(environment, page, links, split=True)
        template = environment.get_template("category.html.j2")
        for category in page.categories:
            neighbours = {c.name: quote(f"{c.name}.html") for c in page.categories}
            one = template.render(
                page=page,
                category=category,
                links=neighbours,
                up=quote(f"../{path.name}"),
                split=False,
            )
            _write(folder / f"{category.name}.html", one)
    _write(path, text)


def _picture_bytes(page: Page) -> float:
    """What the pictures of the page take in it."""
    panels = [p for c in page.categories for detector in c.detectors for p in detector.panels]
    size = sum(len(sheet.content) for c in page.categories for sheet in c.sheets)
    for panel in panels:
        size += len(panel.run.pictures or b"")
        size += sum(len(case["content"]) for case in panel.run.cases.get("cases", ()))
    return size * 4 / 3


def _page(
    environment: Environment, page: Page, links: Mapping[str, str], split: bool = False
) -> str:
    return environment.get_template("page.html.j2").render(
        page=page, links=links, up="", split=split
    )


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def _environment(page: Page) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "leaderboard_csv": leaderboard_csv,
        "cost_csv": cost_csv,
        "case_alt": case_alt,
        "column_width": column_width,
        "confidence": page.confidence,
        "images_needed": images_needed,
        "false_alarm_rates": FALSE_ALARM_RATES,
    }
    environment.filters |= {
        "metric": format_metric,
        "score": format_score,
        "percent": percent,
        "amount": format_amount,
        "flat": _flat,
        "embedded": _embedded,
        "size": picture_size,
        "drawing": _drawing,
        "download": lambda text: f"data:text/csv;charset=utf-8,{quote(text)}",
    }
    return environment


def format_metric(value: float | None) -> str:
    """Three decimals; nothing for what was not measured."""
    return "" if value is None else f"{value:.3f}"


def format_amount(value: float | None) -> str:
    """Three significant digits, without exponents."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip("0").rstrip(".")


def picture_size(content: bytes) -> tuple[int, int]:
    """Width and height of a picture in a file's bytes, pixels."""
    with Image.open(io.BytesIO(content)) as opened:
        return opened.size


def column_width(size: tuple[int, int], height: float) -> str:
    """How wide the columns of a gallery are, as CSS, so that its pictures get the height.

    Parameters
    ----------
    size : width and height of a picture.
    height : rem; pictures of tall parts get more, those of wide ones less where the page ends.
    """
    return f"{min(max(height * size[0] / size[1], NARROWEST), WIDEST):.1f}rem"


def case_alt(run: Run, case: Mapping[str, Any]) -> str:
    """What a case of the gallery shows, for those who cannot see it."""
    side = "above" if case["score"] > run.threshold else "below or at"
    truth = "good part" if case["defect_type"] == "good" else f"defective, {case['defect_type']}"
    return (
        f"{case['kind'].capitalize()}: {case['name']}, {truth}. Score "
        f"{format_score(case['score'])}, {side} the threshold {format_score(run.threshold)}. "
        "From left to right: image with boxes found, ground truth outlined, anomaly map."
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


def _ranked(ranks: Sequence[Mapping[str, Any]], protocol: str) -> list[Mapping[str, Any]]:
    return [r for r in ranks if (r["protocol"], r["figure"]) == (protocol, "image_auroc")]


def _confidence(run: Run) -> str:
    return f"{100 * (run.part('bootstrap').get('confidence') or 0.95):g}\N{NO-BREAK SPACE}%"


def _device(run: Run) -> Any:
    return (run.part("provenance").get("inputs") or {}).get("device")


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
            str(seeds[0].metrics["method"]),
            summary(seeds, AUROC),
            complement(summary(seeds, RECALL)),
            summary(seeds, FALSE_ALARMS),
            tuple(_panel(run, f"{anchor}-{number}-{run.seed}") for run in seeds),
        )
        for number, seeds in enumerate(groups, start=1)
    )


def _panel(run: Run, anchor: str) -> Panel:
    recall = run.figure("at_threshold", "recall")
    alarms = run.figure("at_threshold", "false_alarm_rate")
    precision = run.figure("at_threshold", "precision")
    marks = {"roc": (alarms, recall), "pr": (recall, precision)}
    curves = []
    for about in charts.CURVES:
        points = run.part("curves").get(about.key)
        chart = None
        if points:
            line = points[about.x], points[about.y]
            chart = charts.lines(
                [line], (0, about.x_end), (0, 1), tick_count=4 if about.x_end < 1 else 3
            )
        x, y = marks.get(about.key, (None, None))
        curves.append((about, chart, None if x is None or y is None else (x, y)))
    measured = [
        (
            title,
            tuple(
                (label, value, run.interval(part, name))
                for name, label in names
                if (value := run.figure(part, name)) is not None
            ),
        )
        for title, part, names in MEASURED
    ]
    return Panel(
        run,
        anchor,
        charts.histogram(run.scores, run.threshold),
        tuple(curves),
        tuple((one["title"], charts.loss_chart(one)) for one in charts.loss_series(run.training)),
        tuple((title, rows) for title, rows in measured if rows),
    )


def _pairs(rows: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, tuple[Pair, ...]], ...]:
    """By protocol; over seeds: the mean difference, its widest interval, the largest p."""
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


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs in the order of their names."""
    pairs: list[tuple[str, str]] = []
    for name, value in sorted(tree.items()):
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            value = {str(number): item for number, item in enumerate(value, start=1)}
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            pairs.append((f"{prefix}{name}", text))
    return pairs


def _embedded(content: bytes) -> str:
    """A picture as an address that contains it."""
    kinds = {b"\xff\xd8": "jpeg", b"RI": "webp"}
    kind = kinds.get(content[:2], "png")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _drawing(sheet: Sheet, name: str) -> Markup:
    """Only shapes and words of an SVG are kept, under identifiers that no other one has."""
    root = ElementTree.fromstring(sheet.content)
    _keep_drawing(root, name)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": sheet.alt}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _keep_drawing(element: ElementTree.Element, name: str) -> None:
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in attributes.items():
        if key.startswith("on") or (key == "href" and not value.startswith("#")):
            continue
        value = re.sub(r"url\((?!#)[^)]*\)", "none", value).replace("url(#", f"url(#{name}-")
        value = re.sub(r"^#", f"#{name}-", value) if key == "href" else value
        value = f"{name}-{value}" if key == "id" else value.replace(INK, "currentColor")
        element.set(key, value)
    for child in list(element):
        if isinstance(child.tag, str) and _local(child.tag) in DRAWING_TAGS:
            _keep_drawing(child, name)
        else:
            element.remove(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
