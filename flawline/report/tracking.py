"""Log finished runs to MLflow, in a local store without a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flawline.errors import FlawlineError
from flawline.evaluation.record import RunMetrics
from flawline.metrics import SECTIONS
from flawline.provenance import digest

if TYPE_CHECKING:
    import pandas as pd

KEY = "flawline.content"
LONGEST = 500  # characters of a parameter that MLflow keeps


def log_runs(
    runs: Sequence[tuple[RunMetrics, "pd.DataFrame"]], report: Path, store: Path, dataset: str
) -> dict[str, str]:
    """Log each run once: a run that is already in the store with the same content is skipped.

    Parameters
    ----------
    runs : metrics and training log of each.
    report : the report, kept as an artefact of every new run.
    store : folder for the database and the artefacts; made if it does not exist.
    dataset : the experiment's name.

    Returns
    -------
    MLflow's run id by ``category/detector/seed``.

    Raises
    ------
    FlawlineError
        If MLflow is not installed.
    """
    try:
        import mlflow
        from mlflow.entities import Metric, Param
    except ImportError:
        raise FlawlineError(
            "mlflow.enabled is true, but MLflow is not installed; `pip install 'flawline[mlflow]'` "
            "(in a checkout: `pip install '.[mlflow]'`), or set it to false"
        ) from None

    store = store.resolve()
    store.mkdir(parents=True, exist_ok=True)
    client = mlflow.MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    found = client.get_experiment_by_name(dataset)
    experiment = (
        found.experiment_id
        if found
        else client.create_experiment(dataset, (store / "artifacts").as_uri())
    )
    ids = {}
    for metrics, training in runs:
        name = f"{metrics.category}/{metrics.detector}/seed{metrics.seed}"
        key = digest(metrics.model_dump(exclude_unset=True))
        known = client.search_runs([experiment], f"tags.`{KEY}` = '{key}'", max_results=1)
        if known:
            ids[name] = known[0].info.run_id
            continue
        run = client.create_run(experiment, run_name=name, tags={KEY: key})
        time = run.info.start_time
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(name, value, time, 0) for name, value in _values(metrics)]
            + [Metric(f"training.{c}", v, time, step) for c, v, step in _curves(training)],
            params=[Param(key, value[:LONGEST]) for key, value in _parameters(metrics)],
        )
        client.log_artifact(run.info.run_id, str(report))
        client.set_terminated(run.info.run_id)
        ids[name] = run.info.run_id
    return ids


def _parameters(metrics: RunMetrics) -> list[tuple[str, str]]:
    names = ("category", "protocol", "detector", "method", "seed")
    about = {name: getattr(metrics, name) for name in names}
    options = {f"options.{key}": v for key, v in metrics.provenance["options"].items()}
    threshold = {"threshold.rule": metrics.threshold.rule, "threshold.n": metrics.threshold.n}
    return [(key, str(value)) for key, value in (about | options | threshold).items()]


def _values(metrics: RunMetrics) -> list[tuple[str, float]]:
    sections = {part: getattr(metrics, part) for part in SECTIONS}
    return [
        (f"{part}.{name}", float(value))
        for part, section in sections.items()
        for name, value in (section or {})
        if isinstance(value, int | float)
    ] + [("threshold.value", metrics.threshold.value)]


def _curves(training: "pd.DataFrame") -> list[tuple[str, float, int]]:
    numbers = training.select_dtypes("number").columns
    return [
        (str(column), float(value), step)
        for column in numbers
        for step, value in enumerate(training[column].tolist(), start=1)
        if value == value  # each phase has its own losses; cells of other losses are empty
    ]
