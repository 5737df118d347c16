"""The figures of the report: from arrays to files that read well on light and on dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter
from sklearn.metrics import roc_auc_score, roc_curve

from flawline.files import replacing

if TYPE_CHECKING:
    import pandas as pd

INK = "#767676"
"""Lines and words of the plots: 4.5 to 1 against white and against black. The page exchanges it
for its own text colour."""

# Okabe and Ito's blue and vermilion keep 3 to 1 against white and against near-black.
COLOURS = {
    "calibration (good)": "#8c8c8c",
    "test good": "#0072b2",
    "test defective": "#d55e00",
}
STYLE = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10.0,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "flawline",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
BARS = 36

# The gallery is a JPEG, which cannot be transparent: a dark plate suits photographs on any page.
PLATE, PLATE_TEXT, OUTLINE = "#1c2024", "#e6e8ea", (255, 221, 0)
PANEL, GAP, HEAD, TITLE, BAR = 1.5, 0.06, 0.3, 0.36, 0.68  # inches
TITLE_LENGTH = 62
DOTS_PER_INCH = 128


@dataclass(frozen=True)
class Case:
    """One image of the gallery.

    Parameters
    ----------
    title : what it is and why it is shown.
    image : uint8 (S, S, 3), RGB.
    ground_truth : uint8 (S, S), defect where it is not zero; None where there is no mask.
    anomaly_map : float (h, w), higher is more anomalous.
    """

    title: str
    image: np.ndarray
    ground_truth: np.ndarray | None
    anomaly_map: np.ndarray


def histogram(path: Path | str, scores: Mapping[str, np.ndarray], threshold: float) -> None:
    """Draw the anomaly scores of each group in a row of its own, with the threshold across them.

    Parameters
    ----------
    path : the image file to write; its suffix chooses the format.
    scores : float (N,) for any of the keys of `COLOURS`; missing and empty groups are left out.
    threshold : scores above it are called defective.
    """
    given = {name: np.asarray(scores.get(name, ()), float) for name in COLOURS}
    groups = {name: values for name, values in given.items() if len(values)}
    edges = _edges(list(groups.values()), threshold)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(4.3, 0.82 * max(len(groups), 1) + 0.84), layout="constrained")
        rows = figure.subplots(max(len(groups), 1), sharex=True, squeeze=False)[:, 0]
        for axes, (name, values) in zip(rows, groups.items(), strict=False):
            _score_row(axes, name, values, edges)
        for axes in rows:
            axes.axvline(threshold, color=INK, linewidth=1.3, linestyle=(0, (4, 2)))
        _threshold_label(rows[0], threshold, (threshold - edges[0]) / (edges[-1] - edges[0]))
        rows[-1].set_xlabel("anomaly score")
        rows[-1].set_xlim(edges[0], edges[-1])
        rows[-1].tick_params(axis="x", length=3)
        rows[-1].xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
        _save(figure, path)


def roc(path: Path | str, labels: np.ndarray, scores: np.ndarray, threshold: float) -> None:
    """Draw the ROC curve with the operating point of the threshold, or say why there is none.

    Parameters
    ----------
    path : the image file to write; its suffix chooses the format.
    labels : (N,), 0 for good and 1 for defective.
    scores : float (N,), higher is more anomalous.
    threshold : scores above it are called defective.
    """
    defective, scores = np.asarray(labels, bool), np.asarray(scores, float)
    with matplotlib.style.context(["default", STYLE]):
        if defective.any() and not defective.all():
            figure = Figure(figsize=(3.7, 3.3), layout="constrained")
            _roc_curve(figure.subplots(), defective, scores, threshold)
        else:
            figure = Figure(figsize=(3.7, 1.6))
            _words_only(figure, _why_not(defective))
        _save(figure, path)


def gallery(path: Path | str, cases: Sequence[Case], vmin: float, vmax: float) -> None:
    """Draw cases as image, ground truth outlined over the image, and anomaly map.

    Parameters
    ----------
    path : the image file to write; its suffix chooses the format (JPEG keeps it small).
    cases : the images; an empty list gives a file that says so.
    vmin, vmax : anomaly values at the two ends of the colour scale, one scale for all cases.
    """
    across = min(len(cases), 2) or 1
    down = -(-len(cases) // across) or 1
    width, height = across * (3 * PANEL + 4 * GAP) + GAP, HEAD + down * (PANEL + TITLE) + BAR
    with matplotlib.style.context(["default", {"font.size": 8.5, "text.color": PLATE_TEXT}]):
        figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=PLATE)
        if not cases:
            _words_only(figure, "no test images to show")
        for number, case in enumerate(cases):
            left = GAP + number % across * (3 * PANEL + 4 * GAP)
            top = height - HEAD - number // across * (PANEL + TITLE)
            _case(figure, case, (left, top), Normalize(vmin, vmax))
        if cases:
            _legend(figure, Normalize(vmin, vmax))
        _save(figure, path)


def most_wrong(
    labels: np.ndarray, scores: np.ndarray, threshold: float, count: int
) -> list[tuple[int, str]]:
    """Choose the test images that are worth looking at.

    Misses come first, the lowest score first; then false alarms, the highest score first. Where
    there are too many, each kind gets at least half of the places that it can fill. Left-over
    places go to the right calls whose scores lie nearest to the threshold. Ties keep their order.

    Parameters
    ----------
    labels : (N,), 0 for good and 1 for defective.
    scores : float (N,), higher is more anomalous.
    threshold : scores above it are called defective.
    count : how many images at most.

    Returns
    -------
    list of (row number, reason), the reason being "miss", "false alarm", "closest call: good" or
    "closest call: defective".
    """
    defective, scores = np.asarray(labels, bool), np.asarray(scores, float)
    called = scores > threshold
    misses = _ordered(defective & ~called, scores)
    alarms = _ordered(~defective & called, -scores)
    kept = min(len(misses), max(count - len(alarms), (count + 1) // 2))
    chosen = [(row, "miss") for row in misses[:kept]]
    chosen += [(row, "false alarm") for row in alarms[: count - kept]]
    nearest = _ordered(defective == called, np.abs(scores - threshold))[: count - len(chosen)]
    kinds = ("closest call: good", "closest call: defective")
    return chosen + [(row, kinds[int(defective[row])]) for row in nearest]


def choose_cases(
    predictions: "pd.DataFrame",
    threshold: float,
    images: np.ndarray,
    masks: np.ndarray,
    anomaly_maps: np.ndarray,
    count: int,
) -> list[Case]:
    """The most wrong test images as cases of the gallery.

    Parameters
    ----------
    predictions : columns image_id, label, has_mask, score; one row per test image.
    images : uint8 (N, S, S, 3).
    masks : uint8 (N, S, S).
    anomaly_maps : float (N, h, w).
    """
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    names, has_mask = predictions["image_id"].to_numpy(), predictions["has_mask"].to_numpy()
    return [
        Case(
            f"{names[row].removeprefix('test/')}: {reason}, score {format_score(scores[row])}",
            images[row],
            masks[row] if has_mask[row] or not labels[row] else None,
            anomaly_maps[row].astype(np.float32),
        )
        for row, reason in most_wrong(labels, scores, threshold, count)
    ]


def absolute_scale(calibration: np.ndarray, test: np.ndarray) -> tuple[float, float]:
    """Ends of the colour scale of all of a detector's maps.

    It begins at the median pixel of calibration goods, so that good surfaces stay dark, and ends
    where nine of ten test images stay below.

    Parameters
    ----------
    calibration, test : float16 (N, h, w), anomaly maps.
    """
    low = float(np.median([np.median(one) for one in calibration]))
    peaks = np.array([one.max() for one in test], np.float32)
    high = max(float(np.quantile(peaks, 0.9)), float(max(one.max() for one in calibration)))
    return low, high if high > low else low + 1.0


def format_score(value: float) -> str:
    """Four significant digits: anomaly scores have no scale of their own."""
    return f"{value:#.4g}".rstrip(".")


def _ordered(wanted: np.ndarray, key: np.ndarray) -> list[int]:
    rows = np.flatnonzero(wanted)
    return [int(row) for row in rows[np.argsort(key[rows], kind="stable")]]


def _edges(groups: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Edges of the bars, the threshold among them: no bar holds scores of both its sides.

    Far tails are cut off, so that one huge score does not squeeze all others into one bar.
    """
    low = high = float(threshold)
    for values in groups:
        first, third = np.quantile(values, [0.25, 0.75])
        reach = 3 * (third - first)
        low = min(low, max(float(values.min()), first - reach))
        high = max(high, min(float(values.max()), third + reach))
    if low == high:
        low, high = low - (abs(low) / 20 or 1), high + (abs(high) / 20 or 1)
    width = (high - low) / BARS
    below, above = np.ceil((threshold - low) / width), np.ceil((high - threshold) / width)
    return threshold + width * np.arange(-below - 1, above + 2)


