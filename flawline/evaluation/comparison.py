"""Tables over categories, detectors and seeds. Protocols are never ranked together."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.evaluation.paper_tables import as_latex, as_markdown, paper_tables
from flawline.evaluation.record import RunMetrics
from flawline.evaluation.significance import (
    categories_needed,
    delong,
    friedman,
    holm,
    wilcoxon,
)
from flawline.files import read_table, replacing, write_table
from flawline.metrics import BY_COLUMN, METRICS

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("protocol", "category", "detector", "method", "seed")
TESTED = ("test_good", "test_defective")
PAIRWISE = (
    "protocol",
    "category",
    "seed",
    "detector_a",
    "detector_b",
    "auroc_a",
    "auroc_b",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
)
SIGNED_RANKS = (
    "protocol",
    "metric",
    "detector_a",
    "detector_b",
    "categories",
    "median_difference",
    "p",
    "p_holm",
    "smallest_p",
    "needed",
)
RANKS = (
    "protocol",
    "metric",
    "detector",
    "mean_rank",
    "categories",
    "detectors",
    "friedman_p",
    "critical_difference",
    "needed",
)


def write_comparison(
    metrics_files: Sequence[Path | str],
    prediction_files: Sequence[Path | str],
    tables: Mapping[str, Path | str],
) -> None:
    """Write all tables of the comparison.

    Parameters
    ----------
    metrics_files, prediction_files : of every run, in one order.
    tables : where to write ``runs``, ``seeds``, ``categories``, ``best``, ``pairwise``,
        ``wilcoxon`` and ``ranks``; for papers, ``markdown`` and ``latex``.
    """
    metrics = [RunMetrics.load(path) for path in metrics_files]
    predictions = [read_table(path) for path in prediction_files]
    runs = run_table(metrics)
    write_table(tables["runs"], runs)
    write_table(tables["seeds"], over_seeds(runs))
    write_table(tables["categories"], over_categories(runs))
    write_table(tables["best"], best_by_category(runs))
    write_table(tables["pairwise"], pairwise(metrics, predictions))
    write_table(tables["wilcoxon"], signed_ranks(runs))
    write_table(tables["ranks"], ranks(runs))
    for_papers = list(paper_tables(runs))
    for name, text in (("markdown", as_markdown(for_papers)), ("latex", as_latex(for_papers))):
        with replacing(tables[name]) as partial:
            partial.write_text(text, encoding="utf-8")


def run_table(metrics: Sequence[RunMetrics]) -> "pd.DataFrame":
    """Return a row per protocol, category, detector and seed.

    Its columns are numbers of test images and, for each metric, its value and the ends of its
    interval, empty where there is none.
    """
    import pandas as pd

    rows = []
    for run in metrics:
        row: dict[str, Any] = {key: getattr(run, key) for key in IDENTITY}
        row |= {key: getattr(run.counts, key) for key in TESTED}
        for metric in METRICS:
            low, high = run.interval(metric) or (None, None)
            row |= {metric.column: run.value(metric)}
            row |= {f"{metric.column}_low": low, f"{metric.column}_high": high}
        rows.append(row)
    keys = ["protocol", "category", "detector", "seed"]
    table = pd.DataFrame(rows).sort_values(keys, ignore_index=True)
    ends = [f"{column}_{end}" for column in BY_COLUMN for end in ("low", "high")]
    return table.astype(dict.fromkeys([*BY_COLUMN, *ends], float))


def over_seeds(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return mean, median, smallest and largest over seeds by protocol, category and detector.

    `low` and `high` are the widest ends of the seeds' intervals.
    """
    keys = ["protocol", "category", "detector", "method"]
    widest = {"low": "min", "high": "max"}
    named = {
        f"{column}_{name}": (column, name)
        for column in BY_COLUMN
        for name in ("mean", "median", "min", "max")
    } | {
        f"{column}_{end}": (f"{column}_{end}", name)
        for column in BY_COLUMN
        for end, name in widest.items()
    }
    order = [
        f"{column}_{name}"
        for column in BY_COLUMN
        for name in ("mean", "median", "min", "max", "low", "high")
    ]
    table = runs.groupby(keys).agg(**named)[order]
    table.insert(0, "seeds", runs.groupby(keys)["seed"].nunique())
    return table.reset_index()


