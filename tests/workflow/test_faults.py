"""Whatever goes wrong: a clear message, and one more command ends with the bytes of a quiet run.

A small project runs once. Each test really disturbs a copy of it: by signals, full and read-only
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


class DisturbedProject(Project):
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

    def ends_as(self, undisturbed: "DisturbedProject") -> None:
        """One more run brings everything to what it would have been."""
        self.run()
        found, expected = self.bytes(), undisturbed.bytes()
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        assert not list(self.folder.glob("results/**/*.part"))
        assert not self.pending()


@pytest.fixture(scope="module")
def undisturbed(
    finished_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> DisturbedProject:
    """The finished project, without one of its two categories."""
    smaller = DisturbedProject.copied(
        finished_project, tmp_path_factory.mktemp("undisturbed") / "project"
    )
    shutil.rmtree(smaller.folder / RESULTS / "bolt")
    smaller.run()
    return smaller


@pytest.fixture
def project(undisturbed: DisturbedProject, tmp_path: Path) -> DisturbedProject:
    return DisturbedProject.copied(undisturbed.folder, tmp_path / "project")


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


def job(project: DisturbedProject, running: subprocess.Popen[str], script: str) -> psutil.Process:
    """The process of a script's job once it has begun to write its log."""
    logs = project.folder / RESULTS / "logs"
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


def kill(project: DisturbedProject, rule: str, *arguments: str) -> str:
    """Kill the first job of a rule; returns what the run says, which must fail."""
    shutil.rmtree(project.folder / RESULTS / "logs")
    running = project.start("--forcerun", *(arguments or [rule]))
    job(project, running, SCRIPTS[rule]).kill()
    said, _ = running.communicate()
    assert running.returncode == 1, said
    return said


