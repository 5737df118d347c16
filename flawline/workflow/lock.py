"""Snakemake's locks, without those that a killed run left behind."""

import fcntl
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path


def unlock_after_a_kill(folder: Path) -> None:
    """Remove Snakemake's locks unless another run is alive in the working directory.

    An flock in `folder`, which the kernel releases with its process, tells whether one is. On a
    read-only file system, or one without locks, nothing is done.
    """
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)  # stays open as long as the run
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(".snakemake/locks", ignore_errors=True)
        except BlockingIOError:
            if Path(".snakemake/locks").is_dir():
                print(
                    "Another run is working in this folder: wait until it ends. With --unlock, "
                    "both would write the same files.",
                    file=sys.stderr,
                )
        fcntl.flock(handle, fcntl.LOCK_SH)
