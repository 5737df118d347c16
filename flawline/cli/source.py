"""Where the workflow lies that the command runs."""

from importlib import metadata
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.provenance import PACKAGE


def source() -> Path:
    """Return the folder with the Snakefile: the clone, or what a wheel has installed.

    Raises
    ------
    FlawlineError
        If there is none.
    """
    installed = [
        Path(str(file.locate())).parent
        for file in _files()
        if file.name == "Snakefile" and "flawline" in file.parts
    ]
    for folder in (PACKAGE.parent, *installed):
        if (folder / "Snakefile").is_file():
            return folder.resolve()
    raise FlawlineError(
        f"There is no Snakefile beside {PACKAGE}, nor among the installed files of flawline. Clone "
        "the repository and install it from there: pip install --editable ."
    )


def _files() -> list[metadata.PackagePath]:
    try:
        return metadata.files("flawline") or []
    except metadata.PackageNotFoundError:
        return []
