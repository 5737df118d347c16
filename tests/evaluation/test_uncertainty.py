"""Intervals and tests against published examples, exact values and simulations."""

import math

import numpy as np
import pytest
from scipy.stats import binom, friedmanchisquare, norm
from sklearn.metrics import average_precision_score, roc_auc_score

from flawline.evaluation.image_metrics import count_scores, decision_values, ranking_values
from flawline.evaluation.intervals import (
    clopper_pearson,
    decision_intervals,
    image_intervals,
    newcombe,
    pixel_intervals,
    resamples,
)
from flawline.evaluation.pixel_metrics import count_pixels, pixel_metrics, total
from flawline.evaluation.significance import (
    categories_needed,
    delong,
    friedman,
    holm,
    wilcoxon,
)

# DeLong, DeLong and Clarke-Pearson (1988): ovarian cancer patients without missing values, as in
# the manual of SAS/STAT, procedure LOGISTIC. Columns: albumin, total protein, K-G score, benefit.
OVARIAN = np.fromstring(
    """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
    1.6 5.6 5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
    4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
    3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
    3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
    3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
    3.6 6.6 5 1
    """,
    sep=" ",
).reshape(-1, 4)


@pytest.mark.parametrize(
    ("column", "auroc", "difference", "low", "high", "p"),
    [
        (0, 0.7366, 0.0108, -0.1761, 0.1976, 0.9102),
        (1, 0.6478, -0.0780, -0.2830, 0.1271, 0.4561),
    ],
)
def test_delong_gives_the_published_figures(
    column: int, auroc: float, difference: float, low: float, high: float, p: float
) -> None:
    found = delong(OVARIAN[:, 3], OVARIAN[:, column], 10 - OVARIAN[:, 2])
    assert found.auroc_a == pytest.approx(auroc, abs=5e-5)
    assert found.auroc_b == pytest.approx(0.7258, abs=5e-5)
    assert found.difference == pytest.approx(difference, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.p == pytest.approx(p, abs=5e-5)


def test_delong_finds_no_difference_between_a_detector_and_itself() -> None:
    rng = np.random.default_rng(0)
    labels, scores = np.repeat([0, 1], 20), rng.normal(size=40)
    found = delong(labels, scores, scores)
    assert (found.difference, found.p) == (0, 1)
    assert delong(labels, labels, labels * 2).p == 1
    assert 0 < delong(labels, labels, 1 - labels).p < 0.001


def test_resamples_keep_the_size_of_every_stratum() -> None:
    strata = np.array([0, 1, 1, 0, 1])
    weights = resamples(strata, 50, np.random.default_rng(0))
    assert (weights[:, strata == 0].sum(axis=1) == 2).all()
    assert (weights[:, strata == 1].sum(axis=1) == 3).all()


def test_a_resample_is_evaluated_as_if_its_images_were_repeated() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 10)
    scores = rng.integers(0, 5, 20) + labels
    weights = resamples(labels, 1, rng)
    repeated = np.repeat(np.arange(20), weights[0])
    values = count_scores(labels, scores)[2]
    one_hot = scores[:, None] == values
    metrics = ranking_values(
        weights[0, :10] @ one_hot[:10], weights[0, 10:] @ one_hot[10:].astype(int)
    )
    expected = roc_auc_score(labels[repeated], scores[repeated])
    assert float(metrics["auroc"]) == pytest.approx(expected)


@pytest.mark.parametrize(("bad", "good"), [(63, 20), (20, 12)])
@pytest.mark.parametrize("auroc", [0.8, 0.95, 0.99, 0.998])
def test_intervals_of_areas_cover_the_truth_as_often_as_they_say(
    bad: int, good: int, auroc: float
) -> None:
    """Binormal scores; the true average precision is that of 200,000 images."""
    shift = math.sqrt(2) * float(norm.ppf(auroc))
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(shift, 1, 100_000), rng.normal(size=100_000)])
    weights, classes = np.repeat([bad, good], 100_000), np.repeat([1, 0], 100_000)
    truth = float(average_precision_score(classes, scores, sample_weight=weights))
    labels, covered, runs = np.repeat([1, 0], [bad, good]), np.zeros(2), 200
    for _ in range(runs):
        scores = rng.normal(size=bad + good) + shift * labels
        found = image_intervals(labels, scores, 0.5, resamples(labels, 100, rng), 0.95)
        for i, (name, true) in enumerate([("auroc", auroc), ("average_precision", truth)]):
            low, high = found[f"image.{name}"]
            assert low < 1 - 1e-6
            covered[i] += low <= true <= high
    # of 200 runs at 0.95, 0.90 to 0.99 are within three standard errors
    assert (covered / runs >= 0.9).all(), covered / runs


