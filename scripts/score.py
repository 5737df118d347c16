from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.detectors.scoring import score_subset
    from flawline.devices import choose_device

    names = snakemake.wildcards
    score_subset(
        snakemake.params.detector,
        dict(snakemake.input.items()),
        snakemake.output.scores,
        snakemake.output.maps,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        own=names.get("subset") == "train",
        fold=None if names.get("fold") is None else int(names.fold),
    )
