from flawline.logs import logged

with logged(snakemake.log[0]):
    from pkgutil import resolve_name

    from flawline.detectors.data import Data
    from flawline.devices import choose_device
    from flawline.evaluation.draws import draws
    from flawline.files import read_table, write_table
    from flawline.seeding import derive

    given, names = snakemake.params, snakemake.wildcards
    detector_class = resolve_name(given.detector)
    options = detector_class.Options.model_validate(given.options)
    seed = derive(int(names.seed), names.category, "train")
    device = choose_device(snakemake.resources.gpu, snakemake.threads)

    def of(subset):
        files = dict(snakemake.input.items())
        head = f"{subset}_"
        return Data.open(
            {name.removeprefix(head): files[name] for name in files if name.startswith(head)}
        )

    found = draws(
        lambda: detector_class(options, seed, device),
        of("train"),
        of("calibration"),
        of("test"),
        read_table(snakemake.input.split),
        given.seeds,
        fraction=given.fraction,
        category=names.category,
        threshold=given.threshold,
    )
    write_table(snakemake.output[0], found)
