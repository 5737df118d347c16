"""Drift, contamination and near-duplicates: found where they are, and not where they are not."""

import json
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from flawline.data.demo.draw import draw
from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.patchcore import PatchCore
from flawline.evaluation.border import border_peaks
from flawline.evaluation.checks import check
from flawline.evaluation.contamination import contamination, far_out
from flawline.evaluation.drift import drift
from flawline.evaluation.near_duplicates import near_duplicates
from flawline.features.backbones import build_backbone
from flawline.features.extraction import patch_features
from flawline.options.patchcore import PatchCoreOptions

RNG = np.random.default_rng(0)
GOOD = RNG.normal(size=60)


def test_good_images_that_score_alike_have_not_drifted() -> None:
    found = drift(GOOD[:30], GOOD[30:], GOOD[:30] - 1)
    assert found["drifted"] is False
    assert found["train"]["n"] == 30
    assert found["calibration"]["median"] == pytest.approx(np.median(GOOD[:30]))


@pytest.mark.parametrize(
    ("shift", "scale", "word"), [(2, 1, "higher"), (-2, 1, "lower"), (0, 20, "spread")]
)
def test_drift_is_named_in_words(shift: float, scale: float, word: str) -> None:
    found = drift(GOOD, scale * GOOD + shift, GOOD)
    assert found["drifted"] is True
    assert word in found["verdict"]


def test_drift_is_seldom_seen_where_there_is_none() -> None:
    alarms = 0
    for run in range(200):
        scores = np.random.default_rng(run).normal(size=60)
        alarms += drift(scores[:40], scores[40:], scores)["drifted"]
    assert alarms <= 6


@pytest.mark.parametrize("count", [0, 3])
def test_a_few_good_images_are_not_tested(count: int) -> None:
    found = drift(GOOD[:30], GOOD[:count], GOOD)
    assert found["drifted"] is None
    assert "not tested" in found["verdict"]


