"""profiles/slurm on a Slurm of one machine with two GPUs: results, GPUs, failures, ends."""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
from project import CONFIG, ONE_THREAD, Project
from slurm import Slurm, Unavailable, run

pytestmark = pytest.mark.cluster

# The profile as it is, with shorter waits: one machine's files appear at once.
PROFILE = ["--workflow-profile", "profiles/slurm"]
WAITS = [
    *("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"),
    *ONE_THREAD,
    *("ground_truth=1", "synthesize=1"),
]
TINY = deepcopy(CONFIG)
del TINY["detectors"]["featcae"], TINY["synthetic"]
TINY["evaluation"] = {"train_suspects": False}
RUN = "results/demo/{}/unsupervised/detectors/patchcore/seed{}"


def with_seeds(*seeds: int) -> dict[str, Any]:
    return TINY | {"seeds": list(seeds)}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    running = Slurm(folder)
    try:
        try:
            running.start()
        except Unavailable as reason:
            pytest.skip(f"no Slurm can be started here: {reason}")
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)


class Run:
    """Snakemake at work on Slurm."""

    started: ClassVar[list[subprocess.Popen[bytes]]] = []

    def __init__(self, project: Project, *arguments: str) -> None:
        self.output = project.folder.with_suffix(".out")
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                project.command(*PROFILE, *arguments, *WAITS),
                cwd=project.folder,
                env=project.environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                # What starts tests in the background may have had SIGINT ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        self.started.append(self.process)

    def running(self) -> bool:
        return self.process.poll() is None

    def end(self) -> str:
        """What it said, once it has ended."""
        self.process.wait()
        return self.output.read_text()

    def until_a_gpu_job_runs(self, slurm: Slurm) -> str:
        """The job's id."""
        while self.running():
            for line in slurm.queue("--partition=gpu", "--states=RUNNING"):
                return line.split()[0]
            time.sleep(0.2)
        raise AssertionError(f"no GPU job ran:\n{self.output.read_text()}")


class Finished:
    """A run by Slurm with two GPUs, what the same is at home, and what was seen of the GPUs."""

    def __init__(self, slurm: Slurm, finished_project: Path, folder: Path) -> None:
        self.local = Project.copied(finished_project, folder / "local")
        for more in ("detectors/featcae", "object_masks", "synthetic"):
            for made in self.local.folder.glob(f"results/demo/*/unsupervised/{more}"):
                shutil.rmtree(made)
        for made in self.local.folder.glob(RUN.format("*", "*") + "/train"):
            shutil.rmtree(made)
        self.cluster = Project(folder / "slurm", finished_project)
        self.local.configure(TINY)
        self.cluster.configure(TINY)
        self.local.run()
        start = time.monotonic()
        at_work = Run(self.cluster, "--resources", "gpu=2")
        self.gpus_in_use = []
        while at_work.running():
            self.gpus_in_use.append(slurm.gpus_in_use())
            time.sleep(0.3)
        self.said = at_work.end()
        assert at_work.process.returncode == 0, self.said
        self.seconds = time.monotonic() - start


