from flawline.logs import logged

with logged(snakemake.log[0]):
    from dataclasses import asdict
    from pathlib import Path

    from flawline.data.geometry import geometry_of
    from flawline.data.prepare import category_levels, image_sizes, prepare_images
    from flawline.data.regions import Counting
    from flawline.files import read_table, write_json, write_table

    given, options = snakemake.params, snakemake.params.options
    table = read_table(snakemake.input[0])
    chosen = table[table["subset"] == snakemake.wildcards.subset]
    geometry = geometry_of(table, options["size"], options["tiles"])
    levels = category_levels(table, given.white)
    prepare_images(
        [Path(given.folder, path) for path in chosen["path"]],
        snakemake.output.images,
        Counting.of_options(given.regions, geometry.shape, options["resize"]),
        max_megapixels=given.max_megapixels,
        levels=levels,
        workers=snakemake.threads,
    )
    write_table(snakemake.output.sizes, image_sizes(table, snakemake.wildcards.subset))
    about = geometry.as_json() | {"levels": asdict(levels)}
    write_json(snakemake.output.geometry, about)
