"""Thresholds and what they promise."""

import math

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.stats import genpareto, norm

from flawline.decisions.thresholds import RULES, choose_threshold, costs_of, images_needed
from flawline.options.threshold import Threshold

SCORES = np.array([1.0, 2.0, 3.0, 4.0, 10.0])
GIVEN = {"fixed": {"value": 4.5}}
DEFAULTS = {
    rule: TypeAdapter(Threshold).validate_python({"rule": rule} | GIVEN.get(rule, {})).model_dump()
    for rule in RULES
}


def test_mean_std_is_the_mean_plus_k_standard_deviations() -> None:
    found = choose_threshold(SCORES, "mean_std", k=3)
    assert found["value"] == pytest.approx(4 + 3 * SCORES.std(ddof=1))
    assert (found["n"], found["k"], found["false_alarm_bound"]) == (5, 3, None)
    assert found["certified"] is None


def test_quantile_and_maximum_are_what_they_say() -> None:
    assert choose_threshold(SCORES, "quantile", q=0.5)["value"] == 3
    assert choose_threshold(SCORES, "maximum")["value"] == 10


@pytest.mark.parametrize(("n", "bound"), [(42, 0.069), (12, 0.22), (299, 0.01)])
def test_the_maximum_states_the_false_alarm_rate_that_it_bounds(n: int, bound: float) -> None:
    found = choose_threshold(np.arange(n, dtype=float), "maximum")
    assert found["false_alarm_bound"] == pytest.approx(bound, abs=0.0015)
    assert found["certified"] is True


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(19, 0.05, 19), (99, 0.05, 95), (99, 0.01, 99), (9, 0.1, 9)]
)
def test_conformal_takes_the_rank_that_certifies_its_level(n: int, alpha: float, rank: int) -> None:
    found = choose_threshold(np.arange(1.0, n + 1)[::-1], "conformal", alpha=alpha)
    assert found["value"] == rank
    assert (found["certified"], found["false_alarm_bound"]) == (True, alpha)


def test_conformal_says_so_where_n_cannot_certify_the_level() -> None:
    found = choose_threshold(np.arange(12.0), "conformal", alpha=0.05)
    assert found["value"] == 11
    assert found["certified"] is False
    assert "not certifiable with n = 12" in found["promise"]
    assert found["details"]["needed_n"] == 19
    assert found["false_alarm_bound"] == pytest.approx(1 / 13)


@pytest.mark.parametrize(("n", "alpha"), [(30, 0.1), (99, 0.05)])
def test_the_conformal_false_alarm_rate_is_kept_on_average(n: int, alpha: float) -> None:
    rng = np.random.default_rng(0)
    calibration = rng.lognormal(size=(4000, n))
    rates = [
        1 - norm.cdf(math.log(choose_threshold(scores, "conformal", alpha=alpha)["value"]))
        for scores in calibration
    ]
    assert alpha - 1 / (n + 1) - 0.002 < np.mean(rates) <= alpha + 0.002


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_the_pareto_tail_is_found_again(shape: float) -> None:
    rng = np.random.default_rng(0)
    scores = genpareto.rvs(shape, scale=2, size=20_000, random_state=rng)
    found = choose_threshold(scores, "generalized_pareto", false_alarm_rate=0.001, tail=0.25)
    assert found["value"] == pytest.approx(genpareto.isf(0.001, shape, scale=2), rel=0.08)
    assert found["details"]["shape"] == pytest.approx(shape, abs=0.05)
    assert found["certified"] is None


@pytest.mark.parametrize("scores", [np.arange(12.0), np.ones(100), np.array([1.0])])
def test_where_no_tail_can_be_fitted_the_maximum_stands_in_and_says_so(scores: np.ndarray) -> None:
    found = choose_threshold(scores, "generalized_pareto", false_alarm_rate=0.01, tail=0.25)
    assert found["value"] == scores.max()
    assert found["details"]["fallback"] == "maximum"
    assert found["certified"] is False
    assert "No tail can be fitted" in found["promise"]


def test_a_rate_inside_the_data_needs_no_tail() -> None:
    found = choose_threshold(
        np.arange(101.0), "generalized_pareto", false_alarm_rate=0.3, tail=0.25
    )
    assert found["value"] == 70
    assert found["details"]["fallback"] == "quantile"


def test_the_cost_based_threshold_costs_least_under_its_assumption() -> None:
    scores = norm.ppf((np.arange(1000) + 0.5) / 1000)
    costs = {"miss": 20.0, "false_alarm": 3.0, "defect_rate": 0.02}
    found = choose_threshold(scores, "cost", separation=3.0, **costs)
    tried = np.linspace(-3, 6, 9001)
    risk = 0.02 * 20 * norm.cdf(tried - 3) + 0.98 * 3 * norm.sf(tried)
    assert found["value"] == pytest.approx(tried[risk.argmin()], abs=0.01)
    assert found["details"]["expected_cost"] == pytest.approx(risk.min(), abs=1e-6)
    assert "cannot show" in found["promise"]


def test_dearer_misses_lower_the_threshold() -> None:
    values = [
        choose_threshold(SCORES, **DEFAULTS["cost"] | {"miss": miss})["value"] for miss in (1, 10)
    ]
    assert values[1] < values[0]


