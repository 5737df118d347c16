"""The tables that name images, written when all decisions are made."""

import pandas as pd

from flawline.evaluation.evaluate_run import decided, named_scores


def scored(**rows: float) -> pd.DataFrame:
    numbers = [int(name.removeprefix("r")) for name in rows]
    return pd.DataFrame({"row": numbers, "score": list(rows.values())})


def test_scores_have_the_names_of_their_images() -> None:
    names = ["t0", "c0", "t1", "x0"]
    subsets = ["train", "calibration", "train", "test"]
    split = pd.DataFrame({"image_id": names, "subset": subsets})
    tables = {"train": scored(r0=1, r1=2), "calibration": scored(r0=3), "test": scored(r0=4)}
    found = named_scores(split, tables)
    assert found.to_numpy().tolist() == [
        ["t0", "train", 1],
        ["t1", "train", 2],
        ["c0", "calibration", 3],
        ["x0", "test", 4],
    ]


def test_without_a_calibration_subset_its_scores_are_of_training_images() -> None:
    split = pd.DataFrame({"image_id": ["a", "b", "c"], "subset": "train"})
    none = pd.DataFrame({"row": [], "score": []})
    found = named_scores(split, {"calibration": scored(r0=1, r2=2), "test": none})
    assert found["image_id"].tolist() == ["a", "c"]


def test_decisions_are_words_and_equality_is_good() -> None:
    found = decided(scored(r0=0.5, r1=0.6), 0.5)
    assert found["decision"].tolist() == ["good", "defective"]
    assert found["threshold"].tolist() == [0.5, 0.5]
