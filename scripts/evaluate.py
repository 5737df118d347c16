from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.evaluation.evaluate_run import evaluate_run
    from flawline.files import write_table

    names, given = snakemake.wildcards, snakemake.params
    metrics, tables = evaluate_run(
        dict(snakemake.input.items()),
        category=names.category,
        protocol=names.protocol,
        detector=names.detector,
        seed=int(names.seed),
        method=given.method,
        boundary=given.boundary,
        options=given.options,
    )
    metrics.save(snakemake.output.metrics)
    for name, table in tables.items():
        write_table(snakemake.output[name], table)
