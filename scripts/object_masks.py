from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.files import read_array
    from flawline.synthesis.object_masks import ObjectMaskOptions, ObjectModel, mask_all

    options = ObjectMaskOptions.model_validate(snakemake.params.options)
    model = ObjectModel.load(snakemake.input.background, snakemake.input.about)
    mask_all(read_array(snakemake.input.images), snakemake.output[0], model, options)
