"""Detectors that judge photographs one by one and record each."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from flawline.data.images import reason
from flawline.data.resize import to_original
from flawline.errors import FlawlineError
from flawline.files import replacing
from flawline.inspection.folder import (
    DEFECTIVE,
    UNREADABLE,
    draw_overlay,
    judge_photographs,
    read_photograph,
)
from flawline.inspection.judging import Photograph
from flawline.provenance import file_hash
from flawline.station.drift import NONE, WINDOW, Drift
from flawline.station.pictures import Pictures, Rule
from flawline.station.products import Product, open_products, station_folder
from flawline.station.record import Alarm, Part, Record, now


class StoreError(FlawlineError):
    """Nothing can be stored at present, mostly because the disk is full."""


@dataclass(frozen=True)
class Looked:
    """A judged photograph that is not recorded yet.

    Attributes
    ----------
    boxes : float64 (n, 4), in pixels of the prepared image.
    steps : milliseconds that reading, scoring and boxes took.
    """

    part: Part
    photograph: Photograph | None = None
    anomaly_map: np.ndarray | None = None
    boxes: np.ndarray | None = None
    steps: tuple[float, ...] = ()


class Station:
    """Judges photographs and records them.

    Its methods may be called by several threads; photographs are judged one after the other.

    Parameters
    ----------
    products : whose parts come; of different categories.
    sinks : by name, who gets messages: about every part, or only about defective and unreadable
        ones. All get alarms.
    """

    def __init__(
        self,
        products: Sequence[Product],
        record: Record,
        pictures: Pictures,
        sinks: Sequence[tuple[str, bool]] = (),
    ) -> None:
        self.products = {product.category: product for product in products}
        self.record, self.pictures = record, pictures
        self._sinks = tuple(sinks)
        self._lock = Lock()
        cv2.setNumThreads(1)  # one small image at a time; torch has the cores

    @property
    def categories(self) -> list[str]:
        """The categories of its products."""
        return list(self.products)

    def product_of(self, name: str) -> Product | None:
        """Return whose part a file shows: the only product's, or that which its folder is named by.

        Parameters
        ----------
        name : below the watched folder.
        """
        if len(self.products) == 1:
            return next(iter(self.products.values()))
        folder, _, file = name.partition("/")
        return self.products.get(folder) if file else None

    def stamp(self, name: str) -> str:
        """Return by what the last judged file of a name is known; empty if there is none."""
        product = self.product_of(name)
        return "" if product is None else self.record.stamp(product.category, name)

    def drift(self, product: Product) -> Drift:
        """Return the latest parts of this version of a detector, whichever program judged them."""
        own = [product.category]
        before = self.record.parts(
            categories=own, version=product.version, readable=True, limit=WINDOW
        )
        alarms = [one for one in self.record.alarms(1, own) if one.version == product.version]
        return Drift(product.judge, before[::-1], alarms[0].word if alarms else NONE)

    def knows(self, product: Product, name: str, sha256: str, stamp: str) -> bool:
        """Check whether a file of this name and content was judged; its new stamp is recorded.

        Raises
        ------
        StoreError
            If that could not be stored.
        """
        with _storing():
            return self.record.has(product.category, name, sha256, stamp)

    def look(self, product: Product, path: Path, name: str, sha256: str) -> Looked:
        """Judge the photograph in a file; records nothing.

        Parameters
        ----------
        name : for the record.
        sha256 : of the file; empty if it cannot be read.
        """
        started = time.perf_counter()
        with self._lock:
            part = Part(
                *(now(), name, sha256, str(path.absolute()), UNREADABLE, product.version),
                category=product.category,
                detector=product.detector,
            )
            judge = product.judge
            read = read_photograph(path, judge)
            if isinstance(read, str):
                return Looked(replace(part, reason=read))
            at_hand = time.perf_counter()
            score, decision, p_value, boxes, anomaly_map = next(judge_photographs([read], judge))
            scored = time.perf_counter()
            mode = judge.settings["prepare"]["resize"]
            original = to_original(boxes, judge.image_shape, read.original, mode).tolist()
        marks = started, at_hand, scored, time.perf_counter()
        steps = tuple(1000 * (b - a) for a, b in pairwise(marks))
        part = replace(part, decision=decision, score=score, p_value=p_value, boxes=original)
        return Looked(replace(part, milliseconds=sum(steps)), read, anomaly_map, boxes, steps)

    def take(self, looked: Looked, stamp: str = "") -> tuple[Part, Alarm | None]:
        """Record what was judged, with its picture and messages, wholly or not at all.

        Returns
        -------
        The part with its number, and the alarm that it raised.

        Raises
        ------
        StoreError
            If it could not be stored; try again.
        """
        part = looked.part
        with self._lock, _storing():
            overlay = ""
            try:
                if looked.photograph is not None and self.pictures.wanted(part.decision):
                    overlay = f"{_digits(part.time)}-{part.sha256[:12]}.jpg"
                    self._draw(overlay, looked)
                alarm = self.drift(self.products[part.category]).alarm(part)
                told = part.decision in (DEFECTIVE, UNREADABLE)
                recorded = self.record.add(
                    replace(part, overlay=overlay),
                    stamp,
                    [name for name, every in self._sinks if every or told],
                    alarm,
                    [name for name, _ in self._sinks],
                )
            except BaseException:
                if overlay:
                    self.pictures.discard(overlay)
                raise
            return recorded, alarm

    def keep(self, part: Part, content: bytes, suffix: str) -> str:
        """Keep the file of a photograph that was sent, if pictures of such parts are kept.

        Returns
        -------
        Its path; empty if it is not kept.

        Raises
        ------
        StoreError
            If it could not be stored.
        """
        if not self.pictures.wanted(part.decision):
            return ""
        name = f"{_digits(part.time)}-{part.sha256[:12]}.photograph{suffix}"
        path = self.pictures.folder / name
        with self._lock, _storing():
            with replacing(path) as partial:
                partial.write_bytes(content)
            self.pictures.keep(name)
        return str(path.absolute())

    def say(self, number: int, feedback: str, reason: str) -> None:
        """Record what a person said about a part: good, defective, or nothing any more.

        Raises
        ------
        StoreError
            If it could not be stored.
        """
        with _storing():
            self.record.say(number, feedback, reason)

    def _draw(self, name: str, looked: Looked) -> None:
        assert looked.photograph is not None
        assert looked.anomaly_map is not None
        assert looked.boxes is not None
        path, judge = self.pictures.folder / name, self.products[looked.part.category].judge
        draw_overlay(path, looked.photograph, looked.anomaly_map, looked.boxes, judge)
        self.pictures.keep(name)


def open_station(
    source: Path | str,
    categories: Sequence[str] = (),
    detector: str | None = None,
    seed: int | None = None,
    *,
    device: str = "cpu",
    keep: Rule = "all",
    quota: float = 1000,
    sinks: Sequence[tuple[str, bool]] = (),
) -> Station:
    """Open detectors as a station, with its record in ``results/<dataset>/station/``.

    Parameters
    ----------
    source, categories, detector, seed, device : as of `open_products`.
    keep, quota : of which parts pictures are kept, and how many megabytes of them.
    """
    dataset, products = open_products(source, categories, detector, seed, device=device)
    folder = station_folder(dataset)
    pictures = Pictures(folder / "pictures", keep, quota)
    record = Record(folder / "record.sqlite", {"dataset": dataset})
    return Station(products, record, pictures, sinks)


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file; empty if it is none, or cannot be read."""
    try:
        return file_hash(path) if path.is_file() else ""
    except OSError:
        return ""


def _digits(time: str) -> str:
    return "".join(one for one in time if one.isdigit())


@contextmanager
def _storing() -> Iterator[None]:
    """Turn errors of the disk and of the record into a StoreError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StoreError(f"the record cannot be written: {error}") from error
    except OSError as error:
        raise StoreError(f"{error.filename}: {reason(error)}") from error
    except FlawlineError as error:
        if isinstance(error.__cause__, OSError):
            raise StoreError(str(error)) from error
        raise
