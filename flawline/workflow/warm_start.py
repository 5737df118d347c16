"""Warm starts: jobs are forks of a process that has imported what they need.

Importing torch takes seconds of each job that runs a network. Snakemake starts a job's script by
`sys.executable`; during a run, that is a program (`warm_client.py`) which has a server
(`warm_server.py`) fork a process for the job. docs/performance.md has the numbers.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psutil
from snakemake import benchmark

from flawline.config import Config
from flawline.options.training import Budget

Steps = tuple[tuple[str, ...], ...]
SWITCH = "FLAWLINE_WARM_STARTS"
PATIENCE = 10  # seconds for the server to end
OTHERS = "others"  # the socket of all scripts that need no more than the server has
# Steps of import beyond what the server has. The first optimiser imports torch._dynamo.
NETWORKS = ("torch", "safetensors.torch")
TRAINING = ("torch._dynamo",)
STATISTICS = ("scipy.stats", "scipy.optimize")
DRAWING = ("matplotlib.figure", "matplotlib.style", "matplotlib.backends.backend_agg", "jinja2")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def needs(config: Config) -> dict[str, Steps]:
    """Return what scripts need beyond what nearly all need, by the script's name."""
    methods = config.detectors.values()
    trained = any(isinstance(method, Budget) for method in methods)
    extract: Steps = (NETWORKS,)
    if any(features.backbone.startswith("timm/") for features in config.features.values()):
        extract += (("timm",),)
    score: Steps = (NETWORKS,)
    train: Steps = (NETWORKS, TRAINING) if trained else score
    return {
        "extract_features.py": extract,
        **dict.fromkeys(("train.py", "draws.py", "learning_curve.py"), train),
        **dict.fromkeys(("score.py", "score_good_test_images.py", "inspect_images.py"), score),
        "pictures.py": (*score, DRAWING),
        **dict.fromkeys(("evaluate.py", "compare.py"), (STATISTICS,)),
        **dict.fromkeys(("figures.py", "report.py"), (DRAWING,)),
    }


class WarmStarts:
    """The server of one run of Snakemake."""

    def __init__(self, config: Config) -> None:
        self._needs = needs(config)
        self._python = sys.executable
        self._server: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def start(self, workflow: Any) -> None:
        """Start the server and let Snakemake start jobs by it, if they run here and as they are."""
        if not _possible(workflow):
            return
        with suppress(OSError):  # without a place for sockets, each job starts its own Python
            folder = self._folder = Path(tempfile.mkdtemp(prefix="flawline-"))
            client = _write_client(folder, self._python)
            # Snakemake does not quote the path; and the folder may forbid programs
            if shlex.quote(str(client)) == str(client) and os.access(client, os.X_OK):
                self._server = self._start_server(folder, _scripts(workflow))
                JobTimer.folder = folder
                benchmark.BenchmarkTimer = JobTimer
                sys.executable = str(client)

    def stop(self) -> None:
        """End the server; jobs that are yet to come start their own Python."""
        sys.executable = self._python
        if self._server and self._server.stdin:
            self._server.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                self._server.wait(PATIENCE)
        if self._folder:  # a killed server leaves it
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start_server(self, folder: Path, scripts: set[str]) -> subprocess.Popen[bytes]:
        groups = sorted(set(self._needs.values()))
        for script, steps in self._needs.items():
            (folder / script).symlink_to(str(groups.index(steps)))
        listeners = {_listen(folder / str(number)): steps for number, steps in enumerate(groups)}
        listeners[_listen(folder / OTHERS)] = ()
        by_file = {listener.fileno(): steps for listener, steps in listeners.items()}
        # torch takes longest, and the first jobs, which read files, leave a core free
        waited_for = {self._needs.get(script, ()) for script in scripts}
        early = [
            file for file, steps in by_file.items() if NETWORKS in steps and steps in waited_for
        ]
        program = Path(__file__).with_name("warm_server.py")
        arguments = [str(folder), json.dumps(by_file), json.dumps(early)]
        try:
            return subprocess.Popen(
                [self._python, "-P", str(program), *arguments],
                env=os.environ | ONE_THREAD,
                stdin=subprocess.PIPE,
                pass_fds=list(by_file),
            )
        finally:
            for listener in listeners:
                listener.close()


def _possible(workflow: Any) -> bool:
    return (
        sys.platform == "linux"
        and os.environ.get(SWITCH, "1") != "0"
        and workflow.is_main_process
        and workflow.local_exec
        and not (workflow.dryrun or workflow.touch)
        and not workflow.deployment_settings.deployment_method
    )


def _scripts(workflow: Any) -> set[str]:
    """Return the names of the scripts that the run will start."""
    jobs = workflow.dag.needrun_jobs()
    return {Path(job.rule.script).name for job in jobs if job.rule.script}


def _write_client(folder: Path, python: str) -> Path:
    """Write the program that Snakemake takes for Python."""
    program = Path(__file__).with_name("warm_client.py")
    command = shlex.join([python, "-IS", str(program), python, str(folder)])
    client = folder / "python"
    client.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    client.chmod(0o700)
    return client


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(100)
    return listener


class JobTimer(benchmark.BenchmarkTimer):
    """Measures the forked job, which is no child of the program that Snakemake started.

    Snakemake looks at a job every half second, later every half minute, which misses short ones.
    CPU seconds and peak memory of a forked job are therefore what the kernel counted at its end.
    """

    folder: ClassVar[Path]

    def __init__(self, pid: int, *others: Any) -> None:
        super().__init__(pid, *others)
        self.main = _Client(pid)

    def cancel(self) -> None:
        super().cancel()
        for client in {self.pid, *self.procs}:
            match _record_of(client):
                case [_, seconds, kib]:
                    record = self.bench_record
                    record.data_collected = True
                    record.cpu_time, record.cpu_usage = seconds, 100 * seconds
                    record.max_rss = max(record.max_rss or 0, kib / 1024)
            (self.folder / str(client)).unlink(missing_ok=True)


class _Client(psutil.Process):
    """A process whose children include the jobs that it and its children stand for."""

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        children = super().children(recursive)
        for client in (self, *children):
            for process in _record_of(client.pid)[:1]:
                with suppress(psutil.NoSuchProcess):
                    job = psutil.Process(int(process))
                    children += [job, *job.children(recursive)]
        return children


def _record_of(client: int) -> list[float]:
    """Return what the server wrote of a client's job (`warm_server.Server`), if it did."""
    with suppress(OSError, ValueError):
        return json.loads((JobTimer.folder / str(client)).read_bytes())
    return []
