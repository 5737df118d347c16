from flawline.logs import logged

with logged(snakemake.log[0]):
    import pandas as pd

    from flawline.decisions.fusion import fused_threshold, map_scale
    from flawline.files import read_array, read_json, read_table, write_json, write_table
    from flawline.provenance import record

    files, given = snakemake.input, snakemake.params
    names = given.options["detectors"]
    scores = {
        name: read_table(path)["score"].to_numpy()
        for name, path in zip(names, files.scores, strict=True)
    }
    costs = {key: given.costs[key] for key in given.costs}
    threshold, scales = fused_threshold(
        scores, given.options["alpha"], mode=given.mode, folds=given.folds, **costs
    )
    for name, path in zip(names, files.maps, strict=True):
        scales[name] |= map_scale(read_array(path))
    devices = {read_json(path)["provenance"]["inputs"]["device"] for path in files.about}
    provenance = record(given.options, given.code, device=", ".join(sorted(devices)))
    write_json(snakemake.output.threshold, threshold)
    write_json(snakemake.output.about, {"scales": scales, "provenance": provenance})
    write_table(snakemake.output.log, pd.DataFrame(columns=["epoch"]))
