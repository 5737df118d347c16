from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.data.prepare import image_sizes, prepare_images
    from flawline.files import read_table, write_table

    table = read_table(snakemake.input[0])
    chosen = table[table["subset"] == snakemake.wildcards.subset]
    prepare_images(
        [Path(snakemake.params.folder, path) for path in chosen["path"]],
        snakemake.output.images,
        max_megapixels=snakemake.params.max_megapixels,
        workers=snakemake.threads,
        **snakemake.params.options,
    )
    write_table(snakemake.output.sizes, image_sizes(table, snakemake.wildcards.subset))
