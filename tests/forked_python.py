"""Python programs without the seconds of their imports: each is a fork of one that has them.

Most of the time of a plan goes into importing Snakemake, and most of the time of a small job into
importing torch. So one process imports both, and nothing of the project, and forks for every
program that a test starts, and for every job that such a Snakemake starts: to it, `sys.executable`
is a copy of this file. Tests that kill jobs start Snakemake as a user does, with no fork at all.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False  # this file also starts without the package typing, in milliseconds
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any, NoReturn

IMPORTED = (
    *("snakemake.cli", "snakemake.report", "snakemake.script", "pydantic", "smart_open"),
    *("torch", "torchvision", "pandas", "scipy.ndimage", "scipy.stats", "sklearn.metrics"),
    *("matplotlib.pyplot", "cv2", "PIL.Image", "safetensors.torch", "jinja2", "imagehash"),
)
MESSAGE = 1 << 20  # bytes; arguments and environment are far below
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in a folder; return its exit code and what it wrote.

    Parameters
    ----------
    arguments : `-m MODULE ...` or `FILE ...`.
    environment : of the program, all of it.
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with open(os.devnull, "rb") as nothing:
            code = ask(
                address(),
                [str(argument) for argument in arguments],
                str(folder),
                {**environment, "FLAWLINE_WARM_STARTS": "0"},  # its jobs are forks already
                (nothing.fileno(), out.fileno(), err.fileno()),
            )
        wrote = []
        for file in (out, err):
            file.seek(0)
            wrote.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, code, *wrote)


@functools.cache
def address() -> str:
    """Start the process that forks, which ends with this one; return the address of its socket."""
    import shutil
    import subprocess
    import tempfile

    folder = tempfile.mkdtemp()
    name = os.path.join(folder, "socket")
    with open(__file__) as source, open(client(name), "w") as copy:
        copy.write(f"#!{sys.executable} -IS\n{source.read()}")
    os.chmod(client(name), 0o755)
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", name],
        cwd=folder,
        env=os.environ | ONE_THREAD | {"PYTHONHASHSEED": "0", "PYTHONPATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()  # once it listens
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.stdin.close)
    return name


def client(address: str) -> str:
    """Return the path of the program that a Snakemake takes for Python."""
    return os.path.join(os.path.dirname(address), "python")


def ask(
    address: str,
    arguments: Sequence[str],
    folder: str,
    environment: Mapping[str, str],
    files: Sequence[int],
) -> int:
    """Have a program run with these files as its standard ones; return its exit code."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
        connection.connect(address)
        request = json.dumps([arguments, folder, dict(environment)]).encode()
        socket.send_fds(connection, [request], files)
        return int(connection.recv(100) or 1)


def serve(address: str) -> tuple[list[Any], list[int]]:
    """Fork for each program that is asked for; return in the fork, with what it shall run."""
    import gc

    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(100)
    print("listening", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            request, files, _, _ = socket.recv_fds(connection, MESSAGE, 3)
            program = os.fork()
            if program == 0:
                connection.close()
                return json.loads(request), files
            _attend(connection, program)
        connection.close()


def _attend(connection: socket.socket, program: int) -> NoReturn:
    """Tell how a program ended; end it when whoever asked for it is gone."""
    end = os.pidfd_open(program)
    ready, _, _ = select.select([end, connection], [], [])
    if end not in ready:
        os.kill(program, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    if end in ready:
        connection.send(str(code).encode())
    os._exit(0)


def become(
    arguments: list[str], folder: str, environment: dict[str, str], files: list[int]
) -> NoReturn:
    """Run a program in this process, which ends with it, without the seconds of a full clean-up."""
    import threading
    import traceback

    try:
        _run_here(arguments, folder, environment, files)
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run_here(
    arguments: list[str], folder: str, environment: dict[str, str], files: list[int]
) -> None:
    import runpy

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, folder)
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        (ARGUMENTS, FOLDER, ENVIRONMENT), FILES = serve(sys.argv[2])
        sys.executable = client(sys.argv[2])
        become(ARGUMENTS, FOLDER, ENVIRONMENT, FILES)
    else:
        SOCKET = os.path.join(os.path.dirname(__file__), "socket")
        CODE = ask(SOCKET, sys.argv[1:], os.getcwd(), os.environ, (0, 1, 2))
        if CODE < 0:
            os.kill(os.getpid(), -CODE)
        sys.exit(CODE)
