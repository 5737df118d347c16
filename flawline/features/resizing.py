"""Antialiased resizing as two matrix products, because ONNX lacks the operation itself."""

from collections.abc import Sequence

import torch
from torch.nn.functional import interpolate


def resizing_matrices(
    shape: Sequence[int], size: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write bilinear `interpolate` with antialiasing as matrices of rows and of columns.

    Parameters
    ----------
    shape, size : height and width before and after.

    Returns
    -------
    float32 (size[0], shape[0]) and (size[1], shape[1]).
    """
    eyes = (torch.eye(length)[None, None] for length in shape)
    down, across = (
        interpolate(eye, (after, eye.shape[3]), mode="bilinear", antialias=True)[0, 0]
        for eye, after in zip(eyes, size, strict=True)
    )
    return down, across


def resized(images: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Resize images (N, C, H, W) by the matrices from `resizing_matrices`."""
    return down @ images @ across.T
