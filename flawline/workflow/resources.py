"""Memory, time, threads and GPUs of the rules."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snakemake.iocontainers import Wildcards

from flawline.devices import has_cuda


def memory(base: int, per_input: int = 0) -> Callable[..., int]:
    """Return a function for a job's megabytes: more for larger inputs and with every attempt.

    Parameters
    ----------
    base : megabytes that a job takes at least.
    per_input : further megabytes for each megabyte of its inputs.
    """

    def mem_mb(wildcards: Wildcards, input: Sequence[str], attempt: int) -> int:
        size = sum(map(_size, input)) if per_input else 0
        return attempt * (base + per_input * size // 2**20)

    return mem_mb


def _size(file: str) -> int:
    """Return a file's bytes; 0 if the same group of jobs makes it, which is not yet there."""
    try:
        return Path(file).stat().st_size
    except OSError:
        return 0


def minutes(base: int) -> Callable[..., int]:
    """Return a function for a job's run time: more with every attempt."""

    def runtime(wildcards: Wildcards, attempt: int) -> int:
        return attempt * base

    return runtime


def train_first(wildcards: Wildcards) -> int:
    """Return a priority: most later jobs wait for the training subset, which is the largest."""
    return int(wildcards.subset == "train")


class MachineResources:
    """GPUs and threads, which depend on where the jobs run."""

    def __init__(self, workflow: Any) -> None:
        self._workflow = workflow
        self._gpu_here = has_cuda()

    def gpus(self, wildcards: Wildcards) -> int:
        """Ask for one GPU if the machine may have one. Without one, a job would wait forever."""
        return int(self._elsewhere or self._gpu_here)

    def threads_of_many(self, wildcards: Wildcards) -> int:
        """Return the threads of stages with many jobs: on few cores, one thread each is faster."""
        cores = self._workflow.resource_settings.cores or 1
        return 4 if self._elsewhere else min(max(cores // 4, 1), 4)

    @property
    def _elsewhere(self) -> bool:
        """True if jobs run on other machines, or if this process is such a remote job."""
        return bool(self._workflow.remote_exec or not self._workflow.local_exec)
