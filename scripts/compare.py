from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.evaluation.comparison import (
        best_by_category,
        over_categories,
        over_seeds,
        run_table,
    )
    from flawline.files import read_json, write_table

    runs = run_table([read_json(path) for path in snakemake.input])
    write_table(snakemake.output.runs, runs)
    write_table(snakemake.output.seeds, over_seeds(runs))
    write_table(snakemake.output.categories, over_categories(runs))
    write_table(snakemake.output.best, best_by_category(runs))
