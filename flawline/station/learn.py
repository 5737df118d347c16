"""Turn what people said about parts into photographs to learn from and to measure with."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flawline.data.datasets.base import Dataset
from flawline.data.datasets.folder import Folder
from flawline.data.datasets.good_bad import GoodBad
from flawline.data.folder_digest import SUFFIXES
from flawline.errors import FlawlineError
from flawline.files import read_table, replacing, write_table
from flawline.inspection.folder import DEFECTIVE, GOOD
from flawline.provenance import file_hash
from flawline.station.pictures import suffix_of
from flawline.station.record import Part, Record, now

CONFIRMED = "confirmed"  # the defect type of confirmed defects
PROVENANCE = "station/photographs.csv"
COLUMNS = (
    *("path", "sha256", "feedback", "feedback_reason", "feedback_time", "name", "part", "time"),
    *("decision", "score", "version", "copied"),
)


@dataclass(frozen=True)
class Step:
    """What is to be done with one part that a person said something about.

    Attributes
    ----------
    target : where its photograph goes; None if it cannot.
    reason : why not.
    done : whether it is there already.
    """

    part: Part
    target: Path | None = None
    reason: str = ""
    done: bool = False

    def __str__(self) -> str:
        """Return what would be done, in a line."""
        part = self.part
        why = f" ({part.feedback_reason})" if part.feedback_reason else ""
        score = "" if part.score is None else f" {part.score:.4g}"
        said = f"{part.name}: called {part.decision}{score}, was {part.feedback}{why}"
        return f"{said}: {self.reason}" if self.target is None else f"{said} -> {self.target}"


class Lessons:
    """The photographs of a record that are confirmed as good or defective.

    Confirmed good parts are for training, confirmed defects for the test alone. Files are copied,
    never moved, replaced or deleted.

    Raises
    ------
    FlawlineError
        If the dataset has no folders for them.
    """

    def __init__(self, record: Record, dataset: Dataset, category: str) -> None:
        self.root, good, defective = _folders(dataset, category)
        self._targets = {GOOD: good, DEFECTIVE: defective}
        self.provenance = self.root / PROVENANCE
        said = record.parts(categories=[category], feedback=True, limit=10**9)
        self.steps = list(self._steps(said[::-1]))

    @property
    def new(self) -> list[Step]:
        """The photographs that are to be copied."""
        return [step for step in self.steps if step.target is not None and not step.done]

    @property
    def left_out(self) -> list[Step]:
        """The parts whose photographs cannot be copied."""
        return [step for step in self.steps if step.target is None]

    def copy(self) -> None:
        """Copy the photographs, and note where each comes from."""
        import pandas as pd

        for step in self.new:
            assert step.target is not None
            with replacing(step.target) as partial:
                shutil.copyfile(step.part.path, partial)
                if file_hash(partial) != step.part.sha256:
                    raise FlawlineError(f"{step.part.path}: changed while it was copied")
        known = (
            read_table(self.provenance, dtype=dict.fromkeys(COLUMNS, str)).to_dict("records")
            if self.provenance.is_file()
            else []
        )
        noted = {row["sha256"] for row in known}
        rows = [
            self._row(step)
            for step in self.steps
            if step.target is not None and step.part.sha256 not in noted
        ]
        if rows:
            write_table(self.provenance, pd.DataFrame([*known, *rows], columns=list(COLUMNS)))

    def _row(self, step: Step) -> dict[str, str]:
        assert step.target is not None
        part = step.part
        row = {key: str(getattr(part, key, "")) for key in COLUMNS}
        return row | {
            "path": step.target.relative_to(self.root).as_posix(),
            "part": str(part.id),
            "copied": now(),
        }

    def _steps(self, parts: Sequence[Part]) -> Iterator[Step]:
        said: dict[str, set[str]] = {}
        for part in parts:
            said.setdefault(part.sha256, set()).add(part.feedback)
        seen: set[str] = set()
        for part in parts:
            if len(said[part.sha256]) > 1:
                yield Step(part, reason="the same photograph was called good and defective")
            elif part.sha256 not in seen:
                seen.add(part.sha256)
                yield self._step(part)

    def _step(self, part: Part) -> Step:
        other = self._targets[DEFECTIVE if part.feedback == GOOD else GOOD]
        earlier = list(other.glob(f"{_stem(part)}.*")) if other else []
        if earlier:
            return Step(part, reason=f"was copied as the opposite before; delete {earlier[0]}")
        folder = self._targets[part.feedback]
        if folder is None:
            return Step(part, reason="dataset.bad names no folder for it")
        copied = [path for path in folder.glob(f"{_stem(part)}.*") if path.suffix in SUFFIXES]
        if copied:
            return Step(part, copied[0], done=True)
        path = Path(part.path) if part.path else None
        if path is None or not path.is_file():
            return Step(part, reason="its photograph is no longer there")
        if file_hash(path) != part.sha256:
            return Step(part, reason=f"{path} is another photograph by now")
        suffix = path.suffix.lower() if path.suffix.lower() in SUFFIXES else suffix_of(path)
        return Step(part, folder / f"{_stem(part)}{suffix}")


def _stem(part: Part) -> str:
    return f"station-{part.sha256[:16]}"


def _folders(dataset: Dataset, category: str) -> tuple[Path, Path, Path | None]:
    """Return a category's folder, and those in it for good parts and for defects."""
    if isinstance(dataset, Folder):
        layout, root = dataset.layout(), dataset.root(category)
        return root, root / layout.train[0], root / layout.test / CONFIRMED
    if isinstance(dataset, GoodBad):
        root = dataset.root(category)
        bad = root / dataset.bad[0] / CONFIRMED if dataset.bad else None
        return root, root / dataset.good[0], bad
    raise FlawlineError(
        f"dataset.kind: {dataset.kind!r} has no folders that photographs could be added to; that "
        "needs `folder` or `good_bad`"
    )
