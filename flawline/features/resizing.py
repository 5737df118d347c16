"""Antialiased resizing as two matrix products, because ONNX lacks the operation itself."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from flawline.data.geometry import Shape


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


class AreaResize(nn.Module):
    """OpenCV's `INTER_AREA` of grey levels, to the last level, as an exportable module.

    It averages areas if no side grows, and else interpolates both sides in fixed point.

    Parameters
    ----------
    shape, size : height and width before and after.
    """

    down: torch.Tensor
    across: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    shares: torch.Tensor

    def __init__(self, shape: Shape, size: Shape) -> None:
        super().__init__()
        self.same, self.halves = shape == size, shape == (2 * size[0], 2 * size[1])
        self.shrinks = shape[0] >= size[0] and shape[1] >= size[1]
        if self.shrinks:
            for name, *sides in zip(("down", "across"), shape, size, strict=True):
                self.register_buffer(name, torch.from_numpy(_averaging(*sides)).float())
            return
        left, right, shares = _interpolating(shape[1], size[1])
        across = np.zeros((size[1], shape[1]))
        np.add.at(across, (np.arange(size[1]), left), shares[0])
        np.add.at(across, (np.arange(size[1]), right), shares[1])
        self.register_buffer("across", torch.from_numpy(across))
        above, below, shares = _interpolating(shape[0], size[0])
        self.register_buffer("first", torch.from_numpy(above))
        self.register_buffer("second", torch.from_numpy(below))
        self.register_buffer("shares", torch.from_numpy(shares)[:, :, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Resize float32 (N, C, H, W), whole numbers from 0 to 255."""
        if self.same:
            return images
        if self.shrinks:
            found = resized(images, self.down, self.across)
            return (found + 0.5).floor() if self.halves else found.round().clamp(0, 255)
        rows = (images.double() @ self.across.T / 16).floor()
        one = (rows[:, :, self.first] * self.shares[0] / 65_536).floor()
        other = (rows[:, :, self.second] * self.shares[1] / 65_536).floor()
        return ((one + other + 2) / 4).floor().clamp(0, 255).float()


def _averaging(before: int, after: int) -> np.ndarray:
    """Return the share of each old pixel in each new one, float64 (after, before)."""
    ends = np.arange(after + 1) * (before / after)
    starts = np.arange(before)
    covered = np.minimum(ends[1:, None], starts + 1) - np.maximum(ends[:-1, None], starts)
    return np.clip(covered, 0, None) * (after / before)


def _interpolating(before: int, after: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two old pixels that each new one lies on, and their weights, of 2048."""
    inverse = after / before
    places = np.arange(after)
    left = np.floor(places * (1 / inverse)).astype(np.int64)
    share = places + 1 - (left + 1) * inverse
    share = np.where(share <= 0, 0, share - np.floor(share))
    share[left >= before - 1] = 0
    left = np.minimum(left, before - 1)
    share = share.astype(np.float32)
    weights = np.rint(np.stack([1 - share, share]) * 2048).astype(np.float64)
    return left, np.minimum(left + 1, before - 1), weights
