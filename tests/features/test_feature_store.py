"""The feature store: what is found again, what is not, and that damage is never used."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flawline.errors import FlawlineError
from flawline.features import extraction, store
from flawline.features.store import address, clean, entries, keep, provide, take
from flawline.files import read_array, read_json, write_array
from flawline.provenance import file_hash

OPTIONS: dict[str, Any] = {
    "backbone": "gabor",
    "weights": "default",
    "layers": ["fine"],
    "pool": 1,
    "normalize": False,
    "precision": "float32",
    "batch_size": 4,
}


class FeatureFiles:
    """A results folder with prepared images, a store, and a count of extractions."""

    def __init__(self, folder: Path) -> None:
        self.results = folder / "results"
        self.store = self.results / "feature_store"

    def images(self, category: str, seed: int = 0, dataset: str = "mine") -> Path:
        path = self.subset(category, dataset) / "images.npy"
        rng = np.random.default_rng(seed)
        write_array(path, rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
        return path

    def subset(self, category: str, dataset: str = "mine") -> Path:
        return self.results / dataset / category / "unsupervised/train"

    def provide(self, images: Path, name: str = "bank", **changes: Any) -> Path:
        path = images.parent / f"features/{name}.npy"
        options = OPTIONS | changes
        provide(images, path, store=self.store, gpus=0, threads=1, **options)
        return path


@pytest.fixture
def files(tmp_path: Path) -> FeatureFiles:
    return FeatureFiles(tmp_path)


@pytest.fixture
def extracted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were extracted, not taken from the store."""
    paths: list[Path] = []
    extract = extraction.extract

    def counting(images: np.ndarray, path: Path, **options: Any) -> None:
        paths.append(path)
        extract(images, path, **options)

    monkeypatch.setattr(extraction, "extract", counting)
    return paths


def same_file(*paths: Path) -> bool:
    return len({path.stat().st_ino for path in paths}) == 1


