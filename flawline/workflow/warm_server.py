"""A process that has imported what jobs need, and forks for each of them.

A program of its own, which imports nothing of flawline: jobs read the code as it is when they
start. It has one thread and no CUDA context, since neither other threads nor a context survive a
fork. Packages that only some scripts need are imported by a fork that then forks for these scripts
alone: once such a script is asked for, or at once if it will be. All end with the program that
holds their standard input.

The arguments are the folder of the sockets and, as JSON, the steps of import that the scripts of
each listening socket need, by its file descriptor (`Server.listen`), and the descriptors of the
sockets whose imports are to begin at once.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Steps = Sequence[Sequence[str]]

# What most scripts import, and what sets the number of threads. pydantic imports its parts late.
COMMON = (
    *("snakemake.logging", "snakemake.iocontainers", "numpy", "pandas", "cv2"),
    *("pydantic.main", "pydantic.types", "pydantic.functional_validators", "pydantic.networks"),
    *("scipy.sparse.csgraph", "PIL.PngImagePlugin", "tqdm", "threadpoolctl"),
)
MESSAGE = 1 << 20  # bytes
PATIENCE = 10  # seconds for a client to ask
STANDARD_INPUT = 0
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15  # of Linux's prctl.h


@dataclass
class Job:
    """A script that runs in a fork, and the client that stands for it."""

    script: str
    folder: str
    environment: dict[str, str]
    files: list[int]  # standard input, output and error
    connection: socket.socket
    client: int  # process id, as are the next two
    server: int
    process: int = 0
    end: int = -1  # file descriptor, readable once the process has ended


class Server:
    """Forks for jobs and tells their clients how they end.

    For a client with process id N, the file N in `folder` holds the job's process id, and once the
    job has ended also its CPU seconds and its peak memory in KiB, as a JSON list.
    """

    def __init__(self, folder: Path, early: Sequence[int] = ()) -> None:
        self._folder = folder
        self._early = early
        self._start()

    def listen(self, listener: socket.socket, steps: Steps = ()) -> None:
        """Fork for whoever connects, with all that the steps import.

        Parameters
        ----------
        steps : packages of a first import, of a second one, and so on. Each step is taken by a
            fork of its own, at the first connection, for all listeners that begin with it.
        """
        answer = self._fork_server if steps else self._fork_job
        self._steps[listener] = steps
        self._selector.register(listener, selectors.EVENT_READ, lambda: answer(listener))

    def prepare(self) -> None:
        """Begin with the imports of the early sockets."""
        for listener in [one for one in self._steps if one.fileno() in self._early]:
            if self._steps.get(listener):  # it was not passed on with another one
                self._fork_server(listener)

    def serve(self) -> Job:
        """Fork for each job that is asked for; return in the forks alone, with their jobs."""
        while True:
            key, _ = self._selector.select()[0]  # one at a time: what it does may close the next
            if job := key.data():
                return job

    def _start(self) -> None:
        self._jobs: list[Job] = []
        self._steps: dict[socket.socket, Steps] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(STANDARD_INPUT, selectors.EVENT_READ, self._end)

    def _fork_server(self, listener: socket.socket) -> None:
        step = self._steps[listener][0]
        passed_on = {other: steps for other, steps in self._steps.items() if step in steps[:1]}
        for other in passed_on:
            self._selector.unregister(other)
            del self._steps[other]
        if _fork() == 0:
            self._forget()
            self._start()
            import_all(step)
            for other, steps in passed_on.items():
                self.listen(other, steps[1:])
            self.prepare()
        else:
            for other in passed_on:
                other.close()

    def _fork_job(self, listener: socket.socket) -> Job | None:
        connection, _ = listener.accept()
        connection.settimeout(PATIENCE)
        try:
            message, files, _, _ = socket.recv_fds(connection, MESSAGE, 3)
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            client, _, _ = struct.unpack("3i", credentials)
            script, folder, environment = json.loads(message)
        except (OSError, ValueError):  # the client was killed, or stopped
            connection.close()
            return None
        job = Job(script, folder, environment, files, connection, client, os.getpid())
        job.process = _fork()
        if job.process == 0:
            connection.close()
            self._forget()
            return job
        if job.process > 0:
            self._attend(job)
        else:
            connection.close()
        for file in files:
            os.close(file)
        return None

    def _forget(self) -> None:
        """Close, in a fork, what belongs to other jobs; they would not see the server's end."""
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
            elif key.fd != STANDARD_INPUT:
                os.close(key.fd)
        for job in self._jobs:
            job.connection.close()
        self._selector.close()

    def _attend(self, job: Job) -> None:
        job.end = os.pidfd_open(job.process)
        self._jobs.append(job)
        self._selector.register(job.end, selectors.EVENT_READ, lambda: self._ended(job))
        self._selector.register(job.connection, selectors.EVENT_READ, lambda: self._alone(job))
        self._tell(job, [job.process], job.process)

    def _alone(self, job: Job) -> None:
        """Kill a job whose client was killed."""
        self._selector.unregister(job.connection)
        os.kill(job.process, signal.SIGKILL)

    def _ended(self, job: Job) -> None:
        _, status, usage = os.wait4(job.process, 0)
        record = [job.process, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]
        self._tell(job, record, os.waitstatus_to_exitcode(status))
        self._jobs.remove(job)
        self._selector.unregister(job.end)
        os.close(job.end)
        with suppress(KeyError):  # if its client was killed
            self._selector.unregister(job.connection)
        job.connection.close()

    def _tell(self, job: Job, record: list[float], answer: int) -> None:
        file = self._folder / str(job.client)
        with suppress(OSError):  # the disk is full, or the client was killed
            file.with_suffix(".part").write_text(json.dumps(record))
            file.with_suffix(".part").rename(file)
        with suppress(OSError):
            job.connection.send(str(answer).encode())

    def _end(self) -> None:
        """End with Snakemake, however it ended, and with all jobs."""
        for job in self._jobs:
            for process in (job.process, job.client):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(ChildProcessError):
            while True:
                os.wait()
        os._exit(0)


