"""Feedback becomes photographs to learn from, without anything being moved or replaced."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from photographs import photograph, save
from typer.testing import CliRunner

from flawline.cli.app import app
from flawline.config import load_config
from flawline.files import read_table
from flawline.provenance import file_hash
from flawline.station.learn import CONFIRMED, Lessons
from flawline.station.record import Part, Record, now


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "parts/bolt/train/good/000.png", photograph(0))
    return tmp_path


@pytest.fixture
def said(here: Path) -> Callable[..., Part]:
    """Records a photograph and what a person says about it."""
    record = Record(here / "results/mine/station/record.sqlite")

    def say(
        name: str, feedback: str, reason: str = "", seed: int = 1, category: str = "bolt"
    ) -> Part:
        path = here / "incoming" / name
        save(path, photograph(seed))
        part = Part(now(), name, file_hash(path), str(path), "defective", "v1", 2.5, 0.1)
        part = replace(part, category=category)
        part = record.add(part, "")
        record.say(part.id, feedback, reason)
        return part

    return say


def lessons(here: Path, **dataset: Any) -> Lessons:
    given = {"name": "mine", "source": str(here / "parts")} | dataset
    config = load_config({"dataset": given, "detectors": {"patchcore": {}}}, "my.yaml")
    record = Record(here / "results/mine/station/record.sqlite")
    return Lessons(record, config.dataset, "bolt")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_good_parts_are_for_training_and_defects_for_the_test(
    here: Path, said: Callable[..., Part]
) -> None:
    good, bad = said("a.png", "good", "a reflection", 1), said("b.png", "defective", "a crack", 2)
    said("c.png", "", seed=3)
    said("d.png", "good", seed=4, category="nut")
    before, sources = files(here / "parts"), files(here / "incoming")
    lessons(here).copy()
    after = files(here / "parts/bolt")
    new = [
        f"train/good/station-{good.sha256[:16]}.png",
        f"test/{CONFIRMED}/station-{bad.sha256[:16]}.png",
    ]
    assert {*after} == {"train/good/000.png", *new, "station/photographs.csv"}
    assert [after[name] for name in new] == [sources["a.png"], sources["b.png"]]
    assert after["train/good/000.png"] == before["bolt/train/good/000.png"]
    assert files(here / "incoming") == sources
    rows = read_table(here / "parts/bolt/station/photographs.csv").to_dict("records")
    told = [(row["path"], row["name"], row["feedback_reason"]) for row in rows]
    assert told == [(new[0], "a.png", "a reflection"), (new[1], "b.png", "a crack")]
    assert [row["sha256"] for row in rows] == [good.sha256, bad.sha256]


def test_what_was_copied_is_not_copied_again(here: Path, said: Callable[..., Part]) -> None:
    said("a.png", "good", seed=1)
    lessons(here).copy()
    before = files(here / "parts")
    shutil.rmtree(here / "incoming")
    again = lessons(here)
    again.copy()
    assert (again.new, again.left_out) == ([], [])
    assert files(here / "parts") == before
    said("b.png", "good", seed=2)
    lessons(here).copy()
    assert len(read_table(here / "parts/bolt/station/photographs.csv")) == 2


def test_the_dataset_reads_what_was_added(here: Path, said: Callable[..., Part]) -> None:
    said("a.png", "good", seed=1)
    said("b.png", "defective", seed=2)
    lessons(here).copy()
    given = {"name": "mine", "source": str(here / "parts")}
    config = load_config({"dataset": given, "detectors": {"patchcore": {}}}, "my.yaml")
    listing = config.dataset.listing("bolt")
    found = sorted((entry.split, entry.defect_type) for entry in listing.entries)
    assert found == [("test", CONFIRMED), ("train", "good"), ("train", "good")]


@pytest.mark.parametrize("good", ["good", "."])
def test_folders_of_good_and_bad_get_them_too(
    here: Path, said: Callable[..., Part], good: str
) -> None:
    save(here / "other/bolt" / good / "000.png", photograph(0))
    first, second = said("a.png", "good", seed=1), said("b.png", "defective", seed=2)
    made = lessons(here, kind="good_bad", source=str(here / "other"), good=[good])
    assert [step.target for step in made.new] == [
        here / "other/bolt" / good / f"station-{first.sha256[:16]}.png",
        here / f"other/bolt/bad/{CONFIRMED}/station-{second.sha256[:16]}.png",
    ]
    made.copy()
    config = load_config(
        {
            "dataset": {
                "name": "mine",
                "kind": "good_bad",
                "source": str(here / "other"),
                "good": [good],
            },
            "detectors": {"patchcore": {}},
        },
        "my.yaml",
    )
    listing = config.dataset.listing("bolt")
    assert sorted(one.defect_type for one in listing.entries) == [CONFIRMED, "good", "good"]
    assert [one.problem for one in listing.problems] == []


def test_what_cannot_be_copied_is_told(here: Path, said: Callable[..., Part]) -> None:
    said("gone.png", "good", seed=1)
    said("other.png", "good", seed=2)
    said("a.png", "good", seed=3)
    said("same.png", "defective", seed=3)
    (here / "incoming/gone.png").unlink()
    save(here / "incoming/other.png", photograph(9))
    made = lessons(here)
    assert made.new == []
    reasons = {step.part.name: step.reason for step in made.left_out}
    assert "no longer there" in reasons["gone.png"]
    assert "another photograph" in reasons["other.png"]
    assert "called good and defective" in reasons["a.png"] == reasons["same.png"]


def test_a_changed_mind_says_what_to_delete(here: Path, said: Callable[..., Part]) -> None:
    part = said("a.png", "good")
    lessons(here).copy()
    Record(here / "results/mine/station/record.sqlite").say(part.id, "defective", "")
    made = lessons(here)
    assert made.new == []
    assert f"delete {here}/parts/bolt/train/good/station-" in made.left_out[0].reason


def test_the_command_shows_what_would_change_and_does_it_when_told(
    here: Path, said: Callable[..., Part]
) -> None:
    said("a.png", "good", "a reflection")
    Path("my.yaml").write_text(
        yaml.safe_dump(
            {"dataset": {"name": "mine", "source": "parts"}, "detectors": {"patchcore": {}}}
        )
    )
    before = files(here / "parts")
    shown = CliRunner().invoke(app, ["learn", "my.yaml"])
    assert shown.exit_code == 0, shown.output
    assert "a.png: called defective 2.5, was good (a reflection) -> " in shown.output
    assert "Nothing is copied yet: 1 would be" in shown.output
    assert files(here / "parts") == before
    done = CliRunner().invoke(app, ["learn", "my.yaml", "--yes"])
    assert "Copied 1;" in done.output
    assert "flawline run my.yaml" in done.output
    assert "nothing new" in CliRunner().invoke(app, ["learn", "my.yaml"]).output
