"""Write the page and the figures of the comparison from files of runs."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from os.path import relpath
from pathlib import Path
from typing import Any

import yaml

from flawline.files import replacing
from flawline.layout import synthetic_set
from flawline.options.report import Report
from flawline.provenance import versions
from flawline.report import figures, page
from flawline.report.detector_comparison import compare, cost_figure, rank_figure
from flawline.report.leaderboard import cost_csv, rank
from flawline.report.learning_curves import read_curves
from flawline.report.model import Origin, assemble
from flawline.report.overview import Attention
from flawline.report.runs import comparison_rows, read_run
from flawline.report.stage_graph import graph


def write_report(
    dataset: str,
    configuration: str,
    path: Path | str,
    *,
    metrics: Sequence[Path | str],
    sheets: Sequence[Path | str],
    tables: Mapping[str, Any],
    benchmarks: Path | str,
    curves: Sequence[Path | str] = (),
    critical_difference: Sequence[Path | str] = (),
    accuracy_cost: Sequence[Path | str] = (),
    cost: Path | str | None = None,
    undrawn: Collection[str] = (),
    failures: Sequence[Attention] = (),
) -> None:
    """Write the page, its folder of pages and, if requested, the figures for papers.

    Parameters
    ----------
    configuration : as JSON; its `report` has the limits of the verdicts.
    path : the page.
    metrics : ``metrics.json`` of every run that the page shows.
    sheets : contact sheets of synthetic anomalies.
    tables : files of ``pairwise``, ``wilcoxon``, ``ranks``, ``markdown`` and ``latex`` of the
        comparison.
    benchmarks : folder of Snakemake's benchmark files.
    curves : ``learning_curve.csv`` of the runs that have one.
    critical_difference, accuracy_cost : figures; suffixes choose the format.
    cost : the CSV file of the detectors' costs.
    undrawn : those of `metrics` whose pictures are of an earlier run and are therefore left out.
    failures : what did not run, shown first under what needs attention.
    """
    runs = [
        replace(
            read_run(file, benchmarks, drawn=file not in undrawn),
            figures=""
            if file in undrawn
            else relpath(Path(file).parent / "figures", Path(path).parent),
        )
        for file in metrics
    ]
    newest = max((Path(file).stat().st_mtime for file in metrics), default=0)
    by_category = defaultdict(list)
    for sheet in map(Path, sheets):
        category, name = synthetic_set(sheet)
        by_category[category].append(page.contact_sheet(category, name, sheet))
    ranks, settings = comparison_rows(tables["ranks"]), json.loads(configuration)
    origin = Origin(
        dataset,
        f"{datetime.fromtimestamp(newest, UTC):%Y-%m-%d %H:%M} UTC",
        yaml.safe_dump(settings, default_flow_style=None, width=96),
        versions(),
        graph(benchmarks),
    )
    made = assemble(
        runs,
        origin,
        failures=failures,
        pairs=comparison_rows(tables["pairwise"]),
        comparison=compare(ranks, comparison_rows(tables["wilcoxon"])),
        sheets=by_category,
        learning=read_curves(curves),
        limits=Report(**settings["report"]),
        tables={
            Path(tables[name]).name: Path(tables[name]).read_text(encoding="utf-8")
            for name in ("latex", "markdown")
        },
        kind=settings["dataset"]["kind"],
    )
    page.render(Path(path), made)
    best = "unsupervised" if any(run.protocol == "unsupervised" for run in runs) else "supervised"
    if cost:
        with replacing(cost) as partial:
            partial.write_text(cost_csv(rank(runs)), encoding="utf-8")
    if critical_difference:
        figures.save(rank_figure(ranks, best), *critical_difference)
    if accuracy_cost:
        figures.save(cost_figure(rank(runs), best), *accuracy_cost)