def _fork() -> int:
    """Fork; return -1 where there is no room. Whoever waits then starts a Python of their own."""
    try:
        return os.fork()
    except OSError:
        return -1


def import_all(packages: Sequence[str]) -> None:
    """Import packages for all forks to come, and keep the garbage collector from their objects."""
    for name in packages:
        with suppress(ImportError):  # a job that needs it says what is missing
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def run(job: Job) -> None:
    """Run a job's script in this process, as if Python had just been started for it."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != job.server:
        os._exit(1)
    libc.prctl(PR_SET_NAME, Path(job.script).name.partition(".")[2].encode())  # for `ps` and `top`
    for number, file in enumerate(job.files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environment)
    set_threads(int(job.environment.get("OMP_NUM_THREADS", "1")))
    sys.argv = [job.script]
    sys.path.insert(0, str(Path(job.script).parent))
    try:
        runpy.run_path(job.script, run_name="__main__")
    finally:
        gc.unfreeze()  # libraries look for objects that are still there when Python ends


def set_threads(number: int) -> None:
    """Give libraries that were loaded for a single thread the threads of the job."""
    if number > 1:
        import threadpoolctl

        threadpoolctl.threadpool_limits(number)
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(number)


def main(folder: str, sockets: str, early: str) -> None:
    """Serve until standard input ends; in each fork, run its job."""
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job's, and Snakemake's, to handle
    server = Server(Path(folder), json.loads(early))
    for file, steps in json.loads(sockets).items():
        server.listen(socket.socket(fileno=int(file)), steps)
    import_all(COMMON)
    server.prepare()
    job = server.serve()
    signal.signal(signal.SIGINT, interrupt)
    run(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
