"""Cross-calibration: every good training image is scored by a model that never saw it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor

from flawline.data.geometry import Geometry
from flawline.data.split import (
    fold_table,
    rows_of,
    rows_outside,
    split_supervised,
    split_unsupervised,
)
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.detectors.registry import method_class
from flawline.detectors.scoring import gather, score_to_files
from flawline.errors import FlawlineError
from flawline.files import read_array, read_table
from flawline.options.detectors import METHODS
from flawline.options.patchcore import PatchCoreOptions

CROSS = {"mode": "cross", "fraction": 0.2, "folds": 3, "seed": 0, "category": "bolt"}


def index(good: int = 11) -> pd.DataFrame:
    kinds = ["good"] * (good + 4) + ["scratch"] * 5
    return pd.DataFrame(
        {
            "split": ["train"] * good + ["test"] * 9,
            "defect_type": kinds,
            "label": [int(kind != "good") for kind in kinds],
        }
    )


def test_every_good_is_trained_on_and_in_one_fold() -> None:
    table = split_unsupervised(index(), **CROSS)
    assert table["subset"].tolist() == ["train"] * 11 + ["test"] * 9
    folds = table["fold"].to_numpy()
    assert np.bincount(folds[:11]).tolist() == [4, 4, 3]
    assert (folds[11:] == -1).all()
    dealt = fold_table(table)
    assert dealt.columns.tolist() == ["row", "fold"]
    parts = [rows_of(dealt, fold) for fold in range(3)]
    assert sorted(np.concatenate(parts)) == list(range(11))
    for fold, rows in enumerate(parts):
        assert sorted([*rows, *rows_outside(dealt, fold)]) == list(range(11))


def test_supervised_folds_hold_good_images_alone_and_every_model_sees_all_defects() -> None:
    table = split_supervised(index(), test_fraction=0.2, test_seed=0, **CROSS)
    train = table[table["subset"] == "train"].reset_index()
    assert "calibration" not in set(table["subset"])
    assert (train.loc[train["label"] == 1, "fold"] == -1).all()
    for fold in range(3):
        assert (train.loc[rows_of(fold_table(table), fold), "label"] == 0).all()
        assert (
            train.loc[rows_outside(fold_table(table), fold), "label"].sum() == train["label"].sum()
        )


def test_fewer_good_images_than_folds_are_refused() -> None:
    with pytest.raises(FlawlineError, match="bolt: 2 good training images cannot be dealt into 3"):
        split_unsupervised(index(2), **CROSS)


def test_scores_of_folds_come_back_in_the_order_of_the_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = Data(Geometry((16, 16)), features=(rng.normal(size=(11, 4, 4, 3)).astype(np.float16),))
    found = PatchCore(PatchCoreOptions(features="x"), 0, torch.device("cpu"))
    found.fit(data)
    score_to_files(found, data, tmp_path / "all.csv", tmp_path / "all.npy")
    table = split_unsupervised(index(), **CROSS)
    files = []
    for fold in range(3):
        files.append((tmp_path / f"{fold}.csv", tmp_path / f"{fold}.npy"))
        score_to_files(found, data, *files[-1], rows_of(fold_table(table), fold))
    scores, maps = zip(*files, strict=True)
    gather(scores, maps, scores=tmp_path / "joined.csv", anomaly_maps=tmp_path / "joined.npy")
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "joined.csv"), read_table(tmp_path / "all.csv"), rtol=1e-5
    )
    np.testing.assert_allclose(
        read_array(tmp_path / "joined.npy"), read_array(tmp_path / "all.npy"), rtol=1e-2
    )


RNG = np.random.default_rng(0)
SHAPE = Geometry((32, 32))
IMAGES = RNG.integers(0, 255, (12, 32, 32, 3), np.uint8)
BUTTONS = np.zeros((12, 32, 32), np.uint8)
BUTTONS[:, 8:24, 8:24] = 1
TRAINED: dict[str, tuple[dict[str, Any], Data]] = {
    "autoencoder": (
        {"network_size": 32, "width": 4, "latent": 2, "epochs": 3, "batch_size": 4},
        Data(SHAPE, images=IMAGES),
    ),
    "ssim_autoencoder": (
        {"network_size": 32, "width": 4, "latent": 2, "epochs": 2, "batch_size": 4},
        Data(SHAPE, images=IMAGES),
    ),
    "fanogan": (
        {"width": 1, "latent": 4, "gan_steps": 5, "encoder_steps": 4, "batch_size": 5},
        Data(SHAPE, images=IMAGES),
    ),
    "featcae": (
        {"features": "x", "latent": 2, "epochs": 2, "batch_size": 20, "calm_border": False},
        Data(SHAPE, features=(RNG.normal(size=(12, 4, 4, 3)).astype(np.float16),)),
    ),
    "metric_learning": (
        {"backbone": "squeezenet1_1", "weights": "none", "network_size": 32, "epochs": 2}
        | {"batch_size": 4},
        Data(SHAPE, images=IMAGES, object_masks=BUTTONS),
    ),
    "cam_classifier": (
        {"backbone": "squeezenet1_1", "weights": "none", "image_size": 32, "epochs": 2}
        | {"batch_size": 4, "stop_accuracy": None},
        Data(SHAPE, images=IMAGES, labels=np.repeat([1, 0], [3, 9])),
    ),
}


def test_every_method_that_takes_steps_is_here() -> None:
    assert METHODS.keys() - TRAINED.keys() == {"patchcore", "subspace", "padim", "anomalib"}


@pytest.mark.parametrize("method", list(TRAINED))
def test_a_fold_s_model_takes_as_many_steps_as_the_final_one(method: str) -> None:
    settings, data = TRAINED[method]

    def steps(seen: Data) -> list[int]:
        found = method_class(method)
        fitted = found(found.Options(method=method, **settings), 0, torch.device("cpu"))
        return [row["steps"] for row in fitted.fit(seen).rows]

    fold = data.take(np.arange(2, 11))
    assert steps(replace(fold, scheduled=len(data))) == steps(data)
    if "epochs" in settings:
        assert steps(fold)[-1] < steps(data)[-1]


class TestLeaveOneOut:
    def test_makes_every_image_or_group_a_fold(self) -> None:
        table = index(5).assign(group=["a", "b", "a", "", ""] + [""] * 9)
        options = CROSS | {"mode": "leave_one_out"}
        dealt = fold_table(split_unsupervised(table, **options))
        assert dealt["fold"].tolist() == [0, 1, 0, 2, 3]
        with pytest.raises(FlawlineError, match="of one group, so none is left"):
            split_unsupervised(table.assign(group="a"), **options)

    @pytest.mark.parametrize("reweight", [False, True])
    @pytest.mark.parametrize("kin", [None, np.array([0, 1, 2, 0, 3, 4])])
    def test_scores_as_a_memory_without_the_image_and_its_kin(
        self, reweight: bool, kin: np.ndarray | None
    ) -> None:
        features = np.random.default_rng(1).normal(size=(6, 4, 4, 3)).astype(np.float16)
        data = Data(Geometry((32, 32)), features=(features,))
        options = PatchCoreOptions(
            features="x", coreset_fraction=1, calm_border=False, reweight=reweight, search="exact"
        )

        def fitted(part: Data) -> PatchCore:
            found = PatchCore(options, 0, torch.device("cpu"))
            found.fit(part)
            return found

        found = fitted(data).score(replace(data, own=np.arange(6), kin=kin)).scores
        units = np.arange(6) if kin is None else kin
        for row in range(6):
            without = fitted(data.take(np.flatnonzero(units != units[row])))
            alone = without.score(data.take(np.array([row]))).scores
            assert found[row] == pytest.approx(alone[0], rel=1e-4)
        assert (found > 0).all()

    @pytest.mark.parametrize("score_by", ["nearest", "local_outlier_factor"])
    def test_of_metric_learning_compares_with_the_other_images(self, score_by: str) -> None:
        settings, data = TRAINED["metric_learning"]
        method = method_class("metric_learning")
        options = method.Options(method="metric_learning", **settings, score_by=score_by)
        found = method(options, 0, torch.device("cpu"))
        found.fit(data)
        own = found.score(replace(data, own=np.arange(12))).scores
        embeddings = found.memory.numpy()
        if score_by == "nearest":
            likeness = embeddings @ embeddings.T - 2 * np.eye(12)
            np.testing.assert_allclose(own, 1 - likeness.max(1), atol=1e-5)
        else:
            factor = LocalOutlierFactor(5).fit(embeddings)
            np.testing.assert_allclose(own, -factor.negative_outlier_factor_, rtol=1e-4)