class TestAJobThatFails:
    def test_leaves_a_report_of_the_rest_that_the_next_run_renews(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        model = str(FEATCAE / "model/model.safetensors")
        said = kill(project, "train", model)
        log = "results/demo/logs/train/weave.unsupervised.featcae.seed0.log"
        assert "Report of 1 of 2 runs: results/demo/report.html" in said
        assert "Missing: weave, featcae (unsupervised), seed 0" in said
        assert f"{log}: the job was killed, often because it ran out of memory" in said
        page = (project.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        for words in ("Runs without results", "weave, featcae (unsupervised), seed 0", log):
            assert words in page
        runs = read_table(project.folder / RESULTS / "comparison/runs.csv")
        assert runs["detector"].tolist() == ["patchcore"]
        assert (project.folder / FEATCAE / "metrics.json").exists()  # of before: must not be shown
        project.ends_as(undisturbed)
        page = (project.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        assert "Runs without results" not in page

    @pytest.mark.slow
    def test_does_not_hide_its_error_when_the_report_of_the_rest_fails_too(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        other = project.folder / RESULTS / "weave/unsupervised/detectors/patchcore/seed0"
        whole = (other / "metrics.json").read_bytes()
        (other / "metrics.json").write_bytes(whole[:100])
        os.utime(other / "metrics.json", (1_000_000_000, 1_000_000_000))
        said = kill(project, "train", str(FEATCAE / "model/model.safetensors"))
        assert "No report could be made (FlawlineError: " in said
        assert "patchcore/seed0/metrics.json: the file is cut off or damaged" in said
        assert "featcae.seed0.log: the job was killed" in said
        (other / "metrics.json").unlink()
        project.ends_as(undisturbed)

    @pytest.mark.slow
    def test_that_only_draws_keeps_all_metrics(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        gallery = FEATCAE / "figures/gallery.jpg"
        said = kill(project, "figures", str(gallery))
        assert "Report of 2 of 2 runs" in said
        page = (project.folder / RESULTS / "report.html").read_text(encoding="utf-8")
        assert "Runs without pictures" in page
        project.ends_as(undisturbed)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", SCRIPTS)
    def test_by_a_kill_is_made_up_for_by_the_next_run(
        self, project: DisturbedProject, undisturbed: DisturbedProject, rule: str
    ) -> None:
        said = kill(project, rule)
        assert "the job was killed" in said
        project.ends_as(undisturbed)


class TestSnakemakeItself:
    def test_runs_once_in_a_folder_and_goes_on_after_a_kill(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        shutil.rmtree(project.folder / RESULTS / "logs")
        running = project.start("--forcerun", str(FEATCAE / "model/model.safetensors"))
        training = job(project, running, "train.py")
        training.suspend()
        refused = project.fails()
        assert "Another run is working in this folder" in refused
        assert "Directory cannot be locked" in refused
        assert project.snakemake("-n").returncode == 0
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)
        running.wait()
        psutil.wait_procs([training], 60)
        assert not training.is_running()
        project.ends_as(undisturbed)


class TestASecondRunFromScratch:
    def test_gives_the_bytes_of_the_first_though_a_job_was_killed(
        self, undisturbed: DisturbedProject, tmp_path: Path
    ) -> None:
        """With processes of their own, as a user has them; most other tests fork theirs."""
        again = DisturbedProject(tmp_path / "killed", undisturbed.folder)
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
    def test_arrays_are_named_and_made_again(
        self, project: DisturbedProject, undisturbed: DisturbedProject, damage: str
    ) -> None:
        file = project.folder / FEATURES
        about, content = file.stat(), bytearray(file.read_bytes())
        content[len(content) // 2] ^= 4
        file.write_bytes(content[:-1000] if damage == "cut off" else content)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        said = project.fails("--forcerun", str(FEATCAE / "model/model.safetensors"))
        assert f"{FEATURES}: the file is {damage}" in said
        assert f"rm '{FEATURES}'" in said
        file.unlink()
        project.ends_as(undisturbed)

    @pytest.mark.slow
    def test_models_are_named_and_trained_again(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        folder = FEATCAE / "model"
        file = project.folder / folder / "model.safetensors"
        about, content = file.stat(), bytearray(file.read_bytes())
        content[-7] ^= 16
        file.write_bytes(content)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
        said = project.fails("--forcerun", str(FEATCAE / "test/scores.csv"))
        assert f"{folder}: no readable FeatCAE model" in said
        assert "model.safetensors does not match its checksum" in said
        shutil.rmtree(file.parent)
        project.ends_as(undisturbed)

    @pytest.mark.slow
    @pytest.mark.parametrize("file", ["weave/unsupervised/split.csv", "comparison/best.csv"])
    def test_deleted_tables_are_made_again(
        self, project: DisturbedProject, undisturbed: DisturbedProject, file: str
    ) -> None:
        (project.folder / RESULTS / file).unlink()
        project.ends_as(undisturbed)

    @pytest.mark.slow
    def test_deleted_arrays_are_made_again_when_they_are_asked_for(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        (project.folder / FEATURES).unlink()
        assert project.pending_rules() <= {"extract_features"}
        project.run()
        assert not (project.folder / FEATURES).exists()
        done = project.snakemake("--cores", "2", str(FEATURES), *ONE_THREAD)
        assert done.returncode == 0, done.stderr
        project.ends_as(undisturbed)


class TestDisks:
    @root
    @pytest.mark.slow
    def test_a_full_one_is_named(
        self, project: DisturbedProject, undisturbed: DisturbedProject, disk: Callable[..., None]
    ) -> None:
        shutil.rmtree(project.folder / "results")
        disk(project.folder / "results", "size=600k")
        said = project.fails()
        assert "there is no space left on the disk" in said
        assert "out of memory" not in said
        disk(project.folder / "results", "size=200m")
        project.ends_as(undisturbed)

    @root
    @pytest.mark.slow
    def test_a_read_only_one_is_named(
        self, project: DisturbedProject, undisturbed: DisturbedProject, disk: Callable[..., None]
    ) -> None:
        kept = project.folder / "kept"
        (project.folder / "results").rename(kept)
        disk(project.folder / "results", "size=200m")
        subprocess.run(["cp", "-a", f"{kept}/.", project.folder / "results"], check=True)
        disk(project.folder / "results", "ro")
        said = project.fails("--forcerun", "threshold")
        assert "Write-protected output files" in said
        assert "results/demo/weave/unsupervised/detectors" in said
        disk(project.folder / "results", "rw")
        project.ends_as(undisturbed)


class TestTheMachine:
    @pytest.mark.slow
    def test_may_set_its_clock_back_between_runs(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        tomorrow = time.time() + 86_400
        for path in project.folder.rglob("*"):
            if path.is_file() and ".snakemake" not in path.parts:
                os.utime(path, (tomorrow, tomorrow))
        assert project.pending() == {}
        project.configure(deepcopy(SMALL) | {"threshold": {"rule": "maximum"}})
        said = project.fails()
        assert "the clock was set back" in said
        command = re.search(r"find results data .*", said)
        assert command
        (project.folder / "data").mkdir(exist_ok=True)
        subprocess.run(command[0], shell=True, cwd=project.folder, check=True)
        project.run()
        assert project.pending() == {}
        project.configure(SMALL)
        project.ends_as(undisturbed)

    @pytest.mark.slow
    def test_may_run_sixteen_jobs_at_once_within_its_memory(
        self, project: DisturbedProject, undisturbed: DisturbedProject
    ) -> None:
        shutil.rmtree(project.folder / "results")
        many = ("--cores", "16", *ONE_THREAD, "--resources", "gpu=1", "mem_mb=4000")
        done = project.snakemake(*many)
        assert done.returncode == 0, done.stdout + done.stderr
        project.ends_as(undisturbed)


class TestSourceImages:
    """Of the user's own folder, replaced between two runs."""

    @pytest.fixture
    def mine(self, tmp_path: Path) -> DisturbedProject:
        photographs = tmp_path / "photographs"
        few = {"train_good": 10, "test_good": 2, "test_defective": 2}
        write_category(photographs / "weave", "weave", size=64, **few)
        for path in photographs.rglob("train/good/*.png"):  # all of one size on disk
            Image.open(path).save(path, compress_level=0)
        dataset = {"name": "mine", "source": str(photographs)}
        config = deepcopy(SMALL) | {"dataset": dataset, "synthetic": {}}
        del config["detectors"]["featcae"]

        class Mine(DisturbedProject):
            pass

        Mine.config = config
        project = Mine(tmp_path / "mine", ROOT)
        project.run()
        return project

    @pytest.mark.slow
    @pytest.mark.parametrize("change", ["same size and time", "removed"])
    def test_that_changed_are_noticed(
        self, mine: DisturbedProject, tmp_path: Path, change: str
    ) -> None:
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
    def test_that_are_damaged_are_named_and_once_fixed_everything_is_made_again(
        self, mine: DisturbedProject, tmp_path: Path
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
