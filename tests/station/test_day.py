"""A day of a station among faults: nothing is judged twice, and nothing is lost."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from project import ROOT

COUNT, KILLS = 240, 3


@pytest.mark.usefixtures("watchdog")
def test_every_photograph_is_judged_once_whatever_happens(tmp_path: Path) -> None:
    spec = spec_from_file_location("station_day", ROOT / "benchmarks" / "station_day.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["station_day"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    happened = module.day(tmp_path, COUNT, KILLS)
    assert happened["kills"] == KILLS
    assert happened["vanished folders"] == 1
