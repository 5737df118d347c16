from flawline.logs import logged

with logged(snakemake.log[0]):
    from flawline.report.draw_run import PLOTS, draw_cases, draw_plots

    files, output, given = dict(snakemake.input.items()), snakemake.output, snakemake.params
    svg = {name: output[name] for name in PLOTS}
    draw_plots(files, svg, dict(zip(PLOTS, output.png, strict=True)), unit=given.unit)
    draw_cases(
        files,
        output.gallery,
        output.cases,
        unit=given.unit,
        options=given.options,
        boxes=given.boxes,
    )
