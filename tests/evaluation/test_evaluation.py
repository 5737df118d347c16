"""Metrics against their definitions and against scikit-learn."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_run
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from flawline.decisions.thresholds import choose_threshold, images_needed
from flawline.evaluation.comparison import (
    best_by_category,
    over_categories,
    over_seeds,
    pairwise,
    ranks,
    run_table,
    signed_ranks,
)
from flawline.evaluation.curves import log_area, overlap_area
from flawline.evaluation.evaluate import evaluate, missing_in_words
from flawline.evaluation.image_metrics import (
    DECISION,
    RANKING,
    decision_metrics,
    oracle_f1,
    ranking_metrics,
    risk_curve,
)
from flawline.evaluation.paper_tables import PaperTable, as_latex, as_markdown, paper_tables
from flawline.evaluation.pixel_metrics import (
    PixelCounts,
    bin_edges,
    count_pixels,
    pixel_metrics,
    total,
    value_of,
)
from flawline.evaluation.record import RunMetrics

two_classes = st.lists(
    st.tuples(st.booleans(), st.floats(-100, 100, width=16)), min_size=2, max_size=60
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


def test_recall_at_a_false_alarm_rate_is_that_of_a_threshold_which_keeps_the_rate() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [59, 30])
    scores = rng.integers(0, 40, 89) + 10 * labels  # with ties
    found = ranking_metrics(labels, scores)
    limit = choose_threshold(scores[labels == 0], "conformal", alpha=0.05)["value"]
    assert found["tpr_at_5_fpr"] == (scores[labels == 1] > limit).mean()
    assert 0 < found["tpr_at_5_fpr"] < 1
    assert found["tpr_at_1_fpr"] is None
    for good in (18, 19):
        known = ranking_metrics(labels[59 - good :], scores[59 - good :])["tpr_at_5_fpr"]
        assert (known is None) == (good < images_needed(0.05))


@given(two_classes)
def test_image_figures_equal_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels = np.array([int(label) for label, _ in pairs])
    scores = np.array([score for _, score in pairs])
    ranking = ranking_metrics(labels, scores)
    assert ranking["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)
    assert ranking["average_precision"] == pytest.approx(
        sk.average_precision_score(labels, scores), abs=1e-9
    )
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    lowest = fpr[np.argmax(tpr >= 0.95)]
    assert ranking["fpr_at_95_tpr"] == pytest.approx(lowest, abs=1e-9)
    f1, threshold = oracle_f1(labels, scores)
    precision, recall, _ = sk.precision_recall_curve(labels, scores)
    both = np.maximum(precision + recall, 1e-12)
    assert f1 == pytest.approx((2 * precision * recall / both).max(), abs=1e-9)
    assert f1 == pytest.approx(sk.f1_score(labels, scores > threshold), abs=1e-9)
    called = scores > np.median(scores)
    found = decision_metrics(labels, called)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, called), abs=1e-9)
    assert found["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(labels, called), abs=1e-9
    )
    assert found["recall"] == pytest.approx(sk.recall_score(labels, called), abs=1e-9)
    assert found["f1"] == pytest.approx(sk.f1_score(labels, called), abs=1e-9)
    if called.any():
        assert found["precision"] == pytest.approx(sk.precision_score(labels, called), abs=1e-9)
    else:
        assert found["precision"] is None
    negatives = [found["true_negative"], found["false_positive"]]
    positives = [found["false_negative"], found["true_positive"]]
    assert [negatives, positives] == sk.confusion_matrix(labels, called).tolist()


def slow_curve(
    maps: np.ndarray, masks: np.ndarray
) -> tuple[list[float], list[list[float]], list[list[float]], list[float]]:
    """Rates at every threshold, the highest first, straight from the definitions.

    Returns
    -------
    FPR of all normal pixels; overlap of every region; recall of every mask; FPR of good images.
    """
    regions = []
    for row, mask in enumerate(masks):
        left = {tuple(place) for place in np.argwhere(mask)}
        while left:
            region, queue = set(), [left.pop()]
            while queue:
                y, x = queue.pop()
                region.add((y, x))
                near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
                left -= near
                queue += near
            regions.append((row, np.array(sorted(region))))
    good = [row for row in range(len(masks)) if not masks[row].any()]
    bad = [row for row in range(len(masks)) if masks[row].any()]
    fpr, overlaps, recalls, good_fpr = [0.0], [[0.0] * len(regions)], [[0.0] * len(bad)], [0.0]
    for threshold in np.unique(maps)[::-1]:
        called = maps >= threshold
        fpr.append(float(called[masks == 0].mean()))
        overlaps.append([float(called[row][tuple(r.T)].mean()) for row, r in regions])
        recalls.append([float(called[row][masks[row] == 1].mean()) for row in bad])
        good_fpr.append(float(np.mean([called[row].mean() for row in good])))
    return fpr, overlaps, recalls, good_fpr


def slow_area(x: list[float], y: list[float], low: float, high: float) -> float:
    """Trapezoids from low to high, the last cut by interpolation, one after another."""
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 >= high or x1 == x0:
            continue
        end = min(x1, high)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / (high - low)


def drawn_maps(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Six maps and masks of 12 px, two of them good, with several regions each."""
    rng = np.random.default_rng(seed)
    masks = (rng.random((6, 12, 12)) < 0.15).astype(np.uint8)
    masks[2:, 0, 0] = 1
    masks[:2] = 0
    maps = rng.integers(-levels, levels + 1, size=masks.shape) / levels + 0.3 * masks
    return maps.astype(np.float16), masks


