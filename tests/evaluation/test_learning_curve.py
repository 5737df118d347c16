"""Metrics of detectors that learned from few good images."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.detectors.subspace import Subspace
from flawline.evaluation.learning_curve import COLUMNS, learning_curve
from flawline.files import write_table
from flawline.options.learning_curve import LearningCurve
from flawline.options.patchcore import PatchCoreOptions
from flawline.options.subspace import SubspaceOptions
from flawline.report.learning_curves import read_curves

RNG = np.random.default_rng(0)
# good images are of twelve kinds, so that a few do not show all
KINDS = 3 * RNG.normal(size=(12, 8))


def images(count: int) -> np.ndarray:
    kinds = KINDS[RNG.integers(12, size=count)][:, None, None]
    return (kinds + 0.1 * RNG.normal(size=(count, 4, 4, 8))).astype(np.float16)


GOOD, TEST = images(24), images(30)
LABELS = np.repeat([0, 1], 15)
MASKS = np.zeros((30, 32, 32), np.uint8)
TEST[15:, 1, 2] += 2
MASKS[15:, 8:16, 16:24] = 1


def patchcore() -> PatchCore:
    return PatchCore(PatchCoreOptions(features="x", coreset_fraction=1), 0, torch.device("cpu"))


def curve(make: Any = patchcore, labels: np.ndarray = LABELS, **settings: Any) -> pd.DataFrame:
    good, test = (Data(Geometry((32, 32)), features=(one,)) for one in (GOOD, TEST))
    given = {"train_images": [1, 8, "all"], "draws": 3, "category": "bolt"} | settings
    return learning_curve(make, good, test, labels, MASKS, **given)


def test_more_images_are_better_and_all_of_them_are_drawn_once() -> None:
    found = curve()
    assert list(found.columns) == COLUMNS
    assert found.groupby("train_images")["draw"].apply(list).to_dict() == {
        1: [0, 1, 2],
        8: [0, 1, 2],
        24: [0],
    }
    medians = found.groupby("train_images")["image_auroc"].median()
    assert medians[1] < medians[8] < medians[24]
    assert found["pixel_auroc"].between(0, 1).all()
    assert found["pixel_aupro_30"].between(0, 1).all()


def test_all_images_give_the_metric_of_a_detector_that_learned_from_all() -> None:
    found = curve(train_images=["all"])
    detector = patchcore()
    detector.fit(Data(Geometry((32, 32)), features=(GOOD,)))
    scores = detector.score(Data(Geometry((32, 32)), features=(TEST,))).scores
    assert found["image_auroc"].tolist() == [roc_auc_score(LABELS, scores)]


def test_draws_are_the_same_every_time() -> None:
    pd.testing.assert_frame_equal(curve(draws=2), curve(draws=2))


def test_more_than_there_are_means_all() -> None:
    assert curve(train_images=[24, 100, "all"])["train_images"].tolist() == [24]


def test_a_single_image_is_enough_to_be_measured() -> None:
    def subspace() -> Subspace:
        return Subspace(SubspaceOptions(features="x"), 0, torch.device("cpu"))

    assert curve(subspace, train_images=[1])["image_auroc"].between(0, 1).all()


def test_without_defective_images_nothing_is_trained_and_the_report_shows_no_curve(
    tmp_path: Path,
) -> None:
    def never() -> PatchCore:
        raise AssertionError("was trained")

    found = curve(never, labels=np.zeros(30, int))
    assert list(found.columns) == COLUMNS
    assert found.empty
    file = tmp_path / "results/d/bolt/unsupervised/detectors/pc/seed0/learning_curve.csv"
    write_table(file, found)
    assert read_curves([file]) == {}


def test_the_report_says_how_many_are_enough(tmp_path: Path) -> None:
    def said(values: list[list[float]]) -> int:
        rows = [
            (count, draw, value, 1.0, None, None)
            for count, of_count in zip([1, 4, 16], values, strict=True)
            for draw, value in enumerate(of_count)
        ]
        file = tmp_path / "results/d/bolt/unsupervised/detectors/pc/seed0/learning_curve.csv"
        write_table(file, pd.DataFrame(rows, columns=COLUMNS))
        (found,) = read_curves([file])["bolt"]
        assert len(found.chart["x_ticks"]) == 3
        return found.enough

    assert said([[0.7, 0.9], [0.96, 0.955], [0.96]]) == 4
    assert said([[0.96, 0.96], [0.8, 0.96], [0.96]]) == 16
    assert said([[0.96, 0.97], [0.96, 0.96], [0.96]]) == 1


@pytest.mark.parametrize("wrong", [[2, 2], [0], ["half"]])
def test_wrong_numbers_are_refused(wrong: list[Any]) -> None:
    with pytest.raises(ValidationError):
        LearningCurve.model_validate({"train_images": wrong})


def test_numbers_are_put_in_order() -> None:
    assert LearningCurve(train_images=["all", 8, 1]).train_images == [1, 8, "all"]
