"""Inspected batches: drift against the calibration images, and the history."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flawline.data.geometry import Geometry
from flawline.errors import FlawlineError
from flawline.inspection import page
from flawline.inspection.batches import KEY, compared, recorded
from flawline.inspection.folder import Verdict
from flawline.inspection.trained_detector import TrainedDetector

NAMES = dict(zip(KEY, ("monday", "bolt", "pc", "0", "ab12", "cd34"), strict=True))


def trained(calibration: np.ndarray, mode: str = "split") -> TrainedDetector:
    calibration = np.sort(calibration)
    threshold = {"value": float(calibration[-2]), "promise": "None.", "mode": mode}
    detector: Any = None
    return TrainedDetector(
        detector=detector,
        settings={},
        threshold=threshold,
        calibration=calibration,
        scale=(0.0, 1.0),
        limit=1.0,
        geometry=Geometry((8, 8)),
    )


def verdicts(scores: np.ndarray, model: TrainedDetector) -> list[Verdict]:
    decisions = np.where(model.defective(scores), "defective", "good")
    p_values = model.p_values(scores)
    rows = zip(decisions.tolist(), scores.tolist(), p_values.tolist(), strict=True)
    return [Verdict(f"{i}.png", *row) for i, row in enumerate(rows)]


def drift_of(shift: float, rng: np.random.Generator, defects: int = 0, mode: str = "split") -> str:
    model = trained(rng.normal(10, 1, 42), mode)
    scores = np.append(rng.normal(10 + shift, 1, 60), np.full(defects, 30.0))
    return compared(verdicts(scores, model), model).word


def test_drift_is_seldom_seen_where_there_is_none_however_many_defects_there_are() -> None:
    rng = np.random.default_rng(0)
    for defects in (0, 30):
        words = [drift_of(0, rng, defects) for _ in range(200)]
        assert words.count("none") >= 194


def test_drift_is_told_by_its_direction() -> None:
    rng = np.random.default_rng(0)
    assert [drift_of(shift, rng) for shift in (-1.5, 1.5)] == ["lower", "higher"]
    model = trained(rng.normal(10, 1, 42))
    assert "No drift seen" in compared(verdicts(rng.normal(10, 1, 60), model), model).verdict


def test_lower_scores_are_not_drift_if_images_were_left_out() -> None:
    rng = np.random.default_rng(0)
    found = [drift_of(shift, rng, mode="leave_one_out") for shift in (-1.5, 1.5)]
    assert found == ["none", "higher"]


def test_drift_is_not_tested_where_nothing_can_be_compared() -> None:
    rng = np.random.default_rng(0)
    assert drift_of(1.5, rng, mode="cross") == "not tested"
    model = trained(rng.normal(10, 1, 42))
    few = compared(verdicts(rng.normal(10, 1, 5), model), model)
    assert (few.word, few.p_value) == ("not tested", None)


def test_the_history_has_one_row_for_the_same_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = trained(rng.normal(10, 1, 42))
    found = verdicts(np.append(rng.normal(10, 1, 20), 30.0), model)
    found.append(Verdict("x.png", "unreadable", reason="no image"))
    comparison = compared(found, model)
    history = tmp_path / "inspection" / "batches.csv"
    for names in (NAMES, NAMES, NAMES | {"inspection": "01", "content": "0e1"}):
        rows = recorded(history, found, comparison, names)
    assert [row["inspection"] for row in rows] == ["monday", "01"]
    assert {row["content"] for row in rows} == {"cd34", "0e1"}
    assert (rows[0]["images"], rows[0]["unreadable"]) == ("21", "1")
    # another training is another detector
    rows = recorded(history, found, comparison, NAMES | {"trained": "ef56"})
    assert len(rows) == 1
    history.write_text("inspected,insp")
    with pytest.raises(FlawlineError, match=r"batches\.csv"):
        recorded(history, found, comparison, NAMES)


def test_the_page_shows_drift_and_the_batches(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = trained(rng.normal(10, 1, 42))
    found = [Verdict("x.png", "unreadable", reason="no image")]
    rows = recorded(tmp_path / "b.csv", found, compared(found, model), NAMES)
    page.render(tmp_path / "x.html", page.describe(found, model, tmp_path, rows))
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "Drift is not tested" in text
    assert '<td class="text">monday</td>' in text