def test_costs_are_the_users_or_marked_as_assumed() -> None:
    given = {"rule": "cost", "miss": 5, "false_alarm": 2, "defect_rate": 0.1, "separation": 4}
    assert costs_of(given) == ({"miss": 5, "false_alarm": 2, "defect_rate": 0.1}, False)
    assert costs_of({"rule": "maximum"})[1] is True


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scores", [np.array([2.0]), np.full(50, 2.0)])
def test_one_image_or_equal_scores_are_enough_for_a_finite_threshold(
    rule: str, scores: np.ndarray
) -> None:
    found = choose_threshold(scores, **DEFAULTS[rule])
    assert found["value"] == GIVEN.get(rule, {}).get("value", 2)
    assert found["promise"].endswith(".")


@pytest.mark.parametrize("scores", [[], [1, math.nan], [1, math.inf]])
def test_scores_that_are_not_numbers_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        choose_threshold(np.array(scores), "maximum")


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="best_guess"):
        choose_threshold(SCORES, "best_guess")


@pytest.mark.parametrize(
    ("rule", "settings"), [("maximum", {}), ("conformal", {"alpha": 0.1}), ("mean_std", {"k": 3})]
)
def test_scores_of_several_models_certify_nothing(rule: str, settings: dict[str, float]) -> None:
    scores = np.arange(30.0)
    alone, crossed = (choose_threshold(scores, rule, folds=n, **settings) for n in (None, 5))
    assert crossed["value"] == alone["value"]
    assert crossed["certified"] is None
    if alone["false_alarm_bound"] is not None:
        assert crossed["false_alarm_bound"] == 2 * alone["false_alarm_bound"]
    assert crossed["promise"].startswith("Approximately" if alone["certified"] else "No guarantee")


@pytest.mark.parametrize(
    ("rule", "settings"), [("maximum", {}), ("conformal", {"alpha": 0.1}), ("mean_std", {"k": 3})]
)
def test_leave_one_out_promises_about(rule: str, settings: dict[str, float]) -> None:
    alone, left = (
        choose_threshold(np.arange(30.0), rule, mode=mode, **settings)
        for mode in ("split", "leave_one_out")
    )
    assert (left["value"], left["certified"]) == (alone["value"], None)
    assert left["promise"].startswith("About, " if alone["certified"] else "No guarantee")


@pytest.mark.parametrize("rule", ["conformal", "generalized_pareto"])
def test_scores_of_several_models_hedge_what_stands_in_as_well(rule: str) -> None:
    settings = {"alpha": 0.01} if rule == "conformal" else {"false_alarm_rate": 0.01, "tail": 0.25}
    found = choose_threshold(np.arange(12.0), rule, folds=5, **settings)
    assert found["promise"].startswith("Approximately, and at most about twice as often")
    assert "if the model in use came out like" in found["promise"]
    assert "5 models" in found["promise"]
    alone = choose_threshold(np.arange(12.0), rule, **settings)
    assert found["false_alarm_bound"] == 2 * alone["false_alarm_bound"]
    assert found["certified"] is False


@pytest.mark.parametrize(
    ("n", "q", "above", "new"), [(42, 0.95, "7.14 %", 7.1), (64, 0.95, "6.25 %", 6.4)]
)
def test_the_quantile_says_how_many_lie_above_and_will(
    n: int, q: float, above: str, new: float
) -> None:
    rng = np.random.default_rng(0)
    found = choose_threshold(rng.normal(size=n), "quantile", q=q)
    assert f"calibration images ({above}) lie above it" in found["promise"]
    value = [
        float((rng.normal(size=2000) > np.quantile(rng.normal(size=n), q)).mean())
        for _ in range(2000)
    ]
    assert 100 * np.mean(value) == pytest.approx(new, abs=0.2)
    assert f"about {(n - q * (n - 1)) / (n + 1):.3%}"[:9] in found["promise"]


@pytest.mark.parametrize("n", [40, 60, 90])
def test_a_tail_for_a_rarer_rate_than_was_seen_is_not_below_what_was_seen(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(200):
        scores = rng.normal(size=n)
        found = choose_threshold(scores, "generalized_pareto", false_alarm_rate=0.01, tail=0.25)
        assert found["value"] >= scores.max()


def test_a_fixed_threshold_is_the_value_and_promises_nothing() -> None:
    found = choose_threshold(np.arange(10.0), "fixed", value=7.5)
    assert found["value"] == 7.5
    assert "2 of the 10 calibration images lie above it" in found["promise"]
    assert found["false_alarm_bound"] is None


@pytest.mark.parametrize(
    ("rate", "confidence", "n"), [(0.05, None, 19), (0.01, None, 99), (0.05, 0.95, 59)]
)
def test_the_images_that_a_promise_takes_are_enough_and_one_less_is_not(
    rate: float, confidence: float | None, n: int
) -> None:
    assert images_needed(rate, confidence) == n
    rule, settings = ("conformal", {"alpha": rate}) if confidence is None else ("maximum", {})
    bounds = [choose_threshold(np.arange(float(k)), rule, **settings) for k in (n, n - 1)]
    assert bounds[0]["false_alarm_bound"] <= rate
    assert bounds[1]["false_alarm_bound"] > rate or not bounds[1]["certified"]
