"""The commands. Each calls what works without them, too: Snakemake, or a module of flawline."""

import json
import os
import re
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flawline.cli import station
from flawline.cli.common import CategoryName, ConfigFile, DetectorName, told
from flawline.errors import FlawlineError

PASSED_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}
# options of Snakemake that decide on GPUs
RESOURCES = ("--resources", "--res", "--profile", "--workflow-profile", "--executor", "-e")
app = typer.Typer(
    help="From photographs of products to defect detectors: init, check, run.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def init(
    photographs: Annotated[
        Path, typer.Argument(help="A folder in any usual shape, or a CSV file.")
    ],
    name: Annotated[
        str | None, typer.Option(help="Names the results; else the folder does.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; else NAME.yaml.")] = None,
    preset: Annotated[
        str | None, typer.Option(help="fast, balanced or accurate; else by the machine.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="File with the network's weights, instead of a download.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a configuration for a folder of photographs."""
    from flawline.cli.look import look
    from flawline.cli.propose import propose, weights_to_download
    from flawline.cli.source import source
    from flawline.config import load_config
    from flawline.configfile import read_configfile
    from flawline.devices import has_cuda
    from flawline.files import replacing
    from flawline.options.presets import PRESETS

    with told():
        name = name or _as_name(photographs)
        out = out or Path(f"{name}.yaml")
        machine = "this machine's GPU" if has_cuda() else "a CPU"
        preset = preset or ("accurate" if has_cuda() else "balanced")
        if preset not in PRESETS:
            raise FlawlineError(f"--preset: must be one of {', '.join(PRESETS)}; found {preset!r}")
        if out.exists() and not force:
            raise FlawlineError(f"{out}: is there already; give --force to replace it, or --out")
        found = look(photographs, name)
        content = propose(found, preset, weights, source() / "config" / "schema.json")
        with replacing(out) as partial:
            partial.write_text(content, encoding="utf-8")
            config = load_config(read_configfile(partial), str(out))
        typer.echo(f"Found in {found.dataset['source']} (kind: {found.dataset['kind']}):")
        for category in found.categories:
            typer.echo(f"  {category}")
            for problem in category.problems:
                typer.echo(f"    {problem}")
        typer.echo(f"Wrote {out}: preset {preset}, for {machine}.")
        _announce_downloads(weights_to_download(config))
        typer.echo(f"Next:\n  flawline check {out}\n  flawline run {out}")


@app.command()
def check(config: ConfigFile) -> None:
    """Check the configuration and all photographs: seconds."""
    from flawline.cli.check import check_photographs, checked_configuration
    from flawline.cli.propose import weights_to_download

    with told():
        content = checked_configuration(config)
        wrong = False
        for line, fine in check_photographs(content):
            typer.echo(line, err=not fine)
            wrong |= not fine
        if wrong:
            raise typer.Exit(1)
        _announce_downloads(weights_to_download(content))
        typer.echo(f"Ready: flawline run {config}")


@app.command(context_settings=PASSED_ON)
def run(context: typer.Context, config: ConfigFile) -> None:
    """Make all that is missing, up to the report.

    Options and targets of Snakemake may follow.
    """
    with told():
        _snakemake(config, context.args)


@app.command(context_settings=PASSED_ON)
def plan(context: typer.Context, config: ConfigFile) -> None:
    """Say in a line what `run` would do and why."""
    from flawline.cli.source import source
    from flawline.workflow.plan import plan as planned

    with told():
        where = ["--snakefile", str(source() / "Snakefile"), "--configfile", str(config)]
        typer.echo(planned([*where, *context.args]))


@app.command(context_settings=PASSED_ON)
def inspect(
    context: typer.Context,
    config: ConfigFile,
    photographs: Annotated[Path, typer.Argument(help="The folder with new photographs.")],
    category: CategoryName = None,
    detector: DetectorName = None,
) -> None:
    """Let a trained detector judge new photographs.

    Options of Snakemake may follow.
    """
    with told():
        given = {"folder": str(photographs), "category": category, "detector": detector}
        asked = json.dumps({key: value for key, value in given.items() if value is not None})
        _snakemake(config, ["inspect", *context.args, "--config", f"inspect={asked}"])


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="A folder results/NAME.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    page: Annotated[Path, typer.Argument(help="The page to write.")] = Path("changes.html"),
) -> None:
    """Compare two results folders on one page."""
    from flawline.report.compare_results import main as compared

    with told():
        compared([str(before), str(after), str(page)])


@app.command()
def export(
    config: ConfigFile,
    file: Annotated[Path, typer.Argument(help="The folder to write, or a file .onnx.")],
    category: CategoryName = None,
    detector: DetectorName = None,
    seed: Annotated[int | None, typer.Option(help="Else the configuration's first.")] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit convolutions: faster, other scores.")
    ] = False,
) -> None:
    """Export a trained detector as a folder that needs no torch, or as one ONNX file."""
    from flawline.inspection.export import main as exported

    given = {"--category": category, "--detector": detector, "--seed": seed}
    options = [part for key, value in given.items() if value is not None for part in (key, value)]
    with told():
        options += ["--int8"] if int8 else []
        exported([str(file), "--configfile", str(config), *map(str, options)])


@app.command()
def report(
    config: ConfigFile,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Say where the report is."""
    from flawline.config import load_config
    from flawline.configfile import read_configfile
    from flawline.layout import Layout

    with told():
        name = load_config(read_configfile(config), str(config)).dataset.name
        page = Path(Layout(name).report)
        if not page.is_file():
            raise FlawlineError(
                f"{page}: there is no report in {Path.cwd()} yet; make it with: flawline run "
                f"{config}"
            )
        typer.echo(page.absolute().as_uri())
        if show and not webbrowser.open(page.absolute().as_uri()):
            raise FlawlineError("No browser was found; open the address above in one.")


app.add_typer(station.commands)


def snakemake_command(config: Path, arguments: Sequence[str]) -> list[str]:
    """Return the call of Snakemake for a configuration and further arguments of Snakemake."""
    from flawline.cli.source import source
    from flawline.devices import has_cuda

    where = ["--configfile", str(config), "--snakefile", str(source() / "Snakefile")]
    own = any(one.partition("=")[0] in RESOURCES for one in arguments)
    usual = [] if own else ["--resources", f"gpu={int(has_cuda())}"]
    return [sys.executable, "-P", "-m", "snakemake", *usual, *where, *arguments]


def _snakemake(config: Path, arguments: Sequence[str]) -> None:
    """Become Snakemake, so that signals and the exit status are its own."""
    from flawline.configfile import read_configfile

    read_configfile(config)
    command = snakemake_command(config, arguments)
    sys.stdout.flush()
    os.execv(command[0], command)


def _as_name(photographs: Path) -> str:
    """Return a folder's name as that of a dataset."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", photographs.expanduser().absolute().stem)
    return name.strip("_.-") or "photographs"


def _announce_downloads(networks: Sequence[str]) -> None:
    if networks:
        typer.echo(
            f"The first run downloads the weights of {', '.join(networks)}. Without a network, "
            "fetch them elsewhere and name the file: `weights` below `features`, or init --weights."
        )
