"""A trained category, and stations with a record of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from trained_category import TrainedCategory

from flawline.inspection.trained_detector import TrainedDetector
from flawline.station.pictures import Pictures
from flawline.station.record import Record
from flawline.station.station import Station

ABOUT = {"dataset": "mine", "category": "bolt", "detector": "patchcore"}


@pytest.fixture(scope="session")
def bolts(tmp_path_factory: pytest.TempPathFactory) -> TrainedCategory:
    category = TrainedCategory(tmp_path_factory.mktemp("category"))
    category.train("patchcore")
    (category.root / "my.yaml").write_text(yaml.safe_dump(category.given))
    return category


@pytest.fixture(scope="session")
def trained(bolts: TrainedCategory) -> TrainedDetector:
    return bolts.trained()


@pytest.fixture
def new_station(trained: TrainedDetector, tmp_path: Path) -> Callable[..., Station]:
    """Makes stations that share one record, as the same program started again does."""

    def made(rule: Any = "all", quota: float = 1000, folder: Path = tmp_path, **more: Any) -> Any:
        folder = folder / "station"
        record = Record(folder / "record.sqlite", ABOUT)
        return Station(trained, "v1", record, Pictures(folder / "pictures", rule, quota), **more)

    return made
