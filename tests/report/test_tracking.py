"""Logging to MLflow. Runs where the optional package is installed, as `make test` does."""

from pathlib import Path

import pandas as pd
import pytest
from fake_runs import fake_run

from flawline.evaluation.record import RunMetrics
from flawline.report.tracking import log_runs

mlflow = pytest.importorskip("mlflow", reason="MLflow is optional: pip install '.[mlflow]'")


def metrics(auroc: float) -> RunMetrics:
    run = fake_run(
        detector="small",
        method="featcae",
        image={"auroc": auroc, "average_precision": None},
        at_threshold={"recall": 0.5, "true_positive": 3},
        pixel=None,
        threshold={"rule": "quantile", "value": 1.5, "n": 12},
        provenance={"options": {"latent": 8, "note": "x" * 9000}},
    )
    return run.metrics


TRAINING = pd.DataFrame(
    {
        "phase": ["a", "a", "b"],
        "epoch": [1, 2, 1],
        "loss": [3.0, 2.0, None],
        "other": [None, None, 1],
    }
)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text("<p>report</p>")
    return path


def test_a_run_has_parameters_metrics_curves_and_the_report(tmp_path: Path, report: Path) -> None:
    ids = log_runs([(metrics(0.9), TRAINING)], report, tmp_path / "store", "demo")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'store' / 'mlflow.db'}")
    run = client.get_run(ids["bolt/small/seed0"])
    assert run.info.status == "FINISHED"
    assert run.data.params["options.latent"] == "8"
    assert run.data.metrics["image.auroc"] == 0.9
    assert run.data.metrics["at_threshold.recall"] == 0.5
    assert "image.average_precision" not in run.data.metrics
    history = client.get_metric_history(run.info.run_id, "training.loss")
    assert [(point.step, point.value) for point in history] == [(1, 3.0), (2, 2.0)]
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.html"]


def test_the_same_run_is_logged_once_and_a_changed_one_again(tmp_path: Path, report: Path) -> None:
    first, again, other = (
        log_runs([(metrics(auroc), TRAINING)], report, tmp_path / "store", "demo")
        for auroc in (0.9, 0.9, 0.8)
    )
    assert first == again
    assert first != other
