from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.decisions.fusion import fused_scores, write_fused_maps
    from flawline.files import read_array, read_json, read_table, write_table

    files, names = snakemake.input, snakemake.params.detectors
    scales = read_json(files.about)["scales"]
    tables = {name: read_table(path) for name, path in zip(names, files.scores, strict=True)}
    fused = fused_scores({n: table["score"].to_numpy() for n, table in tables.items()}, scales)
    write_table(snakemake.output.scores, tables[names[0]][["row"]].assign(score=fused))
    if files.get("maps"):
        maps = [read_array(path) for path in files.maps]
        write_fused_maps(snakemake.output.maps, maps, [scales[name] for name in names])
