from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.report.draw_run import PLOTS, draw_cases, draw_plots, name_boxes

    files, output, given = dict(snakemake.input.items()), snakemake.output, snakemake.params
    places = zip(PLOTS, output.png, output.pdf, strict=True)
    plots = {name: (output[name], png, pdf) for name, png, pdf in places}
    draw_plots(files, plots, unit=given.unit)
    draw_cases(
        files,
        output.gallery,
        output.cases,
        unit=given.unit,
        options=given.options,
        boxes=given.boxes,
    )
    name_boxes(files, output.boxes)
