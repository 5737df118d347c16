"""Forked jobs behave as if Python had been started for each of them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from project import CONFIG, ONE_THREAD, ROOT, Project
from snakemake import benchmark

from flawline.config import Config
from flawline.files import read_table
from flawline.workflow.warm_start import SWITCH, JobTimer, WarmStarts, needs

SCRIPTS = Path(".snakemake/scripts")
SLEEP = "import time; print('began', flush=True); time.sleep(600)"
PYTHON = sys.executable


def workflow(**other: Any) -> SimpleNamespace:
    """A run of Snakemake on this machine, with jobs as they are."""
    here = {
        "dag": SimpleNamespace(needrun_jobs=list),
        "is_main_process": True,
        "local_exec": True,
        "dryrun": False,
        "touch": False,
    }
    deployment = SimpleNamespace(deployment_method=set())
    return SimpleNamespace(**(here | {"deployment_settings": deployment} | other))


class Run:
    """A run of Snakemake as far as it starts jobs."""

    def __init__(self, folder: Path, config: Config, scripts: Sequence[str] = ()) -> None:
        self.folder = folder
        (folder / SCRIPTS).mkdir(parents=True)
        timer = benchmark.BenchmarkTimer
        self._warm = WarmStarts(config)
        rules = [SimpleNamespace(script=f"../scripts/{name}") for name in scripts]
        jobs = [SimpleNamespace(rule=rule) for rule in rules]
        self._warm.start(workflow(dag=SimpleNamespace(needrun_jobs=lambda: jobs)))
        self.python, self.sockets = sys.executable, JobTimer.folder
        sys.executable, benchmark.BenchmarkTimer = PYTHON, timer

    @property
    def server(self) -> psutil.Process:
        return psutil.Process(self._warm._server.pid)

    def start(self, code: str, name: str = "split.py", **environment: str) -> subprocess.Popen[str]:
        script = self.folder / SCRIPTS / f"tmp0000000{len(list(self.folder.rglob('*')))}.{name}"
        script.write_text(code, encoding="utf-8")
        return subprocess.Popen(
            [self.python, str(script)],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def job(self, client: subprocess.Popen[str]) -> psutil.Process:
        """The process of a job that has said that it began."""
        assert client.stdout.readline() == "began\n"
        [job] = [
            process
            for process in self.server.children(recursive=True)
            if str(process.pid) in (self.sockets / str(client.pid)).read_text()
        ]
        return job

    def has_imported_torch(self) -> bool:
        """Whether some process of the server has."""
        maps = [Path(f"/proc/{one.pid}/maps") for one in self.server.children(recursive=True)]
        return any("libtorch_cpu" in one.read_text() for one in maps)

    def stop(self) -> None:
        self._warm.stop()


@pytest.fixture(scope="module", autouse=True)
def interrupts() -> Iterator[None]:
    """Processes started here can be interrupted, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate(CONFIG)


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    started = Run(tmp_path_factory.mktemp("run"), config)
    yield started
    started.stop()
    assert not started.sockets.exists()


@pytest.fixture
def other_run(config: Config, tmp_path: Path) -> Iterator[Run]:
    started = Run(tmp_path, config)
    yield started
    started.stop()
    assert not started.sockets.exists()


