"""Configuration files that are not valid YAML are refused with file, line and what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from flawline.configfile import check_configfiles, read_configfile
from flawline.errors import FlawlineError
from flawline.workflow.plan import plan

WRONG = {
    "a tab": (b"a:\n  b: 1\n\tc: 2\n", ["line 3", "\n    c: 2\n", "Indent with spaces"]),
    "an open quote": (b'a: "b\nc: [1]\n', ["line 3", "quoted scalar, which begins in line 1"]),
    "an open bracket": (b"a: {b: 1\nc: 2\n", ["line 2", "flow mapping, which begins in line 1"]),
    "a colon": (b"x: 1\na: b: c\n", ["line 2", "\n    a: b: c\n", "in quotes"]),
    "a sign": (b"a: @x\n", ["line 1", "in quotes"]),
    "uneven indents": (b"a:\n  - b\n - c\n", ["line 3", "\n    - c"]),
    "a key twice": (b"a: 1\nb: 2\na: 3\n", ["line 3: the key 'a' appears already in line 1"]),
    "an inner key twice": (b"a:\n  - {b: 1, b: 2}\n", ["line 2: the key 'b'"]),
    "Latin-1": (b"a: 1\nb: \xe9\n", ["line 2: is not UTF-8"]),
    "UTF-16": ("a: 1\n".encode("utf-16"), ["line 1: is not UTF-8"]),
    "a control character": (b"a: \x01\n", ["is not valid YAML"]),
    "a date that is none": (b"a: 2024-13-45\n", ["cannot be read", "month"]),
    "a list": (b"- a\n", ["key: value", "found list"]),
    "nothing": (b"# a: 1\n", ["key: value", "found nothing"]),
    "a key twice in JSON": (b'{"a": {"b": 1, "b": 2}}', ["the key 'b' appears twice"]),
    "two documents": (b"a: 1\n---\nb: 1\n", ["line 2", "is not valid YAML"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_file_and_line(name: str, tmp_path: Path) -> None:
    content, words = WRONG[name]
    file = tmp_path / "my.yaml"
    file.write_bytes(content)
    with pytest.raises(FlawlineError) as error:
        read_configfile(file)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "content",
    [
        "a: {b: [1, 2]}\n",
        '{\n\t"a": {\n\t\t"b": [1, 2]\n\t}\n}\n',
        '{"a": {"b": [1, 2]}}',
        "\ufeffa:\r\n  b: [1, 2]\r\n",
        "a: {b: [1, 2]}",
    ],
)
def test_what_is_right_is_read(content: str, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(content, encoding="utf-8", newline="")
    assert read_configfile(file) == {"a": {"b": [1, 2]}}


def test_anchors_may_be_used_twice(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("a: &x {c: 1}\nb: *x\nd: {<<: *x, e: 1}\n")
    assert read_configfile(file)["d"] == {"c": 1, "e": 1}


@pytest.mark.parametrize("arguments", [["-n", "--configfile", "{}"], ["--configfiles={}", "-n"]])
def test_the_files_are_found_among_the_arguments(arguments: list[str], tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    given = [argument.format(file) for argument in arguments]
    with pytest.raises(FlawlineError, match="no such file"):
        check_configfiles(given)
    file.write_text("a: 1\na: 2\n")
    with pytest.raises(FlawlineError, match="line 2"):
        check_configfiles(given)
    with pytest.raises(FlawlineError, match="line 2"):
        plan(given)
    file.write_text("a: 1\n")
    check_configfiles(given)


def test_snakemake_says_it(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("a:\n\tb: 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--configfile", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{file}: line 2: is not valid YAML" in done.stderr
    assert "Traceback" not in done.stderr
