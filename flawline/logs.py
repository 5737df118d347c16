"""What a job tells: progress to the terminal, everything else to the terminal and to its log."""

import ctypes
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flawline.errors import FlawlineError

PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


@contextmanager
def logged(path: Path | str) -> Iterator[logging.Logger]:
    """Send the job's messages to the file `path`, warnings also to the terminal.

    A `FlawlineError` ends the job with its message alone; any other error leaves its traceback in
    the log and goes on to the caller. The job ends when the process that started it is killed, so
    that nothing goes on writing for a run that is no more.
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
    except FlawlineError as error:
        root.error("%s", error)
        sys.exit(1)
    except BaseException:
        root.removeHandler(to_terminal)  # Python itself shows the traceback there
        root.exception("The job failed")
        raise
    finally:
        root.removeHandler(to_file)
        root.removeHandler(to_terminal)
        root.setLevel(level)
        logging.captureWarnings(False)
        with suppress(OSError):  # no space left, which must not hide the error itself
            to_file.close()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
