"""What watches the fuzz tests sees what it is there for."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing import watched


def unpickle() -> None:
    pickle.loads(pickle.dumps(Path("x")))


def write() -> None:
    Path("/dev/null").write_text("x")


@pytest.mark.parametrize("act", [lambda: os.system("true"), unpickle, write])
def test_code_that_runs_and_files_written_elsewhere_are_seen(
    tmp_path: Path, act: Callable[[], object]
) -> None:
    with pytest.raises(AssertionError, match=r"executed|written"), watched(tmp_path):
        act()


def test_files_written_inside_are_let_be(tmp_path: Path) -> None:
    with watched(tmp_path):
        (tmp_path / "x").write_text("x")
