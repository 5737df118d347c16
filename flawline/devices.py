"""Where and in which precision networks run."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def choose_device(gpus_granted: int, threads: int) -> "torch.device":
    """CUDA when the job was granted a GPU and there is one, else the CPU with `threads` threads."""
    import torch

    torch.set_flush_denormal(True)  # decaying weights reach numbers that CPUs are slow with
    torch.set_num_threads(max(threads, 1))
    if gpus_granted and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


def has_half_precision_units(device: "torch.device") -> bool:
    """Whether matrix products in bfloat16 run on units of their own on this device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def inference_precision(device: "torch.device", wanted: str) -> str:
    """``bfloat16`` or ``float32``; ``auto`` takes bfloat16 where the device has units for it."""
    if wanted == "auto":
        return "bfloat16" if has_half_precision_units(device) else "float32"
    return wanted


def autocast(device: "torch.device", precision: str) -> AbstractContextManager[object]:
    """Run the enclosed operations in `precision` where that is safe."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def to_tensor(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """Copy an array, a read-only memory map included, to a device."""
    import torch

    return torch.from_numpy(np.array(array, order="C")).to(device)


def readable_tensor(array: np.ndarray, device: "torch.device") -> "torch.Tensor":
    """The array on a device; on the CPU itself, not a copy, so it must not be written to."""
    import warnings

    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writ", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)
