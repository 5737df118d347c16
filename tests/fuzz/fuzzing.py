"""Hostile input: what every fuzz test of this folder draws from and is watched by.

Each property runs with few cases in the ordinary tests, always the same ones, and with many random
ones under the marker `slow` (`make slow`).
"""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

RUNS_CODE = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class", "subprocess")

_watched: list[tuple[str, Any]] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event.startswith(RUNS_CODE):
        _watched.append((event, arguments))
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _watched.append((event, arguments[0]))


sys.addaudithook(_note)


@contextmanager
def watched(*folders: Path) -> Iterator[None]:
    """Fail if anything is executed, or opened for writing outside `folders`."""
    global _watched
    _watched = seen = []
    try:
        yield
    finally:
        _watched = None
    for event, what in seen:
        assert event == "open", f"executed: {event} {what}"
        # by number, what is open already; by name, it must be inside
        if not isinstance(what, int):
            path = os.path.realpath(os.fsdecode(what))
            inside = any(path.startswith(os.path.realpath(folder)) for folder in folders)
            assert inside, f"written: {path}"


def cases(few: int, many: int) -> Any:
    """Run a test with few cases, and with many under the marker `slow`."""
    return pytest.mark.parametrize(
        "examples", [few, pytest.param(many, marks=pytest.mark.slow)], ids=["few", "many"]
    )


def try_all(examples: int, check: Callable[..., None], *strategies: Any) -> None:
    """Call `check` with so many examples of the strategies."""
    always_the_same = examples < 200
    settings(
        max_examples=examples,
        deadline=None,
        derandomize=always_the_same,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(given(*strategies)(check))()


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """What may happen to a file: cut off, bits turned, stretches overwritten, lost or doubled."""
    seeds = draw(
        st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 5)), min_size=1, max_size=4)
    )

    def damage(content: bytes) -> bytes:
        data = bytearray(content)
        for seed, kind in seeds:
            chance = random.Random(seed)
            # most of what a decoder goes by is at the beginning
            reach = chance.choice([64, 512, len(data)])
            at = chance.randrange(max(min(len(data), reach), 1))
            length = chance.choice([1, 2, 4, 64, 1024])
            if kind == 0:
                del data[at:]
            elif kind == 1 and data:
                for _ in range(length):
                    place = chance.randrange(max(min(len(data), reach), 1))
                    data[place] ^= 1 << chance.randrange(8)
            elif kind == 2:
                data[at : at + length] = chance.randbytes(length)
            elif kind == 3:
                data[at : at + length] = bytes([chance.choice([0, 255])]) * length
            elif kind == 4:
                del data[at : at + length]
            else:
                data[at:at] = data[at : at + length]
        return bytes(data)

    return damage