def over_categories(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return mean and median over categories of the means over seeds, by protocol and detector.

    `categories` is the number that were run. Each metric also has the number of categories that it
    could be measured on, over which its mean and median are taken.
    """
    keys = ["protocol", "detector", "method"]
    per_category = runs.groupby([*keys, "category"])[list(BY_COLUMN)].mean()
    table = per_category.groupby(keys).agg(["mean", "median", "count"])
    table = table.rename(columns={"count": "categories"}, level=1)
    table.columns = ["_".join(pair) for pair in table.columns]
    table.insert(0, "categories", per_category.groupby(keys).size())
    return table.reset_index()


def best_by_category(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return the unsupervised detector with the highest mean image AUROC in each category.

    The detector is empty if none could be measured. `detectors` is the number of candidates,
    `test_good` and `test_defective` are numbers of test images.
    """
    import pandas as pd

    rows = []
    for category, of_category in runs[runs["protocol"] == "unsupervised"].groupby("category"):
        means = of_category.groupby("detector")["image_auroc"].mean().dropna()
        best = means.idxmax() if len(means) else ""
        metric = means.max() if len(means) else float("nan")
        rows.append((category, best, metric, len(means), *of_category[list(TESTED)].iloc[0]))
    columns = ["category", "detector", "image_auroc", "detectors", *TESTED]
    return pd.DataFrame(rows, columns=columns)


CHOSEN = "chosen on the test images, so it looks a little better than it is"


def pairwise(
    metrics: Sequence[RunMetrics], predictions: Sequence["pd.DataFrame"]
) -> "pd.DataFrame":
    """Run DeLong's test of every two detectors on the same test images of a category and seed.

    Holm's correction is over the pairs of one protocol, category and seed.

    Parameters
    ----------
    metrics : per run, in the order of `predictions`.
    predictions : per run, columns image_id, label and score.

    Returns
    -------
    Columns `PAIRWISE`; no rows where a class has fewer than two images.
    """
    import pandas as pd

    groups: dict[tuple[str, str, int], dict[str, tuple[float, pd.DataFrame]]] = {}
    for run, table in zip(metrics, predictions, strict=True):
        key = run.protocol, run.category, run.seed
        groups.setdefault(key, {})[run.detector] = run.bootstrap.confidence, table
    rows = []
    for key, detectors in sorted(groups.items()):
        tests = []
        for a, b in combinations(sorted(detectors), 2):
            confidence, table = detectors[a]
            other = detectors[b][1]
            labels = table["label"].to_numpy()
            if not (table["image_id"] == other["image_id"]).all():
                raise ValueError(f"{', '.join(map(str, key))}: {a} and {b} have other test images")
            if min((labels == 0).sum(), (labels == 1).sum()) >= 2:
                result = delong(
                    labels, table["score"].to_numpy(), other["score"].to_numpy(), confidence
                )
                tests.append((a, b, *vars(result).values()))
        adjusted = holm(np.array([test[-1] for test in tests]))
        rows += [(*key, *test, p) for test, p in zip(tests, adjusted, strict=True)]
    return pd.DataFrame(rows, columns=list(PAIRWISE))


def signed_ranks(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Run Wilcoxon's test of every two detectors over categories, on means over seeds.

    Holm's correction is over the pairs of one protocol and metric. `smallest_p` is the least
    corrected p that the categories without ties can give: above 0.05 they are too few to tell
    anything, and it takes `needed` categories.
    """
    import pandas as pd

    rows = []
    for protocol, metric, table in _by_category(runs):
        tests, least = [], []
        for a, b in combinations(table.columns, 2):
            both = table[[a, b]].dropna()
            if len(both):
                x, y = both[a].to_numpy(), both[b].to_numpy()
                tests.append((a, b, len(both), float(np.median(x - y)), wilcoxon(x, y)))
                least.append(min(2.0 ** (1 - np.count_nonzero(x - y)), 1.0))
        adjusted, smallest = holm(np.array([test[-1] for test in tests])), holm(np.array(least))
        rows += [
            (protocol, metric, *test, p, small, categories_needed(len(tests)))
            for test, p, small in zip(tests, adjusted, smallest, strict=True)
        ]
    return pd.DataFrame(rows, columns=list(SIGNED_RANKS))


def ranks(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Return mean ranks over categories with all detectors, and the critical difference.

    `critical_difference` is empty if no two detectors can be separated by their mean ranks. At
    least `needed` categories are necessary to separate any.
    """
    import pandas as pd

    rows = []
    for protocol, metric, table in _by_category(runs):
        complete = table.dropna()
        if len(complete) and len(table.columns) > 1:
            result = friedman(complete.to_numpy())
            statistics = *complete.shape, result.p, result.critical_difference, result.needed
            order = np.argsort(result.mean_ranks, kind="stable")
            rows += [
                (protocol, metric, table.columns[i], result.mean_ranks[i], *statistics)
                for i in order
            ]
    return pd.DataFrame(rows, columns=list(RANKS))


def _by_category(runs: "pd.DataFrame") -> list[tuple[str, str, "pd.DataFrame"]]:
    """Return means over seeds by protocol and metric: a row per category, a column per detector."""
    return [
        (
            str(protocol),
            metric,
            of_protocol.pivot_table(metric, "category", "detector", aggfunc="mean", dropna=False),
        )
        for protocol, of_protocol in runs.groupby("protocol")
        for metric in (one.column for one in METRICS if one.tested)
    ]
