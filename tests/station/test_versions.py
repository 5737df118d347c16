"""Versions of a detector: the old one stays, and stations switch back and forth."""

import shutil
from pathlib import Path

import pytest
import torch
from trained_category import TrainedCategory
from typer.testing import CliRunner

from flawline.cli.app import app
from flawline.errors import FlawlineError
from flawline.files import read_json, write_json
from flawline.inspection.open_detector import chosen_detector
from flawline.inspection.run_settings import version_of
from flawline.station.products import Product, open_products
from flawline.station.versions import Versions

DETECTOR = "patchcore"


@pytest.fixture
def here(bolts: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(bolts.root / "results/mine/bolt", tmp_path / "results/mine/bolt")
    shutil.copy(bolts.root / "my.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def versions(here: Path) -> Versions:
    return Versions.of(*chosen_detector("my.yaml", "bolt", DETECTOR))


def opened() -> Product:
    _, (product,) = open_products("my.yaml", ["bolt"], DETECTOR)
    return product


def score(product: Product, bolts: TrainedCategory) -> float:
    photograph = next(iter(sorted(bolts.new.rglob("*.png"))))
    from flawline.data.images import decode_photograph

    judge = product.judge
    return float(judge.score([judge.prepare(decode_photograph(photograph))]).scores[0])


def train_again(versions: Versions) -> None:
    """Replace model, threshold and calibration as the pipeline does."""
    detector = type(opened().judge.detector).load(versions.run / "model", torch.device("cpu"))  # type: ignore[attr-defined]
    about = read_json(versions.run / "model/model.json")
    detector.memories[0].bank = detector.memories[0].bank * 2
    detector.save(versions.run / "model", about["provenance"])
    threshold = read_json(versions.run / "threshold.json")
    write_json(versions.run / "threshold.json", threshold | {"value": 2 * threshold["value"]})


def test_stations_switch_back_and_forth_between_whole_versions(
    versions: Versions, bolts: TrainedCategory
) -> None:
    first = opened()
    before = score(first, bolts)
    train_again(versions)
    second = opened()
    after = score(second, bolts)
    assert before != after
    assert second.version != first.version
    assert [one.name for one in versions.all()] == [first.version, second.version]
    versions.choose(first.version[:6])
    back = opened()
    assert (back.version, score(back, bolts)) == (first.version, before)
    assert back.judge.threshold == first.judge.threshold
    assert f"chosen by `flawline learn --back`; the newest is {second.version}" in back.note
    assert version_of(versions.run) == second.version  # the results are as they were
    versions.choose(second.version)
    forth = opened()
    assert (forth.version, score(forth, bolts), forth.note) == (second.version, after, "")


def test_a_version_that_is_not_kept_is_refused_and_nothing_changes(versions: Versions) -> None:
    version = opened().version
    with pytest.raises(FlawlineError, match=f"--back zz: no such version; kept: {version}"):
        versions.choose("zz")
    assert versions.used == version


def test_keeping_that_fails_leaves_nothing(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flawline.station import versions as keeping

    def full(source: Path, target: Path) -> None:
        if target.name == "threshold.json":
            raise OSError(28, "No space left on device")
        shutil.copy(source, target)

    monkeypatch.setattr(keeping, "_link", full)
    with pytest.raises(FlawlineError, match="cannot be kept there"):
        versions.keep()
    assert list(versions.folder.iterdir()) == []


def test_the_command_lists_and_switches(versions: Versions, here: Path) -> None:
    first = opened().version
    train_again(versions)

    def learn(*options: str) -> list[str]:
        arguments = ["learn", "my.yaml", "--category", "bolt", "--detector", DETECTOR, *options]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return done.output.splitlines()

    listed = learn("--list")
    assert listed[0].startswith(f"{first}  trained ")
    assert listed[0].endswith("0 parts judged, 0 called defective")
    assert listed[1].endswith(" <- in use, newest")
    switched = learn("--back", first)
    assert switched[0].endswith(" <- in use")
    assert switched[1].endswith(" <- newest")
