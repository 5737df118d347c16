"""What a run says on the terminal: a line for each job, with the share done and the time left.

Snakemake loads it as its logger plugin `flawline`, which profiles/default chooses. Snakemake's own
log, in `.snakemake/log`, stays complete. Dry runs, and runs that are asked for more, have the
console that Snakemake has by itself.
"""

import logging
import os
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any, TextIO

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from flawline.logs import NO_BARS, error_in

FEW = 3  # jobs; after fewer, no time is told
BAR = 24  # characters
REDRAWN = 1.0  # seconds
ERASE = "\r\x1b[K"
# of Snakemake, and nothing to a person who waits
NOISE = (
    "At least one job did not complete successfully",
    "Building DAG of jobs",
    "Complete log(s):",
    "Conda environments: ignored",
    "Elapsed time:",
    "Exiting because a job execution failed",
    "Group jobs: inactive",
    "Select jobs to execute",
    "Using shell:",
)


class Progress:
    """How many jobs are done, and how long the others will take.

    A job that is yet to come takes as long as those of its rule did; if there were none, as the
    mean rule. As many jobs run at once as did so far.

    Parameters
    ----------
    jobs : number of jobs by rule.
    """

    def __init__(self, jobs: Mapping[str, int]) -> None:
        self.total = sum(jobs.values())
        self.running: dict[int, tuple[str, float]] = {}
        self.begun: float | None = None
        self._left = Counter(jobs)
        self._seconds: dict[str, list[float]] = {}

    @property
    def done(self) -> int:
        """The number of jobs that are finished."""
        return sum(map(len, self._seconds.values()))

    def start(self, job: int, rule: str, now: float) -> None:
        """Take down that a job starts."""
        self.begun = now if self.begun is None else self.begun
        self.running[job] = rule, now

    def finish(self, job: int, now: float) -> None:
        """Take down that a job is finished."""
        rule, start = self.running.pop(job, ("", now))
        self._left[rule] -= 1
        self._seconds.setdefault(rule, []).append(now - start)

    def fail(self, job: int) -> None:
        """Take down that a job failed."""
        rule, _ = self.running.pop(job, ("", 0))
        self._left[rule] -= 1

    def left(self, now: float) -> float | None:
        """Return the seconds that are left; None as long as too little is known."""
        if self.done < FEW or self.begun is None:
            return None
        means = {rule: sum(taken) / len(taken) for rule, taken in self._seconds.items()}
        usual = sum(means.values()) / len(means)
        work = sum(max(number, 0) * means.get(rule, usual) for rule, number in self._left.items())
        spent = [(rule, now - start) for rule, start in self.running.values()]
        work -= sum(min(seconds, means.get(rule, usual)) for rule, seconds in spent)
        busy = sum(map(sum, self._seconds.values())) + sum(seconds for _, seconds in spent)
        at_once = busy / (now - self.begun) if now > self.begun else 1
        return work / max(at_once, 1e-3)


