"""Comparing two results folders."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import fake_run

from flawline.errors import FlawlineError
from flawline.files import write_json, write_table
from flawline.report.compare_results import compare_results, write_page


def write_run(
    results: Path, auroc: float, scores: np.ndarray, detector: str = "small", seed: int = 0
) -> None:
    run = results / f"bolt/unsupervised/detectors/{detector}/seed{seed}"
    made = fake_run(
        detector=detector,
        seed=seed,
        image={"auroc": auroc},
        at_threshold={"recall": 0.5, "false_alarm_rate": None},
        pixel=None,
    )
    made.metrics.save(run / "metrics.json")
    labels = np.repeat([0, 1], len(scores) // 2)
    names = [f"test/{row}" for row in range(len(scores))]
    write_table(
        run / "predictions.csv", pd.DataFrame({"image_id": names, "label": labels, "score": scores})
    )


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    noise, step = rng.normal(size=40), np.repeat([0.0, 1.0], 20)
    before, after = tmp_path / "before", tmp_path / "after"
    for seed, auroc in enumerate((0.5, 0.6, 0.9)):
        write_run(before, auroc, noise, seed=seed)
    write_run(after, 1.0, noise + 9 * step)
    write_run(after, 0.7, noise, detector="<script>alert(1)")
    for folder, size in ((before, 256), (after, 320)):
        settings = {"prepare": {"size": size}, "seeds": [0], "threshold": {"rule": "maximum"}}
        write_json(folder / "comparison/configuration.json", settings)
    return before, after


def test_says_which_settings_and_metrics_changed(folders: tuple[Path, Path]) -> None:
    changes = compare_results(*folders)
    assert [(s.name, s.before, s.after) for s in changes.settings] == [
        ("prepare.size", "256", "320")
    ]
    (pair,) = changes.pairs
    metrics = {change.metric: change for change in pair.changes}
    assert (metrics["Image AUROC"].before, metrics["Image AUROC"].after) == (0.6, 1.0)
    assert metrics["Image AUROC"].difference == pytest.approx(0.4)
    assert metrics["False alarms at the threshold"].difference is None
    assert pair.p is not None
    assert pair.p < 0.001
    assert 0 < pair.low < pair.high
    assert any("only in" in line and "alert(1)" in line for line in changes.missing)


def test_other_test_images_are_not_paired(folders: tuple[Path, Path]) -> None:
    write_run(folders[1], 1.0, np.arange(38.0))
    (pair,) = compare_results(*folders).pairs
    assert pair.p is None


def test_the_page_escapes_names(folders: tuple[Path, Path], tmp_path: Path) -> None:
    write_page(tmp_path / "changes.html", compare_results(*folders), "before", "after")
    page = (tmp_path / "changes.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "0.600 → 1.000" in page


@pytest.mark.usefixtures("forked")
def test_the_command_names_a_folder_without_results(tmp_path: Path) -> None:
    with pytest.raises(FlawlineError, match=r"no metrics\.json of any detector"):
        compare_results(tmp_path, tmp_path)
    command = [
        sys.executable,
        "-m",
        "flawline.report.compare_results",
        "nowhere",
        "nowhere",
        "page.html",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: nowhere: no metrics.json")
    assert not (tmp_path / "page.html").exists()
