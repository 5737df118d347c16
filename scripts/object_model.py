from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from flawline.files import read_array, read_if_given
    from flawline.options.object_masks import ObjectMaskOptions
    from flawline.synthesis.object_masks import fit

    options = ObjectMaskOptions.model_validate(snakemake.params.options)
    model = fit(read_array(snakemake.input.images), options, read_if_given(snakemake.input.counted))
    log.info("%s: %s", model.method, model.reason)
    model.save(snakemake.output.background, snakemake.output.about)
