from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.data.geometry import geometry_of
    from flawline.data.prepare import image_sizes
    from flawline.data.regions import Counting, write_counted
    from flawline.files import read_table

    given, options = snakemake.params, snakemake.params.options
    table = read_table(snakemake.input[0])
    shape = geometry_of(table, options["size"], options["tiles"]).shape
    sizes = image_sizes(table, snakemake.wildcards.subset)
    counting = Counting.of_options(given.regions, shape, options["resize"])
    write_counted(sizes, snakemake.output[0], counting)
