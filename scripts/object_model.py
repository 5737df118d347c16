from flawline.logs import logged

with logged(snakemake.log[0]) as log:
    from flawline.files import read_array
    from flawline.synthesis.object_masks import ObjectMaskOptions, fit

    options = ObjectMaskOptions.model_validate(snakemake.params.options)
    model = fit(read_array(snakemake.input[0]), options)
    log.info("%s: %s", model.method, model.reason)
    model.save(snakemake.output.background, snakemake.output.about)
