"""A Slurm for the tests that need one."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm import Slurm, Unavailable


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    running = Slurm(folder)
    with Path(tempfile.gettempdir(), "flawline-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a machine has one /etc/slurm
        try:
            try:
                running.start()
            except Unavailable as reason:
                pytest.skip(f"no Slurm can be started here: {reason}")
            yield running
        finally:
            running.stop()
            shutil.rmtree(folder)