def counted(maps: np.ndarray, masks: np.ndarray) -> PixelCounts:
    found = total(count_pixels(*pair) for pair in zip(maps, masks, strict=True))
    assert found is not None
    return found


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 1000]))
def test_pixel_figures_equal_those_of_scikit_learn(seed: int, levels: int) -> None:
    maps, masks = drawn_maps(seed, levels)
    found = pixel_metrics(counted(maps, masks), None)
    truth, values = masks.ravel(), maps.ravel()
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, values), abs=1e-9)
    assert found["average_precision"] == pytest.approx(
        sk.average_precision_score(truth, values), abs=1e-9
    )
    precision, recall, _ = sk.precision_recall_curve(truth, values)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
    assert found["f1_oracle"] == pytest.approx(best, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 1000]))
def test_overlap_areas_equal_a_plain_slow_reference(seed: int, levels: int) -> None:
    maps, masks = drawn_maps(seed, levels)
    counts = counted(maps, masks)
    fpr, overlaps, recalls, good_fpr = slow_curve(maps, masks)
    pro = [float(np.mean(overlap)) for overlap in overlaps]
    for limit, name in ((0.3, "aupro_30"), (0.05, "aupro_05")):
        expected = slow_area(fpr, pro, 0, limit)
        assert pixel_metrics(counts, None)[name] == pytest.approx(expected, abs=1e-6)
        assert 0 <= expected <= 1
    low, high = 0.02, 0.4
    logs = [math.log(max(rate, low)) for rate in good_fpr]
    of_images = [
        slow_area(logs, [recall[i] for recall in recalls], math.log(low), math.log(high))
        for i in range(4)
    ]
    found = log_area(counted(maps[:2], masks[:2]).normal, counts.recall, 4, low, high)
    assert float(found) == pytest.approx(np.mean(of_images), abs=1e-6)


def test_perfect_maps_have_perfect_areas_and_none_is_above_one() -> None:
    masks = np.zeros((4, 256, 256), np.uint8)
    masks[2:, 10:30, 10:20] = 1
    masks[3, 100:110, 100:102] = 1
    maps = masks.astype(np.float16)
    good = counted(maps[:2], masks[:2]).normal
    found = pixel_metrics(counted(maps, masks), good)
    assert found == pytest.approx(dict.fromkeys(found, 1.0))
    assert max(value for value in found.values() if value is not None) <= 1


def test_a_constant_map_gets_what_chance_gets() -> None:
    _, masks = drawn_maps(0, 1)
    found = pixel_metrics(counted(np.ones(masks.shape, np.float16), masks), None)
    assert found["auroc"] == 0.5
    assert found["aupro_30"] == pytest.approx(0.15)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
    assert count_pixels(np.zeros((3, 3), np.float16), mask).regions == 1


def test_small_regions_weigh_as_much_as_large_ones() -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:8, :8] = 1
    mask[12, 12] = 1
    only_large = (mask * 0.0).astype(np.float16)
    only_large[:8, :8] = 1
    found = pixel_metrics(count_pixels(only_large, mask), None)
    # half of the regions are found without a false alarm, the other with all of them
    assert found["aupro_30"] == pytest.approx(0.5 + 0.5 * 0.15)


