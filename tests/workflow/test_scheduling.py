"""Snakemake searches for ready jobs once in a while, not ever more often."""

import threading
from types import SimpleNamespace

from snakemake.scheduling.job_scheduler import JobScheduler

from flawline.workflow.scheduling import search_once_at_a_time

SOON = 0.05


def scheduler_that_searches_once_at_a_time() -> SimpleNamespace:
    scheduler = SimpleNamespace(_open_jobs=threading.Semaphore(0))
    search_once_at_a_time(SimpleNamespace(scheduler=scheduler))
    return scheduler


def test_many_repetitions_are_one() -> None:
    scheduler = scheduler_that_searches_once_at_a_time()
    for _ in range(20):
        scheduler._schedule_reevalutation(SOON)
    assert scheduler._open_jobs.acquire(timeout=60)
    assert not scheduler._open_jobs.acquire(timeout=4 * SOON), "no second one"


def test_a_search_is_repeated_again_and_again() -> None:
    scheduler = scheduler_that_searches_once_at_a_time()
    for _ in range(3):
        scheduler._schedule_reevalutation(SOON)
        assert scheduler._open_jobs.acquire(timeout=60)


def test_is_done_by_what_snakemake_has() -> None:
    assert callable(JobScheduler._schedule_reevalutation)
    assert "_open_jobs" in JobScheduler._schedule_reevalutation.__code__.co_consts[1].co_names
