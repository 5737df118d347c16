"""A Slurm of one machine with two mock GPUs, for as long as a test needs it.

Needs root and Debian's packages slurm-wlm and munge. The configuration has to be in /etc/slurm, as
Snakemake clears the variable that would name another place. A configuration that is not this one's
is left alone; this one's is removed at the end.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

ETC = Path("/etc/slurm")
MARK = "# Written by flawline's tests; removed when they end.\n"
CONFIG = """
ClusterName=flawline
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
GresTypes=gpu
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:2
PartitionName=cpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=gpu Nodes={host} MaxTime=INFINITE State=UP
"""
GRES = "NodeName={host} Name=gpu File={folder}/nvidia[0-1] Flags=nvidia_gpu_env\n"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "munged", "mungekey")


class Unavailable(Exception):
    """Why no Slurm can be started here."""


class Slurm:
    """The daemons, and what they say of their jobs.

    Parameters
    ----------
    folder : for their state; of root alone, and with a short path, as it holds a socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[Path] = []
        # a machine has one /etc/slurm: whoever comes second waits
        lock = Path(tempfile.gettempdir(), "flawline-slurm.lock")
        self.lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        self.started = False

    def start(self) -> None:
        if os.geteuid() != 0:
            raise Unavailable("Slurm's daemons need root")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.started = True
        ours = [ETC / "slurm.conf", ETC / "gres.conf"]
        for file in ours:
            if file.exists() and not file.read_text().startswith(MARK):
                raise Unavailable(f"{file} is somebody's Slurm, which stays as it is")
        install()
        self.folder.chmod(0o755)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        for number in (0, 1):
            try:
                os.mknod(self.folder / f"nvidia{number}", 0o20666, os.makedev(1, 3))
            except PermissionError:
                raise Unavailable("no device files can be made here") from None
        host = socket.gethostname().split(".")[0]
        ETC.mkdir(exist_ok=True)
        for file, text in zip(ours, (CONFIG, GRES), strict=True):
            file.write_text(MARK + text.format(host=host, folder=self.folder))
        key = self.folder / "munge.key"
        run("mungekey", "--create", f"--keyfile={key}")
        self.daemon(
            "munged",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
            f"--pid-file={self.folder}/munged.pid",
        )
        self.daemon("slurmctld")
        self.daemon("slurmd")
        for _ in range(100):
            state = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
            if "idle" in state.stdout:
                return
            time.sleep(0.3)
        logs = "\n".join(path.read_text()[-3000:] for path in self.folder.glob("slurm*.log"))
        raise RuntimeError(f"the node did not come up: {state.stdout}{state.stderr}\n{logs}")

    def daemon(self, program: str, *options: str) -> None:
        run(program, *options)
        self.daemons.append(self.folder / f"{program}.pid")

    def stop(self) -> None:
        """Cancel all jobs, end the daemons by their process ids, take the configuration back."""
        if not self.started:
            return
        if self.daemons:
            subprocess.run(["scancel", "--full", "--user=root"], check=False)
            with suppress(RuntimeError):
                self.wait_until_empty()
        for pid_file in reversed(self.daemons):
            with suppress(FileNotFoundError, ValueError, ProcessLookupError):
                pid = int(pid_file.read_text())
                os.kill(pid, signal.SIGTERM)
                wait_for_end(pid)
        for file in (ETC / "slurm.conf", ETC / "gres.conf"):
            if file.exists() and file.read_text().startswith(MARK):
                file.unlink()
        os.close(self.lock)

    def queue(self, *options: str) -> list[str]:
        """One line for each job: id, state, partition, comment."""
        found = run("squeue", "--noheader", "--format=%i %T %P %k", *options)
        return found.splitlines()

    def wait_until_empty(self) -> None:
        for _ in range(240):
            if not self.queue():
                return
            time.sleep(0.5)
        raise RuntimeError(f"jobs do not end: {self.queue()}")

    def gpus_in_use(self) -> list[str]:
        """The number of the GPU of each running job that has one."""
        jobs = run("scontrol", "--oneliner", "--details", "show", "job").splitlines()
        running = [job for job in jobs if "JobState=RUNNING" in job]
        return [number for job in running for number in re.findall(r"gpu[^ ]*\(IDX:(\d+)\)", job)]

    def ended(self) -> list[dict[str, str]]:
        """Slurm's own record of each job that ended, in the order of their ends."""
        record = self.folder / "jobs.txt"
        lines = record.read_text().splitlines() if record.exists() else []
        return [dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines]


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def install() -> None:
    """Debian's packages, where they are missing."""
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if shutil.which("apt-get") is None:
        raise Unavailable("slurm-wlm and munge are missing, and there is no apt-get to get them")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    packages = ("slurm-wlm", "munge")
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-q", *command],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        if done.returncode:
            raise Unavailable(f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}")


def wait_for_end(pid: int) -> None:
    """Wait for a process that may be nobody's child, so that none collects its status."""
    for _ in range(100):
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.1)
                continue
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
