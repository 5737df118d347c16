"""Print what a station takes for a photograph, by step, and how soon it sees a blurred batch.

python benchmarks/station.py CONFIG CATEGORY [PHOTOGRAPHS [EXPORTED]]

With the folder of an exported detector, that one is measured, without torch.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from flawline.devices import spin_briefly

spin_briefly(os.environ)  # as the command does, before torch comes

import cv2
import numpy as np

from flawline.config import load_config
from flawline.configfile import read_configfile
from flawline.data.datasets.base import Dataset
from flawline.data.images import decode_image
from flawline.station.drift import Drift
from flawline.station.pictures import Pictures
from flawline.station.products import Product, open_products
from flawline.station.record import Part, Record
from flawline.station.station import Station, content_hash


def main(config: str, category: str, rounds: int, exported: str) -> None:
    """Measure on the good test photographs of a category."""
    _, (product,) = open_products(exported or config, [category])
    dataset: Dataset = load_config(read_configfile(Path(config)), config).dataset
    entries = dataset.listing(category).entries
    good = [dataset.folder / one.path for one in entries if one.split == "test" and not one.label]
    with tempfile.TemporaryDirectory() as folder:
        station = Station([product], Record(Path(folder, "r.sqlite")), Pictures(Path(folder, "p")))
        steps = [one_part(station, product, good[i % len(good)], i) for i in range(rounds + 3)][3:]
    names = ("hash", "read and prepare", "features and score", "boxes", "picture and record")
    table = np.array([[*row, sum(row)] for row in steps]).T
    for name, values in zip((*names, "all"), table, strict=True):
        median, late = np.quantile(values, [0.5, 0.95])
        print(f"{name:20} median {median:6.1f} ms, p95 {late:6.1f} ms")
    if not exported:
        blurred(station, product, good)


def one_part(station: Station, product: Product, path: Path, number: int) -> list[float]:
    """Return the milliseconds of the steps."""
    began = time.perf_counter()
    sha256 = content_hash(path)
    hashed = time.perf_counter()
    looked = station.look(product, path, f"{number}", sha256)
    judged = time.perf_counter()
    station.take(looked)
    return [1000 * (hashed - began), *looked.steps, 1000 * (time.perf_counter() - judged)]


def blurred(station: Station, product: Product, good: list[Path]) -> None:
    """Print after how many blurred parts the alarm comes, in 20 orders of the photographs."""
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[bool, list[Part]] = {False: [], True: []}
        for blur, some in parts.items():
            for number, path in enumerate(good):
                image = decode_image(path)
                if blur:
                    image = cv2.GaussianBlur(image, (0, 0), 1)
                file = Path(folder, f"{number}.png")
                cv2.imwrite(str(file), image[..., ::-1])
                some.append(station.look(product, file, file.name, "").part)
    called = [sum(one.decision == "defective" for one in parts[blur]) for blur in (False, True)]
    print(f"called defective: {called[0]} of {len(good)}, blurred {called[1]}")
    rng, after, before = np.random.default_rng(0), [], 0
    for _ in range(20):
        drift = Drift(product.judge)
        for number in rng.permutation(len(good)).tolist() * 2:
            alarm = drift.alarm(parts[False][number])
            before += alarm is not None
            drift.take(parts[False][number], alarm)
        for count, number in enumerate(rng.permutation(len(good)).tolist() * 3, start=1):
            alarm = drift.alarm(parts[True][number])
            drift.take(parts[True][number], alarm)
            if alarm is not None:
                after.append((count, alarm.word))
                break
        else:
            after.append((0, "never"))
    print(f"alarms before the blur: {before} of 20; after it: {sorted(after)}")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv))
    main(given[1], given[2], int(given.get(3, 60)), given.get(4, ""))
