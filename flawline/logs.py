"""What a job tells: progress to the terminal, everything else to the terminal and to its log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flawline.errors import FlawlineError


@contextmanager
def logged(path: Path | str) -> Iterator[logging.Logger]:
    """Send the job's messages to the file `path`, warnings also to the terminal.

    A `FlawlineError` ends the job with its message alone; any other error leaves its traceback in
    the log and goes on to the caller.
    """
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
        to_file.close()
