"""The report: one HTML file that needs no network, no script and no other file.

`section_from_files` reads what one (category, detector, seed) left on disk, `assemble` groups and
compares the sections, `render` writes the page.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from flawline.files import replacing
from flawline.report.figures import INK, format_score

SMALL_CALIBRATION = 30
HIGH_FALSE_ALARM_RATE = 0.2
DRAWING_TAGS = frozenset({"clipPath", "defs", "g", "path", "rect", "svg", "text", "tspan", "use"})


@dataclass(frozen=True)
class Figure:
    """A figure of the page: the bytes of an SVG, JPEG or PNG file, and its words.

    `details` are lines of text that the picture shows and that a reader may need as text.
    """

    content: bytes
    caption: str
    alt: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """What one (category, detector, seed) measured; the fields are those of `metrics.json`."""

    category: str
    detector: str
    method: str
    seed: int
    protocol: str
    counts: Mapping[str, int]
    image: Mapping[str, float | None]
    threshold: Mapping[str, Any]
    at_threshold: Mapping[str, Any]
    pixel: Mapping[str, float | None] | None
    by_defect_type: Mapping[str, Mapping[str, Any]]
    note: str | None
    provenance: Mapping[str, Any]
    plots: tuple[Figure, ...] = ()
    gallery: Figure | None = None

    @property
    def image_auroc(self) -> float | None:
        return self.image.get("auroc")

    @property
    def pixel_auroc(self) -> float | None:
        return (self.pixel or {}).get("auroc")

    @property
    def f1(self) -> float | None:
        return self.at_threshold.get("f1")

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the good test images that score above the threshold."""
        alarms = self.at_threshold.get("false_positive")
        goods = self.counts.get("test_good", 0)
        return alarms / goods if goods and alarms is not None else None


@dataclass(frozen=True)
class Value:
    """The mean of a metric, and its range where there are several seeds; None: not measured."""

    mean: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    coverage: str = ""


