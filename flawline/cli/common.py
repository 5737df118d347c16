"""What all commands share: arguments, and errors as messages."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flawline.errors import FlawlineError

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The configuration, a YAML file.")
]
CategoryName = Annotated[
    str | None, typer.Option("--category", help="The product; may be left out if there is one.")
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", help="May be left out if there is only one.")
]


@contextmanager
def told() -> Iterator[None]:
    """End the program with the message of a `FlawlineError`."""
    try:
        yield
    except FlawlineError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
