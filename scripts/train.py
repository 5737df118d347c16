from flawline.logs import logged

with logged(snakemake.log[0]):
    from dataclasses import replace
    from pathlib import Path
    from pkgutil import resolve_name

    import pandas as pd

    from flawline.data.split import rows_outside
    from flawline.detectors.data import Data
    from flawline.devices import choose_device
    from flawline.files import read_json, read_table, write_table
    from flawline.learning.training import Checkpoint
    from flawline.provenance import digest, record
    from flawline.seeding import derive

    detector_class = resolve_name(snakemake.params.detector)
    options = detector_class.Options.model_validate(snakemake.params.options)
    seed = derive(int(snakemake.wildcards.seed), snakemake.wildcards.category, "train")
    device = choose_device(snakemake.resources.gpu, snakemake.threads)
    files = dict(snakemake.input.items())
    features = [read_json(path) for path in files.get("features_json", [])]
    about = record(
        snakemake.params.options,
        snakemake.params.code,
        device=device.type,
        features=features,
        geometry=read_json(files["geometry"]),
        prepare=snakemake.params.prepare,
        regions=snakemake.params.regions,
        poses=snakemake.params.poses,
        object_masks=snakemake.params.object_masks,
    )
    # beside the outputs under a hidden name: it must survive the job that it saves
    checkpoint = Checkpoint(
        Path(snakemake.output.log).with_name(".checkpoint.safetensors"),
        digest(about, seed, files=snakemake.input),
    )
    data = Data.open(files)
    if "folds" in files:
        fold = int(snakemake.wildcards.fold)
        data = replace(
            data.take(rows_outside(read_table(files["folds"]), fold)), scheduled=len(data)
        )
    detector = detector_class(options, seed, device)
    training = detector.fit(data, checkpoint)
    ended = {"training": training.ended, "precision": training.precision}
    detector.save(Path(snakemake.output.model).parent, about | ended)
    write_table(snakemake.output.log, pd.DataFrame(training.rows))
    checkpoint.path.unlink(missing_ok=True)
