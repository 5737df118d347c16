"""Small photographs, made from random numbers and saved."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def photograph(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Return noise, uint8 (H, W, 3): another image for every seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path
