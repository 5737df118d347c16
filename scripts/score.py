from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path
    from pkgutil import resolve_name

    from flawline.detectors.base import Data
    from flawline.detectors.scoring import score_to_files
    from flawline.devices import choose_device

    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    detector = resolve_name(snakemake.params.detector).load(
        Path(snakemake.input.model).parent, device
    )
    data = Data.open(snakemake.params.image_size, dict(snakemake.input.items()))
    score_to_files(detector, data, snakemake.output.scores, snakemake.output.maps)
