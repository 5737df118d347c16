"""Watch a folder: judge every photograph that appears in it, once, until the program is stopped."""

import fcntl
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event

from flawline.errors import FlawlineError
from flawline.files import given_path
from flawline.inspection.folder import UNREADABLE
from flawline.station.arrivals import Arrival, Arrivals, within
from flawline.station.products import Product
from flawline.station.record import Part
from flawline.station.station import Station, StoreError, content_hash

POLL = 0.2  # seconds between two looks at the folder
RETRY = 5.0  # seconds after which a full disk is tried again
LOOKING = 0.1  # part of the time that may go into looking at a folder of many files

Say = Callable[[str], None]


class Watch:
    """Judges what appears in a folder.

    Parameters
    ----------
    say : called with every line for the terminal.
    stop : ends it after the current photograph, when set.
    """

    def __init__(
        self,
        station: Station,
        folder: Path | str,
        *,
        say: Say = print,
        stop: Event | None = None,
        retry: float = RETRY,
        arrivals: Arrivals | None = None,
    ) -> None:
        self.station = station
        self.folder = given_path(str(folder))
        if within(station.record.file, self.folder):
            raise FlawlineError(
                f"{self.folder}: the station's own record and pictures lie below it, in "
                f"{station.record.file.parent}; watch a folder that only photographs come into"
            )
        self.arrivals = arrivals or Arrivals(self.folder, station.stamp)
        self.stop = stop or Event()
        self._say, self._retry = say, retry
        self._gone = False
        self._locked: set[Path] = set()
        self._strange: set[str] = set()

    def run(self, *, once: bool = False) -> None:
        """Go on until `stop` is set.

        Parameters
        ----------
        once : end when there is nothing left to judge.
        """
        while not self.stop.is_set():
            began = time.monotonic()
            ready = self.arrivals.ready()
            self._tell_missing()
            looking = (time.monotonic() - began) / LOOKING
            left = self._judge(ready, began + max(1.0, looking))
            if once and not left and not len(self.arrivals) and not self.arrivals.missing:
                return
            if not left:
                self.stop.wait(max(POLL, looking))

    def _judge(self, ready: list[Arrival], until: float) -> bool:
        """Judge what is ready; return whether some of it is left because it is time to look."""
        for arrival in ready:
            if self.stop.is_set() or time.monotonic() > until:
                return True
            self._one(arrival)
        return False

    def _one(self, arrival: Arrival) -> None:
        product = self.station.product_of(arrival.name)
        if product is None:
            self._tell_strange(arrival.name)
            self.arrivals.done(arrival)
            return
        if arrival.locked:
            if arrival.path not in self._locked:
                self._say(f"{arrival.name}: locked by another program; waiting for it")
            self._locked.add(arrival.path)
            return
        self._locked.discard(arrival.path)
        sha256 = content_hash(arrival.path)
        while not self.stop.is_set():
            try:
                if self.station.knows(product, arrival.name, sha256, arrival.stamp):
                    self.arrivals.done(arrival)
                else:
                    self._record(product, arrival, sha256)
                return
            except StoreError as error:
                self._say(f"waiting, {arrival.name} is not recorded yet: {error}")
                self.stop.wait(self._retry)

    def _record(self, product: Product, arrival: Arrival, sha256: str) -> None:
        looked = self.station.look(product, arrival.path, arrival.name, sha256)
        if arrival.changed:  # the next look at the folder takes it as it is then
            return
        if looked.part.decision == UNREADABLE and not self.arrivals.unreadable(arrival):
            return
        part, alarm = self.station.take(looked, arrival.stamp)
        self.arrivals.done(arrival)
        self._say(told(part))
        if alarm is not None:
            self._say(f"{'over' if alarm.word == 'none' else 'ALARM'}: {alarm.verdict}")

    def _tell_strange(self, name: str) -> None:
        """Say once of each subfolder that it belongs to no product."""
        folder, _, file = name.partition("/")
        where = f"{self.folder / folder}" if file else f"{self.folder}"
        if where in self._strange:
            return
        self._strange.add(where)
        known = ", ".join(self.station.categories)
        self._say(
            f"{where}: photographs there are not judged, and stay: a station of several products "
            f"has a subfolder for each, named {known}"
        )

    def _tell_missing(self) -> None:
        if self.arrivals.missing != self._gone:
            self._gone = self.arrivals.missing
            there = "is not there; waiting for it" if self._gone else "is there again"
            self._say(f"{self.folder}: {there}")


def told(part: Part) -> str:
    """Return a line about a part."""
    if part.decision == UNREADABLE:
        return f"{part.name}: unreadable, {part.reason}"
    return (
        f"{part.name}: {part.decision}, score {part.score:.4g}, p {part.p_value:.3f}, "
        f"{part.milliseconds:.0f} ms"
    )


@contextmanager
def stopped_by_signals(stop: Event) -> Iterator[None]:
    """Set `stop` when the program is asked to end; a second time, it ends at once."""

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def alone(folder: Path, categories: Sequence[str]) -> Iterator[None]:
    """Hold the locks by which each category has one watcher.

    Raises
    ------
    FlawlineError
        If another watcher holds one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as locks:
        for category in categories:
            lock = locks.enter_context((folder / f"watch-{category}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FlawlineError(
                    f"{folder}: another `flawline watch` is at work with {category}; stop it first"
                ) from None
        yield