def test_aupimo_needs_enough_good_pixels() -> None:
    maps, masks = drawn_maps(0, 3)
    assert (
        pixel_metrics(counted(maps, masks), counted(maps[:2], masks[:2]).normal)["aupimo"] is None
    )
    assert overlap_area(np.ones(3), np.zeros(3), 0, 0.3) != 0  # no regions: not a number


def test_bins_move_the_figures_by_little() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 256, 256), np.uint8)
    masks[3:, 40:80, 40:80] = 1
    maps = (rng.normal(size=masks.shape) + 2 * masks).astype(np.float16)
    counts, good = counted(maps, masks), counted(maps[:3], masks[:3])
    edges = bin_edges(counts, good.normal)
    assert len(edges) <= 1030
    exact = pixel_metrics(counts, good.normal)
    binned = pixel_metrics(counts.binned(edges), good.binned(edges).normal)
    for name, value in exact.items():
        assert binned[name] == pytest.approx(value, abs=0.002), name


def test_pixel_counts_of_parts_add_up_to_the_whole() -> None:
    maps, masks = drawn_maps(0, 1000)
    parts = counted(maps[:1], masks[:1]) + counted(maps[1:], masks[1:])
    assert pixel_metrics(parts, None) == pixel_metrics(counted(maps, masks), None)


def test_minus_zero_ties_with_zero() -> None:
    maps = np.array([[0.0, -0.0]], np.float16)
    assert pixel_metrics(count_pixels(maps, np.array([[1, 0]])), None)["auroc"] == 0.5


def test_positions_of_the_counts_are_values_of_the_maps() -> None:
    for value in (-3.5, -0.25, 0.0, 1.0, 60000.0):
        counts = count_pixels(np.full((1, 1), value, np.float16), np.zeros((1, 1)))
        assert value_of(int(counts.normal.argmax())) == value


def test_the_risk_is_the_cost_per_part_at_the_lines_own_defect_rate() -> None:
    labels, scores = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2, 3, 2.5, 4])
    risk = risk_curve(labels, scores, np.array([0, 2.5, 9]), 10, 1, 0.1)
    assert risk == pytest.approx([0.9, 0.1 * 10 / 2 + 0.9 / 3, 1.0])


def test_pixels_that_do_not_count_are_neither_normal_nor_defective() -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((6, 9, 21)).astype(np.float16), np.zeros((6, 9, 21), np.uint8)
    masks[:3, 2:5, 3:12] = masks[:3, 7, 0:3] = 1
    counts = np.ones_like(masks)
    counts[:, :, :5] = 0
    within = total(count_pixels(*one) for one in zip(maps, masks, counts, strict=True))
    cropped = counted(maps[..., 5:], masks[..., 5:])
    assert within is not None
    for found, expected in zip(vars(within).values(), vars(cropped).values(), strict=True):
        assert np.array_equal(found, expected)


def test_a_region_that_an_ignored_one_cuts_is_one_region() -> None:
    mask, counts = np.ones((3, 9), np.uint8), np.ones((3, 9), np.uint8)
    counts[:, 4] = 0
    found = count_pixels(np.zeros((3, 9), np.float16), mask, counts)
    assert (found.regions, found.defective.sum()) == (1, 24)
    assert found.overlap.sum() == pytest.approx(1)


def test_a_defect_that_does_not_count_at_all_is_measured_on_images_alone() -> None:
    masks = np.zeros((4, 4, 12), np.uint8)
    masks[2, 0, 0] = masks[3, 0, 6] = 1
    counts = np.ones_like(masks)
    counts[:, :, :3] = 0
    maps = np.zeros(masks.shape, np.float16)
    maps[3, 0, 6] = maps[2, 0, 0] = 1
    types, scores = ["good", "good", "crack", "stain"], [1, 2, 3, 4.0]
    found = evaluated(types, scores, 2.5, maps, masks, counted=counts)
    assert found["counts"] == {
        "test_good": 2,
        "test_defective": 2,
        "masked": 1,
        "defects_not_counted": 1,
    }
    assert (found["pixel"]["regions"], found["pixel"]["auroc"]) == (1, 1.0)
    assert found["by_defect_type"]["crack"]["pixel"] is None
    assert found["by_defect_type"]["crack"]["recall"] == 1
    plain = evaluated(types, scores, 2.5, maps, masks)
    assert found["image"] == plain["image"]
    assert "defects_not_counted" not in plain["counts"]


