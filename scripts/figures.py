from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.decisions.boxes import map_limit
    from flawline.evaluation.record import RunMetrics
    from flawline.files import read_array, read_if_given, read_table
    from flawline.report import figures
    from flawline.report.cases import (
        absolute_scale,
        calibration_cases,
        choose,
        open_cases,
        write_cases,
    )
    from flawline.report.charts import CURVES, loss_series

    files, options, unit = snakemake.input, snakemake.params.options, snakemake.params.unit
    metrics, predictions = RunMetrics.load(files.metrics), read_table(files.predictions)
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    threshold, at = metrics.threshold.value, metrics.at_threshold
    calibration = read_table(files.calibration)
    groups = {
        "calibration": calibration["score"].to_numpy(),
        "good": scores[labels == 0],
        "defective": scores[labels == 1],
    }
    drawn = {"histogram": figures.histogram(groups, threshold, unit)}
    marks = {
        "roc": (at.false_alarm_rate, at.recall),
        "pr": (at.recall, at.precision),
    }
    for curve in CURVES:
        mark = marks.get(curve.key, (None,))
        points, area = getattr(metrics.curves, curve.key), metrics.value(curve.area)
        drawn[curve.key] = figures.curve(curve, points, area, None if None in mark else mark)
    drawn["losses"] = figures.losses(loss_series(read_table(files.training).to_dict("records")))
    for number, (name, figure) in enumerate(drawn.items()):
        figures.save(figure, snakemake.output[name], snakemake.output.png[number])

    maps, calibration_maps = read_array(files.maps), read_array(files.calibration_maps)
    chosen = choose(labels, scores, threshold, options["cases"], options["typical"])
    arrays = read_array(files.images), read_array(files.masks), maps
    boxes, counted = read_table(files.boxes), read_if_given(files.counted)
    cases = open_cases(chosen, predictions, *arrays, boxes, counted)
    if not len(groups["good"]):
        boxed = dict(snakemake.params.boxes)
        min_area = boxed.pop("min_area")
        cases += calibration_cases(
            calibration,
            read_table(files.split),
            read_array(files.calibration_images),
            calibration_maps,
            options["cases"],
            limit=map_limit(calibration_maps, **boxed),
            min_area=min_area,
            counted=read_if_given(files.calibration_counted),
        )
    scale = absolute_scale(calibration_maps, maps)
    figures.save(figures.gallery(cases, scale), snakemake.output.gallery)
    write_cases(snakemake.output.cases, cases, scale, unit=unit)
