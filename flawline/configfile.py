"""Configuration files as text: YAML errors are reported with their line, which Snakemake omits.

profiles/default/profile.yaml calls `refuse_invalid_yaml` before Snakemake reads them itself.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flawline.errors import FlawlineError

DEFAULT = Path("config/config.yaml")


def read_configfile(path: Path) -> dict[str, Any]:
    """Return the content of a YAML or JSON file.

    Raises
    ------
    FlawlineError
        If it cannot be read, is not valid YAML, has a key twice, or has no keys; with the line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise FlawlineError(
            f"{path}: there is no such file. Give the path of your configuration. Everything after "
            "`--configfile` is taken for a file, so put targets before it."
        ) from None
    except OSError as error:
        raise FlawlineError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise FlawlineError(f"{path}: line {line}: is not UTF-8; save the file as UTF-8") from None
    try:  # as Snakemake does: JSON may be indented with tabs
        content, node = json.loads(text, object_pairs_hook=_each_once), None
    except json.JSONDecodeError:
        content, node = _read_yaml(path, text)
    except (ValueError, RecursionError) as error:
        raise FlawlineError(f"{path}: {error}") from None
    if twice := list(_twice(node, set())):
        raise FlawlineError("\n".join(f"{path}: {found}" for found in twice))
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise FlawlineError(f"{path}: must hold keys with values, `key: value`; found {found}")
    return content


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} appears twice; keep one of them")
    return content


def _read_yaml(path: Path, text: str) -> tuple[Any, yaml.Node | None]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise FlawlineError(f"{path}: {_explain(error, text.splitlines())}") from None
    except yaml.YAMLError as error:
        raise FlawlineError(f"{path}: is not valid YAML: {error}") from None
    except (ValueError, RecursionError) as error:  # a date of month 13, lists a thousand deep
        raise FlawlineError(f"{path}: has a value that cannot be read: {error}") from None
    return content, node


def check_configfiles(arguments: list[str]) -> None:
    """Read the configuration files that Snakemake's arguments name, or its default one.

    Raises
    ------
    FlawlineError
        As `read_configfile`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", type=Path, default=[DEFAULT])
    for path in parser.parse_known_args(arguments)[0].configfile:
        if path != DEFAULT or path.is_file():
            read_configfile(path)


def refuse_invalid_yaml() -> None:
    """End the program with the message of `check_configfiles`, if it has one."""
    try:
        check_configfiles(sys.argv[1:])
    except FlawlineError as error:
        sys.exit(str(error))


def _explain(error: yaml.MarkedYAMLError, lines: list[str]) -> str:
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark else 0
    line = lines[number] if number < len(lines) else ""
    told = f"line {number + 1}: is not valid YAML: {error.problem}"
    opened = error.context_mark
    if opened and opened.line != number:
        told += f" ({error.context}, which begins in line {opened.line + 1})"
    if line.strip():
        told += f"\n    {line.strip()}"
    if "\t" in line[: len(line) - len(line.lstrip())]:
        told += "\nIndent with spaces; this line begins with a tab."
    elif "%" in line or "@" in line or "`" in line or ": " in line.partition(": ")[2]:
        told += "\nPut a value in quotes if it has a colon or begins with %, @ or `."
    return told


def _twice(node: yaml.Node | None, seen: set[int]) -> Iterator[str]:
    """Yield keys that a mapping has twice: YAML's readers silently take the last."""
    if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _twice(child, seen)
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            if key.value in first:
                yield (
                    f"line {line}: the key {key.value!r} appears already in line "
                    f"{first[key.value]}; keep one of them"
                )
            first.setdefault(key.value, line)
        yield from _twice(value, seen)
