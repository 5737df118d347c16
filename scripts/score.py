from flawline.logs import logged

with logged(snakemake.log[0]):
    from dataclasses import replace
    from pathlib import Path
    from pkgutil import resolve_name

    import numpy as np

    from flawline.data.split import rows_of
    from flawline.detectors.data import Data
    from flawline.detectors.scoring import score_to_files
    from flawline.devices import choose_device
    from flawline.files import read_table

    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    detector = resolve_name(snakemake.params.detector).load(
        Path(snakemake.input.model).parent, device
    )
    files = dict(snakemake.input.items())
    folds = read_table(files["folds"]) if "folds" in files else None
    data, rows = Data.open(files), None
    if snakemake.wildcards.get("subset") == "train":
        # what a memory has from an image itself, or from its kin, must not speak for it
        kin = None if folds is None else folds["fold"].to_numpy()
        data = replace(data, own=np.arange(len(data)), kin=kin)
    elif folds is not None:
        rows = rows_of(folds, int(snakemake.wildcards.fold))
    score_to_files(detector, data, snakemake.output.scores, snakemake.output.maps, rows)
