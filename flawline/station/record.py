"""The record of a station: every judged photograph, alarms, feedback and undelivered messages.

One SQLite file. Several processes may read and write it at the same time.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from flawline.errors import FlawlineError
from flawline.inspection.folder import DEFECTIVE, GOOD, UNREADABLE

SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    category TEXT NOT NULL,
    detector TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    path BLOB NOT NULL,
    stamp TEXT NOT NULL,
    decision TEXT NOT NULL,
    score REAL,
    p_value REAL,
    boxes TEXT NOT NULL,
    overlay TEXT NOT NULL,
    reason TEXT NOT NULL,
    version TEXT NOT NULL,
    milliseconds REAL,
    feedback TEXT NOT NULL DEFAULT '',
    feedback_reason TEXT NOT NULL DEFAULT '',
    feedback_time TEXT NOT NULL DEFAULT '',
    UNIQUE (category, name, sha256, version)
);
CREATE INDEX IF NOT EXISTS parts_by_time ON parts (time);
CREATE INDEX IF NOT EXISTS parts_by_category ON parts (category, decision);
CREATE INDEX IF NOT EXISTS parts_with_feedback ON parts (feedback) WHERE feedback != '';
CREATE TABLE IF NOT EXISTS alarms (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    category TEXT NOT NULL,
    detector TEXT NOT NULL,
    part INTEGER NOT NULL,
    version TEXT NOT NULL,
    word TEXT NOT NULL,
    verdict TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_by_sink ON outbox (sink, id);
"""
SHOWN = (
    *("id", "time", "name", "sha256", "path", "decision", "score", "p_value", "boxes", "overlay"),
    *("reason", "version", "milliseconds", "feedback", "feedback_reason", "feedback_time"),
    *("category", "detector"),
)
ALARMS = "time, part, version, word, verdict, category, detector, id"
BUSY = 30  # seconds to wait for another process that writes


@dataclass(frozen=True)
class Part:
    """One judged photograph.

    Attributes
    ----------
    time : when it was judged, UTC, ISO 8601 with milliseconds.
    name : of its file, below the watched folder, or as it was sent.
    path : where its file was.
    boxes : x0, y0, x1, y1 of each region that stands out, in pixels of the file's image.
    overlay : file name of its picture among those that are kept; empty if none was drawn.
    reason : why it is unreadable.
    version : of the detector: hash of its model and its threshold.
    milliseconds : the time that judging took.
    feedback : good or defective, by a person; empty if nobody said.
    """

    time: str
    name: str
    sha256: str
    path: str
    decision: str
    version: str
    score: float | None = None
    p_value: float | None = None
    boxes: Sequence[Sequence[int]] = ()
    overlay: str = ""
    reason: str = ""
    milliseconds: float | None = None
    feedback: str = ""
    feedback_reason: str = ""
    feedback_time: str = ""
    category: str = ""
    detector: str = ""
    id: int = 0

    def message(self) -> dict[str, Any]:
        """Return what is told about it, as plain values that JSON can hold."""
        return asdict(self) | {
            "kind": "part",
            "path": os.fsencode(self.path).decode("utf-8", "backslashreplace"),
        }


@dataclass(frozen=True)
class Alarm:
    """A change of what the station sees: drift, or that most parts are called defective.

    Attributes
    ----------
    part : id of the last part before it.
    word : higher, lower, other, mostly; none when it is over.
    verdict : in words.
    """

    time: str
    part: int
    version: str
    word: str
    verdict: str
    category: str = ""
    detector: str = ""
    id: int = 0

    def message(self) -> dict[str, Any]:
        """Return what is told about it, as plain values."""
        return asdict(self) | {"kind": "alarm"}


