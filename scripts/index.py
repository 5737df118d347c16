from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from pydantic import TypeAdapter

    from flawline.data.datasets import AnyDataset
    from flawline.data.index import scan
    from flawline.data.problems import problem_table, refuse, summary
    from flawline.files import write_table

    options = dict(snakemake.params.options)
    on_problem = options.pop("on_problem")
    category = snakemake.wildcards.category
    index, problems = scan(
        TypeAdapter(AnyDataset).validate_python(snakemake.params.dataset),
        category,
        workers=snakemake.threads,
        prepare=snakemake.params.prepare,
        **options,
    )
    refuse(category, problems, on_problem)
    for line in summary(problems):
        log.warning("%s: %s", category, line)
    write_table(snakemake.output.problems, problem_table(problems))
    write_table(snakemake.output.index, index)
