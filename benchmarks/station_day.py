"""Let a station judge a day's photographs among faults, and check that each was judged once.

python benchmarks/station_day.py [PHOTOGRAPHS [KILLS]]

The station is killed again and again, its disk fills up, the folder vanishes for a while, files
grow slowly and are touched. The detector is a real one, but small: photographs of 32 px, so that
20,000 of them take minutes. The disk is a small one of its own, if this may mount one.
"""

import multiprocessing
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import torch

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.subspace import Subspace
from flawline.features.backbones import build_backbone
from flawline.features.extraction import patch_features
from flawline.inspection.judging import Judge
from flawline.inspection.trained_detector import TrainedDetector
from flawline.station.arrivals import Arrivals
from flawline.station.messages import CsvFile, Delivery
from flawline.station.pictures import Pictures
from flawline.station.products import Product
from flawline.station.record import Record
from flawline.station.station import Station
from flawline.station.watch import Watch, stopped_by_signals

SIDE, KINDS = 32, 40
FEATURES: dict[str, Any] = {"pool": 1, "normalize": False, "precision": "float32", "scale": 1.0}
BEHIND = 60  # photographs that wait at most, so that faults meet a station at work
MEGABYTES = 64  # of the small disk: the record and pictures of 20,000 parts, and little more


def part(seed: int) -> np.ndarray:
    """Draw a photograph; every fourth has a defect."""
    rng = np.random.default_rng(seed)
    image = rng.normal(120, 6, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
    if seed % 4 == 3:
        cv2.circle(image, (16, 16), 5, (250, 20, 20), -1)
    return image


def small_judge() -> Judge:
    """Train a detector on drawn photographs."""
    network = build_backbone("gabor", "none", ["fine"], (SIDE, SIDE))
    good = np.stack([part(seed) for seed in range(0, 4 * KINDS, 4)])
    geometry = Geometry((SIDE, SIDE))
    data = Data(geometry, features=(patch_features(network, good, **FEATURES).cpu().numpy(),))
    detector = Subspace(Subspace.Options(features="any"), 0, torch.device("cpu"))
    detector.fit(data)
    scores = np.sort(detector.score(data).scores.astype(float))
    settings = {
        "max_megapixels": 1,
        "white": None,
        "prepare": {"resize": "stretch"},
        "regions": {"mask": None, "polygons": []},
        "detector": {"method": "subspace"},
        "object_masks": None,
        "boxes": {"min_area": 1},
    }
    return TrainedDetector(
        detector=detector,
        networks=((network, FEATURES | {"batch_size": 1}),),
        settings=settings,
        threshold={"value": 1.2 * scores[-1]},
        calibration=scores,
        scale=(0.0, 2 * scores[-1]),
        limit=1.2 * scores[-1],
        geometry=geometry,
    )


def work(judge: Judge, incoming: Path, folder: Path) -> None:
    """Watch, as `flawline watch` does, until the end or a signal."""
    torch.set_num_threads(1)
    stop = Event()
    with stopped_by_signals(stop), (folder.parent / "said").open("a", buffering=1) as said:
        sink = CsvFile(folder.parent / "parts.csv")
        record = Record(folder / "record.sqlite", {"dataset": "day"})
        product = Product("bolt", "subspace", judge, "v1")
        pictures = Pictures(folder / "pictures", "defective", 8)
        station = Station([product], record, pictures, [(sink.name, True)])
        with Delivery(record, [sink], lambda line: print(line, file=said)):
            arrivals = Arrivals(incoming, station.stamp, settled=0.2, patience=2)
            Watch(
                *(station, incoming),
                say=lambda line: print(line, file=said),
                stop=stop,
                retry=0.2,
                arrivals=arrivals,
            ).run()


def day(root: Path, count: int, kills: int) -> dict[str, int]:
    """Live through a day, and return what happened; raises an AssertionError if parts are wrong."""
    judge, context = small_judge(), multiprocessing.get_context("fork")
    contents = [cv2.imencode(".png", part(seed)[..., ::-1])[1].tobytes() for seed in range(KINDS)]
    incoming, folder, said = root / "incoming", root / "disk", root / "said"
    incoming.mkdir()
    happened: Counter[str] = Counter()

    def started() -> Any:
        process = context.Process(target=work, args=(judge, incoming, folder))
        process.start()
        return process

    def recorded() -> int:
        try:
            with sqlite3.connect(f"file:{folder}/record.sqlite?mode=ro", uri=True) as database:
                return int(database.execute("SELECT count(*) FROM parts").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def keep_up(least: int) -> None:
        """Wait until that many parts are recorded; they may be few for a minute, not none."""
        seen, end = recorded(), time.monotonic() + 60
        while seen < least:
            assert time.monotonic() < end, f"{seen} of {count} parts, and no more for a minute"
            assert station.is_alive(), "the station ended by itself"
            time.sleep(0.05)
            if (now := recorded()) > seen:
                seen, end = now, time.monotonic() + 60

    def until(words: str, before: int) -> None:
        end = time.monotonic() + 60
        while words not in said.read_text()[before:]:
            assert time.monotonic() < end, f"the station never said {words!r}"
            time.sleep(0.02)

    killed_at = {count * kill // (kills + 1) for kill in range(1, kills + 1)}
    with small_disk(folder) as is_small:
        station = started()
        for number in range(count):
            content = contents[number % KINDS]
            if number % 20 == 0:
                keep_up(number - BEHIND)
            path = incoming / f"{number // 1000:02d}" / f"{number:05d}.png"
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
                if number % 500 == 7:
                    file.flush()
                    time.sleep(0.3)
                    happened["files that grew slowly"] += 1
                file.write(content[len(content) // 2 :])
            if number % 50 == 49:
                (path.parent / f"{number - 20:05d}.png").touch()
                happened["files touched"] += 1
            if number in killed_at:
                station.kill()
                station.join()
                station = started()
                happened["kills"] += 1
            if number == count // 3 and is_small:
                before, filler = len(said.read_text()), folder / "filler"
                fill(filler)
                until("waiting, ", before)
                filler.unlink()
                happened["full disks"] += 1
            if number == 2 * count // 3:
                before = len(said.read_text())
                incoming.rename(root / "away")
                until("waiting for it", before)
                (root / "away").rename(incoming)
                happened["vanished folders"] += 1
        keep_up(count)
        time.sleep(1)  # for whatever might come twice
        station.terminate()
        station.join()
        assert station.exitcode == 0, f"the station ended with {station.exitcode}"
        check(folder / "record.sqlite", incoming, count)
    lines = (root / "parts.csv").read_text().splitlines()[1:]
    told = Counter(line.split(",")[0] for line in lines if ",part," in line)
    assert len(told) == count, f"{len(told)} of {count} parts were told"
    happened["messages told twice after a kill"] = sum(told.values()) - count
    return dict(happened)


def check(record: Path, incoming: Path, count: int) -> None:
    """Raise an AssertionError unless every photograph was judged once, and as it is."""
    with sqlite3.connect(record) as database:
        rows = database.execute("SELECT name, decision FROM parts").fetchall()
    names = Counter(name for name, _ in rows)
    there = {path.relative_to(incoming).as_posix() for path in incoming.rglob("*.png")}
    assert set(names) == there, f"missing: {sorted(there - set(names))[:5]}"
    assert max(names.values()) == 1, f"twice: {names.most_common(3)}"
    assert len(rows) == count
    for name, decision in rows:
        number = int(name[-9:-4]) % KINDS
        expected = "defective" if number % 4 == 3 else "good"
        assert decision == expected, f"{name}: {decision}, expected {expected}"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk at a folder, if that is allowed; yield whether it was."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Fill a disk to the last block."""
    for block in (1 << 20, 4096):
        try:
            with file.open("ab", buffering=0) as filler:
                while True:
                    filler.write(bytes(block))
        except OSError:
            continue


def main(count: int, kills: int) -> None:
    """Print what happened, and how long it took."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flawline-day-") as folder:
        happened = day(Path(folder), count, kills)
    took = time.monotonic() - began
    print(f"{count} photographs, each judged once and rightly, in {took:.0f} s")
    for what, number in happened.items():
        print(f"  {what}: {number}")


if __name__ == "__main__":
    given = [int(one) for one in sys.argv[1:]]
    main(*(given + [20_000, 40][len(given) :]))
