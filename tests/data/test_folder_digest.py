import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flawline.data import folder_digest as source
from flawline.data.datasets.folder import Folder
from flawline.data.folder_digest import folder_digest
from flawline.errors import FlawlineError
from flawline.provenance import file_hash

TOUCHED = 1_000_000_000


def stamp(path: Path, seconds: int) -> None:
    """Set the modification time, so that no test depends on how fine the clock is."""
    os.utime(path, (seconds, seconds))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train/good/a.png", "train/good/b.png", "test/crack/ü ß.png"):
        path = tmp_path / "bottle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        stamp(path, TOUCHED)
    return tmp_path / "bottle"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read."""
    read: list[Path] = []
    original = source.file_hash

    def record(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr(source, "file_hash", record)
    return read


def rewrite(folder: Path) -> None:
    (folder / "train/good/a.png").write_bytes(b"something else")


def rewrite_in_the_same_size(folder: Path) -> None:
    path = folder / "train/good/a.png"
    path.write_bytes(bytes(path.stat().st_size))
    stamp(path, TOUCHED + 1)


def rename(folder: Path) -> None:
    (folder / "train/good/a.png").rename(folder / "train/good/a1.png")  # still the first


def move(folder: Path) -> None:
    (folder / "train/good/a.png").rename(folder / "test/crack/a.png")


def remove(folder: Path) -> None:
    (folder / "train/good/a.png").unlink()


def add(folder: Path) -> None:
    (folder / "train/good/c.png").write_bytes(b"")


def swap(folder: Path) -> None:
    one, two = folder / "train/good/a.png", folder / "train/good/b.png"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    stamp(one, TOUCHED + 1)
    stamp(two, TOUCHED + 1)


class TestFolderDigest:
    @pytest.mark.parametrize(
        "change", [rewrite, rewrite_in_the_same_size, rename, move, remove, add, swap]
    )
    def test_changes_with_names_and_contents(
        self, folder: Path, tmp_path: Path, change: Callable[[Path], None]
    ) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        change(folder)
        assert folder_digest(folder, tmp_path / "cache.json") != before

    def test_does_not_change_when_files_are_touched(self, folder: Path, tmp_path: Path) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        for path in folder.rglob("*.png"):
            stamp(path, TOUCHED + 100)
        assert folder_digest(folder, tmp_path / "cache.json") == before

    def test_comes_back_when_a_change_is_undone(self, folder: Path, tmp_path: Path) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        content = (folder / "train/good/a.png").read_bytes()
        rewrite(folder)
        folder_digest(folder, tmp_path / "cache.json")
        (folder / "train/good/a.png").write_bytes(content)
        assert folder_digest(folder, tmp_path / "cache.json") == before

    def test_is_the_same_wherever_the_folder_lies(self, folder: Path, tmp_path: Path) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        folder.rename(tmp_path / "elsewhere")
        assert folder_digest(tmp_path / "elsewhere", tmp_path / "cache.json") == before

    def test_reads_unchanged_files_only_once(
        self, folder: Path, tmp_path: Path, hashed: list[Path]
    ) -> None:
        folder_digest(folder, tmp_path / "cache.json")
        assert len(hashed) == 3
        stamp(folder / "train/good/b.png", TOUCHED + 5)
        folder_digest(folder, tmp_path / "cache.json")
        assert hashed[3:] == [folder / "train/good/b.png"]
        folder_digest(folder, tmp_path / "cache.json")
        assert len(hashed) == 4

    def test_several_folders_can_share_a_cache(
        self, folder: Path, tmp_path: Path, hashed: list[Path]
    ) -> None:
        for _ in range(2):
            for part in ("train", "test"):
                folder_digest(folder / part, tmp_path / "cache.json")
        assert len(hashed) == 3

    @pytest.mark.parametrize(
        "content",
        ["", "{", "[]", "3", "null", '{"x": 3}', '{"NAME": [1]}', '{"NAME": null}', "\x00"],
    )
    def test_works_with_a_corrupt_cache(
        self, folder: Path, tmp_path: Path, content: str, hashed: list[Path]
    ) -> None:
        expected = folder_digest(folder, tmp_path / "whole.json")
        cache = tmp_path / "cache.json"
        name = str(folder / "train/good/a.png")
        cache.write_text(content.replace("NAME", name))
        assert folder_digest(folder, cache) == expected
        assert name in json.loads(cache.read_text())

    def test_works_with_a_cache_entry_that_was_cut_short(
        self, folder: Path, tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache.json"
        expected = folder_digest(folder, cache)
        entries = json.loads(cache.read_text())
        cache.write_text(json.dumps({name: entry[:2] for name, entry in entries.items()}))
        assert folder_digest(folder, cache) == expected

    def test_works_where_the_cache_cannot_be_written(self, folder: Path, tmp_path: Path) -> None:
        expected = folder_digest(folder, tmp_path / "cache.json")
        # a file in place of the folder stops everybody, also those who ignore permissions
        (tmp_path / "file").write_bytes(b"")
        assert folder_digest(folder, tmp_path / "file" / "cache.json") == expected

    def test_of_a_missing_folder_is_that_of_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        assert folder_digest(tmp_path / "none", tmp_path / "cache.json") == folder_digest(
            tmp_path / "empty", tmp_path / "cache.json"
        )

    def test_sees_through_links_to_folders(self, folder: Path, tmp_path: Path) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        (folder / "train").rename(tmp_path / "large disk")
        (folder / "train").symlink_to(tmp_path / "large disk")
        assert folder_digest(folder, tmp_path / "cache.json") == before
        (tmp_path / "large disk/good/a.png").write_bytes(b"other")
        assert folder_digest(folder, tmp_path / "cache.json") != before

    def test_ends_where_links_go_round(self, folder: Path, tmp_path: Path) -> None:
        before = folder_digest(folder, tmp_path / "cache.json")
        (folder / "train" / "up").symlink_to(folder)
        assert folder_digest(folder, tmp_path / "cache.json") == before


class TestCategories:
    def make(self, folder: Path, *names: str) -> Path:
        for name in names:
            (folder / name / "train" / "good").mkdir(parents=True)
        return folder

    def test_are_the_folders_with_good_training_images_sorted(self, tmp_path: Path) -> None:
        self.make(tmp_path, "screw", "bottle", "Größe 5")
        (tmp_path / "notes").mkdir()
        (tmp_path / "readme.txt").write_text("hello")
        assert Folder(name="any", source=str(tmp_path)).categories() == [
            "Größe 5",
            "bottle",
            "screw",
        ]

    def test_are_not_hidden_and_no_files(self, tmp_path: Path) -> None:
        self.make(tmp_path, "bottle", ".trash")
        (tmp_path / "screw/train").mkdir(parents=True)
        (tmp_path / "screw/train/good").write_text("a file")
        assert Folder(name="any", source=str(tmp_path)).categories() == ["bottle"]

    def test_a_missing_folder_is_named_with_its_key(self, tmp_path: Path) -> None:
        with pytest.raises(FlawlineError, match=r"dataset\.source: there is no folder") as refused:
            Folder(name="any", source=str(tmp_path / "none")).categories()
        assert str(tmp_path / "none") in str(refused.value)

    def test_a_folder_without_categories_is_told_the_layout(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        with pytest.raises(FlawlineError, match="<category>/train/good"):
            Folder(name="any", source=str(tmp_path)).categories()


def test_a_file_that_vanishes_or_is_forbidden_changes_the_digest_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(name.encode())

    def forbidden(path: Path) -> str:
        if path.name == "b.png":
            raise PermissionError(13, "Permission denied")
        return file_hash(path)

    before = folder_digest(tmp_path / "photos", tmp_path / "one.json")
    monkeypatch.setattr(source, "file_hash", forbidden)
    assert folder_digest(tmp_path / "photos", tmp_path / "two.json") != before
    monkeypatch.undo()
    assert folder_digest(tmp_path / "photos", tmp_path / "two.json") == before
