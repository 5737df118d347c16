from flawline.logs import logged

with logged(snakemake.log[0]):
    import json

    from flawline.evaluation.comparison import write_comparison
    from flawline.files import write_json

    files = snakemake.input
    write_comparison(files.metrics, files.predictions, dict(snakemake.output.items()))
    write_json(snakemake.output.configuration, json.loads(snakemake.params.configuration))