def within_a_minute(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


class TestAJob:
    def test_finds_what_a_program_finds(self, run: Run) -> None:
        code = (
            "import os, sys\n"
            "print('pandas' in sys.modules, 'torch' in sys.modules, os.getcwd(), os.environ['X'])\n"
            "files = sorted(map(int, os.listdir('/proc/self/fd')))\n"
            "print(sys.argv, sys.path[0], input(), files[:4])\n"
        )
        job = run.start(code, X="ä")
        said, errors = job.communicate("from outside\n")
        script = job.args[1]
        assert said.splitlines()[0] == f"True False {run.folder} ä"
        assert said.splitlines()[1].startswith(f"['{script}'] {Path(script).parent} from outside")
        assert said.rstrip().endswith("[0, 1, 2, 3]")  # 3 lists the files
        assert (errors, job.returncode) == ("", 0)

    def test_leaves_nothing_to_complain_about_at_its_end(self, run: Run) -> None:
        job = run.start("import torch._dynamo, triton", "train.py")
        assert (job.communicate(), job.returncode) == (("", ""), 0)

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            ("", 0),
            ("import sys; sys.exit(7)", 7),
            ("import sys; sys.exit('words')", 1),
            ("1 / 0", 1),
            ("import os; os.kill(os.getpid(), 15)", -signal.SIGTERM),
            ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
            ("import os; os.abort()", -signal.SIGABRT),
        ],
    )
    def test_ends_as_it_would_alone(self, run: Run, code: str, status: int) -> None:
        job = run.start(code)
        _, errors = job.communicate()
        assert job.returncode == status
        assert errors.count("ZeroDivisionError") == (code == "1 / 0")

    def test_has_its_packages_and_the_threads_of_its_own(self, run: Run) -> None:
        code = (
            "import sys; print('torch._dynamo' in sys.modules, 'torch' in sys.modules)\n"
            "import threadpoolctl, torch; print(torch.get_num_threads())\n"
            "print({pool['num_threads'] for pool in threadpoolctl.threadpool_info()})\n"
            "print((torch.ones(2000, 2000) @ torch.ones(2000, 2000)).sum().item())\n"
        )
        for name, dynamo in (("train.py", True), ("extract_features.py", False)):
            said, errors = run.start(code, name, OMP_NUM_THREADS="2").communicate()
            assert said.splitlines() == [f"{dynamo} True", "2", "{2}", "8000000000.0"], errors
        assert {process.num_threads() for process in run.server.children()} == {1}
        assert run.server.num_threads() == 1

    def test_shows_an_error_once_in_its_log(self, run: Run) -> None:
        code = "from flawline.logs import logged\nwith logged('a.log'):\n    1 / 0\n"
        job = run.start(code)
        assert job.communicate() == ("", "")
        assert job.returncode == 1
        log = (run.folder / "a.log").read_text()
        assert log.count("ZeroDivisionError") == log.count("Traceback") == 1
        assert "warm_server" not in log

    def test_says_so_when_its_memory_is_too_small(self, run: Run) -> None:
        code = (
            "import resource\nfrom flawline.logs import logged\n"
            "with logged('b.log'):\n"
            "    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\n"
            "    bytearray(2**32)\n"
        )
        job = run.start(code)
        assert job.communicate() == ("", "")
        assert job.returncode == 1
        assert (run.folder / "b.log").read_text().count("out of memory") == 1
        assert run.start("").wait() == 0

    def test_is_measured_whole(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        code = (
            "import time; held = bytearray(b'x') * 200_000_000\n"
            "while time.process_time() < 1: pass\n"
        )
        monkeypatch.setattr(benchmark, "BenchmarkTimer", JobTimer)
        job = run.start(code)
        with benchmark.benchmarked(job.pid) as record:
            assert job.wait() == 0
        assert 200 < record.max_rss < 400
        assert record.max_uss > 190
        assert 1 <= record.cpu_time < 2
        assert record.running_time > 1
        assert not (run.sockets / str(job.pid)).exists()


class TestSignals:
    def test_reach_the_job(self, run: Run) -> None:
        code = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
            "print('began', flush=True); time.sleep(600)\n"
        )
        client = run.start(code)
        run.job(client)
        client.terminate()
        assert client.wait() == 3

    def test_of_a_terminal_interrupt_it_once(self, run: Run) -> None:
        client = run.start(f"try:\n    {SLEEP}\nexcept KeyboardInterrupt:\n    print('once')\n")
        job = run.job(client)
        for process in (client, job, run.server):
            process.send_signal(signal.SIGINT)
        assert client.communicate()[0] == "once\n"
        assert client.returncode == 0
        assert run.start("").wait() == 0