@pytest.fixture(scope="module", autouse=True)
def no_run_outlives_its_test(slurm: Slurm) -> Iterator[None]:
    yield
    for process in Run.started:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def finished(
    slurm: Slurm, finished_project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    done = Finished(slurm, finished_project, tmp_path_factory.mktemp("cluster"))
    print(f"by Slurm: {done.seconds:.0f} s")
    return done


class TestARunOnSlurm:
    def test_gives_the_same_tables_and_json_as_a_local_one(self, finished: Finished) -> None:
        local, cluster = finished.local.results(), finished.cluster.results()
        assert local.keys() == cluster.keys()
        assert [name for name in local if local[name] != cluster[name]] == []
        assert len(local) > 20

    def test_gives_jobs_at_the_same_time_different_gpus(self, finished: Finished) -> None:
        assert max(map(len, finished.gpus_in_use)) == 2
        assert all(len(set(gpus)) == len(gpus) for gpus in finished.gpus_in_use)
        logs = finished.cluster.folder.glob("results/demo/logs/*/*.log")
        seen = [re.findall(r"CUDA_VISIBLE_DEVICES: (.+)\)", log.read_text()) for log in logs]
        assert {gpu for gpus in seen for gpu in gpus} == {"0", "1"}

    def test_shares_jobs_among_tiny_steps(self, finished: Finished) -> None:
        submitted = finished.said.count("has been submitted with SLURM jobid")
        with_gpu = 3 + 1 + 2  # extract_features, train, score
        assert submitted == 2 * (1 + with_gpu + 1) + 1
        assert f"{2 * (8 + with_gpu + 4) + 3} of" in finished.said


class TestACancelledRun:
    def test_goes_on_whatever_ended_it_and_ends_as_an_undisturbed_one(
        self, finished: Finished, slurm: Slurm
    ) -> None:
        target = f"{RUN.format('weave', 1)}/threshold.json"
        local, cluster = finished.local, finished.cluster
        for project in (local, cluster):
            project.configure(with_seeds(0, 1))
        done = local.snakemake("--cores", "2", target, *ONE_THREAD)
        assert done.returncode == 0, done.stderr

        interrupted = Run(cluster, target)
        interrupted.until_a_gpu_job_runs(slurm)
        interrupted.process.send_signal(signal.SIGINT)
        assert "Traceback" not in interrupted.end()
        assert interrupted.process.returncode != 0
        slurm.wait_until_empty()

        killed = Run(cluster, target)  # goes on at once
        killed.until_a_gpu_job_runs(slurm)
        killed.process.kill()
        killed.end()
        run("scancel", "--me")
        slurm.wait_until_empty()

        disturbed = Run(cluster, target)
        job = disturbed.until_a_gpu_job_runs(slurm)
        run("scancel", job)
        said = disturbed.end()
        assert disturbed.process.returncode == 0, said
        assert f"'{job}' failed" in said
        folder = RUN.format("weave", 1)
        for name in ("threshold.json", "calibration/scores.csv", "model/model.json"):
            file = f"{folder}/{name}"
            assert (cluster.folder / file).read_bytes() == (local.folder / file).read_bytes()


class TestABrokenCategory:
    @pytest.fixture(scope="class")
    def broken(self, finished: Finished, slurm: Slurm) -> tuple[Project, str, list[dict[str, str]]]:
        """weave's prepared images are damaged; bolt has another seed to run. One GPU."""
        project = finished.cluster
        project.configure(with_seeds(0, 2))
        images = project.folder / "results/demo/weave/unsupervised/train/images.npy"
        images.write_bytes(b"not an array")
        before = len(slurm.ended())
        at_work = Run(project, "--resources", "gpu=1", "--retries", "0")
        said = at_work.end()
        assert at_work.process.returncode == 1, said
        return project, said, slurm.ended()[before:]

    def test_does_not_stop_the_others_and_leaves_its_log(
        self, broken: tuple[Project, str, list[dict[str, str]]]
    ) -> None:
        project, said, _ = broken
        assert (project.folder / RUN.format("bolt", 2) / "metrics.json").is_file()
        assert not (project.folder / RUN.format("weave", 2) / "metrics.json").exists()
        log = "results/demo/logs/extract_features/weave.unsupervised.train.gabor.log"
        assert "images.npy" in (project.folder / log).read_text()
        assert log in said

    def test_is_named_in_the_report_of_the_rest(
        self, broken: tuple[Project, str, list[dict[str, str]]]
    ) -> None:
        project, said, _ = broken
        assert "Missing: weave, patchcore (unsupervised), seed 2" in said
        page = (project.folder / "results/demo/report.html").read_text(encoding="utf-8")
        assert "weave, patchcore (unsupervised), seed 2" in page
        assert "bolt" in page

    def test_and_one_gpu_means_one_gpu_job_at_a_time(
        self, broken: tuple[Project, str, list[dict[str, str]]]
    ) -> None:
        times = sorted(
            (datetime.fromisoformat(job["StartTime"]), datetime.fromisoformat(job["EndTime"]))
            for job in broken[2]
            if job["Partition"] == "gpu"
        )
        assert len(times) >= 4
        for (_, end), (start, _) in pairwise(times):
            assert end <= start
