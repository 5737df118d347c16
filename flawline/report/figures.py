"""Figures for papers and for Snakemake's report: from numbers to SVG, PDF, PNG and JPEG files."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from flawline.files import replacing
from flawline.pictures import panel_shape
from flawline.report.cases import COLUMNS, Case, format_score, panels, some_hatched
from flawline.report.charts import (
    GROUPS,
    Curve,
    bar_counts,
    bar_edges,
    decades,
    log_range,
    scatter,
    short,
)

INK = "#1f2629"
"""Lines and words of the plots. The page exchanges it for its own text colour."""

# Okabe and Ito's blue and vermilion have a contrast of 3 to 1 with white and with near-black.
COLOURS = {"calibration": "#8c8c8c", "good": "#0072b2", "defective": "#d55e00"}
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10.0,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "flawline",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

SVG: dict[str, Any] = {"metadata": {"Date": None, "Creator": None}, "transparent": True}

# A sheet is a JPEG, which cannot be transparent: a dark plate suits photographs on any page.
PLATE, PLATE_TEXT = "#1c2024", "#e6e8ea"
PANEL, GAP, HEAD, TITLE, BAR = 1.5, 0.06, 0.3, 0.36, 0.68  # inches; PANEL for square images
NARROWEST = 4.8  # inches that the words below the head need
LETTERS = 13.1  # of a title per inch
DOTS_PER_INCH = 128


def save(figure: Figure, *paths: Path | str) -> None:
    """Write a figure to files whose suffixes choose the format."""
    for path in map(Path, paths):
        kind = path.suffix.removeprefix(".").lower()
        options: dict[str, Any] = {"format": kind}
        if kind == "svg":
            options |= SVG
        if kind == "pdf":
            options |= {"metadata": {"CreationDate": None}}
        if kind in ("jpg", "jpeg"):
            options |= {"pil_kwargs": {"quality": 78, "optimize": True}, "dpi": DOTS_PER_INCH}
        with replacing(path) as partial, matplotlib.style.context(["default", STYLE]):
            figure.savefig(partial, **options)


def as_svg(figure: Figure) -> bytes:
    """Return a figure as the content of an SVG file."""
    content = io.BytesIO()
    with matplotlib.style.context(["default", STYLE]):
        figure.savefig(content, format="svg", **SVG)
    return content.getvalue()


def histogram(
    scores: Mapping[str, np.ndarray], threshold: float, unit: str = "anomaly score"
) -> Figure:
    """Draw the anomaly scores, one row for each group, with the threshold across them.

    Parameters
    ----------
    scores : float (N,) for any of the keys of `GROUPS`; missing and empty groups are left out.
    threshold : scores above it are called defective.
    unit : the label of the axis.
    """
    given = {name: np.asarray(scores.get(name, ()), float) for name in GROUPS}
    groups = {name: values for name, values in given.items() if len(values)}
    edges = bar_edges(groups.values(), threshold)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(4.3, 0.82 * max(len(groups), 1) + 0.84), layout="constrained")
        rows = figure.subplots(max(len(groups), 1), sharex=True, squeeze=False)[:, 0]
        for axes, (name, values) in zip(rows, groups.items(), strict=False):
            _score_row(axes, name, values, edges)
        for axes in rows:
            axes.axvline(threshold, color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        _threshold_label(rows[0], threshold, (threshold - edges[0]) / (edges[-1] - edges[0]))
        rows[-1].set_xlabel(unit)
        rows[-1].set_xlim(edges[0], edges[-1])
        rows[-1].tick_params(axis="x", length=3)
        rows[-1].xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    return figure


def curve(
    about: Curve,
    points: Mapping[str, Sequence[float]] | None,
    area: float | None,
    mark: tuple[float, float] | None = None,
) -> Figure:
    """Draw one of the curves of `metrics.json`, or say why it is missing.

    Parameters
    ----------
    about : the curve's description.
    points : its coordinates by name; None if the data do not allow it.
    area : its area, for the legend.
    mark : the point of the threshold in use.
    """
    with matplotlib.style.context(["default", STYLE]):
        if points is None:
            return _words_only(f"{about.title}: not measured,\nthe test images do not allow it")
        figure = Figure(figsize=(3.7, 3.4), layout="constrained")
        axes = figure.subplots()
        label = "" if area is None else f"{about.area_label} {area:.3f}"
        axes.plot(points[about.x], points[about.y], color=COLOURS["good"], lw=2, label=label)
        if mark:
            axes.plot(
                *mark, "o", ms=7.5, color=COLOURS["defective"], clip_on=False, label="threshold"
            )
        axes.set(xlabel=about.x_label, ylabel=about.y_label)
        axes.set(xlim=(0, about.x_end), ylim=(0, 1))
        axes.set_box_aspect(1)
        axes.set_xticks(np.linspace(0, about.x_end, 3 if about.x_end == 1 else 4))
        axes.set_yticks([0, 0.5, 1])
        if label or mark:
            axes.legend(loc="lower center" if about.key == "pr" else "lower right")
    return figure


def losses(series: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw each loss of `charts.loss_series` against epochs, one row each."""
    with matplotlib.style.context(["default", STYLE]):
        if not series:
            return _words_only("no losses:\nthis method does not train in epochs")
        height = 1.5 * len(series) + 0.5
        figure = Figure(figsize=(4.3, height), layout="constrained")
        rows = figure.subplots(len(series), squeeze=False)[:, 0]
        for axes, one in zip(rows, series, strict=True):
            axes.plot(one["epochs"], one["values"], color=COLOURS["good"], lw=1.6)
            if one["validation"]:
                label = "not trained on"
                axes.plot(one["epochs"], one["validation"], "--", color=INK, lw=1.2, label=label)
                axes.legend()
            axes.set_title(one["title"], loc="left", fontsize=10, parse_math=False)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(3))
        rows[-1].set_xlabel("epoch")
    return figure


