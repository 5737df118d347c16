from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.data.prepare import prepare_images
    from flawline.files import read_table

    table = read_table(snakemake.input[0])
    chosen = table[table["subset"] == snakemake.wildcards.subset]
    prepare_images(
        [Path(snakemake.params.folder, path) for path in chosen["path"]],
        snakemake.output[0],
        max_megapixels=snakemake.params.max_megapixels,
        workers=snakemake.threads,
        **snakemake.params.options,
    )
