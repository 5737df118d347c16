"""Snakemake's scheduler, told not to look for jobs when none can have become ready."""

from typing import Any

USUAL = (100, 1)  # jobs and seconds: Snakemake's own limit


def look_at_ends_of_jobs_alone(workflow: Any) -> None:
    """Take Snakemake's usual limit of 100 starts a second away where jobs run on this machine.

    With any limit, each search for jobs is repeated after its time span, and so is the repetition,
    for ever: every job that ends adds one more search a second. After 200 jobs, 200 searches a
    second take half a core (Snakemake 9.27). A limit that the user has set remains.
    """
    scheduler = workflow.scheduler
    limiter = scheduler.job_rate_limiter
    if not workflow.local_exec or limiter is None:
        return
    if (int(limiter.max_jobs), int(limiter.timespan)) == USUAL:
        scheduler.job_rate_limiter = None
