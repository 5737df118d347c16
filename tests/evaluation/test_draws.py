"""Other draws of the calibration images."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from flawline.data.geometry import Geometry
from flawline.data.split import split_unsupervised
from flawline.decisions.thresholds import choose_threshold
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.evaluation.draws import draws
from flawline.options.patchcore import PatchCoreOptions

SPLIT: dict[str, Any] = {"fraction": 0.25, "category": "bolt"}
THRESHOLD = {"rule": "conformal", "alpha": 0.3}


def test_the_draw_of_the_split_s_own_seed_gives_its_threshold_and_figures() -> None:
    kinds = ["good"] * 26 + ["hole"] * 4
    index = pd.DataFrame(
        {
            "split": ["train"] * 20 + ["test"] * 10,
            "defect_type": kinds,
            "label": [int(kind != "good") for kind in kinds],
            "group": ["a", "a"] + [""] * 28,
        }
    )
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4, 4, 3)).astype(np.float16)
    features[26:] += 3
    split = split_unsupervised(index, seed=5, **SPLIT)
    subsets = {
        name: Data(Geometry((32, 32)), features=(features[rows.index],))
        for name, rows in split.groupby("subset")
    }

    def make() -> PatchCore:
        return PatchCore(PatchCoreOptions(features="x", search="exact"), 0, torch.device("cpu"))

    found = draws(
        make,
        subsets["train"],
        subsets["calibration"],
        subsets["test"],
        split,
        seeds=[5, 6, 7],
        threshold=THRESHOLD,
        **SPLIT,
    )
    detector = make()
    detector.fit(subsets["train"])
    value = choose_threshold(detector.score(subsets["calibration"]).scores, **THRESHOLD)["value"]
    above = detector.score(subsets["test"]).scores > value
    assert found["seed"].tolist() == [5, 6, 7]
    np.testing.assert_allclose(found["threshold"][0], value, rtol=1e-5)
    assert found["false_alarm_rate"][0] == above[:6].mean()
    assert found["recall"].tolist() == [1, 1, 1]
    assert found["threshold"].nunique() == 3
