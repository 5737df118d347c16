"""Snakemake's scheduler, kept from searching for ready jobs ever more often."""

import threading
from typing import Any


def search_once_at_a_time(workflow: Any) -> None:
    """Let a run have one repetition of the search for ready jobs ahead, not one for each search.

    With a limit of starts in a time, which Snakemake has by itself (100 a second), each search is
    repeated after that time, and so is the repetition: every job that ends adds one more search a
    second for the rest of the run. Fifteen categories' searches took half a core (Snakemake 9.27).
    """
    scheduler = workflow.scheduler
    ahead: list[threading.Timer] = []

    def repeat_after(delay: float) -> None:
        if not any(timer.is_alive() for timer in ahead):
            ahead[:] = [threading.Timer(delay, search)]
            ahead[0].start()

    def search() -> None:
        ahead.clear()
        scheduler._open_jobs.release()

    scheduler._schedule_reevalutation = repeat_after  # the name is Snakemake's
