"""Commands and configurations in the documents work as they are written."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from project import ROOT
from snakemake.cli import get_argument_parser
from typer.main import get_command

from flawline.cli.app import app
from flawline.config import Config

DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("*/README.md")), *sorted(ROOT.glob("docs/*.md"))]
COMMAND = re.compile(r"(?:[A-Z_]+=\S+ )*(?P<what>snakemake|flawline|make|python)\b.*")
RULES = {
    name
    for file in [ROOT / "Snakefile", *ROOT.glob("rules/*.smk")]
    for name in re.findall(r"^ *rule (\w+):", file.read_text(), re.MULTILINE)
}
MAKE = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands() -> Iterator[tuple[str, str]]:
    """Document and command, of every line of a code block and every piece of code in a text."""
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        for line in [*lines, *(" ".join(piece.split()) for piece in inline)]:
            if COMMAND.fullmatch(line.strip()) and " " in line:
                yield str(document.relative_to(ROOT)), line.strip()


def check_snakemake(words: list[str]) -> None:
    parsed = get_argument_parser().parse_args(words[1:])
    for file in parsed.configfile or ():
        assert Path(file).suffix == ".yaml", f"--configfile takes {file!r} as well"
        assert str(file) == "my.yaml" or (ROOT / file).is_file(), file
    for entry in parsed.config or ():
        assert "=" in entry, f"--config takes {entry!r} as well"
    for target in parsed.targets or ():
        assert target in RULES or target.startswith("results/"), target
    if parsed.workflow_profile:
        assert (ROOT / parsed.workflow_profile / "profile.yaml").is_file()


def check_flawline(words: list[str]) -> None:
    command = get_command(app).commands[words[1]]  # type: ignore[attr-defined]
    passed_on = command.allow_extra_args
    known = {option for parameter in command.params for option in parameter.opts}
    assert passed_on or {word for word in words[2:] if word.startswith("--")} <= known, words


def check_make(words: list[str]) -> None:
    targets = [word for word in words[1:] if "=" not in word]
    assert set(targets) <= MAKE, targets


def check_python(words: list[str]) -> None:
    if words[1] == "-m":
        found = find_spec(words[2])
        assert found is not None, words[2]
        assert found.origin is not None
        source = Path(found.origin)
    else:
        source = ROOT / words[1]
    if words[2:3] == ["flawline.workflow.plan"]:
        check_snakemake(words[2:])
        return
    for word in words[2:]:
        if word.startswith("--"):
            name = re.escape(word.partition("=")[0].lstrip("-"))
            assert re.search(rf"""["'](--)?{name}["']""", source.read_text()), f"{word} in {source}"


@pytest.mark.parametrize(("document", "command"), sorted(set(commands())))
def test_a_command_can_be_typed_as_it_is_written(document: str, command: str) -> None:
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\S+", word)]
    checks = {"snakemake": check_snakemake, "flawline": check_flawline, "make": check_make}
    checks.get(words[0], check_python)(words)


def test_commands_are_found() -> None:
    found = [command for _, command in commands()]
    assert "make demo" in found
    for program, least in {"snakemake": 6, "flawline": 8, "python": 4}.items():
        assert sum(command.startswith(f"{program} ") for command in found) >= least


def configurations() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.DOTALL | re.M):
            yield str(document.relative_to(ROOT)), block


@pytest.mark.parametrize(("document", "block"), list(configurations()))
def test_a_configuration_has_keys_that_there_are(document: str, block: str) -> None:
    assert set(yaml.safe_load(block)) <= set(Config.model_fields)
