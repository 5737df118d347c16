"""Checks whether the metrics can be trusted. They do not use labels of defects."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flawline.evaluation.contamination import contamination, highest
from flawline.evaluation.drift import drift
from flawline.evaluation.near_duplicates import describe_duplicates

MAX_SUSPECTS = 10


def check(
    split: pd.DataFrame,
    scores: Mapping[str, pd.DataFrame],
    test_good: np.ndarray,
    pairs: pd.DataFrame,
    border: dict[str, Any],
    *,
    folds: Sequence[np.ndarray] = (),
    left_out: bool = False,
) -> dict[str, Any]:
    """Run all checks of one detector on one category.

    Parameters
    ----------
    split : columns image_id, label, subset.
    scores : columns row, score; key `calibration` and, if training images were scored without what
        was learned of themselves, `train`. If no subset was held back (cross-calibration), the
        rows of `calibration` are training images.
    test_good : float (n,), scores of the good test images.
    pairs : from `near_duplicates`.
    border : from `border_peaks`.
    folds : with cross-calibration, the scores that each fold's model gives to the good test images.
    left_out : whether calibration images were compared with what the memory has of the others.
    """
    of_subset = {
        str(subset): rows.reset_index(drop=True) for subset, rows in split.groupby("subset")
    }
    scores_of_good, names = {}, {}
    for subset, table in scores.items():
        source = of_subset.get(subset, of_subset["train"]).loc[table["row"]]
        # the supervised protocol trains on defects too
        good = source["label"].to_numpy() == 0
        scores_of_good[subset] = table["score"].to_numpy()[good]
        names[subset] = source["image_id"].to_numpy()[good]
    ids = {subset: rows["image_id"].to_numpy() for subset, rows in of_subset.items()}
    own_fold = np.zeros(0, int)
    if folds:
        own_fold = of_subset["train"]["fold"].to_numpy()[scores["calibration"]["row"]]
    compared = [
        (scores_of_good["calibration"][own_fold == fold], of_test)
        for fold, of_test in enumerate(folds)
    ]
    ranked = "train" if "calibration" in of_subset else "calibration"
    return {
        "drift": drift(
            scores_of_good["calibration"],
            test_good,
            scores_of_good.get("train", np.zeros(0)),
            compared,
            left_out,
        ),
        "contamination": contamination(scores_of_good["calibration"], names["calibration"])
        | {
            "train_suspects": highest(scores_of_good[ranked], names[ranked], MAX_SUSPECTS)
            if ranked in scores
            else []
        },
        "near_duplicates": describe_duplicates(pairs, ids),
        "border": border,
    }