def test_a_defect_that_is_cut_off_is_not_counted_as_masked() -> None:
    masks = np.zeros((5, 4, 12), np.uint8)
    masks[4, 0, 6] = 1
    maps = np.zeros(masks.shape, np.float16)
    maps[4, 0, 6] = 1
    types, scores = ["good", "good", "left", "left", "stain"], [1, 2, 1, 2, 4.0]
    found = evaluated(types, scores, 2.5, maps, masks)
    assert found["counts"] == {
        "test_good": 2,
        "test_defective": 3,
        "masked": 1,
        "defects_cut_off": 2,
    }
    assert found["by_defect_type"]["left"]["pixel"] is None
    assert found["by_defect_type"]["left"]["recall"] == 0
    assert (found["pixel"]["regions"], found["pixel"]["auroc"]) == (1, 1.0)
    unmasked = evaluated(types, scores, 2.5, maps, masks, with_masks=False)
    assert "defects_cut_off" not in unmasked["counts"]


def labels_of(types: list[str], with_masks: bool = True) -> pd.DataFrame:
    defective = [int(kind != "good") for kind in types]
    masked = [label if with_masks else 0 for label in defective]
    return pd.DataFrame({"label": defective, "defect_type": types, "has_mask": masked})


def evaluated(
    types: list[str],
    scores: list[float],
    threshold: float,
    maps: np.ndarray,
    masks: np.ndarray,
    with_masks: bool = True,
    counted: np.ndarray | None = None,
) -> dict:
    costs = {"miss": 10.0, "false_alarm": 1.0, "defect_rate": 0.05}
    found = evaluate(
        labels_of(types, with_masks),
        np.array(scores),
        threshold,
        maps,
        masks,
        counted=counted,
        costs=costs,
        resamples=100,
    )
    json.dumps(found, allow_nan=False)
    return found


def test_all_figures_are_given_overall_and_by_defect_type() -> None:
    masks = np.zeros((5, 4, 4), np.uint8)
    masks[2:, 0, 0] = 1
    maps = np.zeros((5, 4, 4), np.float16)
    maps[2:4, 0, 0] = 1
    types = ["good", "good", "crack", "crack", "stain"]
    found = evaluated(types, [1, 3, 4, 5, 2.0], 3.5, maps, masks)
    assert found["counts"] == {"test_good": 2, "test_defective": 3, "masked": 3}
    assert found["image"]["auroc"] == pytest.approx(5 / 6)
    assert found["at_threshold"]["recall"] == pytest.approx(2 / 3)
    assert found["pixel"]["regions"] == 3
    assert "AUPIMO" in found["pixel"]["aupimo_note"]
    crack, stain = found["by_defect_type"]["crack"], found["by_defect_type"]["stain"]
    assert (crack["n"], crack["image_auroc"], crack["recall"], crack["pixel_auroc"]) == (2, 1, 1, 1)
    assert crack["at_threshold"]["precision"] == 1
    assert crack["pixel"]["aupro_30"] == 1
    assert stain["image_auroc"] == 0.5
    assert stain["pixel_auroc"] == 0.5
    assert found["note"] is None


def test_every_figure_lies_in_its_interval() -> None:
    rng = np.random.default_rng(0)
    types = ["good"] * 20 + ["crack"] * 12
    masks = np.zeros((32, 80, 80), np.uint8)
    masks[20:, 10:20, 10:20] = 1
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float16)
    scores = rng.normal(size=32) + np.repeat([0, 1], [20, 12])
    found = evaluated(types, scores.tolist(), 0.5, maps, masks)
    assert found["pixel"]["aupimo"] is not None
    for key, (low, high) in found["intervals"].items():
        part, name = key.split(".")
        assert low <= found[part][name] <= high, key
        assert low < high, key
    metrics = {f"{part}.{name}" for part in ("image", "pixel") for name in found[part]}
    assert metrics - set(found["intervals"]) == {"pixel.regions", "image.tpr_at_1_fpr"}
    assert found["image"]["tpr_at_1_fpr"] is None
    again = evaluated(types, scores.tolist(), 0.5, maps, masks)
    assert again == found