@pytest.mark.parametrize("good", [20, 60])
def test_intervals_of_recall_at_a_false_alarm_rate_cover_the_truth(good: int) -> None:
    rng, labels = np.random.default_rng(0), np.repeat([1, 0], [40, good])
    for shift in (1.5, 3.0):
        truth, covered = float(norm.sf(norm.isf(0.05) - shift)), 0
        for _ in range(100):
            scores = rng.normal(size=len(labels)) + shift * labels
            found = image_intervals(labels, scores, 0.5, resamples(labels, 100, rng), 0.95)
            assert "image.tpr_at_1_fpr" not in found
            low, high = found["image.tpr_at_5_fpr"]
            covered += low <= truth <= high
        assert covered >= 90


def test_the_interval_of_a_perfect_ranking_is_newcombes() -> None:
    assert newcombe(1, 63, 20, 0.95) == pytest.approx((0.934, 1), abs=5e-4)
    assert newcombe(1, 20, 12, 0.95) == pytest.approx((0.865, 1), abs=5e-4)
    assert newcombe(0, 20, 12, 0.95) == pytest.approx((0, 0.135), abs=5e-4)


@pytest.mark.parametrize(("recall", "alarms"), [(1.0, 0.0), (0.95, 0.1), (0.6, 0.02)])
def test_intervals_at_a_threshold_cover_the_truth_and_are_never_points(
    recall: float, alarms: float
) -> None:
    rng, labels = np.random.default_rng(0), np.repeat([1, 0], [30, 20])
    metrics = decision_values(30 * recall, 30 * (1 - recall), 20 * alarms, 20 * (1 - alarms))
    covered: dict[str, int] = {}
    for _ in range(500):
        called = rng.random(50) < np.where(labels == 1, recall, alarms)
        for key, (low, high) in decision_intervals(labels, called.astype(float), 0.5, 0.95).items():
            name = key.removeprefix("at_threshold.")
            assert low < high
            covered[name] = covered.get(name, 0) + (low <= float(metrics[name]) <= high)
    assert set(covered) == set(metrics)
    assert min(covered.values()) >= 0.93 * 500


def test_a_perfect_detector_is_not_certainly_better_than_one_on_four_images() -> None:
    labels = np.array([0, 0, 1, 1])
    found = delong(labels, labels, np.zeros(4))
    assert found.difference == 0.5
    assert found.low < found.difference < found.high
    assert found.p > 0.1


def test_clopper_pearson_never_covers_less_than_it_says() -> None:
    assert clopper_pearson(0, 20, 0.95) == pytest.approx((0, 0.1684), abs=1e-4)
    assert clopper_pearson(20, 20, 0.95) == pytest.approx((0.8316, 1), abs=1e-4)
    intervals = [clopper_pearson(count, 15, 0.9) for count in range(16)]
    for rate in np.linspace(0.01, 0.99, 33):
        chances = binom.pmf(np.arange(16), 15, rate)
        inside = [low <= rate <= high for low, high in intervals]
        assert chances[inside].sum() >= 0.9


