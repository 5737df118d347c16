"""Tables for a paper: categories by detectors, as Markdown and as LaTeX."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flawline.metrics import METRICS, Metric

if TYPE_CHECKING:
    import pandas as pd

MEAN = "mean of the categories"
BOLD = {"markdown": "**{}**", "latex": r"\textbf{{{}}}"}
SPREAD = {"markdown": " ± ", "latex": r" $\pm$ "}


@dataclass(frozen=True)
class PaperTable:
    """One metric of one protocol.

    Attributes
    ----------
    seeds : the largest number of seeds of a detector.
    mean : over seeds, a row for each category and, if there are several, one for their mean; a
        column for each detector. NaN where it was not measured.
    deviation : standard deviation over seeds (n - 1), NaN for one seed.
    """

    protocol: str
    metric: Metric
    seeds: int
    mean: "pd.DataFrame"
    deviation: "pd.DataFrame"

    @property
    def caption(self) -> str:
        """What the table shows, in a sentence."""
        spread = f" Mean ± standard deviation over {self.seeds} seeds." if self.seeds > 1 else ""
        way = "best" if self.metric.higher else "lowest"
        bold = f" The {way} of each row is bold." if len(self.mean.columns) > 1 else ""
        kind = "" if self.protocol == "unsupervised" else f" of {self.protocol} detectors"
        return f"{self.metric.title}{kind}.{spread}{bold}"

    def cells(self, form: str) -> "pd.DataFrame":
        """Return the table as text, in one of the forms of `BOLD`."""
        import pandas as pd

        means, spreads = self.mean.to_numpy(float), self.deviation.to_numpy(float)
        rounded = means.round(3)
        rows = []
        for values, of_row, shown in zip(means, spreads, rounded, strict=True):
            known = shown[~np.isnan(shown)]
            best = (known.max() if self.metric.higher else known.min()) if len(known) else None
            texts = ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
            if len(values) > 1:
                texts = [
                    BOLD[form].format(text) if value == best else text
                    for text, value in zip(texts, shown, strict=True)
                ]
            ends = ["" if np.isnan(one) else f"{SPREAD[form]}{one:.3f}" for one in of_row]
            rows.append([text + end for text, end in zip(texts, ends, strict=True)])
        return pd.DataFrame(rows, index=self.mean.index, columns=self.mean.columns)


def paper_tables(runs: "pd.DataFrame") -> Iterator[PaperTable]:
    """Yield a table for each protocol and metric, of those that are tested or a headline.

    Parameters
    ----------
    runs : from `comparison.run_table`.
    """
    for protocol, of_protocol in runs.groupby("protocol", sort=False):
        for metric in METRICS:
            if not (metric.tested or metric.headline) or of_protocol[metric.column].isna().all():
                continue
            mean, deviation = (
                of_protocol.pivot_table(metric.column, "category", "detector", aggfunc=name)
                for name in ("mean", "std")
            )
            if len(mean) > 1:
                by_seed = of_protocol.pivot_table(metric.column, "seed", "detector")
                # over fewer categories, a mean cannot be compared
                mean.loc[MEAN] = mean.dropna(how="all").mean(skipna=False)
                deviation.loc[MEAN] = by_seed.std()
            columns = list(dict.fromkeys(of_protocol["detector"]))
            seeds = int(of_protocol.groupby(["category", "detector"])["seed"].nunique().max())
            yield PaperTable(
                str(protocol),
                metric,
                seeds,
                mean.reindex(columns=columns),
                deviation.reindex(index=mean.index, columns=columns),
            )


def as_markdown(tables: Sequence[PaperTable]) -> str:
    """Return the tables as GitHub's Markdown."""
    parts = []
    for table in tables:
        cells = table.cells("markdown")
        names = [str(name).replace("|", r"\|") for name in cells.columns]
        lines = [
            f"| category | {' | '.join(names)} |",
            f"|---|{'---:|' * len(names)}",
            *(
                f"| {str(row).replace('|', chr(92) + '|')} | {' | '.join(cells.loc[row])} |"
                for row in cells.index
            ),
        ]
        parts.append("\n".join([table.caption, "", *lines]))
    return "\n\n".join(parts) + "\n"


def as_latex(tables: Sequence[PaperTable]) -> str:
    """Return the tables as LaTeX, which needs the package booktabs."""
    parts = []
    for table in tables:
        cells = table.cells("latex")
        styler = cells.style.format_index(escape="latex", axis=0)
        text = styler.format_index(escape="latex", axis=1).to_latex(
            hrules=True,
            column_format="l" + "r" * len(cells.columns),
            caption=table.caption.replace("±", r"$\pm$").replace("%", r"\%"),
            label=f"tab:{table.protocol}-{table.metric.column}",
            position_float="centering",
        )
        lines = text.splitlines()
        if MEAN in cells.index:
            lines.insert(lines.index(r"\bottomrule") - 1, r"\midrule")
        parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"
