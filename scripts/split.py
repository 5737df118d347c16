from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.data.split import split_unsupervised
    from flawline.files import read_table, write_table

    index = read_table(snakemake.input[0])
    table = split_unsupervised(
        index, category=snakemake.wildcards.category, **snakemake.params.options
    )
    write_table(snakemake.output[0], table)
