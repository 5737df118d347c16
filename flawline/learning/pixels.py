"""Grey levels as networks that rebuild images take them, and back."""

import numpy as np
import torch


def to_signed(levels: torch.Tensor) -> torch.Tensor:
    """Scale grey levels, uint8, to float32 in [-1, 1]."""
    return levels.float() / 127.5 - 1


def to_levels(signed: torch.Tensor) -> np.ndarray:
    """Scale images float32 (N, 3, H, W) in [-1, 1] to grey levels, uint8 (N, H, W, 3)."""
    levels = ((signed + 1) * 127.5).round().clamp(0, 255).byte()
    return levels.permute(0, 2, 3, 1).cpu().numpy()
