from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path
    from pkgutil import resolve_name

    import numpy as np

    from flawline.detectors.data import Data
    from flawline.detectors.scoring import score_to_files
    from flawline.devices import choose_device
    from flawline.files import read_table

    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    detector = resolve_name(snakemake.params.detector).load(
        Path(snakemake.input.model).parent, device
    )
    goods = np.flatnonzero(read_table(snakemake.input.test_labels)["label"].to_numpy() == 0)
    data = Data.open(dict(snakemake.input.items()))
    score_to_files(detector, data, snakemake.output[0], rows=goods)
