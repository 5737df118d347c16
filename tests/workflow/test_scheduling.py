"""Snakemake searches for jobs when one ends, not ever more often."""

from types import SimpleNamespace

import pytest

from flawline.workflow.scheduling import look_at_ends_of_jobs_alone


@pytest.mark.parametrize(
    ("local", "limit", "taken_away"),
    [
        (True, ("100", 1), True),
        (True, ("100", 1.0), True),
        (True, ("5", 1), False),
        (True, ("100", 60), False),
        (False, ("100", 1), False),
    ],
)
def test_only_the_usual_limit_of_local_jobs_is_taken_away(
    local: bool, limit: tuple[str, float], taken_away: bool
) -> None:
    limiter = SimpleNamespace(max_jobs=limit[0], timespan=limit[1])
    workflow = SimpleNamespace(
        local_exec=local, scheduler=SimpleNamespace(job_rate_limiter=limiter)
    )
    look_at_ends_of_jobs_alone(workflow)
    assert (workflow.scheduler.job_rate_limiter is None) == taken_away


def test_no_limit_is_none_to_take_away() -> None:
    scheduler = SimpleNamespace(job_rate_limiter=None)
    look_at_ends_of_jobs_alone(SimpleNamespace(local_exec=True, scheduler=scheduler))
    assert scheduler.job_rate_limiter is None
