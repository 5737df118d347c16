from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.devices import choose_device
    from flawline.evaluation.learning_curve import curve_of_run
    from flawline.files import write_table

    names, given = snakemake.wildcards, snakemake.params
    table = curve_of_run(
        given.detector,
        given.options,
        dict(snakemake.input.items()),
        seed=int(names.seed),
        category=names.category,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        **given.curve,
    )
    write_table(snakemake.output[0], table)
