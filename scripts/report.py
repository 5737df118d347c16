from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.report.write_report import write_report

    files, outputs, given = snakemake.input, snakemake.output, snakemake.params
    write_report(
        given.dataset,
        given.configuration,
        outputs.page,
        metrics=files.metrics,
        sheets=files.sheets,
        tables=dict(files.items()),
        benchmarks=given.benchmarks,
        curves=files.curves,
        critical_difference=outputs.critical_difference,
        accuracy_cost=outputs.accuracy_cost,
        cost=outputs.cost,
    )
