"""Compare two results folders: their configurations and their metrics.

``python -m flawline.report.compare_results results/before results/after changes.html``
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from flawline.errors import FlawlineError
from flawline.evaluation.record import RunMetrics
from flawline.evaluation.significance import delong
from flawline.files import read_json, read_table
from flawline.layout import RunFolder
from flawline.metrics import METRICS, Metric
from flawline.report.html import environment
from flawline.report.html import write_page as write_html

HEADLINES = [metric for metric in METRICS if metric.headline]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Setting:
    """A setting that differs; empty for a side that does not have it."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Change:
    """One metric before and after, the median over the seeds; None if not measured."""

    metric: str
    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """The value after minus the value before."""
        if self.before is None or self.after is None:
            return None
        return self.after - self.before


@dataclass(frozen=True)
class Pair:
    """One detector on one category in both results.

    Attributes
    ----------
    p : of DeLong's paired test of the image AUROC of the first common seed; None if the test
        images differ.
    low, high : 95 % interval of the difference in image AUROC.
    """

    protocol: str
    category: str
    detector: str
    changes: tuple[Change, ...]
    p: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Changes:
    """All differences; detectors that only one side has are named with their side."""

    settings: tuple[Setting, ...]
    pairs: tuple[Pair, ...]
    missing: tuple[str, ...]


def compare_results(before: Path, after: Path) -> Changes:
    """Compare two folders ``results/<dataset>``.

    Raises
    ------
    FlawlineError
        If one of them holds no finished results.
    """
    old, new = _runs(before), _runs(after)
    missing = [f"{' / '.join(key)}: only in {before}" for key in old if key not in new]
    missing += [f"{' / '.join(key)}: only in {after}" for key in new if key not in old]
    pairs = [_pair(key, old[key], new[key]) for key in old if key in new]
    return Changes(tuple(_settings(before, after)), tuple(pairs), tuple(missing))


def write_page(path: Path, changes: Changes, before: str, after: str) -> None:
    """Write the comparison as one self-contained HTML file."""
    template = environment().get_template("changes.html.j2")
    titles = [metric.title for metric in HEADLINES]
    write_html(path, template.render(changes=changes, before=before, after=after, titles=titles))


def _runs(folder: Path) -> dict[Key, dict[int, RunFolder]]:
    """Return the runs by protocol, category and detector, then by seed."""
    runs: dict[Key, dict[int, RunFolder]] = {}
    for run in RunFolder.all_in(folder):
        runs.setdefault((run.protocol, run.category, run.detector), {})[run.seed] = run
    if not runs:
        raise FlawlineError(
            f"{folder}: no metrics.json of any detector; expected a folder results/<dataset> of a "
            "finished run"
        )
    return runs


def _pair(key: Key, before: dict[int, RunFolder], after: dict[int, RunFolder]) -> Pair:
    sides = [[RunMetrics.load(run.metrics) for run in runs.values()] for runs in (before, after)]
    changes = tuple(
        Change(metric.title, *(_middle(side, metric) for side in sides)) for metric in HEADLINES
    )
    common = sorted(set(before) & set(after))
    if common:
        tables = [read_table(runs[common[0]].predictions) for runs in (before, after)]
        one, two = (table.sort_values("image_id", ignore_index=True) for table in tables)
        same = one["image_id"].equals(two["image_id"]) and one["label"].equals(two["label"])
        if same and one["label"].value_counts().min() > 1 and one["label"].nunique() == 2:
            test = delong(one["label"].to_numpy(), two["score"].to_numpy(), one["score"].to_numpy())
            return Pair(*key, changes, test.p, test.low, test.high)
    return Pair(*key, changes)


def _middle(runs: list[RunMetrics], metric: Metric) -> float | None:
    values = [value for run in runs if (value := run.value(metric)) is not None]
    return median(values) if values else None


def _settings(before: Path, after: Path) -> Iterator[Setting]:
    name = "comparison/configuration.json"
    old, new = (dict(_flat(read_json(folder / name))) for folder in (before, after))
    for key in sorted(old | new):
        if old.get(key) != new.get(key):
            yield Setting(key, old.get(key, ""), new.get(key, ""))


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, "none" if tree is None else str(tree)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flawline.report.compare_results",
        description="Compare two results folders of flawline in one page.",
    )
    parser.add_argument("before", type=Path, help="a folder results/<dataset>")
    parser.add_argument("after", type=Path, help="another one")
    parser.add_argument("page", type=Path, help="the HTML file to write")
    given = parser.parse_args(arguments)
    try:
        changes = compare_results(given.before, given.after)
        write_page(given.page, changes, str(given.before), str(given.after))
    except (FlawlineError, OSError) as error:
        sys.exit(f"error: {error}")
    print(
        f"{len(changes.settings)} settings differ, {len(changes.pairs)} detectors compared: "
        f"{given.page}"
    )


if __name__ == "__main__":
    main()
