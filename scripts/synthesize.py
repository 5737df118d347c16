from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.detectors.data import Data
    from flawline.files import read_array, write_table
    from flawline.options.synthetic import SyntheticSet
    from flawline.synthesis.contact_sheet import draw_sheet
    from flawline.synthesis.synthesize import synthesize

    data = Data.open(dict(snakemake.input.items()))
    images, seen = data.images, data.geometry.seen
    object_masks = data.cut(data.object_masks, seen)
    counted = None if data.counted is None else data.cut(data.counted, seen)
    table = synthesize(
        images,
        object_masks,
        SyntheticSet.model_validate(snakemake.params.options),
        seed=snakemake.params.seed,
        category=snakemake.wildcards.category,
        name=snakemake.wildcards.synthetic,
        images_path=snakemake.output.images,
        masks_path=snakemake.output.masks,
        workers=snakemake.threads,
        counted=counted,
    )
    made = read_array(snakemake.output.images), read_array(snakemake.output.masks)
    draw_sheet(snakemake.output.sheet, images, object_masks, *made, table)
    write_table(snakemake.output.index, table)