class Console(LogHandlerBase):
    """Snakemake's messages in few lines; on a terminal, one line that is a progress bar."""

    def __post_init__(self) -> None:
        asked = self.common_settings
        self.plain = asked.dryrun or asked.verbose or asked.printshellcmds or asked.debug_dag
        self.stream: TextIO = sys.stderr
        self.drawn = not self.plain and self.stream.isatty()
        if self.drawn:
            os.environ[NO_BARS] = "1"
        self._progress = Progress({})
        self._words: dict[int, str] = {}
        self._said: set[str] = set()
        self._ended = threading.Event()

    @property
    def writes_to_stream(self) -> bool:
        """False leaves the terminal to Snakemake's own handler."""
        return not self.plain

    @property
    def writes_to_file(self) -> bool:
        return False

    @property
    def has_filter(self) -> bool:
        """False: Snakemake's filter honours `--quiet`."""
        return False

    @property
    def has_formatter(self) -> bool:
        return True

    @property
    def needs_rulegraph(self) -> bool:
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Show a message, or let it pass. An error here must not end the thread of the log."""
        if not self.plain:
            try:
                self._take(record)
            except Exception:
                self.handleError(record)

    def finish(self, now: float) -> None:
        """Say how long it took, in place of the bar."""
        with self._alone():
            self._ended.set()
            progress = self._progress
            if progress.done and progress.begun is not None:
                took = clock(now - progress.begun)
                self._write(f"[{progress.done}/{progress.total}] done in {took}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep messages that other threads show from mixing with this one."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _take(self, record: logging.LogRecord) -> None:
        told: Any = record
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                self._begin(told.stats)
            case LogEvent.JOB_INFO:
                self._start(told)
            case LogEvent.JOB_FINISHED:
                self._progress.finish(told.job_id, record.created)
                self._draw(record.created)
            case LogEvent.JOB_ERROR:
                self._fail(told.jobid, told.rule_name, told.log)
            case LogEvent.GROUP_ERROR:
                for job in told.job_error_info:
                    self._fail(job["jobid"], job["rule_name"], job["log"])
            case LogEvent.ERROR:
                self._error(record)
            case None if record.levelno >= logging.INFO:
                self._once(record.getMessage())

    def _begin(self, jobs: Mapping[str, int]) -> None:
        if not self._progress.total:
            self._progress = Progress({name: jobs[name] for name in jobs if name != "total"})
            if self.drawn:
                threading.Thread(target=self._keep_drawing, daemon=True).start()

    def _start(self, job: Any) -> None:
        self._progress.start(job.jobid, job.rule_name, job.created)
        words = job.rule_msg or (job.rule_name if job.output else "")
        if words:
            self._words[job.jobid] = words[:1].lower() + words[1:]
        if self.drawn:
            self._draw(job.created)
        elif words:
            self._write(f"{self._state(job.created)}{self._words[job.jobid]}")

    def _state(self, now: float) -> str:
        progress = self._progress
        if not progress.total:  # `--quiet progress`
            return ""
        width = len(str(progress.total))
        left = progress.left(now)
        told = "" if left is None else f"{clock(left)} left"
        return f"[{progress.done:{width}}/{progress.total}] {told:<13}"

    def _fail(self, job: int, rule: str, logs: list[str]) -> None:
        self._progress.fail(job)
        cause = error_in(Path(logs[0])) if logs else ""
        if cause in self._said:
            cause = "for the same reason"
        self._said.add(cause)
        self._write(f"Failed: {self._words.get(job, rule)}" + (f": {cause}" if cause else ""))

    def _error(self, record: logging.LogRecord) -> None:
        """Show an error without the places in rules where Snakemake noticed it."""
        text = record.getMessage()
        if "CalledProcessError" in text:  # of a job, whose own error is told
            return
        lines = text.splitlines()
        if lines and lines[0].startswith("WorkflowError"):
            lines = [line for line in lines[1:] if not line.startswith('  File "')]
        self._once("\n".join(lines).strip())

    def _once(self, text: str) -> None:
        if text and text not in self._said and not text.startswith(NOISE):
            self._said.add(text)
            self._write(text)

    def _write(self, text: str) -> None:
        self.stream.write(f"{ERASE if self.drawn else ''}{text}\n")
        self.stream.flush()

    def _draw(self, now: float) -> None:
        """Draw the bar; the cursor stays at its beginning, where a job's message may go over it."""
        progress = self._progress
        if not self.drawn or self._ended.is_set() or not progress.total:
            return
        filled = BAR * progress.done // progress.total
        running = [self._words[job] for job in progress.running if job in self._words]
        line = f"{'#' * filled}{'.' * (BAR - filled)} {self._state(now)}{', '.join(running)}"
        columns = shutil.get_terminal_size().columns
        self.stream.write(f"{ERASE}{line[: columns - 1]}\r")
        self.stream.flush()

    def _keep_drawing(self) -> None:
        while not self._ended.wait(REDRAWN):
            with self._alone():
                self._draw(time())


def say(workflow: Any, text: str) -> None:
    """Print the last words of a run, once all that the log has to say is shown."""
    manager = workflow.logger_manager
    if manager.queue_listener:
        manager.queue_listener.queue.join()
    for handler in manager.get_log_handlers():
        if isinstance(handler, Console):
            handler.finish(time())
    print(text, flush=True)


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, or with hours before them."""
    minutes, rest = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
