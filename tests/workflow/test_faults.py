"""Whatever goes wrong: a clear message, and one more command ends with the bytes of a quiet run.

A small line runs once. Each test disturbs a copy of it for real, with signals, full and read-only
disks, damaged and replaced files.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from project import CONFIG, ONE_THREAD, ROOT, Project

from flawline.data.demo.draw import write_category
from flawline.files import read_table

RUN = ("--cores", "2", *ONE_THREAD)
SMALL = deepcopy(CONFIG) | {"categories": ["weave"]}
RESULTS = Path("results/demo")
FEATURES = RESULTS / "weave/unsupervised/train/features/gabor.npy"
FEATCAE = RESULTS / "weave/unsupervised/detectors/featcae/seed0"
SCRIPTS = {
    rule: f"{rule}.py"
    for rule in (
        "draw_demo",
        "index",
        "split",
        "prepare",
        "ground_truth",
        "near_duplicates",
        "object_model",
        "object_masks",
        "synthesize",
        "extract_features",
        "train",
        "score",
        "threshold",
        "boxes",
        "evaluate",
        "compare",
        "figures",
    )
} | {"report_page": "report.py"}
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk for the test")


class Line(Project):
    """A copy of the project that is disturbed."""

    config = SMALL

    def configure(self, config: dict[str, Any]) -> None:
        super().configure(self.config if config is CONFIG else config)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*RUN, *arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fails(self, *arguments: str) -> str:
        """What a run says that must fail."""
        done = self.snakemake(*RUN, *arguments)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        return said

    def bytes(self) -> dict[str, bytes]:
        """All results that must not depend on what happened on the way.

        The feature store keeps what was extracted of other images, too.
        """
        found = self.results() | {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.glob("results/**/*"))
            if path.suffix in (".npy", ".safetensors")
        }
        return {name: content for name, content in found.items() if "feature_store" not in name}

    def ends_as(self, undisturbed: "Line") -> None:
        """One more run brings everything to what it would have been."""
        self.run()
        found, expected = self.bytes(), undisturbed.bytes()
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        assert not list(self.folder.glob("results/**/*.part"))
        assert not self.pending()


@pytest.fixture(scope="module")
def undisturbed(line_that_ran: Path, tmp_path_factory: pytest.TempPathFactory) -> Line:
    """The line that ran, without one of its two categories."""
    smaller = Line.copied(line_that_ran, tmp_path_factory.mktemp("undisturbed") / "line")
    shutil.rmtree(smaller.folder / RESULTS / "bolt")
    smaller.run()
    return smaller


@pytest.fixture
def line(undisturbed: Line, tmp_path: Path) -> Line:
    return Line.copied(undisturbed.folder, tmp_path / "line")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mounts a disk in memory at a folder, or mounts it again with other options."""
    mounted: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if folder in mounted:
            command = ["mount", "-o", f"remount,{options}", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("no mounts here")
        mounted.append(folder)

    yield mount
    for folder in set(mounted):
        subprocess.run(["umount", str(folder)], check=True)


def job(line: Line, running: subprocess.Popen[str], script: str) -> psutil.Process:
    """The process of a script's job once it has begun to write its log."""
    logs = line.folder / RESULTS / "logs"
    name = {"report.py": "report"}.get(script, script.removesuffix(".py"))
    while running.poll() is None:
        for child in psutil.Process(running.pid).children(recursive=True):
            try:
                at_work = any(part.endswith(f".{script}") for part in child.cmdline())
            except psutil.NoSuchProcess:
                continue
            if at_work and (list(logs.glob(f"{name}/*.log")) or (logs / f"{name}.log").exists()):
                return child
        time.sleep(0.005)
    raise AssertionError(running.communicate()[0])


def kill(line: Line, rule: str, *arguments: str) -> str:
    """Kill the first job of a rule; returns what the run says, which must fail."""
    shutil.rmtree(line.folder / RESULTS / "logs")
    running = line.start("--forcerun", *(arguments or [rule]))
    job(line, running, SCRIPTS[rule]).kill()
    said, _ = running.communicate()
    assert running.returncode == 1, said
    return said


class TestAJobThatFails:
    def test_leaves_a_report_of_the_rest_that_the_next_run_renews(
        self, line: Line, undisturbed: Line
    ) -> None:
        model = str(FEATCAE / "model/model.safetensors")
        said = kill(line, "train", model)
        log = "results/demo/logs/train/weave.unsupervised.featcae.seed0.log"
        assert "Report of 1 of 2 runs: results/demo/report.html" in said
        assert "Missing: weave, featcae (unsupervised), seed 0" in said
        assert f"{log}: the job was killed, often because it ran out of memory" in said
        page = (line.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        for words in ("Runs without results", "weave, featcae (unsupervised), seed 0", log):
            assert words in page
        runs = read_table(line.folder / RESULTS / "comparison/runs.csv")
        assert runs["detector"].tolist() == ["patchcore"]
        assert (line.folder / FEATCAE / "metrics.json").exists()  # of before: must not be shown
        line.ends_as(undisturbed)
        page = (line.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        assert "Runs without results" not in page

    @pytest.mark.slow
    def test_does_not_hide_its_error_when_the_report_of_the_rest_fails_too(
        self, line: Line, undisturbed: Line
    ) -> None:
        other = line.folder / RESULTS / "weave/unsupervised/detectors/patchcore/seed0"
        whole = (other / "metrics.json").read_bytes()
        (other / "metrics.json").write_bytes(whole[:100])
        os.utime(other / "metrics.json", (1_000_000_000, 1_000_000_000))
        said = kill(line, "train", str(FEATCAE / "model/model.safetensors"))
        assert "No report could be made (FlawlineError: " in said
        assert "patchcore/seed0/metrics.json: the file is cut off or damaged" in said
        assert "featcae.seed0.log: the job was killed" in said
        (other / "metrics.json").unlink()
        line.ends_as(undisturbed)

    @pytest.mark.slow
    def test_that_only_draws_loses_no_figures(self, line: Line, undisturbed: Line) -> None:
        gallery = FEATCAE / "figures/gallery.jpg"
        said = kill(line, "figures", str(gallery))
        assert "Report of 2 of 2 runs" in said
        page = (line.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        assert "Runs without pictures" in page
        line.ends_as(undisturbed)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", SCRIPTS)
    def test_by_a_kill_is_made_up_for_by_the_next_run(
        self, line: Line, undisturbed: Line, rule: str
    ) -> None:
        said = kill(line, rule)
        assert "the job was killed" in said
        line.ends_as(undisturbed)


class TestSnakemakeItself:
    def test_runs_once_in_a_folder_and_goes_on_after_a_kill(
        self, line: Line, undisturbed: Line
    ) -> None:
        shutil.rmtree(line.folder / RESULTS / "logs")
        running = line.start("--forcerun", str(FEATCAE / "model/model.safetensors"))
        training = job(line, running, "train.py")
        training.suspend()
        refused = line.fails()
        assert "Another run is working in this folder" in refused
        assert "Directory cannot be locked" in refused
        assert line.snakemake("-n").returncode == 0
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()
        psutil.wait_procs([training], 60)
        assert not training.is_running()
        line.ends_as(undisturbed)


class TestASecondRunFromScratch:
    def test_gives_the_bytes_of_the_first_though_a_job_was_killed(
        self, undisturbed: Line, tmp_path: Path
    ) -> None:
        """With processes of their own, as a user has them; most other tests fork theirs."""
        again = Line(tmp_path / "killed", undisturbed.folder)
        endless = {"weave": {"detectors": {"featcae": {"epochs": 10**9}}}}
        again.configure(SMALL | {"overrides": endless})
        running = again.start()
        model = again.folder / FEATCAE / "model"
        try:
            log = again.folder / RESULTS / "logs/train/weave.unsupervised.featcae.seed0.log"
            training_job(running, log).send_signal(signal.SIGKILL)
            said, _ = running.communicate()
            assert running.returncode == 1, said  # once all the others have ended
        finally:
            running.kill()
        assert not list(model.glob("*"))
        again.configure(SMALL)
        assert "train" in again.pending_rules()
        again.ends_as(undisturbed)
        assert len(again.results()) > 20


def training_job(running: subprocess.Popen[str], log: Path) -> psutil.Process:
    """The process of the train job that writes a log, once it has begun to train."""
    while running.poll() is None:
        for process in psutil.Process(running.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                writes = any(file.path == str(log) for file in process.open_files())
                if writes and process.cpu_times().user > 3:
                    return process
        time.sleep(0.2)
    raise AssertionError("the train job did not start")


class TestDamagedFiles:
    @pytest.mark.slow
    @pytest.mark.parametrize("damage", ["cut off", "damaged"])
    def test_arrays_are_named_and_made_anew(
        self, line: Line, undisturbed: Line, damage: str
    ) -> None:
        file = line.folder / FEATURES
        about, content = file.stat(), bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content[:-1000] if damage == "cut off" else content)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        said = line.fails("--forcerun", str(FEATCAE / "model/model.safetensors"))
        assert f"{FEATURES}: the file is {damage}" in said
        assert f"rm '{FEATURES}'" in said
        file.unlink()
        line.ends_as(undisturbed)

    @pytest.mark.slow
    def test_models_are_named_and_trained_anew(self, line: Line, undisturbed: Line) -> None:
        folder = FEATCAE / "model"
        file = line.folder / folder / "model.safetensors"
        about, content = file.stat(), bytearray(file.read_bytes())
        content[-7] ^= 16
        file.write_bytes(content)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        said = line.fails("--forcerun", str(FEATCAE / "test/scores.csv"))
        assert f"{folder}: no readable FeatCAE model" in said
        assert "model.safetensors does not match its checksum" in said
        shutil.rmtree(file.parent)
        line.ends_as(undisturbed)

    @pytest.mark.slow
    @pytest.mark.parametrize("file", ["weave/unsupervised/split.csv", "comparison/best.csv"])
    def test_deleted_tables_are_made_again(self, line: Line, undisturbed: Line, file: str) -> None:
        (line.folder / RESULTS / file).unlink()
        line.ends_as(undisturbed)

    @pytest.mark.slow
    def test_deleted_arrays_are_made_again_when_they_are_asked_for(
        self, line: Line, undisturbed: Line
    ) -> None:
        (line.folder / FEATURES).unlink()
        assert line.pending_rules() <= {"extract_features"}
        line.run()
        assert not (line.folder / FEATURES).exists()
        done = line.snakemake("--cores", "2", str(FEATURES), *ONE_THREAD)
        assert done.returncode == 0, done.stderr
        line.ends_as(undisturbed)


class TestDisks:
    @root
    @pytest.mark.slow
    def test_a_full_one_is_named(
        self, line: Line, undisturbed: Line, disk: Callable[..., None]
    ) -> None:
        shutil.rmtree(line.folder / "results")
        disk(line.folder / "results", "size=600k")
        said = line.fails()
        assert "there is no space left on the disk" in said
        assert "out of memory" not in said
        disk(line.folder / "results", "size=200m")
        line.ends_as(undisturbed)

    @root
    @pytest.mark.slow
    def test_a_read_only_one_is_named(
        self, line: Line, undisturbed: Line, disk: Callable[..., None]
    ) -> None:
        kept = line.folder / "kept"
        (line.folder / "results").rename(kept)
        disk(line.folder / "results", "size=200m")
        subprocess.run(["cp", "-a", f"{kept}/.", line.folder / "results"], check=True)
        disk(line.folder / "results", "ro")
        said = line.fails("--forcerun", "threshold")
        assert "Write-protected output files" in said
        assert "results/demo/weave/unsupervised/detectors" in said
        disk(line.folder / "results", "rw")
        line.ends_as(undisturbed)


class TestTheMachine:
    @pytest.mark.slow
    def test_may_set_its_clock_back_between_runs(self, line: Line, undisturbed: Line) -> None:
        tomorrow = time.time() + 86_400
        for path in line.folder.rglob("*"):
            if path.is_file() and ".snakemake" not in path.parts:
                os.utime(path, (tomorrow, tomorrow))
        assert line.pending() == {}
        line.configure(deepcopy(SMALL) | {"threshold": {"rule": "maximum"}})
        said = line.fails()
        assert "the clock was set back" in said
        command = re.search(r"find results data .*", said)
        assert command
        (line.folder / "data").mkdir(exist_ok=True)
        subprocess.run(command[0], shell=True, cwd=line.folder, check=True)
        line.run()
        assert line.pending() == {}
        line.configure(SMALL)
        line.ends_as(undisturbed)

    @pytest.mark.slow
    def test_may_run_sixteen_jobs_at_once_within_its_memory(
        self, line: Line, undisturbed: Line
    ) -> None:
        shutil.rmtree(line.folder / "results")
        many = ("--cores", "16", *ONE_THREAD, "--resources", "gpu=1", "mem_mb=4000")
        done = line.snakemake(*many)
        assert done.returncode == 0, done.stdout + done.stderr
        line.ends_as(undisturbed)


class TestSourceImages:
    """Of the user's own folder, replaced between two runs."""

    @pytest.fixture
    def mine(self, tmp_path: Path) -> Line:
        photographs = tmp_path / "photographs"
        few = {"train_good": 10, "test_good": 2, "test_defective": 2}
        write_category(photographs / "weave", "weave", size=64, **few)
        for path in photographs.rglob("train/good/*.png"):  # all of one size on disk
            Image.open(path).save(path, compress_level=0)
        dataset = {"name": "mine", "source": str(photographs)}
        config = deepcopy(SMALL) | {"dataset": dataset, "synthetic": {}}
        del config["detectors"]["featcae"]

        class Mine(Line):
            pass

        Mine.config = config
        line = Mine(tmp_path / "mine", ROOT)
        line.run()
        return line

    @pytest.mark.slow
    @pytest.mark.parametrize("change", ["same size and time", "removed"])
    def test_that_changed_are_noticed(self, mine: Line, tmp_path: Path, change: str) -> None:
        good = tmp_path / "photographs/weave/train/good"
        old = good / "000.png"
        about = old.stat()
        if change == "removed":
            old.unlink()
        else:
            other = Image.open(good / "001.png").rotate(90)
            other.save(old, compress_level=0)
            os.utime(old, ns=(about.st_atime_ns, about.st_mtime_ns))
            assert old.stat().st_size == about.st_size
        assert "index" in mine.pending_rules()
        fresh = type(mine)(tmp_path / "fresh", ROOT)
        fresh.run()
        mine.ends_as(fresh)

    @pytest.mark.slow
    def test_that_are_damaged_are_named_and_once_mended_everything_is_made_anew(
        self, mine: Line, tmp_path: Path
    ) -> None:
        image = tmp_path / "photographs/weave/train/good/003.png"
        whole = image.read_bytes()
        image.write_bytes(whole[:500])
        said = mine.fails()
        assert "train/good/003.png" in said
        Image.open(image.with_name("004.png")).rotate(180).save(image, compress_level=0)
        fresh = type(mine)(tmp_path / "fresh", ROOT)
        fresh.run()
        mine.ends_as(fresh)
