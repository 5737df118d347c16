"""Captions and labels of the figures in Snakemake's own report."""

from typing import Any

from snakemake.io import report

from flawline.layout import Layout


def figure(layout: Layout, file: str, caption: str, label: str) -> Any:
    """Mark a figure of a run."""
    return report(
        f"{layout.detector}/figures/{file}",
        caption=f"captions/{caption}.rst",
        category="{category}",
        subcategory="{detector}",
        labels={"figure": label, "seed": "{seed}"},
    )


def comparison_table(layout: Layout, name: str, label: str) -> Any:
    """Mark a table of the comparison."""
    return report(
        f"{layout.comparison}/{name}.csv",
        caption="captions/comparison.rst",
        category="Comparison",
        labels={"table": label},
    )


def comparison_figure(layout: Layout, name: str, label: str) -> list[Any]:
    """Mark a figure of the comparison, which is there as SVG, PNG and PDF."""
    svg = report(
        f"{layout.comparison}/{name}.svg",
        caption=f"captions/{name}.rst",
        category="Comparison",
        labels={"figure": label},
    )
    return [svg, *(f"{layout.comparison}/{name}.{kind}" for kind in ("png", "pdf"))]