def test_curves_end_where_they_must_and_hold_the_threshold() -> None:
    masks = np.zeros((4, 256, 256), np.uint8)
    masks[2:, 3:9, 3:9] = 1
    maps = (np.random.default_rng(0).normal(size=masks.shape) + masks).astype(np.float16)
    curves = evaluated(["good", "good", "crack", "crack"], [1, 3, 2, 4.0], 2.5, maps, masks)[
        "curves"
    ]
    assert curves["roc"]["fpr"] == [0, 0, 0.5, 0.5, 1]
    assert curves["roc"]["tpr"] == [0, 0.5, 0.5, 1, 1]
    assert curves["roc"]["threshold"] == [4, 3, 2, 1, None]
    assert curves["pr"]["recall"][-1] == 1
    assert curves["pixel_roc"]["fpr"][0] == 0
    assert curves["pixel_roc"]["tpr"][-1] == 1
    assert curves["pro"]["fpr"][-1] == 0.3
    assert curves["pimo"]["fpr"][0] == pytest.approx(1e-5)
    assert all(len(x) <= 201 for curve in curves.values() for x in curve.values())


def test_the_oracle_is_kept_apart_and_never_worse() -> None:
    masks = np.zeros((4, 8, 8), np.uint8)
    masks[2:, 0] = 1
    found = evaluated(
        ["good", "good", "crack", "crack"], [1, 3, 2, 4.0], 3.5, masks.astype(np.float16), masks
    )
    assert found["oracle"]["image_f1"] >= found["at_threshold"]["f1"]
    assert found["oracle"]["risk"] <= found["risk"]["at_threshold"]
    assert found["oracle"]["pixel_f1"] == 1
    assert found["oracle"]["pixel_f1_threshold"] == 1
    assert "f1" not in found["image"]


def test_without_defects_the_figures_are_empty_and_the_note_says_why() -> None:
    empty = np.zeros((2, 4, 4))
    found = evaluated(
        ["good", "good"], [1, 2], 1.5, empty.astype(np.float16), empty.astype(np.uint8)
    )
    assert set(found["image"].values()) == {None}
    assert found["pixel"] is None
    assert found["at_threshold"]["false_alarm_rate"] == 0.5
    assert found["at_threshold"]["recall"] is None
    assert list(found["intervals"]) == ["at_threshold.false_alarm_rate"]
    assert found["risk"] is None
    assert found["at_threshold"]["precision"] is None
    assert found["at_threshold"]["accuracy"] is None
    assert "no defective test images" in found["note"]
    assert "nothing to evaluate but false alarms" in found["note"]


@pytest.mark.parametrize("counted", [None, np.zeros((0, 4, 4), np.uint8)])
def test_without_test_images_nothing_is_measured_and_the_note_says_what_to_add(
    counted: np.ndarray | None,
) -> None:
    maps, masks = np.zeros((0, 4, 4), np.float16), np.zeros((0, 4, 4), np.uint8)
    found = evaluated([], [], 1.5, maps, masks, counted=counted)
    measured = [found["image"][name] for name in RANKING]
    measured += [found["at_threshold"][name] for name in DECISION]
    assert set(measured) == {None}
    assert found["pixel"] is None
    assert found["intervals"] == {}
    assert found["counts"] == {"test_good": 0, "test_defective": 0, "masked": 0}
    assert "no test images, so there is nothing to evaluate" in found["note"]
    assert "test/<defect type>" in found["note"]


def test_the_note_says_that_test_images_were_left_out() -> None:
    assert "problems.csv says why 3 could not be used" in str(missing_in_words(0, 0, 3))
    assert missing_in_words(1, 1, 3) is None


def test_without_good_images_there_is_recall_alone() -> None:
    masks = np.ones((2, 4, 4), np.uint8)
    found = evaluated(["crack", "crack"], [1, 2], 1.5, masks.astype(np.float16), masks)
    assert found["image"]["auroc"] is None
    assert found["at_threshold"]["recall"] == 0.5
    assert found["at_threshold"]["precision"] is None
    assert found["pixel"] is None
    assert "Add good parts to test/good" in found["note"]


def test_without_masks_there_are_no_pixel_metrics() -> None:
    empty = np.zeros((2, 4, 4))
    found = evaluated(
        ["good", "crack"],
        [1, 2],
        1.5,
        empty.astype(np.float16),
        empty.astype(np.uint8),
        with_masks=False,
    )
    assert found["pixel"] is None
    assert found["by_defect_type"]["crack"]["pixel_auroc"] is None


