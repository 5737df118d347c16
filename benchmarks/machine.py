"""Helpers of the benchmarks: repeated timing, peak memory, and the ceilings of the machine."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

PSS = re.compile(r"^Pss: +(\d+) kB$", re.MULTILINE)


def timed(work: Callable[[], Any], runs: int = 3) -> float:
    """Median seconds of `work` after one call that does not count."""
    work()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def matrix_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """Floating-point operations a second of a product of two large matrices."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    return 2 * size**3 / timed(lambda: a @ b, 5)


def copy_rate(megabytes: int = 512) -> float:
    """Bytes read and written a second when a large array is copied."""
    source = torch.zeros(megabytes << 18)
    target = torch.empty_like(source)
    return 2 * (megabytes << 20) / timed(lambda: target.copy_(source), 5)


def watched(command: list[str], **options: Any) -> tuple[float, float, str]:
    """Run a command; seconds, peak MiB of all its processes together, and what it printed.

    Raises
    ------
    SystemExit
        If the command fails; its output is shown.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    ) as process:
        peak = 0
        root = psutil.Process(process.pid)
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(process.stdout or []))
        reader.start()
        while process.poll() is None:
            asked = time.perf_counter()
            peak = max(peak, _resident(root))
            # asking walks through the pages: it may take a hundredth of the time, no more
            time.sleep(max(0.2, 100 * (time.perf_counter() - asked)))
        reader.join()
    seconds = time.perf_counter() - start
    output = "".join(lines)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{output}")
    return seconds, peak / (1 << 20), output


def _resident(root: psutil.Process) -> int:
    """Bytes in memory of a process and its children; pages that several share are divided."""
    total = 0
    for process in [root, *_children(root)]:
        with suppress(OSError):  # it has ended
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
            total += sum(int(kilobytes) << 10 for kilobytes in PSS.findall(text))
    return total


def _children(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:
        return []


def peak_memory() -> float:
    """Peak MiB of this process since it was last asked."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is the present again
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def describe() -> str:
    """The machine in one line."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        "unknown CPU",
    )
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{model}, {psutil.cpu_count()} cores, {memory:.0f} GiB, torch {torch.__version__}"
