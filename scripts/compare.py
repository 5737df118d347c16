from flawline.logs import logged

with logged(snakemake.log[0]):
    import json

    from flawline.evaluation.comparison import (
        best_by_category,
        over_categories,
        over_seeds,
        pairwise,
        ranks,
        run_table,
        signed_ranks,
    )
    from flawline.files import read_json, read_table, write_json, write_table

    metrics = [read_json(path) for path in snakemake.input.metrics]
    predictions = [read_table(path) for path in snakemake.input.predictions]
    runs = run_table(metrics)
    write_table(snakemake.output.runs, runs)
    write_table(snakemake.output.seeds, over_seeds(runs))
    write_table(snakemake.output.categories, over_categories(runs))
    write_table(snakemake.output.best, best_by_category(runs))
    write_table(snakemake.output.pairwise, pairwise(metrics, predictions))
    write_table(snakemake.output.wilcoxon, signed_ranks(runs))
    write_table(snakemake.output.ranks, ranks(runs))
    write_json(snakemake.output.configuration, json.loads(snakemake.params.configuration))