def run(
    category: str,
    detector: str,
    seed: int,
    auroc: float | None,
    tested: tuple[int, int] = (4, 5),
    protocol: str = "unsupervised",
) -> RunMetrics:
    return fake_run(
        category,
        detector,
        seed,
        protocol=protocol,
        image={"auroc": auroc, "average_precision": auroc},
        at_threshold={"f1": auroc},
        pixel=None,
        counts={"test_good": tested[0], "test_defective": tested[1]},
    ).metrics


def test_tables_have_mean_and_median_over_seeds_and_categories() -> None:
    runs = run_table(
        [
            run("b", "x", 0, 0.9),
            run("a", "x", 0, 0.5),
            run("a", "x", 1, 0.7),
            run("a", "y", 0, 0.65),
        ]
    )
    assert runs["category"].tolist() == ["a", "a", "a", "b"]
    seeds = over_seeds(runs).set_index(["category", "detector"])
    assert seeds.loc[("a", "x"), "image_auroc_mean"] == pytest.approx(0.6)
    assert seeds.loc[("a", "x"), "image_auroc_max"] == 0.7
    assert seeds.loc[("a", "x"), "seeds"] == 2
    categories = over_categories(runs).set_index("detector")
    assert categories.loc["x", "image_auroc_mean"] == pytest.approx(0.75)
    assert categories.loc["x", "categories"] == 2
    best = best_by_category(runs).set_index("category")
    assert best.loc["a", "detector"] == "y"


def test_tables_have_the_ends_of_intervals() -> None:
    ends = [(0, [0.8, 0.95]), (1, [0.7, 0.9])]
    runs = [
        fake_run("a", "x", seed, intervals={"image.auroc": interval}).metrics
        for seed, interval in ends
    ]
    table = run_table(runs)
    assert table["image_auroc_low"].tolist() == [0.8, 0.7]
    assert table["recall_high"].isna().all()
    seeds = over_seeds(table)
    assert (seeds["image_auroc_low"][0], seeds["image_auroc_high"][0]) == (0.7, 0.95)
    assert math.isnan(seeds["recall_low"][0])


class TestTablesForPapers:
    def tables(self, *runs: RunMetrics) -> list[PaperTable]:
        return list(paper_tables(run_table(runs)))

    def test_have_deviations_over_seeds_and_the_best_in_bold(self) -> None:
        table = self.tables(
            run("a_1", "x", 0, 0.8),
            run("a_1", "x", 1, 0.9),
            run("a_1", "y", 0, 0.7),
            run("b", "x", 0, 0.5),
            run("b", "x", 1, 0.7),
            run("b", "y", 0, 0.6),
        )[0]
        lines = as_markdown([table]).splitlines()
        assert lines[0].startswith("Image AUROC. Mean ± standard deviation over 2 seeds.")
        assert lines[2:] == [
            "| category | x | y |",
            "|---|---:|---:|",
            "| a_1 | **0.850** ± 0.071 | 0.700 |",
            "| b | **0.600** ± 0.141 | **0.600** |",
            "| mean of the categories | **0.725** ± 0.106 | 0.650 |",
        ]
        latex = as_latex([table])
        assert r"a\_1 & \textbf{0.850} $\pm$ 0.071 & 0.700 \\" in latex
        assert latex.index(r"\midrule") < latex.index("mean of the categories")
        assert "±" not in latex

    def test_mark_the_lowest_where_lower_is_better(self) -> None:
        runs = [
            fake_run("a", name, at_threshold={"false_alarm_rate": rate}).metrics
            for name, rate in (("x", 0.1), ("y", 0.2))
        ]
        [table] = [one for one in self.tables(*runs) if one.metric.name == "false_alarm_rate"]
        assert table.cells("markdown").loc["a"].tolist() == ["**0.100**", "0.200"]

    def test_leave_out_what_was_not_measured(self) -> None:
        runs = [
            run("a", "x", 0, 0.9),
            run("a", "y", 0, 0.5),
            run("b", "x", 0, None),
            run("b", "y", 0, 0.6),
            run("c", "x", 0, None),
            run("c", "y", 0, None),
        ]
        table = self.tables(*runs)[0]
        assert table.metric.name == "auroc"
        cells = table.cells("latex")
        assert cells.loc["b"].tolist() == ["-", r"\textbf{0.600}"]
        assert cells.loc["mean of the categories"].tolist() == ["-", r"\textbf{0.550}"]
        assert "pixel" not in {one.metric.part for one in self.tables(*runs)}


