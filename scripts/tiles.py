from flawline.logs import logged

with logged(snakemake.log[0]):
    from dataclasses import asdict
    from pathlib import Path

    from flawline.data.geometry import geometry_of
    from flawline.data.prepare import category_levels, prepare_tiles
    from flawline.data.regions import Counting
    from flawline.files import read_table, write_json

    given, options = snakemake.params, snakemake.params.options
    table = read_table(snakemake.input[0])
    chosen = table[table["subset"] == snakemake.wildcards.subset]
    tiling = geometry_of(table, options["size"], options["tiles"]).tiling
    assert tiling is not None
    prepare_tiles(
        [Path(given.folder, path) for path in chosen["path"]],
        snakemake.output.tiles,
        Counting.of_options(given.regions, tiling.canvas, options["resize"]),
        tiling,
        max_megapixels=given.max_megapixels,
        levels=category_levels(table, given.white),
        workers=snakemake.threads,
    )
    write_json(snakemake.output.about, asdict(tiling))
