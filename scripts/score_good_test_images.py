from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.detectors.scoring import score_subset
    from flawline.devices import choose_device

    score_subset(
        snakemake.params.detector,
        dict(snakemake.input.items()),
        snakemake.output[0],
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        good_only=True,
    )
