"""The geometry of the page's charts: numbers in, positions on a small canvas out.

The templates turn it into SVG with the page's fonts and colours. Canvases are as wide as a phone's
screen, so that words stay readable there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from flawline.metrics import BY_COLUMN, Metric
from flawline.report.cases import format_score

BARS = 36
GROUPS = {"calibration": "Calibration, good", "good": "Test, good", "defective": "Test, defective"}
"""Groups of scores and their names, in the order of their rows."""


@dataclass(frozen=True)
class Curve:
    """A curve of `metrics.json`: its key, its axes, and its area."""

    key: str
    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    x_end: float
    area: Metric
    area_label: str


CURVES = (
    Curve(
        "roc",
        "ROC curve",
        "fpr",
        "tpr",
        "good parts rejected",
        "defective parts found",
        1.0,
        BY_COLUMN["image_auroc"],
        "AUROC",
    ),
    Curve(
        "pr",
        "Precision and recall",
        "recall",
        "precision",
        "defective parts found (recall)",
        "right rejections (precision)",
        1.0,
        BY_COLUMN["image_average_precision"],
        "average precision",
    ),
    Curve(
        "pro",
        "PRO curve",
        "fpr",
        "overlap",
        "flawless pixels flagged",
        "defect area flagged",
        0.3,
        BY_COLUMN["pixel_aupro_30"],
        "AUPRO to 0.30",
    ),
)


def bar_edges(groups: Iterable[np.ndarray], threshold: float) -> np.ndarray:
    """Return the edges of the bars, including the threshold, so that no bar spans both sides.

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


def bar_counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Count the values of each bar; those beyond the edges are in the first and last bar."""
    # Negated, because a score equal to the threshold is called good and NumPy's bins are closed
    # on the left.
    negated, _ = np.histogram(-np.clip(values, edges[0], edges[-1]), -edges[::-1])
    return negated[::-1]


def histogram(scores: Mapping[str, np.ndarray], threshold: float) -> dict[str, Any]:
    """Return rows of bars, one for each of `GROUPS` that has scores, over one axis."""
    width, row_height, head, foot = 340.0, 46.0, 18.0, 20.0
    given = {key: np.asarray(scores.get(key, ()), float) for key in GROUPS}
    given = {key: values for key, values in given.items() if len(values)}
    edges = bar_edges(given.values(), threshold)
    place = _Scale(edges[0], edges[-1], 0, width)
    rows = []
    for number, (key, values) in enumerate(given.items()):
        counts, bottom = bar_counts(values, edges), 12 + (number + 1) * (row_height + head)
        heights = counts * row_height / max(counts.max(), 1)
        path = "".join(
            f"M{place(left):.1f} {bottom:.1f}v{-height:.1f}h{place(right) - place(left):.2f}"
            f"v{height:.1f}z"
            for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
            if height
        )
        below, above = int((values < edges[0]).sum()), int((values > edges[-1]).sum())
        beyond = [f"{below} further left"] * bool(below) + [f"{above} further right"] * bool(above)
        rows.append(
            {
                "key": key,
                "name": GROUPS[key],
                "n": len(values),
                "path": path,
                "bottom": bottom,
                "label_y": bottom - row_height - 5,
                "peak": int(counts.max()),
                "beyond": ", ".join(beyond),
            }
        )
    bottom = 12 + len(rows) * (row_height + head)
    return {
        "width": width,
        "height": bottom + foot,
        "bottom": bottom,
        "rows": rows,
        "range": [float(edges[0]), float(edges[-1])],
        "threshold": place(threshold),
        "ticks": [(place(tick), label) for tick, label in _ticks(edges[0], edges[-1], 5)],
    }


def lines(
    series: Sequence[tuple[Sequence[float], Sequence[float]]],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    size: tuple[float, float] = (240.0, 200.0),
    tick_count: int = 3,
) -> dict[str, Any]:
    """Return lines in a frame; `series` are pairs of x and y values."""
    width, height = size
    left, top, right, bottom = 38.0, 8.0, width - 10, height - 34
    x, y = _Scale(*x_range, left, right), _Scale(*y_range, bottom, top)
    return {
        "width": width,
        "height": height,
        "plot": (left, top, right - left, bottom - top),
        "lines": [_points([(x(a), y(b)) for a, b in zip(*one, strict=True)]) for one in series],
        "x_ticks": [(x(tick), label) for tick, label in _ticks(*x_range, tick_count)],
        "y_ticks": [(y(tick), label) for tick, label in _ticks(*y_range, 3)],
    }


def loss_series(training: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the curves in a training log: one for every phase and loss; none without epochs.

    Parameters
    ----------
    training : rows of ``training.csv``.

    Returns
    -------
    For each curve its `title`, `epochs` and `values`, and under `validation` the values of the same
    loss for images that were not trained on, or nothing.
    """
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in training:
        if "epoch" not in row:
            return []
        phase = str(row.get("phase") or "train")
        for name, value in row.items():
            if name in ("phase", "epoch", "steps", "seconds") or value in ("", None):
                continue
            if math.isfinite(float(value)):
                found.setdefault((phase, name), []).append((float(row["epoch"]), float(value)))
    several = len({phase for phase, _ in found}) > 1
    return [
        {
            "title": f"{phase}: {name}" if several else name,
            "epochs": [epoch for epoch, _ in points],
            "values": [value for _, value in points],
            "validation": [value for _, value in found.get((phase, f"validation {name}"), [])],
        }
        for (phase, name), points in found.items()
        if not name.startswith("validation ")
    ]


