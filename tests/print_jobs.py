"""Print every job of the pipeline in the current folder as JSON, whether it would run or not."""

import contextlib
import io
import json
import sys
from pathlib import Path

from snakemake.api import (
    ConfigSettings,
    DAGSettings,
    OutputSettings,
    ResourceSettings,
    SnakemakeApi,
)

with SnakemakeApi(OutputSettings()) as api:
    line = api.workflow(
        resource_settings=ResourceSettings(cores=2),
        config_settings=ConfigSettings(configfiles=[Path("test.yaml")]),
        snakefile=Path(*sys.argv[1:], "Snakefile"),
        workdir=Path.cwd(),
    )
    with contextlib.redirect_stdout(io.StringIO()):
        line.dag(DAGSettings(forceall=True)).printrulegraph()
    jobs = [
        {
            "rule": job.rule.name,
            "wildcards": job.wildcards_dict,
            "input": list(job.input),
            "output": list(job.output),
            "log": list(job.log),
            "has": [
                name
                for name in ("message", "log", "benchmark", "conda_env", "script")
                if getattr(job.rule, name)
            ],
            "resources": sorted(job.rule.resources),
        }
        for job in line._workflow.dag.jobs
    ]
print(json.dumps(jobs))
