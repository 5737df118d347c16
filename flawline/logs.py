"""The messages of a job: progress to the terminal, the rest to the terminal and to its log."""

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.memory import is_out_of_memory

OUT_OF_MEMORY = "out of memory"
NO_BARS = "FLAWLINE_NO_BARS"  # in the environment of jobs whose run draws a bar itself
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


@contextmanager
def logged(path: Path | str) -> Iterator[logging.Logger]:
    """Send the job's messages to the file `path`, warnings also to the terminal.

    An error ends the job and goes to the log alone: Snakemake shows the log of a failed job
    (`show-failed-logs` in the profiles), and once is enough. A `FlawlineError` and a lack of memory
    leave their message there, any other error its traceback. The job ends when the process that
    started it is killed, so that nothing goes on writing for a run that has ended.
    """
    _end_with_parent()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(path, mode="w", encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = logging.StreamHandler(sys.stderr)
    to_terminal.setLevel(logging.WARNING)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.INFO)
    root.addHandler(to_file)
    root.addHandler(to_terminal)
    logging.captureWarnings(True)
    try:
        yield logging.getLogger("flawline")
    except Exception as error:
        root.removeHandler(to_terminal)
        if isinstance(error, FlawlineError):
            root.error("%s", error)
        elif is_out_of_memory(error):
            root.error("%s: %s", OUT_OF_MEMORY, str(error).partition("\n")[0])
        else:
            root.exception("The job failed")
        sys.exit(1)
    except BaseException:  # Python itself shows the traceback on the terminal
        root.removeHandler(to_terminal)
        root.exception("The job failed")
        raise
    finally:
        root.removeHandler(to_file)
        root.removeHandler(to_terminal)
        root.setLevel(level)
        logging.captureWarnings(False)
        with suppress(OSError):  # no space left, which must not hide the error itself
            to_file.close()


def hide_bar() -> bool | None:
    """Return tqdm's `disable` for a job: None shows a bar on terminals alone."""
    return True if NO_BARS in os.environ else None


def error_in(path: Path) -> str:
    """Return all lines of the error in a log; of a traceback, where it is and its last line."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    words = text.rpartition(" ERROR ")[2].strip() if " ERROR " in text else ""
    return f"{words.splitlines()[-1]} ({path})" if "Traceback" in words else words


def last_error(path: Path | str) -> str:
    """Return the error in a log that `logged` wrote, in a line; nothing if there is none."""
    path = Path(path)
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    words = text.rpartition(" ERROR ")[2] if " ERROR " in text else ""
    lines = words.strip().splitlines()
    return lines[-1 if "Traceback" in words else 0] if lines else ""


def each_cause_once(failed: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each cause: the logs of all jobs that failed with it, and the cause.

    Parameters
    ----------
    failed : log and cause of each job.
    """
    logs: dict[str, list[str]] = {}
    for log, cause in failed:
        logs.setdefault(cause, []).append(log)
    return [f"{', '.join(files)}: {cause}" for cause, files in logs.items()]


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