class TestAKill:
    def test_of_the_client_ends_the_job(self, run: Run) -> None:
        client = run.start(SLEEP)
        job = run.job(client)
        client.kill()
        assert within_a_minute(lambda: not job.is_running())
        assert run.start("").wait() == 0

    def test_of_the_job_is_told(self, run: Run) -> None:
        client = run.start(SLEEP)
        run.job(client).kill()
        assert client.wait() == -signal.SIGKILL

    def test_of_the_server_ends_its_jobs_and_later_ones_start_their_own_python(
        self, run: Run, other_run: Run
    ) -> None:
        beside = run.start(SLEEP)
        client = other_run.start(SLEEP)
        job = other_run.job(client)
        other_run.server.kill()
        assert client.wait() == -signal.SIGKILL
        assert within_a_minute(lambda: not job.is_running())
        later = other_run.start("import sys; print('numpy' in sys.modules); sys.exit(5)")
        assert later.communicate()[0] == "False\n"
        assert later.returncode == 5
        run.job(beside).kill()  # of another run at the same time, it lived on

    def test_of_snakemake_leaves_nothing(self, tmp_path: Path) -> None:
        (tmp_path / SCRIPTS).mkdir(parents=True)
        script = tmp_path / SCRIPTS / "tmp00000000.train.py"
        script.write_text(SLEEP)
        code = (
            "import subprocess, sys; sys.path.insert(0, sys.argv[1])\n"
            "from test_warm_starts import CONFIG, Config, JobTimer, WarmStarts, workflow\n"
            "WarmStarts(Config.model_validate(CONFIG)).start(workflow())\n"
            "print(JobTimer.folder, flush=True)\n"
            "subprocess.run([sys.executable, sys.argv[2]])\n"
        )
        folders = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]
        snakemake = subprocess.Popen(
            [PYTHON, "-c", code, folders[-1], str(script)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(folders), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        sockets = Path(snakemake.stdout.readline().strip())
        assert snakemake.stdout.readline() == "began\n"
        processes = psutil.Process(snakemake.pid).children(recursive=True)
        assert len(processes) == 5  # client, server, those of networks and of training, job
        snakemake.kill()
        _, alive = psutil.wait_procs(processes, 60)
        assert alive == []
        assert within_a_minute(lambda: not sockets.exists())


class TestTheSwitch:
    @pytest.mark.parametrize(
        "other",
        [
            {"is_main_process": False},
            {"local_exec": False},
            {"dryrun": True},
            {"touch": True},
            {"deployment_settings": SimpleNamespace(deployment_method={"conda"})},
        ],
    )
    def test_is_off_where_jobs_run_elsewhere_or_otherwise(
        self, config: Config, other: dict[str, Any]
    ) -> None:
        WarmStarts(config).start(workflow(**other))
        assert sys.executable == PYTHON

    def test_can_be_set(self, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SWITCH, "0")
        WarmStarts(config).start(workflow())
        assert sys.executable == PYTHON


def test_every_script_that_is_named_is_there(config: Config) -> None:
    assert all((ROOT / "scripts" / script).exists() for script in needs(config))


class TestARun:
    """As a user starts it."""

    @pytest.mark.slow
    def test_ends_at_ctrl_c_with_all_its_processes(self, tmp_path: Path) -> None:
        project = Project(tmp_path / "line", ROOT)
        config = deepcopy(CONFIG) | {"categories": ["weave"]}
        config["detectors"]["featcae"]["epochs"] = 10**9
        project.configure(config)
        with (tmp_path / "said").open("w") as said:
            running = subprocess.Popen(
                project.command("--cores", "2", *ONE_THREAD),
                cwd=project.folder,
                env=project.environment(),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            results = project.folder / "results/demo"
            training = results / "logs/train/weave.unsupervised.featcae.seed0.log"
            remembered = results / "benchmarks/train/weave.unsupervised.patchcore.seed0.tsv"
            while not (training.exists() and remembered.exists()):
                assert running.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.1)
            processes = psutil.Process(running.pid).children(recursive=True)
            assert any(process.name() == "train.py" for process in processes)
            os.killpg(running.pid, signal.SIGINT)
            assert running.wait() == 1, (tmp_path / "said").read_text()
            _, alive = psutil.wait_procs(processes, 60)
            assert alive == []
            assert training.read_text().count("KeyboardInterrupt") == 1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        [took] = read_table(remembered, sep="\t").to_dict("records")
        assert took["max_rss"] > 50
        assert 0 < took["cpu_time"] < 60


def test_imports_begin_before_the_first_job_asks_for_them(config: Config, tmp_path: Path) -> None:
    run = Run(tmp_path, config, ["index.py", "train.py"])
    assert within_a_minute(run.has_imported_torch)
    assert run.start("print('done')", "train.py").communicate() == ("done\n", "")
    run.stop()


def test_nothing_is_imported_that_no_job_needs(config: Config, tmp_path: Path) -> None:
    run = Run(tmp_path, config, ["index.py"])
    assert run.start("print('done')").communicate() == ("done\n", "")
    assert not run.has_imported_torch()
    run.stop()
