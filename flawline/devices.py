"""Where and in which precision networks run."""

import ctypes
import logging
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flawline.errors import FlawlineError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
KEPT = 256 << 20  # bytes
# turns of a loop; GNU's own default, 300,000, is longer than most steps of a training
SPINS = "1000"


def choose_device(gpus_granted: int, threads: int) -> "torch.device":
    """Return CUDA if the job was granted a GPU and there is one, else the CPU with `threads`.

    Without a scheduler that has set ``CUDA_VISIBLE_DEVICES``, the process takes a GPU that no other
    job of this user holds, and keeps it until it ends.
    """
    if gpus_granted and "CUDA_VISIBLE_DEVICES" not in os.environ and (gpus := list_gpus()):
        # read when CUDA starts, which importing torch does not do
        os.environ["CUDA_VISIBLE_DEVICES"] = take_gpu(gpus, gpu_locks())

    import torch

    keep_freed_memory()
    torch.set_flush_denormal(True)  # decaying weights become denormal, which slows CPUs down
    torch.set_num_threads(max(threads, 1))
    on_gpu = gpus_granted and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    logger.info("Device: %s (CUDA_VISIBLE_DEVICES: %s)", device, visible)
    return device


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for others give their core away soon, in all jobs.

    A thread that spins takes a core from whatever else runs, and from the thread it waits for: on a
    busy machine a training takes several times as long. Settings of the user's own remain.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & environment.keys():
        environment["GOMP_SPINCOUNT"] = SPINS


def keep_freed_memory() -> None:
    """Let glibc keep up to 256 MiB of freed memory; do nothing with another C library.

    By default it returns large arrays to the operating system at once. Extraction on a CPU then
    spends a quarter of its time on getting every layer's output as fresh, zeroed pages.
    """
    trim_threshold, mmap_threshold = -1, -3  # of malloc.h
    with suppress(AttributeError, TypeError):  # another library or operating system
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, KEPT)
        libc.mallopt(trim_threshold, KEPT)


def has_cuda() -> bool:
    """Check whether the NVIDIA driver shows a GPU to this process."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 < count.value


def list_gpus() -> list[str]:
    """Return the UUIDs of this machine's NVIDIA GPUs, or of their MIG instances."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"UUID: (MIG-[^)]+)", listed.stdout) or re.findall(
        r"UUID: (GPU-[^)]+)", listed.stdout
    )


def gpu_locks() -> Path:
    """Return this user's folder of GPU locks on this machine."""
    return Path(tempfile.gettempdir(), f"flawline-gpu-locks-{os.getuid()}")


def take_gpu(gpus: Sequence[str], folder: Path) -> str:
    """Lock one of `gpus` for the life of this process; wait while other processes hold them all.

    The operating system drops the lock when the process ends, however it ends.

    Parameters
    ----------
    gpus : names, each the name of a lock file.
    folder : of the lock files; made where it is missing.
    """
    import fcntl  # absent on Windows

    waiting = False
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        while True:
            for gpu in gpus:
                file = os.open(folder / gpu.replace("/", "-"), os.O_RDWR | os.O_CREAT, 0o600)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return gpu  # the file stays open
                except BlockingIOError:
                    os.close(file)
            if not waiting:
                logger.warning("All GPUs (%d) are taken by other jobs: waiting for one", len(gpus))
            waiting = True
            time.sleep(0.5)
    except PermissionError as error:
        raise FlawlineError(
            f"{error.filename}: belongs to another user, so GPUs cannot be locked; remove it, or "
            "choose a GPU with CUDA_VISIBLE_DEVICES"
        ) from None


def has_half_precision_units(kind: str) -> bool:
    """Check whether ``cpu`` or ``cuda`` has units for matrix products in bfloat16."""
    if kind == "cpu":  # without torch, which a job that takes features from the store never loads
        return bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return set()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def inference_precision(kind: str, wanted: str) -> str:
    """Return ``bfloat16`` or ``float32``; ``auto`` takes bfloat16 where it is fast."""
    if wanted == "auto":
        return "bfloat16" if has_half_precision_units(kind) else "float32"
    return wanted


def images_at_once(kind: str, wanted: int) -> int:
    """Return the batch size of a frozen network; 0 takes what suits ``cpu`` or ``cuda``.

    On a CPU, a job that keeps freed memory (`keep_freed_memory`) is equally fast with 2 to 32
    images of 256 px (ResNet-18, float32, one thread), and small batches need less memory.
    """
    return wanted or (8 if kind == "cpu" else 32)


def autocast(device: "torch.device", precision: str) -> AbstractContextManager[object]:
    """Run the enclosed operations in `precision` where that is safe."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def to_tensor(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """Copy an array, a read-only memory map included, to a device."""
    import torch

    return torch.from_numpy(np.array(array, order="C")).to(device)


def readable_tensor(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """Return the array on a device. On the CPU it is not a copy, so do not write to it."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)
