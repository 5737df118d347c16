from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.devices import choose_device
    from flawline.inspection.inspect_images import inspect_images

    output, given = snakemake.output, snakemake.params
    inspect_images(
        given.folder,
        given.run,
        settings=given.settings,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        table=output.table,
        page=output.page,
        overlays=output.overlays,
        history=given.history,
        batch=given.batch | {"content": given.content, "trained": given.trained},
        about=given.about,
        workers=snakemake.threads,
    )
