"""A watched folder: every photograph is judged once and recorded, whatever happens meanwhile."""

import fcntl
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from photographs import photograph, save
from PIL import Image
from trained_category import NEW, TrainedCategory

from flawline.errors import FlawlineError
from flawline.files import read_table
from flawline.inspection.trained_detector import TrainedDetector
from flawline.station import watch as watching
from flawline.station.arrivals import Arrivals
from flawline.station.products import Product
from flawline.station.record import Record
from flawline.station.station import Station
from flawline.station.watch import Watch, alone

LIMIT = 300  # seconds; generous, only what never happens takes as long
MakeStation = Callable[..., Station]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


@pytest.fixture
def incoming(bolts: TrainedCategory, tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    shutil.copytree(bolts.new, folder)
    return folder


@pytest.fixture
def watch(new_station: MakeStation, incoming: Path) -> Callable[..., list[str]]:
    """Watches until all is judged; what it said."""

    def run(station: Station | None = None, **options: float) -> list[str]:
        said: list[str] = []
        station = station or new_station()
        arrivals = Arrivals(incoming, station.stamp, settled=0, patience=0, **options)
        Watch(station, incoming, say=said.append, arrivals=arrivals).run(once=True)
        return said

    return run


def test_every_photograph_has_the_scores_of_the_pipeline_and_a_picture(
    bolts: TrainedCategory, new_station: MakeStation, watch: Callable[..., list[str]]
) -> None:
    station = new_station()
    said = watch(station)
    parts = sorted(station.record.parts(), key=lambda part: part.name)
    expected = read_table(bolts.run("patchcore") / "test/scores.csv")["score"].tolist()
    # networks round otherwise with one image at a time
    assert [part.score for part in parts] == pytest.approx(expected, rel=1e-3)
    assert len(said) == NEW
    for part in parts:
        assert f"{part.name}: {part.decision}, score {part.score:.4g}" in "\n".join(said)
        assert part.p_value == station.products["bolt"].judge.p_values(np.array([part.score]))[0]
        with Image.open(station.pictures.folder / part.overlay) as picture:
            picture.load()
    assert station.record.counts()["defective"] == sum(
        part.decision == "defective" for part in parts
    )


def test_nothing_is_judged_twice(
    new_station: MakeStation, watch: Callable[..., list[str]], incoming: Path
) -> None:
    watch()
    assert watch() == []
    file = next(incoming.rglob("*.png"))
    os.utime(file, (1, 1))
    shutil.copy(file, incoming / "copy.png")
    save(incoming / "good/000.png", photograph(3, height=80, width=80))
    assert sorted(line.partition(":")[0] for line in watch()) == ["copy.png", "good/000.png"]
    assert new_station().record.counts()["unreadable"] == 0
    assert len(new_station().record.parts()) == NEW + 2


def test_what_is_no_photograph_is_recorded_with_the_reason_and_judged_once_it_is_one(
    new_station: MakeStation, watch: Callable[..., list[str]], incoming: Path
) -> None:
    file = incoming / "late.png"
    whole = next(incoming.rglob("*.png")).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    os.mkfifo(incoming / "pipe.png")
    (incoming / "empty.png").touch()
    said = watch()
    station = new_station()
    reasons = {part.name: part.reason for part in station.record.parts(decision="unreadable")}
    assert reasons.keys() == {"late.png", "pipe.png", "empty.png"}
    assert "zero bytes" in reasons["empty.png"]
    assert "not a file but" in reasons["pipe.png"]
    assert f"late.png: unreadable, {reasons['late.png']}" in said
    file.write_bytes(whole)
    watch()
    assert {part.decision for part in station.record.parts(limit=1)} <= {"good", "defective"}


@pytest.mark.parametrize(("rule", "kept"), [("all", 1.0), ("defective", None), ("none", 0.0)])
def test_pictures_are_kept_by_the_rule(
    new_station: MakeStation,
    watch: Callable[..., list[str]],
    trained: TrainedDetector,
    rule: str,
    kept: float | None,
) -> None:
    middle = {"value": float(np.median(trained.calibration))}
    station = new_station(rule, judge=replace(trained, threshold=middle))
    watch(station)
    decisions = [part.decision for part in station.record.parts() if part.overlay]
    if kept is None:
        assert decisions == ["defective"] * station.record.counts()["defective"] != []
    else:
        assert len(decisions) == kept * NEW


def test_the_oldest_pictures_make_room(
    new_station: MakeStation, watch: Callable[..., list[str]]
) -> None:
    station = new_station(quota=0.02)
    watch(station)
    kept = sorted(station.pictures.folder.iterdir())
    newest = [part.overlay for part in station.record.parts(limit=len(kept))]
    assert [path.name for path in kept] == sorted(newest)
    assert 0 < len(kept) < NEW
    assert sum(path.stat().st_size for path in kept) <= 20_000


def test_a_record_without_space_is_waited_for_and_nothing_lost(
    new_station: MakeStation, incoming: Path
) -> None:
    station, said = new_station(), list[str]()
    database = station.record._connection
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages}")

    def say(line: str) -> None:
        said.append(line)
        assert len(said) < 1000
        if "waiting" in line:  # somebody makes room
            database.execute(f"PRAGMA max_page_count = {pages + 1000}")

    arrivals = Arrivals(incoming, station.stamp, settled=0, patience=0)
    for number in range(60):
        (incoming / f"{number}.txt").write_text(str(number))
    Watch(station, incoming, say=say, arrivals=arrivals, retry=0).run(once=True)
    assert any("waiting" in line and "disk is full" in line for line in said)
    assert len(station.record.parts(limit=1000)) == NEW + 60


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount here")
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_waited_for_and_nothing_lost(
    new_station: MakeStation, incoming: Path, small_disk: Path
) -> None:
    station, said = new_station(folder=small_disk), list[str]()
    filler = small_disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass

    def say(line: str) -> None:
        said.append(line)
        assert len(said) < 1000
        if "waiting" in line:
            filler.unlink(missing_ok=True)

    arrivals = Arrivals(incoming, station.stamp, settled=0, patience=0)
    Watch(station, incoming, say=say, arrivals=arrivals, retry=0).run(once=True)
    assert sum("waiting" in line for line in said) == 1
    assert "space" in said[0]
    parts = station.record.parts()
    assert len(parts) == NEW
    assert all((station.pictures.folder / part.overlay).stat().st_size for part in parts)