@dataclass(frozen=True)
class LeaderboardRow:
    """One detector: its mean over the categories and one value per category."""

    detector: str
    mean: Value
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Detectors by categories in one metric."""

    metric: str
    explanation: str
    categories: tuple[tuple[str, str], ...]
    """(name, anchor)"""
    rows: tuple[LeaderboardRow, ...]


@dataclass(frozen=True)
class Ranking:
    """The leaderboards of one protocol. Protocols are never ranked together."""

    protocol: str
    boards: tuple[Leaderboard, ...]


@dataclass(frozen=True)
class DetectorSection:
    """One detector on one category: the first seed in full, all seeds in a table."""

    anchor: str
    first: Section
    seeds: tuple[Section, ...]
    image_auroc: Value
    pixel_auroc: Value
    f1: Value


@dataclass(frozen=True)
class CategorySection:
    """All detectors of one category, the unsupervised ones first, the best ones first."""

    name: str
    anchor: str
    detectors: tuple[DetectorSection, ...]
    sheets: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Attention:
    """Something that limits what the figures can tell, and where: (anchor, words)."""

    title: str
    explanation: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Page:
    """All that the report shows. Equal pages give equal bytes."""

    title: str
    dataset: str
    facts: tuple[tuple[str, str], ...]
    attention: tuple[Attention, ...]
    rankings: tuple[Ranking, ...]
    categories: tuple[CategorySection, ...]


METRICS = (
    (
        "image_auroc",
        "Image AUROC",
        "The chance that a defective part scores above a good one. 1 is perfect, 0.5 is guessing.",
    ),
    (
        "pixel_auroc",
        "Pixel AUROC",
        "The same for pixels: the chance that a pixel of a defect scores above a flawless one. "
        "It tells how well defects are located; large good areas make it look high.",
    ),
    (
        "f1",
        "F1 at the threshold",
        "One number for the calls that a line would make: the balance of recall (defects found) "
        "and precision (alarms that are right). It grows with the share of defective test images.",
    ),
)


def section_from_files(
    metrics: Mapping[str, Any],
    histogram: Path,
    roc: Path,
    gallery: Path,
    case_titles: Sequence[str] = (),
) -> Section:
    """Turn one `metrics.json` and its three figure files into a section.

    Parameters
    ----------
    metrics : the content of `metrics.json`.
    histogram, roc, gallery : SVG, JPEG or PNG files.
    case_titles : the titles of the images in the gallery, for readers who cannot see it.
    """
    fields = {name: metrics[name] for name in Section.__dataclass_fields__ if name in metrics}
    fields["at_threshold"] = metrics["at_threshold"] or {}
    fields["by_defect_type"] = metrics["by_defect_type"] or {}
    fields["plots"] = _histogram(metrics, histogram), _roc(metrics, roc)
    fields["gallery"] = Figure(
        gallery.read_bytes(),
        "Most wrong images: misses, false alarms, then the closest calls. All anomaly maps of this "
        "figure share one colour scale.",
        f"Most wrong test images of {_subject(metrics)}: image, ground truth outlined, "
        "anomaly map.",
        tuple(case_titles),
    )
    return Section(**fields)


def contact_sheet(category: str, name: str, path: Path) -> Figure:
    """The contact sheet of one set of synthetic anomalies as a figure of its category."""
    return Figure(
        path.read_bytes(),
        f"Synthetic anomalies, set {name}. From left to right: original, object mask, synthetic "
        "image, the pixels that really changed.",
        f"Examples of the synthetic anomalies {name} of {category}.",
    )


def assemble(
    title: str,
    dataset: str,
    facts: Iterable[tuple[str, str]],
    sections: Iterable[Section],
    sheets: Mapping[str, Sequence[Figure]] | None = None,
) -> Page:
    """Group sections by category and detector, compare detectors, and note what needs attention.

    Parameters
    ----------
    title : the heading of the page.
    dataset : the name of the dataset.
    facts : (label, value) pairs about the run, shown as they come.
    sections : one per (category, detector, seed); categories keep the order of their first ones.
    sheets : contact sheets of synthetic anomalies by category.
    """
    sections = list(sections)
    categories = list(dict.fromkeys(section.category for section in sections))
    anchors = {name: f"category-{number}" for number, name in enumerate(categories, start=1)}
    protocols = sorted(
        {s.protocol for s in sections}, key=lambda name: (name == "supervised", name)
    )
    return Page(
        title=title,
        dataset=dataset,
        facts=tuple(facts),
        attention=_attention(sections, anchors),
        rankings=tuple(_ranking(protocol, sections, anchors) for protocol in protocols),
        categories=tuple(
            CategorySection(
                name,
                anchor,
                _detectors(name, anchor, sections, protocols),
                tuple((sheets or {}).get(name, ())),
            )
            for name, anchor in anchors.items()
        ),
    )


def render(path: Path | str, page: Page) -> None:
    """Write the page as one self-contained HTML file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "metric": format_metric,
        "score": format_score,
        "count": lambda number: "" if number is None else str(number),
        "flat": _flat,
        "picture": _picture,
    }
    html = environment.get_template("page.html.j2").render(page=page)
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8", newline="\n")


def format_metric(value: float | None) -> str:
    """Three decimals; nothing for what was not measured."""
    return "" if value is None else f"{value:.3f}"


def format_percent(value: float | None) -> str:
    """A share as a percentage."""
    return "" if value is None else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"


def _histogram(metrics: Mapping[str, Any], path: Path) -> Figure:
    counts = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in metrics["counts"].items())
    return Figure(
        path.read_bytes(),
        "Anomaly scores. A good detector leaves good parts left of the threshold and defective "
        "ones right of it. The number beside each row is the height of its highest bar.",
        f"Histograms of the anomaly scores of {_subject(metrics)} ({counts}), "
        f"with the threshold {format_score(metrics['threshold']['value'])}.",
    )


