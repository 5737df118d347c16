"""Draw one run for the report: plots, cases, and what the method sees."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.decisions.boxes import map_scale
from flawline.detectors.data import Data
from flawline.evaluation.record import RunMetrics
from flawline.files import read_array, read_if_given, read_json, read_table, write_table
from flawline.report import figures
from flawline.report.cases import (
    calibration_cases,
    choose,
    open_cases,
    picture_rows,
    some_hatched,
    write_cases,
)
from flawline.report.charts import CURVES, loss_series

if TYPE_CHECKING:
    import torch

PLOTS = ("histogram", *(curve.key for curve in CURVES), "losses")


def draw_plots(files: Mapping[str, Any], places: Mapping[str, Sequence[str]], *, unit: str) -> None:
    """Plot the scores, the curves and the losses of a run.

    Parameters
    ----------
    files : paths of `metrics`, `predictions`, `calibration` (scores) and `training`.
    places : files for each of `PLOTS`; suffixes choose the format.
    unit : of the anomaly score, in words.
    """
    metrics, predictions = RunMetrics.load(files["metrics"]), read_table(files["predictions"])
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    groups = {
        "calibration": read_table(files["calibration"])["score"].to_numpy(),
        "good": scores[labels == 0],
        "defective": scores[labels == 1],
    }
    plots = {"histogram": figures.histogram(groups, metrics.threshold.value, unit)}
    at = metrics.at_threshold
    marks = {"roc": (at.false_alarm_rate, at.recall), "pr": (at.recall, at.precision)}
    for curve in CURVES:
        points, area = getattr(metrics.curves, curve.key), metrics.value(curve.area)
        x, y = marks.get(curve.key, (None, None))
        mark = None if x is None or y is None else (x, y)
        plots[curve.key] = figures.curve(curve, points, area, mark)
    rows: list[Any] = read_table(files["training"]).to_dict("records")
    plots["losses"] = figures.losses(loss_series(rows))
    for name, plot in plots.items():
        figures.save(plot, *places[name])


def draw_cases(
    files: Mapping[str, Any],
    gallery: Path | str,
    folder: Path | str,
    *,
    unit: str,
    options: Mapping[str, int],
    boxes: Mapping[str, float],
) -> None:
    """Show the most wrong and some typical images of a run.

    Without good test images, the calibration images with the highest scores are shown.

    Parameters
    ----------
    files : paths by name, as the rule `figures` lists its inputs.
    gallery, folder : the picture of all cases, and the folder of one picture for each.
    options : how many `cases` and `typical` images.
    boxes : options of the boxes.
    """
    predictions = read_table(files["predictions"])
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    threshold = RunMetrics.load(files["metrics"]).threshold.value
    maps, calibration_maps = read_array(files["maps"]), read_array(files["calibration_maps"])
    scale, limit = map_scale(calibration_maps, quantile=boxes["quantile"], level=boxes["level"])
    cases = open_cases(
        choose(labels, scores, threshold, options["cases"], options["typical"]),
        predictions,
        read_array(files["images"]),
        read_array(files["masks"]),
        maps,
        read_table(files["boxes"]),
        read_if_given(files["counted"]),
    )
    if (labels != 0).all():
        cases += calibration_cases(
            read_table(files["calibration"]),
            read_table(files["split"]),
            read_array(files["calibration_images"]),
            calibration_maps,
            options["cases"],
            limit=limit,
            min_area=int(boxes["min_area"]),
            counted=read_if_given(files["calibration_counted"]),
        )
    figures.save(figures.gallery(cases, scale, limit), gallery)
    write_cases(folder, cases, scale, unit=unit, boxed=limit)


def name_boxes(files: Mapping[str, Any], path: Path | str) -> None:
    """Write the boxes of the test images with the images' ids.

    Parameters
    ----------
    files : paths of `predictions` and `boxes`, whose rows are those of the test subset.
    path : a CSV file.
    """
    names = read_table(files["predictions"])[["row", "image_id"]]
    write_table(path, names.merge(read_table(files["boxes"]), on="row"))


def draw_pictures(
    files: Mapping[str, Any],
    path: Path | str,
    *,
    implementation: str,
    device: "torch.device",
    options: Mapping[str, int],
    boxes: Mapping[str, float],
) -> None:
    """Show a method's pictures of its cases, besides their anomaly maps.

    Parameters
    ----------
    files : paths by name, as the rule `pictures` lists its inputs.
    implementation : where the method's class is, as `module:name`.
    options : how many `cases` and `typical` images.
    boxes : options of the boxes, which the scale of the maps depends on.
    """
    predictions = read_table(files["predictions"])
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    threshold = read_json(files["threshold"])["value"]
    maps = read_array(files["maps"])
    cases = open_cases(
        choose(labels, scores, threshold, options["cases"], options["typical"]),
        predictions,
        read_array(files["test_images"]),
        read_array(files["masks"]),
        maps,
        None,
        read_if_given(files["shown_counted"]),
    )
    pictures: dict[str, np.ndarray] = {}
    if cases:
        detector = resolve_name(implementation).load(Path(files["model"]).parent, device)
        data = Data.open(dict(files))
        pictures = detector.pictures(data.take(np.array([case.row for case in cases])))
    scale, limit = map_scale(
        read_array(files["calibration_maps"]), quantile=boxes["quantile"], level=boxes["level"]
    )
    columns = ["image", *pictures, "anomaly map"]
    sheet = figures.sheet(
        picture_rows(cases, pictures, scale),
        columns,
        scale,
        across=2 if len(columns) < 5 else 1,
        hatched=some_hatched(cases),
        boxed=limit,
    )
    figures.save(sheet, path)