def _score_row(axes: Axes, name: str, values: np.ndarray, edges: np.ndarray) -> None:
    # Negated, because a score equal to the threshold is below the line and NumPy's bins are
    # closed on the left.
    negated, _ = np.histogram(-np.clip(values, edges[0], edges[-1]), -edges[::-1])
    counts = negated[::-1]
    axes.stairs(counts, edges, fill=True, color=COLOURS[name])
    plural = "" if len(values) == 1 else "s"
    axes.set_ylabel(f"{name}\n{len(values)} image{plural}", rotation=0, ha="right", va="center")
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


def _roc_curve(axes: Axes, defective: np.ndarray, scores: np.ndarray, threshold: float) -> None:
    false_alarms, recall, _ = roc_curve(defective, scores)
    area = roc_auc_score(defective, scores)
    called = scores > threshold
    point = called[~defective].mean(), called[defective].mean()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    axes.plot(
        false_alarms,
        recall,
        color=COLOURS["test good"],
        linewidth=2,
        clip_on=False,
        label=f"AUROC {area:.3f}",
    )
    axes.plot(
        *point,
        linestyle="none",
        marker="o",
        markersize=7.5,
        color=COLOURS["test defective"],
        clip_on=False,
        zorder=3,
        label=f"threshold {format_score(threshold)}:\n"
        f"recall {point[1]:.3f},\nfalse alarms {point[0]:.3f}",
    )
    axes.set(xlabel="false-alarm rate (good called defective)", ylabel="recall (defects found)")
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.legend(loc="lower right", handlelength=1.6)


