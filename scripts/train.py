from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.detectors.train_detector import train_detector
    from flawline.devices import choose_device

    names, given = snakemake.wildcards, snakemake.params
    train_detector(
        given.detector,
        given.options,
        dict(snakemake.input.items()),
        Path(snakemake.output.model).parent,
        snakemake.output.log,
        seed=int(names.seed),
        category=names.category,
        device=choose_device(snakemake.resources.gpu, snakemake.threads),
        fold=None if names.get("fold") is None else int(names.fold),
        code=given.code,
        prepare=given.prepare,
        regions=given.regions,
        poses=given.poses,
        object_masks=given.object_masks,
    )
