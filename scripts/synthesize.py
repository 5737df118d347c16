from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.files import read_array, write_table
    from flawline.synthesis.contact_sheet import draw_sheet
    from flawline.synthesis.synthesize import SyntheticSet, synthesize

    images = read_array(snakemake.input.images)
    object_masks = read_array(snakemake.input.object_masks)
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
    )
    made = read_array(snakemake.output.images), read_array(snakemake.output.masks)
    draw_sheet(snakemake.output.sheet, images, object_masks, *made, table)
    write_table(snakemake.output.index, table)
