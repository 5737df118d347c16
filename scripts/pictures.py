from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.devices import choose_device
    from flawline.report.draw_run import draw_pictures

    draw_pictures(
        dict(snakemake.input.items()),
        snakemake.output[0],
        implementation=snakemake.params.detector,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        options=snakemake.params.options,
        boxes=snakemake.params.boxes,
    )
