from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.data.problems import left_out
    from flawline.decisions.thresholds import costs_of
    from flawline.evaluation.checks import border_peaks, check
    from flawline.evaluation.evaluate import evaluate
    from flawline.evaluation.image_metrics import decision_metrics
    from flawline.files import (
        read_array,
        read_if_given,
        read_json,
        read_table,
        write_json,
        write_table,
    )

    names = snakemake.wildcards
    labels = read_table(snakemake.input.labels)
    scores = read_table(snakemake.input.scores)["score"].to_numpy()
    calibration, train = read_table(snakemake.input.calibration), read_table(snakemake.input.train)
    threshold = read_json(snakemake.input.threshold)
    maps, counted = read_array(snakemake.input.maps), read_if_given(snakemake.input.counted)
    good = labels["label"].to_numpy() == 0
    costs, assumed = costs_of(threshold)
    problems = read_table(snakemake.input.problems)
    found = evaluate(
        labels,
        scores,
        threshold["value"],
        maps,
        read_array(snakemake.input.masks),
        counted=counted,
        costs=costs,
        left_out=left_out(problems, "test"),
        seed=int(names.seed),
        category=names.category,
        **snakemake.params.options,
    )
    if found["risk"]:
        found["risk"]["assumed"] = assumed
    if (boundary := snakemake.params.boundary) is not None:
        found["at_boundary"] = decision_metrics(labels["label"].to_numpy(), scores > boundary)
    found["counts"] |= {"calibration": len(calibration), "train": len(train)}
    found["checks"] = check(
        read_table(snakemake.input.split),
        {"train": train, "calibration": calibration},
        scores[good],
        read_table(snakemake.input.near_duplicates),
        border_peaks(maps[good], None if counted is None else counted[good]),
        apart=snakemake.params.apart,
        left_out=threshold["mode"] == "leave_one_out",
        folds=[read_table(path)["score"].to_numpy() for path in snakemake.input.folds],
    )
    found |= dict(names) | {"seed": int(names.seed), "method": snakemake.params.method}
    found["threshold"] = threshold
    if snakemake.input.draws:
        draws = read_table(snakemake.input.draws).astype(object)
        found["draws"] = draws.where(draws.notna(), None).to_dict("records")
    found["provenance"] = read_json(snakemake.input.model)["provenance"]
    write_json(snakemake.output.metrics, found)
    predictions = labels.assign(score=scores, defective=(scores > threshold["value"]).astype(int))
    write_table(snakemake.output.predictions, predictions)
