"""Several products at one station, and stations of exported detectors, which need no torch."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from trained_category import NEW, TrainedCategory

from flawline.errors import FlawlineError
from flawline.files import read_table
from flawline.inspection import export as exporting
from flawline.inspection.parity import TOLERANCE
from flawline.inspection.trained_detector import checked_photographs
from flawline.station.arrivals import Arrivals
from flawline.station.products import open_products
from flawline.station.record import Record
from flawline.station.station import Station
from flawline.station.watch import Watch

WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ImportError(name + " is not needed here")
sys.meta_path.insert(0, Missing())
from flawline.cli.app import main
main()
"""
TRAINING = (
    *("torch", "torchvision", "timm", "safetensors", "onnx", "onnxscript", "sklearn", "pandas"),
    *("snakemake", "matplotlib", "imagehash", "jinja2", "yaml"),
)


def watched(station: Station, folder: Path) -> list[str]:
    said: list[str] = []
    arrivals = Arrivals(folder, station.stamp, settled=0, patience=0)
    Watch(station, folder, say=said.append, arrivals=arrivals).run(once=True)
    return said


def test_subfolders_say_whose_photographs_they_have_and_others_stay(
    new_station: Callable[..., Station], bolts: TrainedCategory, tmp_path: Path
) -> None:
    incoming = tmp_path / "incoming"
    first, second, third = sorted(bolts.new.rglob("*.png"))[:3]
    for source, place in ((first, "bolt/a.png"), (second, "nut/deep/a.png"), (third, "b.png")):
        (incoming / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, incoming / place)
    (incoming / "washer").mkdir()
    for name in ("c.png", "d.png"):
        shutil.copy(third, incoming / "washer" / name)
    station = new_station(categories=["bolt", "nut"])
    said = watched(station, incoming)
    strange = [line for line in said if "not judged, and stay" in line]
    assert sorted(line.partition(":")[0] for line in strange) == [
        str(incoming),
        str(incoming / "washer"),
    ]
    assert all(line.endswith("named bolt, nut") for line in strange)
    found = {(part.category, part.name, part.version) for part in station.record.parts()}
    assert found == {("bolt", "bolt/a.png", "bolt1"), ("nut", "nut/deep/a.png", "nut1")}
    assert len(list(incoming.rglob("*.png"))) == 5
    later = new_station(categories=["bolt", "nut", "washer"])
    assert len(watched(later, incoming)) == 3  # two of washer, and a line about b.png
    assert watched(new_station(categories=["bolt", "nut"]), incoming) == strange


@pytest.fixture(scope="session")
def exported(bolts: TrainedCategory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    bolts.train("masked")
    for name in ("patchcore", "masked"):
        exporting.export_folder(
            bolts.trained(name),
            checked_photographs(bolts.run(name), bolts.geometry),
            folder / name,
            version=name,
            dataset="mine",
            category="bolt",
            detector=name,
        )
    return folder


@pytest.mark.parametrize("detector", ["patchcore", "masked"])
def test_an_exported_detector_judges_without_torch_as_it_was_trained(
    bolts: TrainedCategory, exported: Path, tmp_path: Path, detector: str
) -> None:
    root = Path(exporting.__file__).parents[2]
    code = WITHOUT.replace("{names}", repr(TRAINING))
    options = [str(exported), str(bolts.new), "--once", "--detector", detector]
    done = subprocess.run(
        [sys.executable, "-c", code, "watch", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"bolt: {detector}, version {detector}" in done.stdout
    record = Record(tmp_path / "results/mine/station/record.sqlite")
    parts = sorted(record.parts(), key=lambda part: part.name)
    expected = read_table(bolts.run(detector) / "test/scores.csv")["score"]
    assert len(parts) == NEW
    assert [part.score for part in parts] == pytest.approx(
        expected.tolist(), rel=0, abs=TOLERANCE * expected.max()
    )
    threshold = bolts.trained(detector).threshold["value"]
    assert [part.decision == "defective" for part in parts] == (expected > threshold).tolist()
    assert any(part.boxes for part in parts)


def test_a_folder_of_exported_detectors_needs_one_for_each_category(exported: Path) -> None:
    with pytest.raises(FlawlineError, match="two detectors of 'bolt', masked and patchcore"):
        open_products(exported)
    with pytest.raises(FlawlineError, match="no exported detector of nut"):
        open_products(exported, ["nut"])
    dataset, (product,) = open_products(exported, detector="masked")
    assert (dataset, product.category, product.version) == ("mine", "bolt", "masked")
    with pytest.raises(FlawlineError, match="no exported detector, and no folder of"):
        open_products(exported.parent)


def test_a_damaged_export_is_refused_by_name(exported: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(exported / "patchcore", tmp_path / "damaged")
    with (folder / "detector.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged")
    with pytest.raises(FlawlineError, match=r"detector\.onnx: is damaged"):
        open_products(folder)
