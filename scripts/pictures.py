from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path
    from pkgutil import resolve_name

    from flawline.detectors.data import Data
    from flawline.devices import choose_device
    from flawline.files import read_array, read_if_given, read_json, read_table
    from flawline.report import figures
    from flawline.report.cases import (
        absolute_scale,
        choose,
        open_cases,
        picture_rows,
        some_hatched,
    )

    files, options = snakemake.input, snakemake.params.options
    predictions = read_table(files.predictions)
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    threshold = read_json(files.threshold)["value"]
    chosen = choose(labels, scores, threshold, options["cases"], options["typical"])
    images, maps = read_array(files.test_images), read_array(files.maps)
    masks, counted = read_array(files.masks), read_if_given(files.shown_counted)
    cases = open_cases(chosen, predictions, images, masks, maps, None, counted)
    found = {}
    if cases:
        device = choose_device(snakemake.resources.gpu, snakemake.threads)
        detector = resolve_name(snakemake.params.detector).load(Path(files.model).parent, device)
        data = Data.open(dict(files.items()))
        found = detector.pictures(data.take([case.row for case in cases]))
    scale = absolute_scale(read_array(files.calibration_maps), maps)
    rows = picture_rows(cases, found, scale)
    columns = ["image", *found, "anomaly map"]
    sheet = figures.sheet(
        rows,
        columns,
        scale,
        across=2 if len(columns) < 5 else 1,
        hatched=some_hatched(cases),
    )
    figures.save(sheet, snakemake.output[0])
