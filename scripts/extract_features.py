from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.features.store import provide

    provide(
        snakemake.input.images,
        snakemake.output.features,
        store=Path(snakemake.params.store),
        gpus=snakemake.resources.gpu,
        threads=snakemake.threads,
        **snakemake.params.options,
    )
