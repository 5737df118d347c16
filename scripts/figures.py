from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.files import read_array, read_json, read_table, write_json
    from flawline.report.figures import absolute_scale, choose_cases, gallery, histogram, roc

    predictions = read_table(snakemake.input.predictions)
    calibration = read_table(snakemake.input.calibration)["score"].to_numpy()
    threshold = read_json(snakemake.input.threshold)["value"]
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    groups = {
        "calibration (good)": calibration,
        "test good": scores[labels == 0],
        "test defective": scores[labels == 1],
    }
    histogram(snakemake.output.histogram, groups, threshold)
    roc(snakemake.output.roc, labels, scores, threshold)
    maps = read_array(snakemake.input.maps)
    chosen = choose_cases(
        predictions,
        threshold,
        read_array(snakemake.input.images),
        read_array(snakemake.input.masks),
        maps,
        snakemake.params.options["cases"],
    )
    scale = absolute_scale(read_array(snakemake.input.calibration_maps), maps)
    gallery(snakemake.output.gallery, chosen, *scale)
    write_json(snakemake.output.cases, [case.title for case in chosen])
