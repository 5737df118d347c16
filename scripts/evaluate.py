from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.evaluation.evaluate import evaluate
    from flawline.files import read_array, read_json, read_table, write_json, write_table

    labels = read_table(snakemake.input.labels)
    scores = read_table(snakemake.input.scores)["score"].to_numpy()
    calibration = read_table(snakemake.input.calibration)
    threshold = read_json(snakemake.input.threshold)
    found = evaluate(
        labels,
        scores,
        threshold["value"],
        read_array(snakemake.input.maps),
        read_array(snakemake.input.masks),
    )
    found["counts"]["calibration"] = len(calibration)
    found |= dict(snakemake.wildcards) | {"seed": int(snakemake.wildcards.seed)}
    found["method"] = snakemake.params.method
    found["threshold"] = threshold
    found["provenance"] = read_json(snakemake.input.model)["provenance"]
    write_json(snakemake.output.metrics, found)
    predictions = labels.assign(score=scores, defective=(scores > threshold["value"]).astype(int))
    write_table(snakemake.output.predictions, predictions)
