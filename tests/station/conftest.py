"""A trained category, and stations with a record of their own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from trained_category import TrainedCategory

from flawline.inspection.judging import Judge
from flawline.inspection.trained_detector import TrainedDetector
from flawline.station.pictures import Pictures
from flawline.station.products import Product
from flawline.station.record import Record
from flawline.station.station import Station


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

    def made(
        rule: Any = "all",
        quota: float = 1000,
        folder: Path = tmp_path,
        categories: Sequence[str] = ("bolt",),
        judge: Judge = trained,
    ) -> Any:
        folder = folder / "station"
        record = Record(folder / "record.sqlite", {"dataset": "mine"})
        products = [Product(name, "patchcore", judge, f"{name}1") for name in categories]
        return Station(products, record, Pictures(folder / "pictures", rule, quota))

    return made
