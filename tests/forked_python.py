"""Programs that need not be imported: most of the seconds of a plan go into importing Snakemake."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

# A process that has imported what is of no copy of the project; every start is a fork of it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pydantic", "smart_open", "snakemake.cli", "snakemake.report"])


def python_m(
    module: str, *arguments: str, folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """What `python -m module` does in a folder, whose modules come before all others."""
    command = [module, *arguments]
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch, name) for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_main, args=(command, folder, environment, files))
        process.start()
        process.join()
        said = [file.read_text(encoding="utf-8") for file in files]
    return subprocess.CompletedProcess(command, process.exitcode or 0, *said)


def _main(command: list[str], folder: Path, environment: dict[str, str], files: list[Path]) -> None:
    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(folder))
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