def test_a_folder_that_is_not_there_is_waited_for(
    new_station: MakeStation, incoming: Path, tmp_path: Path
) -> None:
    station, said, stop = new_station(), list[str](), Event()
    incoming.rename(tmp_path / "away")

    def say(line: str) -> None:
        said.append(line)
        if "waiting for it" in line:
            (tmp_path / "away").rename(incoming)
        if len(station.record.parts()) == NEW:
            stop.set()

    arrivals = Arrivals(incoming, station.stamp, settled=0)
    Watch(station, incoming, say=say, stop=stop, arrivals=arrivals).run()
    assert said[:2] == [
        f"{incoming}: is not there; waiting for it",
        f"{incoming}: is there again",
    ]
    assert len(said) == 2 + NEW


def test_a_locked_photograph_is_judged_when_it_is_released(
    new_station: MakeStation, incoming: Path
) -> None:
    station, said = new_station(), list[str]()
    held = next(incoming.rglob("*.png")).open("rb")
    fcntl.flock(held, fcntl.LOCK_EX)

    def say(line: str) -> None:
        said.append(line)
        if len(station.record.parts()) == NEW - 1:
            held.close()

    arrivals = Arrivals(incoming, station.stamp, settled=0)
    Watch(station, incoming, say=say, arrivals=arrivals).run(once=True)
    assert sum("locked by another program" in line for line in said) == 1
    assert len(station.record.parts()) == NEW


def test_a_photograph_replaced_while_it_is_judged_is_judged_as_it_is_afterwards(
    new_station: MakeStation, incoming: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = new_station()
    file, other = sorted(incoming.rglob("*.png"))[:2]
    content, look = other.read_bytes(), station.look

    def slow(product: Product, path: Path, name: str, sha256: str) -> object:
        looked = look(product, path, name, sha256)
        if path == file and file.read_bytes() != content:
            file.write_bytes(content)
        return looked

    monkeypatch.setattr(station, "look", slow)
    arrivals = Arrivals(incoming, station.stamp, settled=0)
    Watch(station, incoming, say=lambda line: None, arrivals=arrivals).run(once=True)
    parts = {part.name: part for part in station.record.parts()}
    assert len(parts) == NEW
    names = [path.relative_to(incoming).as_posix() for path in (file, other)]
    assert parts[names[0]].sha256 == parts[names[1]].sha256
    assert parts[names[0]].score == parts[names[1]].score


def test_a_folder_with_the_record_in_it_is_refused(
    new_station: MakeStation, tmp_path: Path
) -> None:
    with pytest.raises(FlawlineError, match="record and pictures lie below it"):
        Watch(new_station(), tmp_path)


def test_a_category_has_one_watcher(tmp_path: Path) -> None:
    with (
        alone(tmp_path, ["bolt"]),
        alone(tmp_path, ["nut"]),
        pytest.raises(FlawlineError, match="another `flawline watch` is at work with nut"),
        alone(tmp_path, ["screw", "nut"]),
    ):
        pass
    with alone(tmp_path, ["bolt", "screw", "nut"]):
        pass


def test_a_damaged_record_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "record.sqlite"
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(FlawlineError, match=r"record\.sqlite: not a readable record"):
        Record(file)


def rows(file: Path) -> list[str]:
    if not file.is_file():
        return []
    with sqlite3.connect(file) as database:
        try:
            return [name for (name,) in database.execute("SELECT name FROM parts")]
        except sqlite3.OperationalError:  # not made yet
            return []


def test_a_killed_program_goes_on_where_it_was_and_a_signal_ends_it(
    bolts: TrainedCategory, incoming: Path
) -> None:
    command = [
        sys.executable,
        "-c",
        "from flawline.cli.app import main; main()",
        "watch",
        "my.yaml",
    ]
    command += [str(incoming), "--detector", "patchcore"]
    file = bolts.root / "results/mine/station/record.sqlite"

    def started() -> subprocess.Popen[str]:
        root = Path(watching.__file__).parents[2]
        return subprocess.Popen(
            command,
            cwd=bolts.root,
            env=os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with started() as first:
        until(lambda: rows(file) or first.poll() is not None)
        first.kill()
    before = len(rows(file))
    assert before
    with started() as second:
        until(lambda: len(rows(file)) == NEW or second.poll() is not None)
        second.send_signal(signal.SIGTERM)
        said = second.communicate(timeout=LIMIT)[0]
    assert second.returncode == 0, said
    assert said.splitlines()[-1].startswith("Ended. In the record:")
    assert len(said.splitlines()) == NEW - before + 3
    assert len(set(rows(file))) == len(rows(file)) == NEW