def loss_chart(series: Mapping[str, Any]) -> dict[str, Any]:
    """Return one loss against epochs, with that of images not trained on as a second line."""
    values = [*series["values"], *series["validation"]]
    low, high = min(values), max(values)
    low = min(low, 0.0) if low < high / 2 else low
    high = high if high > low else low + (abs(low) or 1.0)
    last = max(series["epochs"][-1], series["epochs"][0] + 1)
    points = [(series["epochs"], one) for one in (series["values"], series["validation"]) if one]
    return lines(points, (series["epochs"][0], last), (low, high), (240.0, 130.0))


def scatter(points: Sequence[tuple[str, float, float]]) -> dict[str, Any]:
    """Return named points, x logarithmic, y up to 1, with places for names that do not collide.

    Parameters
    ----------
    points : (name, x > 0, y).
    """
    width, height = 340.0, 220.0
    left, top, right, bottom = 46.0, 14.0, width - 14, height - 34
    xs, ys = [x for _, x, _ in points], [y for _, _, y in points]
    x_low, x_high = log_range(xs)
    y_low = max(0.0, min(ys) - max(0.25 * (1 - min(ys)), 0.01))
    x, y = _Scale(x_low, x_high, left, right), _Scale(y_low, 1, bottom, top)
    at: list[dict[str, Any]] = [
        {"name": name, "cost": cost, "value": value, "x": x(math.log10(cost)), "y": y(value)}
        for name, cost, value in sorted(points, key=lambda point: -point[2])
    ]
    taken = [(one["x"] - 4, one["x"] + 4, one["y"] - 4, one["y"] + 4) for one in at]
    for one in at:
        one |= _label(one["x"], one["y"], 6.2 * min(len(one["name"]), 24), taken, (left, right))
    return {
        "width": width,
        "height": height,
        "plot": (left, top, right - left, bottom - top),
        "points": at,
        "x_ticks": [(x(math.log10(tick)), short(tick)) for tick in decades(x_low, x_high)],
        "y_ticks": [(y(tick), label) for tick, label in _ticks(y_low, 1, 4)],
    }


def log_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the logarithms of an axis's ends, at least a decade apart: similar costs look so."""
    low, high = math.log10(min(values)) - 0.15, math.log10(max(values)) + 0.15
    if high - low < 1:
        low, high = (low + high - 1) / 2, (low + high + 1) / 2
    return low, high


def _label(
    x: float,
    y: float,
    length: float,
    taken: list[tuple[float, float, float, float]],
    ends: tuple[float, float],
) -> dict[str, Any]:
    """Find a free place for a point's name, right or left of it, and mark it as taken."""
    places = []
    for shift in (0, 10, -10, 20, -20, 30):
        for end in (False, True):
            start = x - 7 - length if end else x + 7
            box = (start, start + length, y + shift - 5, y + shift + 5)
            beyond = max(ends[0] - box[0], box[1] - ends[1], 0)
            hidden = sum(
                box[0] < other[1] and other[0] < box[1] and box[2] < other[3] and other[2] < box[3]
                for other in taken
            )
            places.append((hidden, beyond > 8, abs(shift), end, box, y + shift))
    best = min(places, key=lambda place: place[:4])
    taken.append(best[4])
    return {"end": best[3], "label_y": best[5]}


class _Scale:
    """A linear map from one range to another."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.start = low, start
        self.factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        return float(self.start + (value - self.low) * self.factor)


def _points(line: Sequence[tuple[float, float]]) -> str:
    """Return the points of a polyline, simplified to 0.15 px (Douglas-Peucker)."""
    if not line:
        return ""
    kept = cv2.approxPolyDP(np.array(line, np.float32)[:, None], 0.15, closed=False)[:, 0]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in kept.tolist())


def _ticks(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Return about `count` round numbers from low to high, with their texts."""
    rough = (high - low) / max(count - 1, 1)
    power = 10 ** math.floor(math.log10(rough))
    steps = [power * factor for factor in (1, 2, 2.5, 5, 10)]
    step = min(steps, key=lambda step: abs(math.log10(step) - math.log10(rough)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(number * step, f"{number * step:.6g}") for number in range(first, last + 1)]


def decades(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten between two logarithms; powers alone if enough."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [f * 10.0**power for power in powers for f in factors]
        found = [tick for tick in found if low <= math.log10(tick) <= high]
        if len(found) >= 3:
            break
    return found


def short(value: float) -> str:
    """Format a tick of a logarithmic axis."""
    return f"{value:,.0f}" if value >= 1 else format_score(value).rstrip("0")
