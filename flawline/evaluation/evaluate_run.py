"""Evaluate one trained detector from the files of its run."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flawline.data.problems import left_out
from flawline.decisions.thresholds import costs_of
from flawline.evaluation.border import border_peaks
from flawline.evaluation.checks import check
from flawline.evaluation.evaluate import evaluate
from flawline.evaluation.image_metrics import decision_metrics
from flawline.evaluation.record import RunMetrics
from flawline.files import read_array, read_if_given, read_json, read_table


def evaluate_run(
    files: Mapping[str, Any],
    *,
    category: str,
    protocol: str,
    detector: str,
    seed: int,
    method: str,
    boundary: float | None,
    options: Mapping[str, Any],
) -> tuple[RunMetrics, dict[str, pd.DataFrame]]:
    """Measure a detector on the test subset.

    Parameters
    ----------
    files : paths by name, as the rule `evaluate` lists its inputs.
    method : of the detector.
    boundary : the method's own decision boundary, if it has one.
    options : `resamples` and `confidence` of the intervals.

    Returns
    -------
    The metrics, and tables that name images: `predictions`, a row per test image with its label,
    score and decision; `scores`, a row per scored image of all subsets.
    """
    labels = read_table(files["labels"])
    scores = read_table(files["scores"])["score"].to_numpy()
    split = read_table(files["split"])
    subsets = ("train", "calibration") if files["train"] else ("calibration",)
    scored = {subset: read_table(files[subset]) for subset in subsets}
    threshold = read_json(files["threshold"])
    maps, counted = read_array(files["maps"]), read_if_given(files["counted"])
    good = labels["label"].to_numpy() == 0
    costs, assumed = costs_of(threshold)
    metrics = evaluate(
        labels,
        scores,
        threshold["value"],
        maps,
        read_array(files["masks"]),
        counted=counted,
        costs=costs,
        left_out=left_out(read_table(files["problems"]), "test"),
        seed=seed,
        category=category,
        **options,
    )
    if metrics["risk"]:
        metrics["risk"]["assumed"] = assumed
    if boundary is not None:
        above = scores > boundary
        metrics["at_boundary"] = decision_metrics(labels["label"].to_numpy(), above)
    in_training = int((split["subset"] == "train").sum())
    metrics["counts"] |= {"calibration": len(scored["calibration"]), "train": in_training}
    metrics["checks"] = check(
        split,
        scored,
        scores[good],
        read_table(files["near_duplicates"]),
        border_peaks(maps[good], None if counted is None else counted[good]),
        left_out=threshold["mode"] == "leave_one_out",
        folds=[read_table(path)["score"].to_numpy() for path in files["folds"]],
    )
    metrics |= {"category": category, "protocol": protocol, "detector": detector}
    metrics |= {"seed": seed, "method": method, "threshold": threshold}
    if files["draws"]:
        draws = read_table(files["draws"]).astype(object)
        metrics["draws"] = draws.where(draws.notna(), None).to_dict("records")
    metrics["provenance"] = read_json(files["model"])["provenance"]
    tables = {
        "predictions": decided(labels.assign(score=scores), threshold["value"]),
        "scores": decided(
            named_scores(split, scored | {"test": labels.assign(score=scores)}),
            threshold["value"],
        ),
    }
    return RunMetrics.model_validate(metrics), tables


def decided(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Add the threshold and the decision of each score in words."""
    called = np.where(table["score"] > threshold, "defective", "good")
    return table.assign(threshold=threshold, decision=called)


def named_scores(split: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Name the images of tables of scores: image_id, subset, score.

    Parameters
    ----------
    split : columns image_id, subset, in the order of the arrays.
    tables : columns row, score, by subset. Without a calibration subset, its rows are those of
        `train`, each scored by a model that did not learn from it.
    """
    ids = {subset: rows["image_id"].to_numpy() for subset, rows in split.groupby("subset")}
    parts = []
    for subset, table in tables.items():
        names = ids.get(subset, ids.get("train", np.zeros(0, object)))[table["row"].to_numpy(int)]
        parts.append(pd.DataFrame({"image_id": names, "subset": subset, "score": table["score"]}))
    return pd.concat(parts, ignore_index=True)