def _roc(metrics: Mapping[str, Any], path: Path) -> Figure:
    area = metrics["image"].get("auroc")
    if area is None:
        caption = "The ROC curve needs good and defective test images."
        return Figure(path.read_bytes(), caption, f"No ROC curve of {_subject(metrics)}.")
    return Figure(
        path.read_bytes(),
        "ROC curve: defects found against false alarms for every possible threshold. "
        "The dot is the threshold in use.",
        f"ROC curve of {_subject(metrics)}, AUROC {format_metric(area)}.",
    )


def _subject(metrics: Mapping[str, Any]) -> str:
    return f"{metrics['detector']} on {metrics['category']}, seed {metrics['seed']}"


def _attention(sections: Sequence[Section], anchors: Mapping[str, str]) -> tuple[Attention, ...]:
    kinds = (
        Attention(
            "Nothing to evaluate",
            "Without defective and good test images nobody knows how many defects are found. "
            "Add some of both to the test images.",
            _entries(sections, anchors, _nothing_to_evaluate),
        ),
        Attention(
            "Many false alarms",
            f"More than {format_percent(HIGH_FALSE_ALARM_RATE)} of the good test images are called "
            "defective at the threshold.",
            _false_alarms(sections, anchors),
        ),
        Attention(
            "Small calibration sets",
            f"With fewer than {SMALL_CALIBRATION} images behind a threshold, its false-alarm rate "
            "is poorly known. Add good images.",
            _entries(sections, anchors, _small_calibration),
        ),
        Attention(
            "No ground-truth masks",
            "How well defects are located was not measured.",
            _entries(sections, anchors, _no_masks),
        ),
    )
    return tuple(kind for kind in kinds if kind.entries)


def _entries(
    sections: Sequence[Section], anchors: Mapping[str, str], words: Callable[[Section], str]
) -> tuple[tuple[str, str], ...]:
    found = ((anchors[section.category], words(section)) for section in sections)
    return tuple(dict.fromkeys(entry for entry in found if entry[1]))


def _nothing_to_evaluate(section: Section) -> str:
    return section.category if section.image_auroc is None else ""


def _no_masks(section: Section) -> str:
    without = section.pixel_auroc is None and section.counts.get("test_defective", 0) > 0
    return section.category if without else ""


def _small_calibration(section: Section) -> str:
    n = section.counts.get("calibration", 0)
    return f"{section.category} ({n})" if n < SMALL_CALIBRATION else ""


