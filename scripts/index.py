from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from pathlib import Path

    from flawline.data.index import problem_table, refuse, scan, summary
    from flawline.files import write_table

    options = dict(snakemake.params.options)
    on_problem = options.pop("on_problem")
    category = snakemake.wildcards.category
    index, problems = scan(
        Path(snakemake.params.folder, category),
        workers=snakemake.threads,
        prepare=snakemake.params.prepare,
        **options,
    )
    refuse(category, problems, on_problem)
    for line in summary(problems):
        log.warning("%s: %s", category, line)
    write_table(snakemake.output.problems, problem_table(problems))
    write_table(snakemake.output.index, index)
