from logging import getLogger

from flawline.logs import logged

with logged(snakemake.log[0]):
    from pathlib import Path

    from flawline.evaluation.record import RunMetrics
    from flawline.files import read_table, write_json
    from flawline.report.tracking import log_runs

    getLogger("alembic").setLevel("WARNING")
    runs = [
        (RunMetrics.load(metrics), read_table(training))
        for metrics, training in zip(snakemake.input.metrics, snakemake.input.training, strict=True)
    ]
    store = Path(snakemake.params.store or Path(snakemake.output[0]).with_suffix(""))
    ids = log_runs(runs, Path(snakemake.input.report), store, snakemake.params.dataset)
    write_json(snakemake.output[0], ids)