def critical_difference(
    ranks: Sequence[tuple[str, float]], difference: float | None, why_not: str = ""
) -> Figure:
    """Draw mean ranks on an axis, 1 (best) on the left; bars join indistinguishable detectors.

    Parameters
    ----------
    ranks : (detector, mean rank).
    difference : mean ranks that differ by less are joined; None if unknown.
    why_not : text to show instead if it is unknown.
    """
    ranks = sorted(ranks, key=lambda pair: pair[1])
    with matplotlib.style.context(["default", STYLE]):
        if difference is None:
            return _words_only("\n".join(wrap(why_not, 60)))
        half = (len(ranks) + 1) // 2
        bars = _joined([rank for _, rank in ranks], difference)
        low, high, depth = 1, len(ranks), 0.34 * len(bars) + 0.3
        height = 0.9 + 0.24 * (depth + half)
        figure = Figure(figsize=(5.6, height), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(low - 0.05, high + 0.05), ylim=(depth + half, -0.2), yticks=[])
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.xaxis.tick_top()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("mean rank over categories (1 is best)")
        for number, (start, end) in enumerate(bars):
            y = 0.34 * (number + 1)
            axes.plot([start - 0.03, end + 0.03], [y, y], lw=4, color=COLOURS["defective"])
        for number, (name, rank) in enumerate(ranks):
            first = number < half
            y = depth + (number if first else len(ranks) - 1 - number) + 0.3
            axes.plot([rank, rank], [-0.2, y], [rank, low if first else high], [y, y], color=INK)
            axes.annotate(
                f"{name}  {rank:.2f}" if first else f"{rank:.2f}  {name}",
                (low if first else high, y),
                xytext=(-5 if first else 5, 0),
                textcoords="offset points",
                ha="right" if first else "left",
                va="center",
                parse_math=False,
                annotation_clip=False,
            )
    return figure


