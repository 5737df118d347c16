"""Figures against their definitions and against scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from flawline.evaluation.comparison import (
    best_by_category,
    over_categories,
    over_seeds,
    run_table,
)
from flawline.evaluation.evaluate import evaluate
from flawline.evaluation.image_metrics import decision_metrics, ranking_metrics
from flawline.evaluation.pixel_metrics import count_pixels, pixel_auroc
from flawline.evaluation.thresholds import choose_threshold

SCORES = np.array([1.0, 2.0, 3.0, 4.0, 10.0])


def test_mean_std_is_the_mean_plus_k_standard_deviations() -> None:
    found = choose_threshold(SCORES, "mean_std", k=3)
    assert found["value"] == pytest.approx(4 + 3 * SCORES.std(ddof=1))
    assert (found["n"], found["k"], found["false_alarm_bound"]) == (5, 3, None)


def test_quantile_and_maximum_are_what_they_say() -> None:
    assert choose_threshold(SCORES, "quantile", q=0.5)["value"] == 3
    assert choose_threshold(SCORES, "maximum")["value"] == 10


@pytest.mark.parametrize(("n", "bound"), [(42, 0.069), (12, 0.22), (299, 0.01)])
def test_the_maximum_states_the_false_alarm_rate_that_it_bounds(n: int, bound: float) -> None:
    found = choose_threshold(np.arange(n, dtype=float), "maximum")
    assert found["false_alarm_bound"] == pytest.approx(bound, abs=0.0015)


def test_one_calibration_image_is_enough_for_a_finite_threshold() -> None:
    assert choose_threshold(np.array([2.0]), "mean_std", k=3)["value"] == 2


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="best_guess"):
        choose_threshold(SCORES, "best_guess")


two_classes = st.lists(
    st.tuples(st.booleans(), st.floats(-100, 100, width=16)), min_size=2, max_size=60
).filter(lambda pairs: len({label for label, _ in pairs}) == 2)


@given(two_classes)
def test_image_figures_equal_those_of_scikit_learn(pairs: list[tuple[bool, float]]) -> None:
    labels = np.array([int(label) for label, _ in pairs])
    scores = np.array([score for _, score in pairs])
    ranking = ranking_metrics(labels, scores)
    assert ranking["auroc"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-9)
    assert ranking["average_precision"] == pytest.approx(
        sk.average_precision_score(labels, scores), abs=1e-9
    )
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


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 1000]))
def test_pixel_auroc_equals_that_of_scikit_learn(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    maps = (rng.integers(-levels, levels + 1, size=(3, 8, 8)) / levels).astype(np.float16)
    masks = (rng.random((3, 8, 8)) < 0.2).astype(np.uint8)
    masks[0, 0, :2] = 0, 1
    expected = sk.roc_auc_score(masks.ravel(), maps.ravel())
    assert pixel_auroc(count_pixels(maps, masks)) == pytest.approx(expected, abs=1e-9)


def test_pixel_counts_of_parts_add_up_to_the_whole() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(4, 8, 8)).astype(np.float16)
    masks = rng.integers(0, 2, size=(4, 8, 8))
    whole = pixel_auroc(count_pixels(maps, masks))
    parts = count_pixels(maps[:1], masks[:1]) + count_pixels(maps[1:], masks[1:])
    assert pixel_auroc(parts) == whole


def test_minus_zero_ties_with_zero() -> None:
    maps = np.array([0.0, -0.0], np.float16)
    assert pixel_auroc(count_pixels(maps, np.array([1, 0]))) == 0.5


def labels_of(types: list[str], with_masks: bool = True) -> pd.DataFrame:
    defective = [int(kind != "good") for kind in types]
    masked = [label if with_masks else 0 for label in defective]
    return pd.DataFrame({"label": defective, "defect_type": types, "has_mask": masked})


def test_all_figures_are_given_overall_and_by_defect_type() -> None:
    labels = labels_of(["good", "good", "crack", "crack", "stain"])
    masks = np.zeros((5, 4, 4), np.uint8)
    masks[2:, 0, 0] = 1
    maps = np.zeros((5, 4, 4), np.float16)
    maps[2:4, 0, 0] = 1
    found = evaluate(labels, np.array([1, 3, 4, 5, 2.0]), 3.5, maps, masks)
    assert found["counts"] == {"test_good": 2, "test_defective": 3}
    assert found["image"]["auroc"] == pytest.approx(5 / 6)
    assert found["at_threshold"]["recall"] == pytest.approx(2 / 3)
    assert found["by_defect_type"]["crack"] == {
        "n": 2,
        "image_auroc": 1,
        "recall": 1,
        "pixel_auroc": 1,
    }
    assert found["by_defect_type"]["stain"]["image_auroc"] == 0.5
    assert found["by_defect_type"]["stain"]["pixel_auroc"] == 0.5
    assert found["note"] is None


def test_without_defects_the_figures_are_empty_and_the_note_says_why() -> None:
    found = evaluate(
        labels_of(["good", "good"]),
        np.array([1.0, 2.0]),
        1.5,
        np.zeros((2, 4, 4), np.float16),
        np.zeros((2, 4, 4), np.uint8),
    )
    assert found["image"] == {"auroc": None, "average_precision": None}
    assert found["pixel"] is None
    assert found["at_threshold"]["false_alarm_rate"] == 0.5
    assert found["at_threshold"]["recall"] is None
    assert "nothing to evaluate" in found["note"]


def test_without_masks_there_are_no_pixel_figures() -> None:
    found = evaluate(
        labels_of(["good", "crack"], with_masks=False),
        np.array([1.0, 2.0]),
        1.5,
        np.zeros((2, 4, 4), np.float16),
        np.zeros((2, 4, 4), np.uint8),
    )
    assert found["pixel"] is None
    assert found["by_defect_type"]["crack"]["pixel_auroc"] is None


def run(category: str, detector: str, seed: int, auroc: float | None) -> dict:
    return {
        "protocol": "unsupervised",
        "category": category,
        "detector": detector,
        "method": detector,
        "seed": seed,
        "image": {"auroc": auroc, "average_precision": auroc},
        "pixel": None,
        "at_threshold": {"f1": auroc},
    }


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


def test_a_category_without_defects_has_no_best_detector() -> None:
    best = best_by_category(run_table([run("a", "x", 0, None)]))
    assert best["detector"].tolist() == [""]
    assert math.isnan(best["image_auroc"][0])
