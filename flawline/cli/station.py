"""The commands of a station: beside the production line, after training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flawline.station.pictures import Rule

commands = typer.Typer()
ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="The configuration of the training, a YAML file.")
]
CategoryName = Annotated[
    str | None, typer.Option("--category", help="The product; may be left out if there is one.")
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", help="May be left out if there is only one.")
]
Keep = Annotated[
    str, typer.Option(help="Of which parts pictures are kept: all, defective or none.")
]
Quota = Annotated[float, typer.Option(min=0, help="Megabytes of pictures; the oldest make room.")]


@commands.command()
def watch(
    config: ConfigFile,
    folder: Annotated[Path, typer.Argument(help="The folder that photographs come into.")],
    category: CategoryName = None,
    detector: DetectorName = None,
    keep: Keep = "all",
    quota: Quota = 1000,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there is judged.")
    ] = False,
) -> None:
    """Judge every photograph that appears in a folder, until stopped."""
    from threading import Event

    from flawline.station.station import open_station
    from flawline.station.watch import Watch, alone, stopped_by_signals

    stop = Event()
    with _told(), stopped_by_signals(stop):
        station = open_station(config, category, detector, keep=_rule(keep), quota=quota)
        with alone(station.record.file.parent):
            watching = Watch(station, folder, say=typer.echo, stop=stop)
            typer.echo(
                f"Watching {folder} with detector {station.version}; record: {station.record.file}"
            )
            watching.run(once=once)
            typer.echo(_closing(station.record.counts()))


@contextmanager
def _told() -> Iterator[None]:
    from flawline.cli.app import told  # which adds these commands to its own

    with told():
        yield


def _rule(given: str) -> "Rule":
    from flawline.station.pictures import RULES

    if given not in RULES:
        raise FlawlineError(f"--keep: must be one of {', '.join(RULES)}; found {given!r}")
    return cast("Rule", given)


def _closing(counts: dict[str, int]) -> str:
    numbers = ", ".join(f"{count} {decision}" for decision, count in counts.items())
    return f"Ended. In the record: {numbers}."
