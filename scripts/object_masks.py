from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.files import read_array, read_if_given
    from flawline.options.object_masks import ObjectMaskOptions
    from flawline.synthesis.object_masks import ObjectModel, mask_all

    options = ObjectMaskOptions.model_validate(snakemake.params.options)
    model = ObjectModel.load(snakemake.input.background, snakemake.input.about)
    images, counted = snakemake.input.images, read_if_given(snakemake.input.counted)
    mask_all(read_array(images), snakemake.output[0], model, options, counted)
