"""How many good photographs does a detector need?"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flawline.files import read_table
from flawline.layout import RunFolder
from flawline.report.charts import lines

KEYS = ("train_images", "image_auroc")
NEAR = 0.01  # of image AUROC; as near to that of all photographs is as good


@dataclass(frozen=True)
class Point:
    """Image AUROC over the draws of a number of good photographs."""

    count: int
    median: float
    low: float
    high: float
    draws: int


@dataclass(frozen=True)
class LearningCurve:
    """Image AUROC of a detector against the number of good photographs, ascending."""

    detector: str
    points: tuple[Point, ...]

    @property
    def enough(self) -> int:
        """The least number from which on every draw comes near to the last point."""
        goal = self.points[-1].median - NEAR
        short = [number for number, point in enumerate(self.points) if point.low < goal]
        return self.points[min(max(short, default=-1) + 1, len(self.points) - 1)].count

    @property
    def chart(self) -> Mapping[str, Any]:
        """The medians, and the least and largest values; numbers of photographs at equal steps."""
        steps = range(len(self.points))
        values = [[getattr(one, key) for one in self.points] for key in ("median", "low", "high")]
        bottom = min(values[1])
        low = max(0.0, bottom - max(0.1 * (1 - bottom), 0.01))
        series = [(steps, one) for one in values]
        chart = lines(series, (0, max(steps[-1], 1)), (low, 1), (240.0, 150.0))
        left, _, width, _ = chart["plot"]
        places = [left + step * width / max(steps[-1], 1) for step in steps]
        return chart | {
            "x_ticks": [(x, str(one.count)) for x, one in zip(places, self.points, strict=True)]
        }


def read_curves(files: Iterable[Path | str]) -> dict[str, list[LearningCurve]]:
    """Read the curves of all detectors, by category; those without a defective image are left out.

    Parameters
    ----------
    files : ``learning_curve.csv`` of every run that has one.
    """
    found: dict[str, list[LearningCurve]] = defaultdict(list)
    for file in files:
        run, table = RunFolder.of(file), read_table(file)
        measured = table.dropna(subset="image_auroc")
        values = defaultdict(list)
        for count, auroc in zip(*(measured[key].tolist() for key in KEYS), strict=True):
            values[int(count)].append(float(auroc))
        points = tuple(
            Point(count, median(of_count), min(of_count), max(of_count), len(of_count))
            for count, of_count in sorted(values.items())
        )
        if points:
            found[run.category].append(LearningCurve(run.detector, points))
    return found
