"""Where a result comes from: content hashes of files and of the code that made it, versions."""

import ast
import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
RECORDED_VERSIONS = (
    "flawline",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pillow",
    "scikit-learn",
    "torch",
    "torchvision",
)


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape results; absent ones are left out."""
    found = {"python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def record(options: Any, code: str, **inputs: Any) -> dict[str, Any]:
    """The provenance of one result: versions, configuration, code fingerprint, input hashes."""
    return {"versions": versions(), "options": options, "code": code, "inputs": inputs}


def digest(*content: Any, files: Iterable[Path | str] = ()) -> str:
    """Content hash of plain values and of files."""
    text = json.dumps([*content, [file_hash(path) for path in files]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def code_fingerprint(script: Path | str, *modules: str) -> str:
    """Content hash of a script and of every flawline module that it imports, directly or not.

    Imports are read from the source, also those inside functions. A module that is chosen at run
    time (a detector) is named in `modules`.

    Parameters
    ----------
    script : path of a Python file.
    modules : dotted names of further flawline modules that the script will load.
    """
    sources = {Path(script)}
    queue = [*_imported_files(Path(script)), *_module_files(modules)]
    while queue:
        path = queue.pop()
        if path not in sources:
            sources.add(path)
            queue.extend(_imported_files(path))
    digest = hashlib.sha256()
    # in the order of their hashes: that of their paths would change with the checkout's place
    for content in sorted(hashlib.sha256(path.read_bytes()).digest() for path in sources):
        digest.update(content)
    return digest.hexdigest()[:16]


@cache
def _imported_files(path: Path) -> list[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return _module_files(names)


def _module_files(names: Iterable[str]) -> list[Path]:
    files = []
    for name in names:
        package, *parts = name.split(".")
        if package != PACKAGE.name:
            continue
        for depth in range(1, len(parts) + 1):
            module = PACKAGE.joinpath(*parts[:depth])
            candidates = (module.with_suffix(".py"), module / "__init__.py")
            files += [path for path in candidates if path.is_file()]
    return files
