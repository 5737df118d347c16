from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.data.split import fold_table, split_supervised, split_unsupervised
    from flawline.files import read_table, write_table

    protocols = {"unsupervised": split_unsupervised, "supervised": split_supervised}
    split = protocols[snakemake.wildcards.protocol]
    table = split(
        read_table(snakemake.input[0]),
        category=snakemake.wildcards.category,
        **snakemake.params.options,
    )
    write_table(snakemake.output.split, table)
    write_table(snakemake.output.folds, fold_table(table))
