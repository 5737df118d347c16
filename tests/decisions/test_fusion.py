"""Several detectors as one: its promise under dependence, its scores and maps."""

from pathlib import Path

import numpy as np
import pytest

from flawline.decisions.fusion import (
    fused_scores,
    fused_threshold,
    map_scale,
    write_fused_maps,
)
from flawline.decisions.thresholds import choose_threshold, costs_of
from flawline.files import read_array


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.7, 1.0])
@pytest.mark.parametrize("count", [10, 59])
def test_the_promise_holds_whatever_the_detectors_have_in_common(
    correlation: float, count: int
) -> None:
    rng, alarms, bound, runs = np.random.default_rng(0), 0.0, 1.0, 800
    for _ in range(runs):
        first, other = rng.normal(size=(2, count + 200))
        second = correlation * first + (1 - correlation**2) ** 0.5 * other
        scores = {"a": np.exp(first), "b": 1000 * second}
        known = {name: found[:count] for name, found in scores.items()}
        threshold, scales = fused_threshold(known, 0.1)
        alarms += (fused_scores(scores, scales)[count:] > threshold["value"]).mean() / runs
        bound = threshold["false_alarm_bound"]
    # independent or contrary detectors use up the promise, equal ones half of it
    assert alarms <= bound + 0.015
    assert alarms >= (0.4 if correlation > 0.5 else 0.8) * bound


def test_any_detector_above_its_own_threshold_is_enough() -> None:
    rng = np.random.default_rng(0)
    known = {name: rng.normal(size=60).round(2) for name in "abc"}
    new = {name: rng.normal(size=500).round(2) for name in "abc"}
    threshold, scales = fused_threshold(known, 0.1)
    alone = {n: choose_threshold(known[n], "conformal", alpha=0.1 / 3)["value"] for n in "abc"}
    alarmed = np.any([new[name] > alone[name] for name in "abc"], axis=0)
    assert ((fused_scores(new, scales) > threshold["value"]) == alarmed).all()
    median = {name: np.array([np.median(found)]) for name, found in known.items()}
    assert fused_scores(median, scales) == pytest.approx(-1)


def test_too_few_good_images_are_told_how_many_it_takes() -> None:
    known = {name: np.arange(20.0) for name in "ab"}
    found, scales = fused_threshold(known, 0.05)
    assert found["certified"] is False
    assert found["false_alarm_bound"] == pytest.approx(2 / 21)
    assert found["details"]["needed_n"] == 39
    assert "that takes 39 calibration images" in found["promise"]
    assert scales["a"]["limit"] == 19
    enough, _ = fused_threshold({name: np.arange(39.0) for name in "ab"}, 0.05)
    assert (enough["certified"], enough["false_alarm_bound"]) == (True, pytest.approx(0.05))
    several, _ = fused_threshold(known, 0.2, mode="cross", folds=5)
    assert several["promise"].startswith("Approximately")
    assert several["certified"] is None


def test_good_images_that_all_score_alike_leave_finite_scores() -> None:
    flat = {"a": np.full(30, 2.0), "b": np.full(30, 3.0)}
    _, scales = fused_threshold(flat, 0.2)
    new = {"a": np.array([2.0, 2.5]), "b": np.array([3.0, 3.0])}
    assert fused_scores(new, scales).tolist() == [0, 0.5]


def test_costs_are_those_that_the_category_names() -> None:
    known = {name: np.arange(40.0) for name in "ab"}
    given = {"miss": 3.0, "false_alarm": 2.0, "defect_rate": 0.1}
    assert costs_of(fused_threshold(known, 0.1, **given)[0]) == (given, False)
    assert costs_of(fused_threshold(known, 0.1)[0])[1] is True


def test_maps_show_what_any_detector_sees(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good_images = [(scale * rng.random((40, 8, 8))).astype(np.float16) for scale in (1, 100)]
    scales = [map_scale(one) for one in good_images]
    new = [one[:2].copy() for one in good_images]
    new[0][0, 2, 3], new[1][1, 5, 6] = 3, 300
    write_fused_maps(tmp_path / "maps.npy", new, scales)
    found = read_array(tmp_path / "maps.npy")
    assert (found.shape, found.dtype) == ((2, 8, 8), np.float16)
    assert np.argwhere(found > 1).tolist() == [[0, 2, 3], [1, 5, 6]]
    assert found[0, 2, 3] == pytest.approx(found[1, 5, 6], rel=0.1)
