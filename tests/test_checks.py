"""Drift, contamination and near-duplicates: found where they are, and not where they are not."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from flawline.evaluation.checks import (
    border_peaks,
    check,
    contamination,
    drift,
    near_duplicates,
)

RNG = np.random.default_rng(0)
GOODS = RNG.normal(size=60)


def test_goods_that_score_alike_have_not_drifted() -> None:
    found = drift(GOODS[:30], GOODS[30:], GOODS[:30] - 1)
    assert found["drifted"] is False
    assert found["train"]["n"] == 30
    assert found["calibration"]["median"] == pytest.approx(np.median(GOODS[:30]))


@pytest.mark.parametrize(
    ("shift", "scale", "word"), [(2, 1, "higher"), (-2, 1, "lower"), (0, 20, "spread")]
)
def test_drift_is_named_in_words(shift: float, scale: float, word: str) -> None:
    found = drift(GOODS, scale * GOODS + shift, GOODS)
    assert found["drifted"] is True
    assert word in found["verdict"]


def test_drift_is_seldom_seen_where_there_is_none() -> None:
    alarms = 0
    for run in range(200):
        scores = np.random.default_rng(run).normal(size=60)
        alarms += drift(scores[:40], scores[40:], scores)["drifted"]
    assert alarms <= 6


@pytest.mark.parametrize("goods", [0, 3])
def test_a_few_goods_are_not_tested(goods: int) -> None:
    found = drift(GOODS[:30], GOODS[:goods], GOODS)
    assert found["drifted"] is None
    assert "not tested" in found["verdict"]


def names(calibration: int, train: int) -> dict[str, np.ndarray]:
    return {
        "calibration": np.array([f"c{i}" for i in range(calibration)]),
        "train": np.array([f"t{i}" for i in range(train)]),
    }


def test_calibration_images_far_out_point_to_contamination() -> None:
    calibration = np.append(GOODS[:39], 30.0)
    found = contamination(calibration, GOODS, names(40, 60))
    assert found["calibration_outliers"] == [{"image_id": "c39", "score": 30}]
    assert found["rate"] == 1 / 40
    assert found["rate_bound"] == pytest.approx(0.1132, abs=1e-3)
    assert len(found["train_suspects"]) == 10
    assert found["train_suspects"][0]["score"] == GOODS.max()
    assert "1 of 40" in found["verdict"]


def test_without_outliers_the_verdict_bounds_the_rate() -> None:
    found = contamination(GOODS[:30], GOODS, names(30, 60))
    assert found["calibration_outliers"] == []
    # 1 - 0.05^(1/30), the rule of three
    assert "under 10 %" in found["verdict"]


def photographs(count: int, seed: int) -> np.ndarray:
    """The same part photographed anew: alike at a glance, each with its own fine texture."""
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


def test_cross_calibration_scores_are_named_by_their_training_images() -> None:
    split = split_of(["train", "test", "train", "train"], [0, 1, 1, 0])
    scores = {"train": table([1, 2, 3.0]), "calibration": table([1.0] * 2, [0, 2])}
    found = check(split, scores, np.array([1.0]), near_duplicates({}), {})
    assert found["drift"]["calibration"]["n"] == 2
    assert found["near_duplicates"]["verdict"] == "No photograph is in two subsets."


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
