from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.data.geometry import geometry_of
    from flawline.data.prepare import prepare_masks, test_labels
    from flawline.files import read_table, write_table

    options = snakemake.params.options
    table = read_table(snakemake.input[0])
    masks = table.loc[table["subset"] == "test", "mask_path"]
    prepare_masks(
        [Path(snakemake.params.folder, path) if path else None for path in masks],
        snakemake.output.masks,
        shape=geometry_of(table, options["size"], options["tiles"]).shape,
        resize=options["resize"],
        max_megapixels=snakemake.params.max_megapixels,
        workers=snakemake.threads,
    )
    write_table(snakemake.output.labels, test_labels(table))