def test_a_category_without_defects_has_no_best_detector() -> None:
    best = best_by_category(run_table([run("a", "x", 0, None)]))
    assert best["detector"].tolist() == [""]
    assert math.isnan(best["image_auroc"][0])


def test_means_leave_out_categories_without_tests_and_say_over_how_many_they_are() -> None:
    runs = [run("a", "x", 0, 0.9), run("b", "x", 0, None, (0, 0)), run("c", "x", 0, 0.7)]
    table = over_categories(run_table(runs))
    assert table["categories"][0] == 3
    assert table["image_auroc_categories"][0] == 2
    assert table["image_auroc_mean"][0] == pytest.approx(0.8)


def prediction(scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"image_id": list("abcd"), "label": [0, 0, 1, 1], "score": scores})


def test_detectors_are_compared_in_pairs_on_the_same_images() -> None:
    metrics = [run("bolt", name, 0, 0.5) for name in "zyx"]
    tables = [prediction([1, 2, 3, 4]), prediction([1, 3, 2, 4]), prediction([1, 2, 3, 4])]
    table = pairwise(metrics, tables)
    pairs = list(zip(table["detector_a"], table["detector_b"], strict=True))
    assert pairs == [("x", "y"), ("x", "z"), ("y", "z")]
    assert table["difference"].tolist() == pytest.approx([0.25, 0, -0.25])
    assert table["p"][1] == 1
    assert (table["p_holm"] >= table["p"]).all()
    other = tables[0].assign(image_id=list("abce"))
    with pytest.raises(ValueError, match="other test images"):
        pairwise(metrics, [tables[0], other, tables[2]])


def test_over_categories_there_are_signed_ranks_and_a_critical_difference() -> None:
    names = [f"category{i}" for i in range(8)]
    metrics = [run(name, "x", 0, 0.9 + 0.01 * i) for i, name in enumerate(names)]
    metrics += [
        run(name, "y", seed, 0.5 + 0.02 * i) for i, name in enumerate(names) for seed in (0, 1)
    ]
    metrics += [run(names[0], "only_once", 0, 0.7)]
    runs = run_table(metrics)
    table = signed_ranks(runs[runs["detector"] != "only_once"])
    auroc = table[table["metric"] == "image_auroc"].iloc[0]
    assert (auroc["categories"], auroc["p"], auroc["smallest_p"]) == (8, 2 / 256, 2 / 256)
    assert auroc["needed"] == 6
    ranked = ranks(runs)
    assert ranked["categories"].tolist()[0] == 1
    ranked = ranks(runs[runs["detector"] != "only_once"])
    assert ranked["detector"].tolist()[:2] == ["x", "y"]
    assert ranked["mean_rank"].tolist()[:2] == [1, 2]
    assert ranked["critical_difference"].isna().all(), "two detectors have the signed ranks"


def test_the_smallest_p_knows_the_number_of_pairs_and_ties() -> None:
    def least(categories: int, tied: int) -> float:
        metrics = {"x": 0.9, "y": 0.8, "z": 0.7}
        metrics = [
            run(f"c{i}", name, 0, 1.0 if name != "z" and i < tied else metrics[name] - i / 100)
            for i in range(categories)
            for name in metrics
        ]
        table = signed_ranks(run_table(metrics))
        table = table[table["metric"] == "image_auroc"]
        assert (table["smallest_p"] <= table["p_holm"] + 1e-12).all()
        return float(table["smallest_p"].max())

    assert least(6, 0) == pytest.approx(3 / 32)
    assert least(7, 0) == pytest.approx(3 / 64)
    # the pair with the tie comes last, so only its own p counts: 2^(1 - 6)
    assert least(7, 1) == pytest.approx(3 / 64)
    assert least(8, 4) == pytest.approx(1 / 8)


def test_one_detector_is_compared_with_none() -> None:
    metrics = [run("bolt", "x", 0, 0.5)]
    assert len(pairwise(metrics, [prediction([1, 2, 3, 4])])) == 0
    assert len(signed_ranks(run_table(metrics))) == 0
    assert len(ranks(run_table(metrics))) == 0


def test_protocols_are_never_ranked_together() -> None:
    metrics = [run("bolt", "x", 0, 0.5), run("bolt", "y", 0, 0.9, protocol="supervised")]
    tables = [prediction([1, 2, 3, 4])] * 2
    assert len(pairwise(metrics, tables)) == 0
    assert len(signed_ranks(run_table(metrics))) == 0
    assert len(ranks(run_table(metrics))) == 0
