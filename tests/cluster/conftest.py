"""A Slurm for the tests that need one."""

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
    try:
        try:
            running.start()
        except Unavailable as reason:
            pytest.skip(f"no Slurm can be started here: {reason}")
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