def told_time(time: datetime) -> str:
    """Return a time as the record has it: UTC, with milliseconds."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def now() -> str:
    """Return the present time as the record has it."""
    return told_time(datetime.now(UTC))


class Record:
    """The record in an SQLite file, made if it is not there.

    Its methods may be called by several threads.

    Parameters
    ----------
    about : what every message says besides: the dataset.
    """

    def __init__(self, file: Path | str, about: Mapping[str, str] | None = None) -> None:
        self.file = Path(file)
        self.about = dict(about or {})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        self._connection = sqlite3.connect(
            self.file, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        again = "start again: photographs that are still in the folder will be judged again"
        try:
            # photographs are recorded while others read; what is recorded outlives a power failure
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise FlawlineError(
                f"{self.file}: the record cannot be opened ({error}). Check that its folder can be "
                "written to, and that there is space on the disk."
            ) from error
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise FlawlineError(
                f"{self.file}: not a readable record ({error}). Move it away, with the files "
                f"beside it whose names begin alike, and {again}."
            ) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def stamp(self, category: str, name: str) -> str:
        """Return by what the last file of this name that was judged is known; empty if none was."""
        row = self._one(
            "SELECT stamp FROM parts WHERE category = ? AND name = ? ORDER BY id DESC LIMIT 1",
            *(category, name),
        )
        return "" if row is None else str(row[0])

    def has(self, category: str, name: str, sha256: str, stamp: str) -> bool:
        """Check whether a file of this name and content was judged, and note its new stamp."""
        with self._changing() as connection:
            changed = connection.execute(
                "UPDATE parts SET stamp = ? WHERE category = ? AND name = ? AND sha256 = ?",
                (stamp, category, name, sha256),
            )
            return changed.rowcount > 0

    def add(
        self,
        part: Part,
        stamp: str,
        sinks: Sequence[str] = (),
        alarm: Alarm | None = None,
        alarm_sinks: Sequence[str] = (),
    ) -> Part:
        """Record a part, an alarm that it raised, and messages about them: all or nothing.

        Returns
        -------
        The part with its number; if another process was faster, the part that it recorded.
        """
        with self._changing() as connection:
            cursor = connection.execute(
                "INSERT INTO parts (time, category, detector, name, sha256, path, stamp, decision, "
                "score, p_value, boxes, overlay, reason, version, milliseconds) VALUES "
                "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    part.time,
                    part.category,
                    part.detector,
                    part.name,
                    part.sha256,
                    os.fsencode(part.path),
                    stamp,
                    part.decision,
                    part.score,
                    part.p_value,
                    json.dumps(part.boxes),
                    part.overlay,
                    part.reason,
                    part.version,
                    part.milliseconds,
                ),
            )
            if not cursor.rowcount:
                return self.find(part.category, part.name, part.sha256, part.version) or part
            part = replace(part, id=int(cursor.lastrowid or 0))
            self._post(connection, part.message(), sinks)
            if alarm is not None:
                cursor = connection.execute(
                    "INSERT INTO alarms (time, category, detector, part, version, word, verdict) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(alarm.time, alarm.category, alarm.detector, part.id),
                        *(alarm.version, alarm.word, alarm.verdict),
                    ),
                )
                alarm = replace(alarm, part=part.id, id=int(cursor.lastrowid or 0))
                self._post(connection, alarm.message(), alarm_sinks)
        return part

    def part(self, number: int) -> Part | None:
        """Return a part by its number."""
        row = self._one(f"SELECT {', '.join(SHOWN)} FROM parts WHERE id = ?", number)
        return None if row is None else _part(row)

    def find(self, category: str, name: str, sha256: str, version: str) -> Part | None:
        """Return the part of a name and a content that a version of the detector judged."""
        row = self._one(
            f"SELECT {', '.join(SHOWN)} FROM parts "
            "WHERE category = ? AND name = ? AND sha256 = ? AND version = ?",
            *(category, name, sha256, version),
        )
        return None if row is None else _part(row)

    def parts(
        self,
        *,
        categories: Sequence[str] = (),
        after: int = 0,
        before: int | None = None,
        since: str = "",
        until: str = "",
        decision: str = "",
        version: str = "",
        feedback: bool = False,
        readable: bool = False,
        limit: int = 100,
    ) -> list[Part]:
        """List the latest parts, the newest first.

        Parameters
        ----------
        categories : only those; all, if none are given.
        after, before : only numbers above, or below.
        since, until : only times from the first, and before the second, as ISO 8601 sorts.
        decision : only good, defective or unreadable ones.
        version : only those that this version of the detector judged.
        feedback : only those that a person said something about.
        readable : only those that are photographs.
        """
        among, names = _among(categories)
        conditions: list[str] = ["id > ?", among]
        values: list[Any] = [after, *names]
        for condition, value in (
            ("id < ?", before),
            ("time >= ?", since),
            ("time < ?", until),
            ("decision = ?", decision),
            ("version = ?", version),
        ):
            if value:
                conditions.append(condition)
                values.append(value)
        if feedback:
            conditions.append("feedback != ''")
        if readable:
            conditions.append("decision != 'unreadable'")
        rows = self._all(
            f"SELECT {', '.join(SHOWN)} FROM parts WHERE {' AND '.join(conditions)} "
            "ORDER BY id DESC LIMIT ?",
            *values,
            limit,
        )
        return [_part(row) for row in rows]

    def counts(self, categories: Sequence[str] = ()) -> dict[str, int]:
        """Count the parts by decision; of all categories, if none are given."""
        among, names = _among(categories)
        rows = self._all(
            f"SELECT decision, count(*) FROM parts WHERE {among} GROUP BY decision", *names
        )
        return dict.fromkeys((GOOD, DEFECTIVE, UNREADABLE), 0) | dict(rows)

    def judged(self, category: str) -> dict[str, tuple[int, int]]:
        """Count the parts that each version judged, and how many of them it called defective."""
        rows = self._all(
            "SELECT version, count(*), sum(decision = 'defective') FROM parts "
            "WHERE category = ? AND decision != 'unreadable' GROUP BY version",
            category,
        )
        return {version: (count, defective) for version, count, defective in rows}

    def alarms(self, limit: int = 20, categories: Sequence[str] = ()) -> list[Alarm]:
        """List the latest alarms, the newest first; of all categories, if none are given."""
        among, names = _among(categories)
        rows = self._all(
            f"SELECT {ALARMS} FROM alarms WHERE {among} ORDER BY id DESC LIMIT ?", *names, limit
        )
        return [Alarm(*row) for row in rows]

    def undelivered(self, sink: str, limit: int = 50) -> list[tuple[int, dict[str, Any]]]:
        """Return the oldest messages for a sink, with their numbers."""
        rows = self._all(
            "SELECT id, body FROM outbox WHERE sink = ? ORDER BY id LIMIT ?", sink, limit
        )
        return [(number, json.loads(body)) for number, body in rows]

    def waiting(self) -> int:
        """Count the messages that are not delivered."""
        row = self._one("SELECT count(*) FROM outbox")
        return 0 if row is None else int(row[0])

    def delivered(self, number: int) -> None:
        """Remove a message."""
        with self._changing() as connection:
            connection.execute("DELETE FROM outbox WHERE id = ?", (number,))

    def say(self, number: int, feedback: str, reason: str) -> bool:
        """Record what a person said about a part; an empty `feedback` takes it back.

        Returns
        -------
        Whether there is such a part.
        """
        with self._changing() as connection:
            done = connection.execute(
                "UPDATE parts SET feedback = ?, feedback_reason = ?, feedback_time = ? "
                "WHERE id = ?",
                (feedback, reason, now() if feedback else "", number),
            )
            return done.rowcount > 0

    def _post(
        self, connection: sqlite3.Connection, message: Mapping[str, Any], sinks: Sequence[str]
    ) -> None:
        body = json.dumps({**message, **self.about})
        connection.executemany(
            "INSERT INTO outbox (sink, body) VALUES (?, ?)", [(sink, body) for sink in sinks]
        )

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                # a full disk has rolled it back already
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _one(self, query: str, *values: Any) -> Any:
        with self._lock:
            return self._connection.execute(query, values).fetchone()

    def _all(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


def _among(categories: Sequence[str]) -> tuple[str, Sequence[str]]:
    """Return the condition that a category is one of some, and its values."""
    if not categories:
        return "1", ()
    return f"category IN ({', '.join('?' * len(categories))})", categories


def _part(row: Sequence[Any]) -> Part:
    content = dict(zip(SHOWN, row, strict=True))
    content["path"] = os.fsdecode(content["path"])
    content["boxes"] = json.loads(content["boxes"])
    return Part(**content)
