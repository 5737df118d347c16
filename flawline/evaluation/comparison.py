"""Tables over categories, detectors and seeds."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FIGURES = {
    "image_auroc": ("image", "auroc"),
    "image_average_precision": ("image", "average_precision"),
    "pixel_auroc": ("pixel", "auroc"),
    "accuracy": ("at_threshold", "accuracy"),
    "balanced_accuracy": ("at_threshold", "balanced_accuracy"),
    "precision": ("at_threshold", "precision"),
    "recall": ("at_threshold", "recall"),
    "f1": ("at_threshold", "f1"),
    "false_alarm_rate": ("at_threshold", "false_alarm_rate"),
}


def run_table(metrics: list[dict[str, Any]]) -> "pd.DataFrame":
    """One row per protocol, category, detector and seed; one column per figure."""
    import pandas as pd

    rows = []
    for run in metrics:
        row = {key: run[key] for key in ("protocol", "category", "detector", "method", "seed")}
        for name, (part, key) in FIGURES.items():
            row[name] = (run[part] or {}).get(key)
        rows.append(row)
    keys = ["protocol", "category", "detector", "seed"]
    table = pd.DataFrame(rows).sort_values(keys, ignore_index=True)
    return table.astype(dict.fromkeys(FIGURES, float))


def over_seeds(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Mean, median, smallest and largest over seeds, per protocol, category and detector."""
    keys = ["protocol", "category", "detector", "method"]
    table = runs.groupby(keys)[list(FIGURES)].agg(["mean", "median", "min", "max"])
    table.columns = ["_".join(pair) for pair in table.columns]
    table.insert(0, "seeds", runs.groupby(keys)["seed"].nunique())
    return table.reset_index()


def over_categories(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Mean and median over categories of the means over seeds, per protocol and detector."""
    keys = ["protocol", "detector", "method"]
    per_category = runs.groupby([*keys, "category"])[list(FIGURES)].mean()
    table = per_category.groupby(keys).agg(["mean", "median"])
    table.columns = ["_".join(pair) for pair in table.columns]
    table.insert(0, "categories", per_category.groupby(keys).size())
    return table.reset_index()


def best_by_category(runs: "pd.DataFrame") -> "pd.DataFrame":
    """The unsupervised detector with the highest mean image AUROC in each category.

    Categories where no detector could be measured have an empty detector.
    """
    import pandas as pd

    rows = []
    for category, found in runs[runs["protocol"] == "unsupervised"].groupby("category"):
        means = found.groupby("detector")["image_auroc"].mean().dropna()
        best = means.idxmax() if len(means) else ""
        rows.append((category, best, means.max() if len(means) else float("nan")))
    return pd.DataFrame(rows, columns=["category", "detector", "image_auroc"])