def _why_not(defective: np.ndarray) -> str:
    if not len(defective):
        return "no test images:\nnothing to evaluate"
    if defective.all():
        return "no good test images:\nnothing to compare with"
    return "no defective test images:\nnothing to evaluate"


def _words_only(figure: Figure, words: str) -> None:
    figure.text(0.5, 0.5, words, ha="center", va="center", fontsize=10)


def _case(figure: Figure, case: Case, corner: tuple[float, float], scale: Normalize) -> None:
    width, height = figure.get_size_inches()
    left, top = corner
    figure.text(
        left / width,
        (top - TITLE / 2) / height,
        _shortened(case.title),
        va="center",
        parse_math=False,
    )
    for column in range(3):
        x = (left + column * (PANEL + GAP)) / width
        y = (top - TITLE - PANEL) / height
        axes = figure.add_axes(
            (x, y, PANEL / width, PANEL / height), xticks=[], yticks=[], facecolor=PLATE
        )
        axes.spines[:].set_visible(False)
        if column == 0:
            axes.imshow(case.image)
        elif column == 1:
            _ground_truth(axes, case)
        else:
            axes.imshow(case.anomaly_map, cmap="inferno", norm=scale, interpolation="bilinear")


def _shortened(title: str) -> str:
    title = " ".join(title.split())
    if len(title) <= TITLE_LENGTH:
        return title
    half = (TITLE_LENGTH - 1) // 2
    return f"{title[:half]}…{title[-half:]}"


def _ground_truth(axes: Axes, case: Case) -> None:
    if case.ground_truth is None:
        axes.imshow(case.image, alpha=0.35)
        axes.text(0.5, 0.5, "no mask", transform=axes.transAxes, ha="center", va="center")
        return
    axes.imshow(_outlined(case.image, case.ground_truth))


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    binary = (np.asarray(mask) > 0).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = max(1, round(len(image) / 128))
    drawn = np.ascontiguousarray(image).copy()
    # The dark rim keeps the outline visible on surfaces of its own colour.
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), 3 * thin)
    return cv2.drawContours(drawn, contours, -1, OUTLINE, thin)


def _legend(figure: Figure, scale: Normalize) -> None:
    width, height = figure.get_size_inches()
    length = min(3 * PANEL, width - 2 * GAP)
    axes = figure.add_axes((GAP / width, 0.30 / height, length / width, 0.13 / height))
    bar = figure.colorbar(ScalarMappable(scale, "inferno"), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(colors=PLATE_TEXT, length=3, labelsize=8)
    words = "anomaly map: one scale for all images"
    figure.text(GAP / width, 0.53 / height, words, va="center", fontsize=8)
    words = "From left to right: image, ground truth outlined, anomaly map"
    figure.text(GAP / width, 1 - HEAD / 2 / height, words, va="center", fontsize=8)


def _save(figure: Figure, path: Path | str) -> None:
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    on_plate = figure.get_facecolor()[:3] != (1, 1, 1)
    options: dict[str, Any] = {"format": kind, "transparent": not on_plate}
    if kind == "svg":
        options["metadata"] = {"Date": None, "Creator": None}
    if kind in ("jpg", "jpeg"):
        options["pil_kwargs"] = {"quality": 78, "optimize": True}
    with replacing(path) as partial:
        figure.savefig(partial, **options)
