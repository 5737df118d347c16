"""The provenance of results: content hashes of files and of the code that made them, versions."""

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
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
    "timm",
    "torch",
    "torchvision",
)


def file_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file's content, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python and of installed packages that affect results."""
    found = {"python": platform.python_version()}
    for name in RECORDED_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def record(options: Any, code: str, **inputs: Any) -> dict[str, Any]:
    """Return the provenance of a result: versions, options, code fingerprint, input hashes."""
    return {"versions": versions(), "options": options, "code": code, "inputs": inputs}


def digest(*content: Any, files: Iterable[Path | str] = ()) -> str:
    """Return the content hash of plain values and of files."""
    text = json.dumps([*content, [file_hash(path) for path in files]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def code_fingerprint(script: Path | str, *modules: str) -> str:
    """Hash the meaning of a script and of every flawline module that it imports, directly or not.

    Comments, docstrings and formatting are not hashed, so correcting them reruns nothing.
    Imports are read from the source, also those inside functions. A module that is chosen
    at run time (a detector) is named in `modules`.

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
    # in the order of their hashes: that of their paths would change with the checkout's place
    return _joined(sorted(_meaning(path) for path in sources))


def templates_fingerprint(folders: Sequence[Path | str], *names: str) -> str:
    """Hash Jinja templates, all that they extend, include or import, and pages' style and script.

    Parameters
    ----------
    folders : where templates are looked for, in this order.
    names : of the templates that are rendered.
    """
    from jinja2 import Environment, FileSystemLoader, meta

    loader = FileSystemLoader(list(folders))
    environment = Environment(loader=loader, autoescape=True)
    contents: dict[str, str] = {}
    queue = [*names, "style.css", "script.js"]
    while queue:
        name = queue.pop()
        if name in contents:
            continue
        contents[name] = loader.get_source(environment, name)[0]
        if name.endswith(".j2"):
            referenced = meta.find_referenced_templates(environment.parse(contents[name]))
            queue += [other for other in referenced if other]
    return _joined(f"{name}\0{content}" for name, content in sorted(contents.items()))


def _joined(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()[:16]


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@cache
def _meaning(path: Path) -> str:
    parts: list[str] = []
    _write(_tree(path), parts)
    return " ".join(parts)


def _write(node: ast.AST, parts: list[str]) -> None:
    """Append a syntax tree as text, without what is empty: new versions of Python add fields."""
    parts.append(f"({type(node).__name__}")
    for name in node._fields:
        value = getattr(node, name, None)
        children = value if isinstance(value, list) else [value]
        children = [child for child in children if not _is_remark(child)]
        if value is None or not children or name == "ctx":  # a load or store follows from its place
            continue
        parts.append(name)
        for child in children:
            if isinstance(child, ast.AST):
                _write(child, parts)
            else:
                parts.append(repr(child))
    parts.append(")")


def _is_remark(node: object) -> bool:
    """Check whether a statement is an unused text, as a docstring is."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def _imported_files(path: Path) -> list[Path]:
    names: set[str] = set()
    for node in ast.walk(_tree(path)):
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
