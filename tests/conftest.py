"""Small photographs on disk, and a configuration that needs none."""

import faulthandler
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_python
import numpy as np
import pytest
from hypothesis import settings
from photographs import photograph, save
from project import ROOT, Project

# no test may fail by the clock
settings.register_profile("flawline", deadline=None)
settings.load_profile("flawline")

# tests share their cores: threads that wait for others must not spin; read where torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def ordinary_floats() -> None:
    """Jobs let the processor round the smallest floats to 0; the tests after one must not."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


# These take minutes each, so they come first: else one worker would be left alone with the last.
LONGEST = (
    "test_workflow.py",
    "test_slurm.py",
    "test_environments.py",
    "test_faults.py",
    "test_generic.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    last = len(LONGEST)
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, last))


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is started as `sys.executable` be a fork of a process that has imported torch."""
    monkeypatch.setattr(sys, "executable", forked_python.client(forked_python.address()))


HANGS_AFTER = 900  # seconds; no limit on the slow, only on what never ends


@pytest.fixture
def watchdog() -> Iterator[None]:
    """Ends the whole run, and shows where it hangs."""
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session")
def finished_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy of the project that ran once for the tests of all workers, to be copied.

    What it said is in the file beside it, `project.out`.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, said = shared / "project", shared / "project.out"
    with (shared / "project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.write_text(Project(folder, ROOT).run().stdout)
    return folder


@pytest.fixture
def category(tmp_path: Path) -> Path:
    """bottle: four good training images, two good test images, two cracks and one stain, all with
    masks."""
    folder = tmp_path / "photographs" / "bottle"
    mask = np.zeros((24, 32), np.uint8)
    mask[6:12, 8:20] = 255
    for i in range(4):
        save(folder / f"train/good/{i:03d}.png", photograph(i))
    for i in range(2):
        save(folder / f"test/good/{i:03d}.png", photograph(10 + i))
    for seed, (defect, i) in enumerate([("crack", 0), ("crack", 1), ("stain", 0)], start=20):
        save(folder / f"test/{defect}/{i:03d}.png", photograph(seed))
        save(folder / f"ground_truth/{defect}/{i:03d}_mask.png", mask)
    return folder


@pytest.fixture
def minimal() -> dict[str, Any]:
    """The least that a configuration must say."""
    return {
        "features": {"bank": {"backbone": "gabor", "layers": ["fine"]}},
        "detectors": {"pc": {"method": "patchcore", "features": "bank"}},
    }
