"""Files are judged when they are whole, however a camera's program writes them."""

import fcntl
import os
import shutil
from pathlib import Path

import pytest

from flawline.station.arrivals import PATIENCE, SETTLED, Arrivals


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arrivals(tmp_path: Path, clock: Clock) -> Arrivals:
    (tmp_path / "incoming").mkdir()
    return Arrivals(tmp_path / "incoming", lambda name: "", clock=clock)


def names(arrivals: Arrivals, clock: Clock, seconds: float = SETTLED) -> list[str]:
    """What can be judged after a while without changes."""
    arrivals.ready()
    clock.now += seconds
    return [one.name for one in arrivals.ready()]


def test_a_growing_file_is_taken_when_it_grows_no_more(arrivals: Arrivals, clock: Clock) -> None:
    file = arrivals.folder / "a.png"
    for size in range(1, 20):
        file.write_bytes(bytes(size))
        assert arrivals.ready() == []
        clock.now += 0.9 * SETTLED
    assert names(arrivals, clock) == ["a.png"]


def test_a_file_of_its_final_size_is_taken_when_its_time_changes_no_more(
    arrivals: Arrivals, clock: Clock
) -> None:
    file = arrivals.folder / "a.png"
    for second in range(9):
        file.write_bytes(bytes(100))
        os.utime(file, (second, second))
        assert arrivals.ready() == []
        clock.now += 0.9 * SETTLED
    assert names(arrivals, clock) == ["a.png"]


def test_a_file_under_another_name_is_taken_once_it_is_renamed(
    arrivals: Arrivals, clock: Clock
) -> None:
    hidden = [".a.png", "a.png.tmp", "a.png.part", "a.png~", "Thumbs.db"]
    for name in hidden:
        (arrivals.folder / name).write_bytes(b"1")
    assert names(arrivals, clock, 2 * PATIENCE) == []
    (arrivals.folder / "a.png.tmp").rename(arrivals.folder / "a.png")
    assert names(arrivals, clock) == ["a.png"]


def test_a_locked_file_says_so(arrivals: Arrivals, clock: Clock) -> None:
    file = arrivals.folder / "a.png"
    with file.open("wb") as writing:
        fcntl.flock(writing, fcntl.LOCK_EX)
        arrivals.ready()
        clock.now += SETTLED
        assert [one.locked for one in arrivals.ready()] == [True]
    assert [one.locked for one in arrivals.ready()] == [False]


def test_a_file_is_taken_once_and_again_when_it_changes(arrivals: Arrivals, clock: Clock) -> None:
    file = arrivals.folder / "a.png"
    file.write_bytes(b"1")
    arrivals.ready()
    clock.now += SETTLED
    arrivals.done(arrivals.ready()[0])
    assert names(arrivals, clock) == []
    file.write_bytes(b"22")
    assert names(arrivals, clock) == ["a.png"]


def test_what_is_in_the_record_is_not_taken(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    first = Arrivals(tmp_path, lambda name: "", clock=clock)
    first.ready()
    clock.now += SETTLED
    stamp = first.ready()[0].stamp
    known = {"a.png": stamp}
    again = Arrivals(tmp_path, lambda name: known.get(name, ""), clock=clock)
    (tmp_path / "b.png").write_bytes(b"1")
    assert names(again, clock) == ["b.png"]


def test_a_vanished_folder_is_waited_for_and_nothing_of_it_forgotten(
    arrivals: Arrivals, clock: Clock, tmp_path: Path
) -> None:
    (arrivals.folder / "a.png").write_bytes(b"1")
    arrivals.ready()
    clock.now += SETTLED
    arrivals.done(arrivals.ready()[0])
    arrivals.folder.rename(tmp_path / "elsewhere")
    assert (names(arrivals, clock), arrivals.missing) == ([], True)
    (tmp_path / "elsewhere").rename(arrivals.folder)
    (arrivals.folder / "b.png").write_bytes(b"1")
    assert (names(arrivals, clock), arrivals.missing) == (["b.png"], False)
    shutil.rmtree(arrivals.folder)
    assert names(arrivals, clock) == []


def test_what_cannot_be_read_is_tried_again_before_it_is_called_unreadable(
    arrivals: Arrivals, clock: Clock
) -> None:
    (arrivals.folder / "a.png").write_bytes(b"half of it")
    arrivals.ready()
    clock.now += SETTLED
    assert not arrivals.unreadable(arrivals.ready()[0])
    assert arrivals.ready() == []
    clock.now += PATIENCE
    assert arrivals.unreadable(arrivals.ready()[0])


def test_ten_thousand_files_at_once_are_taken_once_each_the_oldest_first(
    arrivals: Arrivals, clock: Clock
) -> None:
    for number in range(10_000):
        file = arrivals.folder / f"{number:05d}.png"
        file.touch()
        os.utime(file, (10_000 - number, 10_000 - number))
    arrivals.ready()
    clock.now += SETTLED
    ready = arrivals.ready()
    assert [one.name for one in ready] == [f"{number:05d}.png" for number in range(9_999, -1, -1)]
    for one in ready:
        arrivals.done(one)
    assert (arrivals.ready(), len(arrivals)) == ([], 0)
