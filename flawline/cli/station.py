"""The commands of a station: beside the production line, after training."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from flawline.cli.common import CategoryName, ConfigFile, DetectorName, told
from flawline.errors import FlawlineError

if TYPE_CHECKING:
    from flawline.station.messages import Sink
    from flawline.station.pictures import Rule
    from flawline.station.station import Station
    from flawline.station.versions import Versions

commands = typer.Typer()
Source = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="The configuration; or an exported detector's folder, or a folder of such folders.",
    ),
]
Products = Annotated[
    list[str] | None,
    typer.Option(
        "--category", help="A product; may be given several times. All, if it is left out."
    ),
]
Keep = Annotated[
    str, typer.Option(help="Of which parts pictures are kept: all, defective or none.")
]
Quota = Annotated[float, typer.Option(min=0, help="Megabytes of pictures; the oldest make room.")]


@commands.command()
def watch(
    config: Source,
    folder: Annotated[Path, typer.Argument(help="The folder that photographs come into.")],
    category: Products = None,
    detector: DetectorName = None,
    keep: Keep = "all",
    quota: Quota = 1000,
    webhook: Annotated[str | None, typer.Option(help="Address that gets messages by POST.")] = None,
    webhook_rate: Annotated[
        float, typer.Option(min=0.001, help="Messages a second, at most.")
    ] = 10,
    command: Annotated[
        str | None, typer.Option(help="Runs for each message, which it reads as JSON.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Gets a line for every part and alarm.")] = None,
    mqtt: Annotated[str | None, typer.Option(help="mqtt://HOST[:PORT]/TOPIC")] = None,
    every: Annotated[
        bool, typer.Option("--every", help="Messages about good parts, too; --csv always has them.")
    ] = False,
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there is judged.")
    ] = False,
) -> None:
    """Judge every photograph that appears in a folder, until stopped."""
    from threading import Event

    from flawline.station.messages import Delivery
    from flawline.station.station import open_station
    from flawline.station.watch import Watch, alone, stopped_by_signals

    stop = Event()
    with _told(), stopped_by_signals(stop):
        sinks = _sinks(webhook, webhook_rate, command, csv, mqtt, every)
        told = [(sink.name, sink.every) for sink in sinks]
        station = open_station(
            config, category or (), detector, keep=_rule(keep), quota=quota, sinks=told
        )
        with (
            alone(station.record.file.parent, station.categories),
            Delivery(station.record, sinks, typer.echo),
        ):
            watching = Watch(station, folder, say=typer.echo, stop=stop)
            _introduce(station)
            typer.echo(f"Watching {folder}; record: {station.record.file}")
            watching.run(once=once)
        typer.echo(_closing(station))


@commands.command()
def serve(
    config: Source,
    category: Products = None,
    detector: DetectorName = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; elsewhere than here with a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    max_mb: Annotated[float, typer.Option(min=0.001, help="Megabytes of a photograph.")] = 50,
    keep: Keep = "all",
    quota: Quota = 1000,
) -> None:
    """Judge photographs over HTTP, with a live page, until stopped."""
    from threading import Event

    with _told():
        try:
            import fastapi  # noqa: F401
            import uvicorn  # noqa: F401
        except ImportError:
            raise FlawlineError("serve: needs FastAPI: pip install 'flawline[serve]'") from None
        from flawline.station.server import TOKEN, Server
        from flawline.station.station import open_station
        from flawline.station.watch import stopped_by_signals

        stop = Event()
        with stopped_by_signals(stop):
            station = open_station(config, category or (), detector, keep=_rule(keep), quota=quota)
            token = os.environ.get(TOKEN, "")
            with Server(station, host, port, token=token, max_megabytes=max_mb) as server:
                _introduce(station)
                typer.echo(f"Serving at {server.address}")
                stop.wait()
            typer.echo(_closing(station))


@commands.command()
def learn(
    config: ConfigFile,
    category: CategoryName = None,
    detector: DetectorName = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be.")] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="Show the trained versions that are kept.")
    ] = False,
    back: Annotated[
        str | None, typer.Option(help="The version that stations use from their next start on.")
    ] = None,
) -> None:
    """Add confirmed parts to the photographs: good ones for training, defects for the test.

    Or switch between the versions of a detector that training has made.
    """
    from flawline.inspection.open_detector import chosen_detector
    from flawline.station.learn import Lessons
    from flawline.station.products import station_folder
    from flawline.station.record import Record
    from flawline.station.versions import Versions

    with _told():
        content, chosen = chosen_detector(config, category, detector)
        versions = Versions.of(content, chosen)
        if listed or back is not None:
            versions.keep()
            if back is not None:
                versions.choose(back)
            _show(versions, str(chosen.category), station_folder(content.dataset.name))
            return
        dataset, name = content.dataset, str(chosen.category)
        file = station_folder(dataset.name) / "record.sqlite"
        if not file.is_file():
            raise FlawlineError(f"{file}: there is no record yet: see `flawline watch`")
        lessons = Lessons(Record(file), dataset, name)
        for step in lessons.left_out:
            typer.echo(f"Left out: {step}")
        for step in lessons.new:
            typer.echo(str(step))
        count = len(lessons.new)
        if yes:
            # a new training replaces it in the results
            kept = versions.keep()
            lessons.copy()
            typer.echo(f"Copied {count}; where each comes from: {lessons.provenance}")
            if count:
                typer.echo(f"Next, to train again:\n  flawline run {config}")
                if kept:
                    typer.echo(f"Version {kept} is kept: see flawline learn {config} --list")
        elif count:
            typer.echo(f"Nothing is copied yet: {count} would be. Do it with --yes.")
        else:
            typer.echo("There is nothing new to learn from.")


@contextmanager
def _told() -> Iterator[None]:
    from flawline.devices import spin_briefly

    # before torch comes
    spin_briefly(os.environ)
    with told():
        yield


def _show(versions: "Versions", category: str, station: Path) -> None:
    """Print a line for each version."""
    from flawline.station.record import Record

    file = station / "record.sqlite"
    judged = Record(file).judged(category) if file.is_file() else {}
    used, newest = versions.used, versions.newest
    for version in versions.all():
        name = version.name
        marks = [word for word, one in (("in use", used), ("newest", newest)) if one == name]
        parts, defective = judged.get(name, (0, 0))
        typer.echo(
            f"{name}  trained {version.trained}, threshold {version.threshold:.4g}, {parts} parts "
            f"judged, {defective} called defective{' <- ' if marks else ''}{', '.join(marks)}"
        )
    if not versions.all():
        typer.echo("No version is kept, because nothing is trained yet.")


def _introduce(station: "Station") -> None:
    for product in station.products.values():
        typer.echo(str(product))


def _rule(given: str) -> "Rule":
    from flawline.station.pictures import RULES

    if given not in RULES:
        raise FlawlineError(f"--keep: must be one of {', '.join(RULES)}; found {given!r}")
    return cast("Rule", given)


def _sinks(
    webhook: str | None,
    rate: float,
    command: str | None,
    csv: Path | None,
    mqtt: str | None,
    every: bool,
) -> "list[Sink]":
    from flawline.station.messages import Command, CsvFile, Mqtt, Webhook

    made: list[Sink | None] = [
        Webhook(webhook, every=every, rate=rate) if webhook else None,
        Command(command, every=every) if command else None,
        CsvFile(csv) if csv else None,
        Mqtt(mqtt, every=every) if mqtt else None,
    ]
    return [sink for sink in made if sink is not None]


def _closing(station: "Station") -> str:
    counts = station.record.counts(station.categories)
    numbers = ", ".join(f"{count} {decision}" for decision, count in counts.items())
    waiting = station.record.waiting()
    kept = f"; {waiting} messages are kept for the next start" if waiting else ""
    return f"Ended. In the record: {numbers}{kept}."
