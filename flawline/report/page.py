"""The report as HTML: one file or, if it would grow too large, also a page for each category."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from PIL import Image

from flawline.decisions.thresholds import images_needed
from flawline.evaluation.image_metrics import FALSE_ALARM_RATES
from flawline.metrics import METRICS
from flawline.report.cases import format_score
from flawline.report.detector_comparison import Sheet
from flawline.report.html import environment, write_page
from flawline.report.leaderboard import cost_csv, leaderboard_csv
from flawline.report.model import Page
from flawline.report.overview import percent
from flawline.report.runs import Run
from flawline.report.svg import drawing

LARGEST_PAGE = 18e6
"""Bytes; a report that would grow larger is split into one page per category."""

SHEET_WIDTH, SHEET_QUALITY = 1000, 70


def contact_sheet(category: str, name: str, path: Path | str) -> Sheet:
    """Return the contact sheet of one set of synthetic anomalies, small enough for the page."""
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
    """Write the page and, in a folder of the same name, the pages of its categories, if any.

    Parameters
    ----------
    largest : bytes; a file that would be larger is split.
    """
    path = Path(path)
    folder = path.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.html"):
        old.unlink()
    templates = _environment(page)
    text = ""
    if _picture_bytes(page) < largest:  # otherwise not worth rendering
        text = _page(templates, page, {c.name: f"#{c.anchor}" for c in page.categories})
    if not text or len(text.encode()) > largest:
        links = {c.name: quote(f"{folder.name}/{c.name}.html") for c in page.categories}
        text = _page(templates, page, links, split=True)
        template = templates.get_template("category.html.j2")
        for category in page.categories:
            neighbours = {c.name: quote(f"{c.name}.html") for c in page.categories}
            one = template.render(
                page=page,
                category=category,
                links=neighbours,
                up=quote(f"../{path.name}"),
                split=False,
            )
            write_page(folder / f"{category.name}.html", one)
    write_page(path, text)


def _environment(page: Page) -> Environment:
    made = environment(
        leaderboard_csv=leaderboard_csv,
        cost_csv=cost_csv,
        case_alt=case_alt,
        confidence=page.confidence,
        images_needed=images_needed,
        false_alarm_rates=FALSE_ALARM_RATES,
        metrics=METRICS,
        titles={metric.column: metric.title for metric in METRICS},
    )
    made.filters["percent"] = percent
    made.filters["flat"] = _flat
    made.filters["drawing"] = lambda sheet, name: drawing(sheet.content, name, sheet.alt)
    return made


def _picture_bytes(page: Page) -> float:
    """Return the size of the pictures in the page, bytes."""
    panels = [p for c in page.categories for detector in c.detectors for p in detector.panels]
    size = sum(len(sheet.content) for c in page.categories for sheet in c.sheets)
    for panel in panels:
        size += len(panel.run.pictures or b"")
        size += sum(len(case["content"]) for case in panel.run.cases.get("cases", ()))
    return size * 4 / 3


def _page(templates: Environment, page: Page, links: Mapping[str, str], split: bool = False) -> str:
    return templates.get_template("page.html.j2").render(page=page, links=links, up="", split=split)


def case_alt(run: Run, case: Mapping[str, Any]) -> str:
    """Describe a case of the gallery for those who cannot see it."""
    side = "above" if case["score"] > run.threshold else "below or at"
    truth = "good part" if case["defect_type"] == "good" else f"defective, {case['defect_type']}"
    return (
        f"{case['kind'].capitalize()}: {case['name']}, {truth}. Score "
        f"{format_score(case['score'])}, {side} the threshold {format_score(run.threshold)}. "
        "From left to right: image with boxes found, ground truth outlined, anomaly map."
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings to (dotted name, text) pairs in the order of their names."""
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