def _false_alarms(
    sections: Sequence[Section], anchors: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    entries = []
    for (category, _, detector), seeds in _by_detector(sections).items():
        rate = _summary(seeds, "false_alarm_rate").mean
        if rate is not None and rate > HIGH_FALSE_ALARM_RATE:
            entries.append((anchors[category], f"{category}, {detector}: {format_percent(rate)}"))
    return tuple(entries)


def _by_detector(sections: Iterable[Section]) -> dict[tuple[str, str, str], list[Section]]:
    groups: dict[tuple[str, str, str], list[Section]] = {}
    for section in sections:
        key = section.category, section.protocol, section.detector
        groups.setdefault(key, []).append(section)
    return {key: sorted(group, key=lambda section: section.seed) for key, group in groups.items()}


def _detectors(
    category: str, anchor: str, sections: Sequence[Section], protocols: Sequence[str]
) -> tuple[DetectorSection, ...]:
    groups = _by_detector(section for section in sections if section.category == category)
    ordered = sorted(
        groups.values(),
        key=lambda seeds: (
            protocols.index(seeds[0].protocol),
            -(_summary(seeds, "image_auroc").mean or 0),
        ),
    )
    return tuple(
        DetectorSection(
            anchor=f"{anchor}-{number}",
            first=seeds[0],
            seeds=tuple(seeds),
            image_auroc=_summary(seeds, "image_auroc"),
            pixel_auroc=_summary(seeds, "pixel_auroc"),
            f1=_summary(seeds, "f1"),
        )
        for number, seeds in enumerate(ordered, start=1)
    )


def _summary(seeds: Sequence[Section], metric: str) -> Value:
    return _value([getattr(section, metric) for section in seeds])


def _value(measured: Iterable[float | None], coverage: str = "") -> Value:
    values = [value for value in measured if value is not None]
    if not values:
        return Value(None)
    several = len(values) > 1
    low, high = (min(values), max(values)) if several else (None, None)
    return Value(fmean(values), low, high, coverage=coverage)


def _ranking(protocol: str, sections: Sequence[Section], anchors: Mapping[str, str]) -> Ranking:
    chosen = [section for section in sections if section.protocol == protocol]
    boards = tuple(_leaderboard(chosen, anchors, *metric) for metric in METRICS)
    return Ranking(protocol, boards)


def _leaderboard(
    sections: Sequence[Section], anchors: Mapping[str, str], metric: str, name: str, words: str
) -> Leaderboard:
    groups = _by_detector(sections)
    categories = [name for name in anchors if any(name == key[0] for key in groups)]
    by_detector: dict[str, dict[str, list[Section]]] = {}
    for (category, _, detector), seeds in groups.items():
        by_detector.setdefault(detector, {})[category] = seeds
    measured = {s.category for s in sections if getattr(s, metric) is not None}
    rows = [
        LeaderboardRow(
            detector,
            _mean_over_categories(seeds, metric, len(measured)),
            tuple(_summary(seeds.get(category, []), metric) for category in categories),
        )
        for detector, seeds in by_detector.items()
    ]
    # A mean over fewer categories is another quantity: it goes last and cannot win.
    rows.sort(key=lambda row: (row.mean.coverage != "", -(row.mean.mean or 0)))
    columns = tuple((category, anchors[category]) for category in categories)
    return Leaderboard(name, words, columns, _with_best(rows))


def _mean_over_categories(
    by_category: Mapping[str, Sequence[Section]], metric: str, total: int
) -> Value:
    per_category = [
        {s.seed: getattr(s, metric) for s in seeds if getattr(s, metric) is not None}
        for seeds in by_category.values()
    ]
    measured = [by_seed for by_seed in per_category if by_seed]
    if not measured:
        return Value(None)
    shared = sorted(set.intersection(*(set(by_seed) for by_seed in measured)))
    over_seeds = _value([fmean(by_seed[seed] for by_seed in measured) for seed in shared])
    coverage = "" if len(measured) == total else f"{len(measured)} of {total}"
    mean = fmean(fmean(by_seed.values()) for by_seed in measured)
    return Value(mean, over_seeds.low, over_seeds.high, coverage=coverage)


def _with_best(rows: Sequence[LeaderboardRow]) -> tuple[LeaderboardRow, ...]:
    means = _mark_best([row.mean for row in rows])
    columns = [_mark_best(column) for column in zip(*(row.values for row in rows), strict=True)]
    return tuple(
        LeaderboardRow(row.detector, mean, tuple(column[number] for column in columns))
        for number, (row, mean) in enumerate(zip(rows, means, strict=True))
    )


def _mark_best(values: Sequence[Value]) -> list[Value]:
    """Mark the highest values as they are shown: a difference nobody can see makes no winner."""
    rivals = [value.mean for value in values if value.mean is not None and not value.coverage]
    if len(rivals) < 2:
        return list(values)
    highest = format_metric(max(rivals))
    return [
        replace(value, best=not value.coverage and format_metric(value.mean) == highest)
        for value in values
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text) pairs in the order of their names."""
    pairs: list[tuple[str, str]] = []
    for name, value in sorted(tree.items()):
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            pairs.append((f"{prefix}{name}", text))
    return pairs


def _picture(figure: Figure, name: str) -> Markup:
    """The HTML of a figure; `name` must be unique on the page."""
    if b"<svg" in figure.content[:1000]:
        return _inline_svg(figure, name)
    kind = "jpeg" if figure.content.startswith(b"\xff\xd8") else "png"
    data = base64.b64encode(figure.content).decode()
    return Markup('<img src="data:image/{};base64,{}" alt="{}">').format(kind, data, figure.alt)


def _inline_svg(figure: Figure, name: str) -> Markup:
    """Only shapes and words of the drawing are kept, under identifiers that no other one has."""
    root = ElementTree.fromstring(figure.content)
    _keep_drawing(root, name)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": figure.alt}
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