def accuracy_cost(charts: Sequence[tuple[str, Sequence[tuple[str, float, float]]]]) -> Figure:
    """Draw accuracy against costs, side by side.

    Parameters
    ----------
    charts : label of the cost, and (detector, cost, image AUROC) of each detector.
    """
    charts = [(label, points) for label, points in charts if points]
    with matplotlib.style.context(["default", STYLE | {"font.size": 9.0}]):
        if not charts:
            return _words_only("nothing was measured")
        down = -(-len(charts) // 2)
        figure = Figure(figsize=(8.2, 2.9 * down), layout="constrained")
        grid = figure.subplots(down, 2, squeeze=False).ravel()
        for axes, (label, points) in zip(grid, charts, strict=False):
            for at in scatter(points)["points"]:
                axes.plot(at["cost"], at["value"], "o", color=COLOURS["good"], ms=5)
                axes.annotate(
                    at["name"],
                    (at["cost"], at["value"]),
                    xytext=(-6 if at["end"] else 6, at["y"] - at["label_y"]),
                    textcoords="offset points",
                    ha="right" if at["end"] else "left",
                    va="center",
                    parse_math=False,
                )
            axes.set(xscale="log", xlabel=label, ylabel="image AUROC")
            axes.margins(0.12)
            low, high = log_range([cost for _, cost, _ in points])
            axes.set_xlim(10**low, 10**high)
            ticks = decades(low, high)
            axes.set_xticks(ticks, labels=[short(tick) for tick in ticks])
            axes.xaxis.set_minor_formatter(NullFormatter())
        for axes in grid[len(charts) :]:
            axes.set_axis_off()
    return figure


def gallery(
    cases: Sequence[Case], scale: tuple[float, float], boxed: float | None = None
) -> Figure:
    """Draw cases as image, ground truth outlined over the image, and anomaly map, two across."""
    rows = [(case.title, panels(case, scale)) for case in cases]
    return sheet(rows, COLUMNS, scale, across=2, hatched=some_hatched(cases), boxed=boxed)


def sheet(
    rows: Sequence[tuple[str, Sequence[np.ndarray]]],
    columns: Sequence[str],
    scale: tuple[float, float],
    across: int = 1,
    hatched: bool = False,
    boxed: float | None = None,
) -> Figure:
    """Draw titled rows of pictures on a dark plate, with the colour scale of their anomaly maps.

    Parameters
    ----------
    rows : title and pictures, each uint8 (H, W, 3), all of the same proportions; an empty list
        gives a sheet that says so.
    columns : names of the pictures in every row.
    scale : anomaly values at the two ends of the colour scale.
    across : number of rows of square pictures side by side: fewer of wide, more of tall ones.
    hatched : whether some pixels are hatched because they do not count.
    boxed : pixels of anomaly maps above it are boxed.
    """
    tall, broad = panel_shape(rows[0][1][0].shape if rows else (1, 1), PANEL)
    across = min(len(rows), max(round(across * PANEL / broad), 1)) or 1
    down, wide = -(-len(rows) // across) or 1, len(columns) * (broad + GAP) + GAP
    width = max(across * wide + GAP, NARROWEST)
    height = HEAD + down * (tall + TITLE) + BAR
    with matplotlib.style.context(["default", {"font.size": 8.5, "text.color": PLATE_TEXT}]):
        figure = Figure(figsize=(width, height), facecolor=PLATE)
        if not rows:
            figure.text(0.5, 0.5, "no images to show", ha="center", va="center")
        for number, (title, pictures) in enumerate(rows):
            left = GAP + number % across * wide
            top = height - HEAD - number // across * (tall + TITLE)
            y = (top - TITLE / 2) / height
            words = _two_lines(title, round(LETTERS * wide))
            figure.text(left / width, y, words, va="center", parse_math=False)
            for column, picture in enumerate(pictures):
                x, y = (left + column * (broad + GAP)) / width, (top - TITLE - tall) / height
                axes = figure.add_axes((x, y, broad / width, tall / height))
                axes.imshow(picture)
                axes.set_axis_off()
        if rows:
            _legend(figure, columns, scale, hatched, boxed)
    return figure


def _joined(ranks: Sequence[float], difference: float) -> list[tuple[float, float]]:
    """Return the longest runs of sorted ranks that span less than `difference`."""
    bars: list[tuple[float, float]] = []
    for number, start in enumerate(ranks):
        end = max(rank for rank in ranks[number:] if rank - start < difference - 1e-6)
        if end > start and not any(end <= other for _, other in bars):
            bars.append((start, end))
    return bars


def _score_row(axes: Axes, name: str, values: np.ndarray, edges: np.ndarray) -> None:
    counts = bar_counts(values, edges)
    axes.stairs(counts, edges, fill=True, color=COLOURS[name])
    plural = "" if len(values) == 1 else "s"
    words = f"{GROUPS[name]}\n{len(values)} image{plural}"
    axes.set_ylabel(words, rotation=0, ha="right", va="center")
    axes.yaxis.tick_right()
    axes.set_yticks([int(counts.max())])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    beyond = {
        "left": (0.0, f"← {(values < edges[0]).sum()} lower", bool((values < edges[0]).any())),
        "right": (1.0, f"{(values > edges[-1]).sum()} higher →", bool((values > edges[-1]).any())),
    }
    for side, (x, words, needed) in beyond.items():
        if needed:
            axes.text(x, 0.98, words, transform=axes.transAxes, ha=side, va="top", fontsize=9)


def _threshold_label(axes: Axes, threshold: float, position: float) -> None:
    side = "left" if position < 0.2 else "right" if position > 0.8 else "center"
    axes.annotate(
        f"threshold {format_score(threshold)}",
        (threshold, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha=side,
        va="bottom",
    )


def _words_only(words: str) -> Figure:
    figure = Figure(figsize=(3.7, 1.6))
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=10)
    return figure


def _two_lines(title: str, letters: int) -> str:
    title, half = " ".join(title.split()), letters - 7  # lines break between words
    if len(title) > 2 * half:
        title = f"{title[:half]}…{title[-half:]}"
    return "\n".join(wrap(title, letters)[:2])


def _legend(
    figure: Figure,
    columns: Sequence[str],
    scale: tuple[float, float],
    hatched: bool,
    boxed: float | None,
) -> None:
    width, height = figure.get_size_inches()
    length = min(3 * PANEL, width - 2 * GAP)
    axes = figure.add_axes((GAP / width, 0.30 / height, length / width, 0.13 / height))
    bar = figure.colorbar(
        ScalarMappable(Normalize(*scale), "inferno"), cax=axes, orientation="horizontal"
    )
    bar.outline.set_visible(False)
    axes.tick_params(colors=PLATE_TEXT, length=3, labelsize=8)
    low, high = scale
    ticks = {low: format_score(low), high: format_score(high)}
    if boxed is not None:
        ticks[min(boxed, high)] = f"boxed above {format_score(boxed)}"
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[1].set_horizontalalignment("right")
    words = "anomaly map: one scale for all images" + ("; hatched: not counted" if hatched else "")
    figure.text(GAP / width, 0.53 / height, words, va="center", fontsize=8)
    words = f"From left to right: {', '.join(columns)}"
    y = 1 - HEAD / 2 / height
    figure.text(GAP / width, y, words, va="center", fontsize=8, parse_math=False)
