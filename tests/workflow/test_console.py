"""The console of a run: a line for each job, errors once, a bar on a terminal."""

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snakemake.settings.types import OutputSettings
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from flawline.logs import NO_BARS, hide_bar
from flawline.workflow.console import Console, Progress, clock


class Terminal(io.StringIO):
    """What is written; a terminal, if it says so."""

    def __init__(self, isatty: bool) -> None:
        super().__init__()
        self.isatty = lambda: isatty  # type: ignore[method-assign]


Opened = Callable[..., tuple[Console, Terminal]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a console, and gives what it writes to."""
    monkeypatch.setenv(NO_BARS, "")  # so that it is taken back at the end
    monkeypatch.delenv(NO_BARS)

    def open_console(isatty: bool = False, **settings: Any) -> tuple[Console, Terminal]:
        screen = Terminal(isatty)
        with monkeypatch.context() as patched:
            patched.setattr("sys.stderr", screen)
            return Console(OutputSettings(**settings), None), screen

    return open_console


def send(console: Console, event: LogEvent | None, text: str = "", **told: Any) -> None:
    level = logging.ERROR if event in (LogEvent.ERROR, LogEvent.JOB_ERROR) else logging.INFO
    about = {"name": "snakemake", "msg": text, "levelno": level, "event": event, "created": 0.0}
    console.handle(logging.makeLogRecord(about | told))


def started(console: Console, job: int, message: str, now: float = 0.0, rule: str = "a") -> None:
    told = {"jobid": job, "rule_msg": message, "rule_name": rule, "output": ["x"]}
    send(console, LogEvent.JOB_INFO, created=now, **told)


def test_snakemake_finds_it() -> None:
    assert LoggerPluginRegistry().get_plugin("flawline").log_handler is Console


def test_a_job_has_one_line_with_the_share_done_and_the_time_left(opened: Opened) -> None:
    console, terminal = opened()
    send(console, None, "Building DAG of jobs...")
    send(console, None, "Select jobs to execute...")
    send(console, LogEvent.RUN_INFO, "Job stats", stats={"a": 11, "all": 1, "total": 12})
    for job in range(3):
        started(console, job, f"Training x on {job}", now=60.0 * job)
        send(console, LogEvent.JOB_FINISHED, job_id=job, created=60.0 * (job + 1))
    started(console, 3, "Training x on bolt", now=180.0)
    lines = terminal.getvalue().splitlines()
    assert lines[0] == "[ 0/12]              training x on 0"
    assert lines[3:] == ["[ 3/12] 09:00 left   training x on bolt"]
    console.finish(200.0)
    assert terminal.getvalue().splitlines()[-1] == "[3/12] done in 03:20"


def test_the_rule_of_the_targets_is_no_line(opened: Opened) -> None:
    console, terminal = opened()
    told = {"jobid": 0, "rule_msg": None, "rule_name": "all", "output": [], "input": ["x"] * 999}
    send(console, LogEvent.JOB_INFO, **told)
    assert terminal.getvalue() == ""


def test_equal_errors_are_told_once_and_wholly(opened: Opened, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("12:00 INFO fine\n12:00 ERROR no weights\nGet them.\n")
    console, terminal = opened()
    for job, name in enumerate(("bolt", "weave")):
        started(console, job, f"Training x on {name}")
        error = {"jobid": job, "rule_name": "a", "log": [str(log)]}
        send(console, LogEvent.ERROR, "CalledProcessError in file x", exception="RuleException")
        send(console, LogEvent.JOB_ERROR, **error)
    lines = [line for line in terminal.getvalue().splitlines() if not line.startswith("train")]
    assert lines == [
        "Failed: training x on bolt: no weights",
        "Get them.",
        "Failed: training x on weave: for the same reason",
    ]


def test_of_a_traceback_its_last_line_is_told(opened: Opened, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("12:00 ERROR The job failed\nTraceback (most recent call last):\nOSError: no\n")
    console, terminal = opened()
    send(console, LogEvent.JOB_ERROR, jobid=1, rule_name="a", log=[str(log)])
    assert terminal.getvalue() == f"Failed: a: OSError: no ({log})\n"


def test_a_wrong_configuration_is_told_without_where_snakemake_noticed_it(
    opened: Opened,
) -> None:
    console, terminal = opened()
    text = 'WorkflowError in file "x/common.smk", line 62:\nmy.yaml: no\n  File "x", line 62, in y'
    send(console, LogEvent.ERROR, text, exception="WorkflowError")
    assert terminal.getvalue() == "my.yaml: no\n"


def test_a_terminal_has_a_bar_and_jobs_draw_none(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hide_bar() is None
    monkeypatch.setenv("COLUMNS", "60")
    console, screen = opened(isatty=True)
    send(console, LogEvent.RUN_INFO, stats={"a": 2, "total": 2})
    started(console, 0, "Training x on bolt")
    send(console, LogEvent.JOB_FINISHED, job_id=0, created=9.0)
    started(console, 1, "Training x on a very long name that does not fit at all", now=9.0)
    console.finish(20.0)
    drawn = screen.getvalue().split("\r\x1b[K")
    assert drawn[1] == f"{'.' * 24} [0/2]              training x on bolt"[:59] + "\r"
    assert max(map(len, drawn)) == 60
    assert drawn[-1] == "[1/2] done in 00:20\n"
    assert hide_bar() is True


@pytest.mark.parametrize("asked", ["dryrun", "verbose", "printshellcmds", "debug_dag"])
def test_who_asks_for_more_has_snakemakes_own_console(opened: Opened, asked: str) -> None:
    console, terminal = opened(**{asked: True})
    assert not console.writes_to_stream
    started(console, 0, "Training x on bolt")
    assert terminal.getvalue() == ""


def test_jobs_that_run_at_once_take_less_time_together() -> None:
    progress = Progress({"a": 8, "b": 2})
    for job in range(4):  # two at once, ten seconds each
        progress.start(job, "a", 10.0 * (job // 2))
    for job in range(4):
        assert (progress.left(20.0) is None) == (job < 3)
        progress.finish(job, 10.0 * (job // 2 + 1))
    # four of a, two of b, of which nothing is known: sixty seconds of work, by two
    assert progress.left(20.0) == pytest.approx(30.0)
    progress.fail(9)
    assert progress.done == 4


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "00:00"), (250, "04:10"), (3600, "1:00:00"), (-3, "00:00")]
)
def test_durations_are_read_as_on_a_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words