class TestWhatWasExtractedOnce:
    def test_is_shared_by_configurations_and_datasets_and_kept_on_disk_once(
        self, files: FeatureFiles, extracted: list[Path]
    ) -> None:
        images = files.images("bolt")
        first = files.provide(images)
        other_name = files.provide(images, "bank_too")
        other_dataset = files.provide(files.images("bolt", dataset="theirs"))
        assert extracted == [first]
        entry = files.store / f"{entries(files.store)[0].key}.npy"
        assert same_file(first, other_name, other_dataset, entry)
        about = [path.with_suffix(".json") for path in (first, other_name, other_dataset, entry)]
        assert len({path.read_bytes() for path in about}) == 1

    def test_is_found_again_when_a_setting_is_switched_back(
        self, files: FeatureFiles, extracted: list[Path]
    ) -> None:
        images = files.images("bolt")
        path = files.provide(images)
        before = path.read_bytes(), path.with_suffix(".json").read_bytes()
        files.provide(images, layers=["fine", "coarse"])
        assert path.read_bytes() != before[0]
        path.unlink()  # as Snakemake does before a job
        files.provide(images)
        assert len(extracted) == 2
        assert (path.read_bytes(), path.with_suffix(".json").read_bytes()) == before

    def test_is_the_same_as_without_a_store(self, files: FeatureFiles, tmp_path: Path) -> None:
        images = files.images("bolt")
        files.provide(images)
        taken = files.provide(images)
        plain = tmp_path / "plain.npy"
        extraction.extract(
            read_array(images),
            plain,
            device=extraction.torch.device("cpu"),
            images_hash=file_hash(images),
            **OPTIONS,
        )
        assert taken.read_bytes() == plain.read_bytes()
        assert read_json(taken.with_suffix(".json")) == read_json(plain.with_suffix(".json"))

    def test_is_taken_without_importing_torch(self, files: FeatureFiles) -> None:
        images = files.images("bolt")
        path = files.provide(images)
        path.unlink()
        code = (
            "import sys; from pathlib import Path; from flawline.features.store import provide\n"
            f"provide(Path({str(images)!r}), Path({str(path)!r}), store=Path({str(files.store)!r}),"
            f" gpus=0, threads=1, **{OPTIONS!r})\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
        assert path.is_file()

    def test_is_not_taken_for_other_images(
        self, files: FeatureFiles, extracted: list[Path]
    ) -> None:
        bolt = files.provide(files.images("bolt", seed=0))
        weave = files.provide(files.images("weave", seed=1))
        assert extracted == [bolt, weave]
        assert bolt.read_bytes() != weave.read_bytes()


class TestTheKey:
    @pytest.mark.parametrize(
        "change",
        [
            {"layers": ["coarse"]},
            {"pool": 3},
            {"normalize": True},
            {"precision": "bfloat16"},
            {"batch_size": 8},
            {"device": "cuda"},
            {"backbone": "resnet18"},
            {"images_hash": "b"},
        ],
    )
    def test_changes_with_all_that_decides_the_bits(self, change: dict[str, Any]) -> None:
        given = {"images_hash": "a", "device": "cpu"} | OPTIONS
        assert address(**given) != address(**given | change)

    def test_changes_with_the_weights_content_and_name(self, tmp_path: Path) -> None:
        def key(weights: str) -> str:
            return address("a", device="cpu", **OPTIONS | {"backbone": "r", "weights": weights})

        file = tmp_path / "network.pth"
        file.write_bytes(b"1")
        first = key(str(file))
        assert key(str(file)) == first
        file.write_bytes(b"2")
        assert key(str(file)) != first
        assert key("IMAGENET1K_V1") != key("IMAGENET1K_V2")

    @pytest.mark.parametrize("package", ["torch", "torchvision"])
    def test_changes_with_the_libraries(
        self, monkeypatch: pytest.MonkeyPatch, package: str
    ) -> None:
        before = address("a", device="cpu", **OPTIONS)
        versions = store.versions() | {package: "0.1"}
        monkeypatch.setattr(store, "versions", lambda: versions)
        assert address("a", device="cpu", **OPTIONS) != before

    def test_changes_with_the_extraction_code_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(store, "code_fingerprint", lambda path: asked.append(path.name) or "1")
        first = address("a", device="cpu", **OPTIONS)
        assert asked == ["extraction.py"]
        monkeypatch.setattr(store, "code_fingerprint", lambda path: "2")
        assert address("a", device="cpu", **OPTIONS) != first

    def test_tells_auto_precision_by_what_it_turned_out_to_be(
        self, files: FeatureFiles, extracted: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        wanted = {"backbone": "resnet18", "layers": ["relu"], "precision": "auto"}
        monkeypatch.setattr("flawline.devices.has_half_precision_units", lambda device: False)
        images = files.images("bolt")
        monkeypatch.setattr(
            extraction,
            "extract",
            lambda images, path, **options: (
                extracted.append(path),
                write_array(path, images),
                path.with_suffix(".json").write_text(json.dumps({"sha256": file_hash(path)})),
            ),
        )
        files.provide(images, **wanted)
        files.provide(images, **wanted)
        files.provide(images, **wanted | {"precision": "float32"})
        assert len(extracted) == 1
        monkeypatch.setattr("flawline.devices.has_half_precision_units", lambda device: True)
        files.provide(images, **wanted)
        assert len(extracted) == 2


class TestDamage:
    @pytest.mark.parametrize("part", ["array", "cut array", "json", "array gone", "json gone"])
    def test_is_extracted_again(
        self, files: FeatureFiles, extracted: list[Path], part: str
    ) -> None:
        images = files.images("bolt")
        path = files.provide(images)
        good = path.read_bytes()
        array = next(files.store.glob("*.npy"))
        about = array.with_suffix(".json")
        path.unlink()
        if part == "array":
            array.write_bytes(good[:-40] + bytes(20) + good[-20:])
        elif part == "cut array":
            array.write_bytes(good[:100])
        elif part == "json":
            about.write_text("{")
        else:
            (array if part == "array gone" else about).unlink()
        assert files.provide(images).read_bytes() == good
        assert len(extracted) == 2
        path.unlink()
        files.provide(images)
        assert len(extracted) == 2

    def test_done_to_a_results_file_in_place_does_not_spread(
        self, files: FeatureFiles, extracted: list[Path]
    ) -> None:
        images = files.images("bolt")
        path = files.provide(images)
        good = path.read_bytes()
        with path.open("r+b") as file:
            file.seek(-40, os.SEEK_END)
            file.write(bytes(20))
        assert files.provide(images, "bank_too").read_bytes() == good
        assert len(extracted) == 2


def provide_at_once(barrier: Any, files: FeatureFiles, images: Path, name: str) -> None:
    barrier.wait()
    files.provide(images, name)


class TestJobsAtTheSameTime:
    def test_that_make_the_same_features_both_end_well(self, files: FeatureFiles) -> None:
        images = files.images("bolt")
        spawn = multiprocessing.get_context("spawn")
        barrier = spawn.Barrier(2)
        jobs = [
            spawn.Process(target=provide_at_once, args=(barrier, files, images, name))
            for name in ("a", "b")
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
        assert [job.exitcode for job in jobs] == [0, 0]
        folder = images.parent / "features"
        assert (folder / "a.npy").read_bytes() == (folder / "b.npy").read_bytes()
        assert len(entries(files.store)) == 1
        assert not list(files.results.rglob("*.part"))

    def test_that_make_other_bits_leave_nothing_that_is_taken_for_right(
        self, files: FeatureFiles, tmp_path: Path
    ) -> None:
        for name, text in (("a", b"1"), ("b", b"2")):
            (tmp_path / f"{name}.npy").write_bytes(text)
            about = {"sha256": file_hash(tmp_path / f"{name}.npy")}
            (tmp_path / f"{name}.json").write_text(json.dumps(about))
        keep(files.store, "key", tmp_path / "a.npy")
        (tmp_path / "b.npy").replace(files.store / "key.npy")
        assert not take(files.store, "key", tmp_path / "c.npy")
        assert not (tmp_path / "c.npy").exists()


class TestAFileSystemWithoutHardLinks:
    @pytest.fixture(autouse=True)
    def _no_links(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)

    def test_gets_copies(self, files: FeatureFiles, extracted: list[Path]) -> None:
        images = files.images("bolt")
        first = files.provide(images)
        second = files.provide(images, "bank_too")
        assert extracted == [first]
        assert not same_file(first, second)
        assert first.read_bytes() == second.read_bytes()

    def test_still_knows_what_is_used(self, files: FeatureFiles) -> None:
        images = files.images("bolt")
        path = files.provide(images)
        assert [entry.users for entry in entries(files.store)] == [[path]]
        assert clean(files.store) == []
        path.unlink()
        assert len(clean(files.store)) == 1


class TestAFullDisk:
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), FlawlineError("full")])
    def test_costs_the_entry_not_the_features(
        self, files: FeatureFiles, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def refuse(source: Path, target: Path) -> None:
            raise error

        monkeypatch.setattr(store, "_link", refuse)
        assert files.provide(files.images("bolt")).is_file()
        assert entries(files.store) == []


class TestCleaning:
    def test_deletes_what_no_results_use_and_says_what_it_frees(
        self,
        files: FeatureFiles,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        images = files.images("bolt")
        files.provide(images, layers=["coarse"])
        path = files.provide(images)
        used, unused = entries(files.store)
        assert (used.users, unused.users) == ([path], [])
        size = path.stat().st_size
        assert (used.freed, unused.freed) == (0, unused.size)

        def command(*arguments: str) -> str:
            monkeypatch.setattr(sys, "argv", ["store", "--store", str(files.store), *arguments])
            store.main()
            return capsys.readouterr().out

        assert "entries that would be deleted: 1," in command("clean", "--dry-run")
        assert len(entries(files.store)) == 2
        listed = command("list")
        assert str(path) in listed
        assert "nothing" in listed
        said = command("clean")
        assert "entries deleted: 1," in said
        assert unused.key[:12] in said
        assert [entry.key for entry in entries(files.store)] == [used.key]
        assert path.stat().st_size == size

    def test_knows_results_that_were_moved_here_from_elsewhere(self, files: FeatureFiles) -> None:
        path = files.provide(files.images("bolt"))
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        assert [entry.users for entry in entries(files.store)] == [[path]]

    def test_deletes_what_killed_jobs_left_but_not_what_a_job_may_be_writing(
        self, files: FeatureFiles
    ) -> None:
        path = files.provide(files.images("bolt"))
        old, new = files.store / ".key.npy.17.part", files.store / ".key.npy.18.part"
        orphan = files.store / "key.npy"
        for file in (old, new, orphan):
            file.touch()
        past = time.time() - 2 * store.LEFT_OVER
        for file in (old, orphan, files.store / f"{entries(files.store)[0].key}.json"):
            os.utime(file, (past, past))
        clean(files.store)
        assert not old.exists()
        assert not orphan.exists()
        assert new.exists()
        assert [entry.users for entry in entries(files.store)] == [[path]]

    def test_of_a_store_that_does_not_exist_is_not_an_error(self, files: FeatureFiles) -> None:
        assert clean(files.store) == []
