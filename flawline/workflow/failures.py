"""After a failure: the report of the runs that are complete, and what to say of the others."""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from time import time
from typing import Any

from flawline.config import Config
from flawline.layout import Layout, RunFolder
from flawline.logs import OUT_OF_MEMORY, each_cause_once, last_error
from flawline.memory import what_to_lower
from flawline.workflow.params import Params
from flawline.workflow.targets import Targets, closing_lines

DISK_FULL_BYTES = 1_000_000  # less free space than this counts as full
TABLES = ("compare", "report_page")  # rules that need all runs


def report_the_rest(workflow: Any, config: Config) -> str:
    """Compare and show the runs that are complete; return the closing lines.

    No job made these files, so Snakemake must not take them for finished. We therefore leave out
    `configuration.json`, which `all` asks for, and drop their provenance records.
    """
    failed = list(_failed_jobs(workflow))
    causes = each_cause_once(_cause(job, config) for job in failed)
    closing = "\n".join(["Failed:", *causes, "Fix that and run the same command again."])
    if not failed:
        return "Interrupted: run the same command again to go on."
    layout, targets = Layout(config.dataset.name), Targets(config)
    unfinished = {str(file) for job in workflow.dag.needrun_jobs() for file in job.output}
    compared = workflow.get_rule("compare").output
    if not unfinished & {layout.report, *map(str, compared)}:
        return f"{closing_lines(workflow, config)}\n{closing}"
    every = targets.runs("metrics.json")
    done = [file for file in every if file not in unfinished]
    if not done or {job.rule.name for job in failed} & set(TABLES):
        return f"No report could be made.\n{closing}"
    missing = [str(RunFolder.of(file)) for file in every if file in unfinished]
    try:
        _forget_how_made(workflow)
        tables = {name: str(file) for name, file in compared.items()}
        _write(config, targets, done, unfinished, tables, missing, causes)
    except Exception as error:  # the failure itself must still be told
        return f"No report could be made ({type(error).__name__}: {error}).\n{closing}"
    opening = f"Report of {len(done)} of {len(every)} runs: {layout.report}"
    return "\n".join([opening, *(f"Missing: {name}" for name in missing), closing])


def _forget_how_made(workflow: Any) -> None:
    for job in workflow.dag.jobs:
        if job.rule.name in TABLES:
            workflow.persistence.cleanup(job)


def _write(
    config: Config,
    targets: Targets,
    done: list[str],
    unfinished: Collection[str],
    tables: dict[str, str],
    missing: list[str],
    causes: list[str],
) -> None:
    from flawline.evaluation.comparison import write_comparison
    from flawline.report.overview import failures
    from flawline.report.write_report import write_report

    layout = targets.layout
    Path(tables["configuration"]).unlink(missing_ok=True)
    runs = {file: RunFolder.of(file) for file in done}
    write_comparison(done, [run.predictions for run in runs.values()], tables)
    drawings = {RunFolder.of(file) for file in unfinished if "/figures/" in file}
    undrawn = [file for file, run in runs.items() if run in drawings]
    write_report(
        config.dataset.name,
        Params(config).configuration({}),
        layout.report,
        metrics=done,
        sheets=[file for file in targets.contact_sheets() if file not in unfinished],
        tables=tables,
        benchmarks=layout.benchmarks,
        curves=[file for file in targets.learning_curves() if file not in unfinished],
        undrawn=undrawn,
        failures=failures(missing, [str(runs[file]) for file in undrawn], causes),
    )


def _failed_jobs(workflow: Any) -> Iterator[Any]:
    for job in workflow.scheduler.failed:
        yield from job.jobs if job.is_group() else [job]


def _cause(job: Any, config: Config) -> tuple[str, str]:
    """Return a job's log file, and the error in it in a line."""
    log = str(job.log[0]) if job.log else job.rule.name
    if cause := last_error(log):
        return log, f"{cause}. {_use_less(job, config)}" if OUT_OF_MEMORY in cause else cause
    now = time()
    read = map(Path, job.input)
    if any(file.exists() and file.stat().st_mtime > now for file in read):
        touch = f"find results data -newermt '@{now:.0f}' -exec touch -d '@{now:.0f}' {{}} +"
        return (
            log,
            "the clock was set back, and what it reads is from the future. Set the files' time "
            f"with: {touch}",
        )
    if shutil.disk_usage(Layout(config.dataset.name).results).free < DISK_FULL_BYTES:
        return log, "the disk is full"
    return (
        log,
        f"the job was killed, often because it ran out of memory. {_use_less(job, config)}",
    )


def _use_less(job: Any, config: Config) -> str:
    """Say what to do if a job needs more memory than there is."""
    names = job.wildcards_dict
    keys = what_to_lower(
        job.rule.name,
        config.of(names["category"]) if "category" in names else config,
        names.get("detector", ""),
        names.get("features", ""),
    )
    return f"Then use fewer --cores, give --resources mem_mb= what there is, or lower {keys}"