def test_pixel_intervals_draw_whole_images() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((20, 16, 16), np.uint8)
    masks[8:, 4:8, 4:8] = 1
    strength = rng.uniform(0, 2, 20)[:, None, None]
    maps = (rng.normal(size=masks.shape) + strength * masks).astype(np.float16)
    images = [count_pixels(*pair) for pair in zip(maps, masks, strict=True)]
    whole = total(images)
    assert whole is not None
    exact = pixel_metrics(whole, None)
    labels = np.repeat([0, 1], [8, 12])
    weights = resamples(labels, 20, rng)
    found = pixel_intervals(images, weights, None, exact, 1 - 1e-12)
    drawn = []
    for row in weights:
        repeated = np.repeat(np.arange(20), row)
        again = total(images[image] for image in repeated)
        assert again is not None
        drawn.append(pixel_metrics(again, None)["aupro_30"])
    assert found["aupro_30"] == pytest.approx((min(drawn), max(drawn)))
    assert "aupimo" not in found
    fixed = pixel_intervals(images, np.ones((3, 20)), None, exact, 0.95)
    for name, (low, high) in fixed.items():
        assert (low, high) == pytest.approx((exact[name], exact[name])), name


def test_holm_steps_down() -> None:
    # Holm's own scheme: the least p times their number, and so on, never falling
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]
    assert len(holm(np.array([]))) == 0


def test_signed_ranks_of_a_clear_winner_have_the_least_p_value() -> None:
    a = np.linspace(0.9, 0.99, 6)
    assert wilcoxon(a, a - np.linspace(0.01, 0.1, 6)) == pytest.approx(2 / 64)
    assert wilcoxon(a, a) == 1


def test_as_few_categories_as_are_needed_can_tell_pairs_apart() -> None:
    for pairs, needed in [(1, 6), (3, 7), (10, 9)]:
        assert categories_needed(pairs) == needed
        for categories, told in [(needed, True), (needed - 1, False)]:
            a = np.linspace(0.5, 0.9, categories)
            p = wilcoxon(a, a - np.linspace(0.01, 0.1, categories))
            assert (holm(np.full(pairs, p))[0] <= 0.05) == told


def test_mean_ranks_share_ties() -> None:
    metrics = np.array([[0.9, 0.8, 0.8], [0.7, 0.9, 0.6]])
    assert friedman(metrics).mean_ranks.tolist() == [1.5, 1.75, 2.75]


# Demsar (2006), table 6: AUC of C4.5 with and without m and cf, 14 data sets
DEMSAR = np.array(
    [
        *[[0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569]],
        *[[0.954, 0.971, 0.968, 0.967], [0.628, 0.661, 0.654, 0.657]],
        *[[0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931]],
        *[[0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625]],
        *[[0.775, 0.838, 0.866, 0.875], [1.000, 1.000, 1.000, 1.000]],
        *[[0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669]],
        *[[0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970]],
    ]
)


def test_ranks_are_those_of_demsars_example() -> None:
    found = friedman(DEMSAR)
    assert found.mean_ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.p == pytest.approx(friedmanchisquare(*DEMSAR.T).pvalue, abs=0.01)
    assert found.p < 0.05
    # 2.569 sqrt(4 5 / (6 14)) in the limit of many categories
    assert found.critical_difference == pytest.approx(1.25, abs=0.08)


def test_many_categories_have_the_critical_difference_of_nemenyis_table() -> None:
    rng = np.random.default_rng(0)
    for detectors, q in [(3, 2.343), (4, 2.569), (10, 3.164)]:
        metrics = rng.normal(size=(60, detectors)) + np.arange(detectors)
        expected = q * math.sqrt(detectors * (detectors + 1) / (6 * 60))
        assert friedman(metrics).critical_difference == pytest.approx(expected, rel=0.06)


def test_no_ranks_are_told_apart_by_too_few_categories_nor_without_a_difference() -> None:
    rng = np.random.default_rng(0)
    for detectors in (3, 4, 8):
        clear = np.arange(detectors) + np.zeros((20, 1))
        needed = friedman(clear[:1]).needed
        for categories in range(1, 20):
            found = friedman(clear[:categories])
            apart = found.critical_difference
            assert (apart is not None) == (categories >= needed)
            assert apart is None or apart <= detectors - 1
    assert friedman(clear[:, :2]).critical_difference is None
    alike = [friedman(rng.normal(size=(6, 4))) for _ in range(100)]
    assert sum(found.critical_difference is not None for found in alike) <= 0.1 * len(alike)
