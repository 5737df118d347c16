from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from flawline.decisions.boxes import box_table, boxed_share, map_limit
    from flawline.files import read_array, read_table, write_table

    options = dict(snakemake.params.options)
    min_area = options.pop("min_area")
    calibration_maps = read_array(snakemake.input.calibration_maps)
    limit = map_limit(calibration_maps, **options)
    share = boxed_share(len(calibration_maps), options["quantile"])
    log.info(
        "boxed: pixels above %.6g; above level 1 are %.3g %% of good images", limit, 100 * share
    )
    table = box_table(
        read_array(snakemake.input.maps),
        read_table(snakemake.input.sizes),
        limit=limit,
        min_area=min_area,
        resize=snakemake.params.resize,
    )
    write_table(snakemake.output[0], table)