def of_folds(rng: np.random.Generator, shift: float = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Scores of 60 good images and 20 good test images by five models, each with its own scale."""
    parts = np.split(rng.normal(3, 0.3, 60), 5)
    test = rng.normal(3 + shift, 0.3, 20)
    scales = rng.lognormal(0, 0.2, 5)
    return [(scale * part, scale * test) for scale, part in zip(scales, parts, strict=True)]


def drift_of(folds: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    # the model in use has learned all good images: it scores them lower
    return drift(np.concatenate([own for own, _ in folds]), folds[0][1] / 2, GOOD, folds)


def test_where_images_are_left_out_only_higher_scores_are_drift() -> None:
    shifts = {-1: False, 0: False, 1: True}
    for shift, drifted in shifts.items():
        found = drift(GOOD[:30], GOOD[30:] + 1.5 * shift, GOOD, higher_only=True)
        assert found["drifted"] is drifted
        assert ("No drift seen" in found["verdict"]) is not drifted


def test_drift_by_folds_is_seldom_seen_where_there_is_none() -> None:
    alarms = sum(drift_of(of_folds(np.random.default_rng(run)))["drifted"] for run in range(400))
    assert alarms <= 8


def test_drift_by_folds_is_seen_where_there_is_some() -> None:
    rng = np.random.default_rng(0)
    seen = [drift_of(of_folds(rng, shift)) for shift in (-0.5, 0.5)]
    assert [found["drifted"] for found in seen] == [True, True]
    assert "lower" in seen[0]["verdict"]
    assert "higher" in seen[1]["verdict"]
    none = drift_of(of_folds(rng))
    assert none["verdict"].startswith("No drift seen")


@pytest.mark.parametrize("n", [12, 42, 209])
@pytest.mark.parametrize("kind", ["gumbel", "lognormal", "normal"])
def test_clean_good_images_are_seldom_far_out(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    samples = {
        "gumbel": rng.gumbel(size=(100, n)),
        "lognormal": rng.lognormal(0, 0.5, (100, n)),
        "normal": rng.normal(10, 1, (100, n)),
    }[kind]
    assert sum(scores.max() > far_out(scores) for scores in samples) <= 9


def test_calibration_images_far_out_point_to_contamination() -> None:
    calibration = np.append(GOOD[:39], 30.0)
    found = contamination(calibration, np.array([f"c{i}" for i in range(40)]))
    assert found["calibration_outliers"] == [{"image_id": "c39", "score": 30}]
    assert found["rate"] == 1 / 40
    assert found["rate_bound"] == pytest.approx(0.1132, abs=1e-3)
    assert "1 of 40" in found["verdict"]
    assert "nothing else" in found["verdict"]


def test_without_outliers_the_verdict_bounds_the_rate() -> None:
    found = contamination(GOOD[:30], np.arange(30))
    assert found["calibration_outliers"] == []
    # 1 - 0.05^(1/30), the rule of three
    assert "under 10 %" in found["verdict"]


def photographs(count: int, seed: int) -> np.ndarray:
    """The same part photographed again: alike at a glance, each with its own fine texture."""
    rng = np.random.default_rng(seed)
    part = np.zeros((192, 192, 3), np.float32) + 200
    cv2.circle(part, (96, 96), 60, (90, 100, 110), -1)
    texture = [cv2.GaussianBlur(rng.normal(size=(192, 192)), (0, 0), 4) for _ in range(count)]
    return np.stack([np.clip(part + 120 * t[..., None], 0, 255) for t in texture]).astype(np.uint8)


def test_photographs_of_the_same_product_are_not_duplicates() -> None:
    images = {"train": photographs(20, 1), "test": photographs(20, 2)}
    assert len(near_duplicates(images)) == 0


def test_recompressed_and_resized_copies_are_found() -> None:
    train, test = photographs(20, 1), photographs(20, 2)
    code = cv2.imencode(".jpg", train[3], [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
    test[5] = cv2.imdecode(code, cv2.IMREAD_COLOR)
    larger = cv2.resize(train[4], (240, 240))
    test[7] = cv2.resize(larger, (192, 192), interpolation=cv2.INTER_AREA)
    test[9] = train[6]
    found = near_duplicates({"train": train, "calibration": photographs(2, 3), "test": test})
    pairs = set(
        found[["subset_a", "row_a", "subset_b", "row_b"]].itertuples(index=False, name=None)
    )
    assert pairs == {("train", 3, "test", 5), ("train", 4, "test", 7), ("train", 6, "test", 9)}
    assert (found["difference"].iloc[0], found["row_a"].iloc[0]) == (0, 6)


def test_copies_within_a_subset_are_not_reported() -> None:
    train = photographs(4, 1)
    train[1] = train[0]
    assert len(near_duplicates({"train": train, "test": photographs(4, 2)})) == 0


def split_of(subsets: list[str], labels: list[int]) -> pd.DataFrame:
    ids = [f"image{i}" for i in range(len(subsets))]
    return pd.DataFrame({"image_id": ids, "subset": subsets, "label": labels})


def table(scores: list[float], rows: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"row": rows or range(len(scores)), "score": scores})


def test_all_checks_name_images_and_are_valid_json() -> None:
    split = split_of(["train", "test", "calibration", "train", "train"], [0, 1, 0, 0, 1])
    scores = {"train": table([1, 5, 9.0]), "calibration": table([2.0])}
    row = ("train", 1, "test", 0, 0.5)
    pairs = pd.DataFrame([row], columns=["subset_a", "row_a", "subset_b", "row_b", "difference"])
    found = check(split, scores, np.array([1.0]), pairs, {})
    # the third training image is a defect, of which the supervised protocol has some
    suspects = [suspect["image_id"] for suspect in found["contamination"]["train_suspects"]]
    assert suspects == ["image3", "image0"]
    assert found["near_duplicates"]["count"] == 1
    assert found["near_duplicates"]["pairs"][0]["image_id_a"] == "image3"
    assert found["near_duplicates"]["pairs"][0]["image_id_b"] == "image1"
    json.dumps(found, allow_nan=False)
    # without scores of training images there is no order among them
    found = check(split, {"calibration": scores["calibration"]}, np.array([1.0]), pairs, {})
    assert found["contamination"]["train_suspects"] == []
    assert found["drift"]["train"] is None


def test_cross_calibration_scores_are_named_by_their_training_images() -> None:
    split = split_of(["train", "test", "train", "train"], [0, 1, 1, 0])
    scores = {"calibration": table([1.0, 2.0], [0, 2])}
    found = check(split, scores, np.array([1.0]), near_duplicates({}), {})
    assert found["drift"]["calibration"]["n"] == 2
    suspects = [suspect["image_id"] for suspect in found["contamination"]["train_suspects"]]
    assert suspects == ["image3", "image0"]
    assert found["near_duplicates"]["verdict"] == "No photograph is in two subsets."


def test_cross_calibration_compares_the_scores_of_one_model() -> None:
    count, rng = 40, np.random.default_rng(0)
    split = split_of(["train"] * count, [0] * count).assign(fold=np.arange(count) % 2)
    parts, test = rng.normal(10, 1, count), rng.normal(10, 1, 20)
    # the second fold's model has twice the first one's scale, the model in use half of it
    calibration = table((parts * np.where(np.arange(count) % 2, 2, 1)).tolist())
    scores = {"train": table((parts / 2).tolist()), "calibration": calibration}
    duplicates = near_duplicates({})
    found = check(split, scores, test / 2, duplicates, {}, folds=[test, 2 * test])
    assert found["drift"]["drifted"] is False
    found = check(split, scores, test / 2, duplicates, {}, folds=[test + 2, 2 * test + 4])
    assert found["drift"]["drifted"] is True


@pytest.mark.parametrize("fraction", [0.02, 0.1])
def test_planted_defects_are_the_training_images_least_like_the_others(fraction: float) -> None:
    planted = [0, 1, 2]
    kinds = ["contamination" if i in planted else "good" for i in range(30)]
    drawn = [draw("mesh", "train", kind, i, size=96, seed=1).image for i, kind in enumerate(kinds)]
    network = build_backbone("gabor", "default", ["fine", "medium"])
    settings = {"pool": 1, "normalize": False, "precision": "float32"}
    features = patch_features(network, np.stack(drawn), **settings).numpy()
    data = Data(Geometry(drawn[0].shape[:2]), features=(features,))
    found = PatchCore(
        PatchCoreOptions(features="gabor", coreset_fraction=fraction), 0, torch.device("cpu")
    )
    found.fit(data)
    learned = found.score(data).scores  # ranks them anywhere: the memory takes them first of all
    assert set(np.argsort(-learned)[:3]) != set(planted)
    scores = {
        "train": table(found.score(replace(data, own=np.arange(30))).scores.tolist()),
        "calibration": table([1.0] * 8),
    }
    split = split_of(["train"] * 30 + ["calibration"] * 8, [0] * 38)
    checks = check(split, scores, np.zeros(0), near_duplicates({}), {})
    first = checks["contamination"]["train_suspects"][: len(planted)]
    assert {suspect["image_id"] for suspect in first} == {f"image{i}" for i in planted}


class TestBorderPeaks:
    def maps(self, places: list[tuple[int, int]]) -> np.ndarray:
        maps = np.random.default_rng(0).random((len(places), 64, 96)).astype(np.float16)
        for one, place in zip(maps, places, strict=True):
            one[place] = 5
        return maps

    def test_that_gather_are_reported_with_their_number(self) -> None:
        found = border_peaks(self.maps([(0, 50)] * 14 + [(30, 95)] * 4 + [(30, 40)] * 2))
        assert (found["count"], found["n"], found["gather"]) == (18, 20, True)
        assert "peak at the border in 18 of 20 images" in found["verdict"]

    def test_that_lie_anywhere_are_not(self) -> None:
        rng = np.random.default_rng(1)
        places = [(int(rng.integers(64)), int(rng.integers(96))) for _ in range(60)]
        found = border_peaks(self.maps(places))
        assert not found["gather"]
        assert found["count"] / 60 == pytest.approx(found["share"], abs=0.15)

    def test_are_looked_for_at_the_border_of_what_counts(self) -> None:
        counted = np.zeros((10, 64, 96), np.uint8)
        counted[:, :, 30:66] = 1
        assert border_peaks(self.maps([(20, 31)] * 10), counted)["gather"]
        assert border_peaks(self.maps([(32, 48)] * 10), counted)["count"] == 0
        assert border_peaks(self.maps([(20, 31)] * 10))["count"] == 0

    def test_of_few_images_say_nothing(self) -> None:
        found = border_peaks(self.maps([(0, 0)] * 3))
        assert found["gather"] is None
        assert "not tested" in found["verdict"]
