"""New files of a folder, each once it is whole."""

import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flawline.data.datasets.base import shown
from flawline.data.folder_digest import files_below
from flawline.files import is_folder

SETTLED = 0.5  # seconds without a change after which a file is whole
PATIENCE = 10.0  # seconds without a change after which a file that cannot be read stays so
BEING_WRITTEN = (".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")


@dataclass
class Arrival:
    """A file that has not been judged as it is.

    Attributes
    ----------
    name : below the folder, printable.
    stamp : size, times and inode; changes with its content.
    since : when this stamp was first seen, by the clock of `Arrivals`.
    tried : when it was found to be unreadable.
    """

    path: Path
    name: str
    stamp: str
    modified: int
    since: float
    tried: float | None = None
    regular: bool = True

    @property
    def changed(self) -> bool:
        """Check whether the file is another one by now, or gone."""
        try:
            return _stamp(self.path.stat()) != self.stamp
        except OSError:
            return True

    @property
    def locked(self) -> bool:
        """Check whether another program holds a lock on the file."""
        if not self.regular:
            return False
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # what cannot be opened is told as such; some shares know no locks
            return False
        return False


@dataclass
class Arrivals:
    """The files of a folder that are still to be judged.

    Programs write files in many ways: slowly, under another name, locked, or over an older one. A
    file is taken when two looks at it, `settled` seconds apart, found it unchanged, and when
    nobody holds a lock on it. One that cannot be read is tried again once it has been unchanged
    for `patience` seconds.

    Parameters
    ----------
    folder : searched recursively; may be missing for a while.
    known : the stamp by which the last judged file of a name is known; empty if there is none.
    clock : in seconds.
    """

    folder: Path
    known: Callable[[str], str]
    settled: float = SETTLED
    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    missing: bool = False
    _done: dict[Path, str] = field(default_factory=dict)
    _waiting: dict[Path, Arrival] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many files are waiting."""
        return len(self._waiting)

    def ready(self) -> list[Arrival]:
        """Look at the folder, and return what can be judged, the oldest first."""
        self.missing = not is_folder(self.folder)
        if self.missing:
            return []
        now, present = self.clock(), set()
        for path in files_below(self.folder):
            if path.name.lower().endswith(BEING_WRITTEN):
                continue
            try:
                about = path.stat()
            except OSError:  # vanished, or a link to what is not there yet
                continue
            present.add(path)
            stamp = _stamp(about)
            if self._done.get(path) == stamp:
                continue
            waiting = self._waiting.get(path)
            if waiting is None or waiting.stamp != stamp:
                name = shown(path, self.folder)
                if path not in self._done and self.known(name) == stamp:
                    self._done[path] = stamp
                    continue
                regular = stat.S_ISREG(about.st_mode)
                self._waiting[path] = Arrival(
                    path, name, stamp, about.st_mtime_ns, now, regular=regular
                )
        if not is_folder(self.folder):  # vanished meanwhile, and nothing of it is forgotten
            self.missing = True
            return []
        self._forget(present)
        return sorted(self._settled(now), key=lambda one: (one.modified, one.name))

    def done(self, arrival: Arrival) -> None:
        """Note that a file was judged as it is."""
        self._waiting.pop(arrival.path, None)
        self._done[arrival.path] = arrival.stamp

    def unreadable(self, arrival: Arrival) -> bool:
        """Note that a file could not be read, and return whether that is final."""
        arrival.tried = self.clock()
        return arrival.tried - arrival.since >= self.patience

    def _settled(self, now: float) -> Iterable[Arrival]:
        for one in self._waiting.values():
            wait = self.settled if one.tried is None else self.patience
            if now - one.since >= wait:
                yield one

    def _forget(self, present: set[Path]) -> None:
        for known in (self._done, self._waiting):
            for path in [path for path in known if path not in present]:
                del known[path]


def _stamp(about: os.stat_result) -> str:
    return f"{about.st_size}.{about.st_mtime_ns}.{about.st_ctime_ns}.{about.st_ino}"


def within(path: Path, folder: Path) -> bool:
    """Check whether a path is a folder or lies below it."""
    inner, outer = (os.path.realpath(one) for one in (path, folder))
    return os.path.commonpath([inner, outer]) == outer
