from flawline.logs import logged

with logged(snakemake.log[0]):
    from dataclasses import replace
    from pathlib import Path
    from pkgutil import resolve_name

    import numpy as np

    from flawline.data.split import rows_of
    from flawline.detectors.base import Data
    from flawline.detectors.scoring import score_to_files
    from flawline.devices import choose_device
    from flawline.files import read_table

    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    detector = resolve_name(snakemake.params.detector).load(
        Path(snakemake.input.model).parent, device
    )
    files = dict(snakemake.input.items())
    rows = None
    if "folds" in files:
        rows = rows_of(read_table(files["folds"]), int(snakemake.wildcards.fold))
    data = Data.open(files)
    if rows is None and snakemake.wildcards.get("subset") == "train":
        # what a memory has from an image itself must not speak for it
        data = replace(data, own=np.arange(len(data)))
    score_to_files(detector, data, snakemake.output.scores, snakemake.output.maps, rows)
