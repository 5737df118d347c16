from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.data.prepare import train_labels
    from flawline.files import read_table, write_table

    write_table(snakemake.output[0], train_labels(read_table(snakemake.input[0])))
