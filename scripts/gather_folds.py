from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.detectors.scoring import gather

    gather(
        snakemake.input.scores,
        snakemake.input.maps,
        scores=snakemake.output.scores,
        anomaly_maps=snakemake.output.maps,
    )
