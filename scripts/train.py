from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path
    from pkgutil import resolve_name

    import pandas as pd

    from flawline.detectors.base import Data
    from flawline.devices import choose_device
    from flawline.files import read_json, write_table
    from flawline.provenance import record
    from flawline.seeding import derive

    detector_class = resolve_name(snakemake.params.detector)
    options = detector_class.Options.model_validate(snakemake.params.options)
    seed = derive(int(snakemake.wildcards.seed), snakemake.wildcards.category, "train")
    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    detector = detector_class(options, seed, device)
    files = dict(snakemake.input.items())
    log = detector.fit(Data.open(snakemake.params.image_size, files))
    about = read_json(files["features_json"]) if "features_json" in files else {}
    provenance = record(
        snakemake.params.options, snakemake.params.code, device=device.type, features=about
    )
    detector.save(Path(snakemake.output.model).parent, provenance)
    write_table(snakemake.output.log, pd.DataFrame(log))
