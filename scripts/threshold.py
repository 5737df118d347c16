from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.decisions.thresholds import choose_threshold
    from flawline.files import read_table, write_json

    scores = read_table(snakemake.input[0])["score"].to_numpy()
    found = choose_threshold(
        scores,
        mode=snakemake.params.mode,
        folds=snakemake.params.folds,
        **snakemake.params.options,
    )
    write_json(snakemake.output[0], found)
