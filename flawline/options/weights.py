"""Weights of a network: a name, or a file."""

from pathlib import Path

from flawline.files import given_path


def weights_file(weights: str) -> Path | None:
    """Return the path that `weights` is, or None if it is a name."""
    is_path = "/" in weights or Path(weights).suffix in (".pth", ".pt", ".safetensors")
    return given_path(weights) if is_path else None
