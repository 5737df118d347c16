"""Weights of a network: a name, or a file."""

from importlib.util import find_spec
from pathlib import Path

from flawline.files import given_path

PACKAGE = "package/"
SUFFIXES = (".pth", ".pt", ".safetensors")


def weights_file(weights: str) -> Path | None:
    """Return the path that `weights` is, or None if it is a name.

    `package/NAME` is the one file of weights in an installed Python package.
    """
    if weights.startswith(PACKAGE):
        return _in_package(weights.removeprefix(PACKAGE)) or given_path(weights)
    is_path = "/" in weights or Path(weights).suffix in SUFFIXES
    return given_path(weights) if is_path else None


def _in_package(name: str) -> Path | None:
    found = find_spec(name) if name.isidentifier() else None
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        files = [path for path in sorted(Path(folder).rglob("*")) if path.suffix in SUFFIXES]
        if len(files) == 1:
            return files[0]
    return None
