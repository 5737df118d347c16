"""What `onerror` does: the report of the runs that are complete, and what to say of the others."""

from time import time

FULL = 1_000_000  # bytes left


def report_the_rest():
    """After a failure, compare and show the runs that are complete; says so in the closing line.

    What has its own names but was made by no job must not look finished to Snakemake: it lacks
    `configuration.json`, which `all` asks for, and all notes of how it was made.
    """
    failed = list(failed_jobs())
    logs = each_cause_once(map(what_failed, failed))
    unfinished = {str(file) for job in workflow.dag.needrun_jobs() for file in job.output}
    closing = "\n".join(["Failed:", *logs, "Fix that and run the same command again."])
    if not failed:
        return "Interrupted: run the same command again to go on."
    if not unfinished & {f"{RESULTS}/report.html", *rules.compare.output}:
        return f"{closing_line()}\n{closing}"
    done = [file for file in runs("metrics.json") if file not in unfinished]
    if not done or {job.rule.name for job in failed} & {"compare", "report_page"}:
        return f"No report could be made.\n{closing}"
    missing = [run_name(file) for file in runs("metrics.json") if file in unfinished]
    try:
        write_the_rest(done, unfinished, missing, logs)
    except Exception as error:
        return f"No report could be made ({type(error).__name__}: {error}).\n{closing}"
    opening = f"Report of {len(done)} of {len(runs('metrics.json'))} runs: {RESULTS}/report.html"
    return "\n".join([opening, *(f"Missing: {name}" for name in missing), closing])


def write_the_rest(done, unfinished, missing, logs):
    from flawline.evaluation.comparison import write_comparison
    from flawline.report.overview import failures
    from flawline.report.write_report import write_report

    for job in workflow.dag.jobs:
        if job.rule.name in ("compare", "report_page"):
            workflow.persistence.cleanup(job)
    tables = dict(rules.compare.output.items())
    Path(tables["configuration"]).unlink(missing_ok=True)
    folders = [Path(file).parent for file in done]
    write_comparison(done, [folder / "predictions.csv" for folder in folders], tables)
    drawings = {str(Path(file).parents[1]) for file in unfinished if "/figures/" in file}
    undrawn = [file for file in done if str(Path(file).parent) in drawings]
    write_report(
        DATASET,
        CONFIGURATION,
        f"{RESULTS}/report.html",
        metrics=done,
        sheets=[file for file in contact_sheets() if file not in unfinished],
        tables=tables,
        benchmarks=BENCHMARKS,
        undrawn=undrawn,
        failures=failures(missing, map(run_name, undrawn), logs),
    )


def failed_jobs():
    for job in workflow.scheduler.failed:
        yield from job.jobs if job.is_group() else [job]


def what_failed(job):
    """The job's log file, and the error in it in a line."""
    log = str(job.log[0]) if job.log else job.rule.name
    if cause := last_error(log):
        return log, f"{cause}. {use_less(job)}" if OUT_OF_MEMORY in cause else cause
    now = time()
    if any(os.path.exists(file) and os.path.getmtime(file) > now for file in job.input):
        return (
            log,
            "the clock was set back, and what it reads is from the future. Set the files' "
            f"time with: find results data -newermt '@{now:.0f}' -exec touch -d '@{now:.0f}' {{}} +",
        )
    if shutil.disk_usage(RESULTS).free < FULL:
        return log, "the disk is full"
    return log, f"the job was killed, often for want of memory. {use_less(job)}"


def use_less(job):
    """What to do where a job needs more memory than there is."""
    names = job.wildcards_dict
    keys = what_to_lower(
        job.rule.name,
        CONFIG.of(names["category"]) if "category" in names else CONFIG,
        names.get("detector", ""),
        names.get("features", ""),
    )
    return f"Then use fewer --cores, give --resources mem_mb= what there is, or lower {keys}"


def run_name(file):
    category, protocol, _, detector, seed = Path(file).parts[-6:-1]
    return f"{category}, {detector} ({protocol}), seed {seed.removeprefix('seed')}"
