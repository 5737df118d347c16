import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flawline import provenance
from flawline.provenance import (
    code_fingerprint,
    file_hash,
    record,
    templates_fingerprint,
    versions,
)

FILES = {
    "scripts/job.py": "from flawline.data.direct import f\n\ndef g():\n    import flawline.lazy\n",
    "flawline/__init__.py": "__version__ = '1'\n",
    "flawline/data/__init__.py": "",
    "flawline/data/direct.py": "from flawline import indirect\n",
    "flawline/indirect.py": "import flawline.round\nimport json\n",
    "flawline/round.py": "from flawline.indirect import x\n",
    "flawline/lazy.py": "",
    "flawline/chosen.py": "from flawline.base import Detector\n",
    "flawline/base.py": "",
    "flawline/unused.py": "",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package in place of flawline, and a script."""
    for name, content in FILES.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "project" / "flawline")
    yield tmp_path / "project"
    forget()


def forget() -> None:
    """A job is a separate process; within one, files are read once."""
    for function in (provenance._tree, provenance._meaning, provenance._imported_files):
        function.cache_clear()


def fingerprint(project: Path, *modules: str) -> str:
    forget()
    return code_fingerprint(project / "scripts/job.py", *modules)


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\nx = 1\n")


class TestCodeFingerprint:
    @pytest.mark.parametrize(
        "name",
        [
            "scripts/job.py",
            "flawline/data/direct.py",
            "flawline/indirect.py",
            "flawline/round.py",
            "flawline/lazy.py",
            "flawline/data/__init__.py",
        ],
    )
    def test_changes_with_all_code_that_the_script_runs(self, project: Path, name: str) -> None:
        before = fingerprint(project)
        append(project / name)
        assert fingerprint(project) != before

    @pytest.mark.parametrize("name", ["flawline/unused.py", "flawline/chosen.py"])
    def test_does_not_change_with_other_code(self, project: Path, name: str) -> None:
        before = fingerprint(project)
        append(project / name)
        assert fingerprint(project) == before

    def test_does_not_change_with_the_version_alone(self, project: Path) -> None:
        before = fingerprint(project)
        append(project / "flawline/__init__.py")
        assert fingerprint(project) == before

    @pytest.mark.parametrize("name", ["flawline/chosen.py", "flawline/base.py"])
    def test_changes_with_a_module_that_is_named_and_what_it_imports(
        self, project: Path, name: str
    ) -> None:
        before = fingerprint(project, "flawline.chosen")
        append(project / name)
        assert fingerprint(project, "flawline.chosen") != before

    def test_does_not_change_when_files_are_touched(self, project: Path) -> None:
        before = fingerprint(project)
        for path in project.rglob("*.py"):
            os.utime(path, (1, 1))
        assert fingerprint(project) == before

    def test_comes_back_when_a_change_is_undone(self, project: Path) -> None:
        before = fingerprint(project)
        append(project / "flawline/indirect.py")
        fingerprint(project)
        (project / "flawline/indirect.py").write_text(FILES["flawline/indirect.py"])
        assert fingerprint(project) == before

    def test_does_not_depend_on_where_script_and_package_lie(
        self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (project / "scripts/direct.py").write_text("import flawline.data.direct\n")
        (project / "scripts/job.py").rename(project / "scripts/indirect.py")
        (project / "scripts/direct.py").rename(project / "scripts/job.py")
        before = fingerprint(project)
        for scripts, package in (("a", "z"), ("z", "a")):
            shutil.copytree(project / "scripts", tmp_path / scripts / "1" / package / "scripts")
            shutil.copytree(project / "flawline", tmp_path / package / "2" / scripts / "flawline")
            monkeypatch.setattr(
                provenance, "PACKAGE", tmp_path / package / "2" / scripts / "flawline"
            )
            assert fingerprint(tmp_path / scripts / "1" / package) == before

    def test_of_two_scripts_differs(self, project: Path) -> None:
        (project / "scripts/other.py").write_text(FILES["scripts/job.py"] + "f()\n")
        assert code_fingerprint(project / "scripts/other.py") != fingerprint(project)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("x = 1\n", "# what it is\nx = 1  # one\n"),
            ("x = [1, 2]\n", "x = [\n    1,\n    2,\n]\n"),
            ('"""A."""\nx = 1\n', '"""Another."""\nx = 1\n'),
            ("def f():\n    return 1\n", 'def f():\n    """Do."""\n    return (1)\n'),
            ('class A:\n    """B."""\n    x = 1\n', "class A:\n    x = 1\n"),
            ('x = 1\n"""What x is."""\n', "x = 1\n"),
            ("", "# A remark.\n'''Another.'''\n"),
        ],
    )
    def test_does_not_change_with_words_and_layout(
        self, project: Path, before: str, after: str
    ) -> None:
        path = project / "flawline/indirect.py"
        path.write_text(before)
        first = fingerprint(project)
        path.write_text(after)
        assert fingerprint(project) == first

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("x = 1\n", "x = 2\n"),
            ("x = 1\n", "x = 1.0\n"),
            ("x = 1\n", "x = True\n"),
            ("x = 'a'\n", "x = b'a'\n"),
            ("x = None\n", "x = []\n"),
            ("x = 0\n", "x = -0.0\n"),
            ("f(a, b)\n", "f(b, a)\n"),
            ("f(a=1)\n", "f(b=1)\n"),
            ("def f(x, /): return x\n", "def f(x): return x\n"),
            ("def f(x=None): pass\n", "def f(x): pass\n"),
            ("x = a - b - c\n", "x = a - (b - c)\n"),
            ("if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n"),
            ("x = f'{a}'\n", "x = f'{a!r}'\n"),
            ("x = f'{a:.1f}'\n", "x = f'{a:.2f}'\n"),
            ("x = 'a'\n", "x = 'b'\n"),
            ("async def f(): pass\n", "def f(): pass\n"),
        ],
    )
    def test_changes_with_the_meaning(self, project: Path, before: str, after: str) -> None:
        path = project / "flawline/indirect.py"
        path.write_text(before)
        first = fingerprint(project)
        path.write_text(after)
        assert fingerprint(project) != first

    def test_covers_the_real_package(self) -> None:
        forget()
        files = provenance._module_files(["flawline.features.extraction"])
        files += provenance._imported_files(files[-1])
        names = {path.relative_to(provenance.PACKAGE).as_posix() for path in files}
        assert {"features/extraction.py", "features/backbones.py", "files.py"} <= names

    def test_misses_nothing_as_the_package_has_no_relative_imports(self) -> None:
        for path in provenance.PACKAGE.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                assert not isinstance(node, ast.ImportFrom) or node.level == 0, path


class TestTemplatesFingerprint:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        contents = {
            "page.html.j2": '{% extends "frame.html.j2" %}{% include "part.html.j2" %}',
            "frame.html.j2": '{% from "macros.html.j2" import x with context %}',
            "part.html.j2": "a",
            "macros.html.j2": "{% macro x() %}{% endmacro %}",
            "other.html.j2": "b",
            "style.css": "",
            "script.js": "",
        }
        for name, content in contents.items():
            (tmp_path / name).write_text(content)
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            ("page.html.j2", True),
            ("frame.html.j2", True),
            ("part.html.j2", True),
            ("macros.html.j2", True),
            ("style.css", True),
            ("script.js", True),
            ("other.html.j2", False),
        ],
    )
    def test_changes_with_what_is_rendered(self, folder: Path, name: str, changes: bool) -> None:
        before = templates_fingerprint([folder], "page.html.j2")
        (folder / name).write_text((folder / name).read_text() + "more")
        assert (templates_fingerprint([folder], "page.html.j2") != before) == changes

    def test_covers_the_real_pages(self) -> None:
        rooms = [provenance.PACKAGE / room / "templates" for room in ("inspection", "report")]
        templates_fingerprint(rooms, "inspection.html.j2")
        templates_fingerprint(rooms[1:], "page.html.j2", "category.html.j2", "changes.html.j2")


class TestRecord:
    def test_is_plain_json_with_all_that_a_result_comes_from(self) -> None:
        found = record({"size": 256}, "abc", images="123", device="cpu")
        assert json.loads(json.dumps(found)) == found
        assert found["options"] == {"size": 256}
        assert found["code"] == "abc"
        assert found["inputs"] == {"images": "123", "device": "cpu"}
        assert found["versions"] == versions()

    def test_names_the_versions_that_shape_results(self) -> None:
        found = versions()
        assert found["numpy"] == np.__version__
        assert found["python"] == ".".join(map(str, sys.version_info[:3]))
        assert {"torch", "torchvision", "pillow", "flawline"} <= set(found)

    def test_leaves_out_what_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(provenance, "RECORDED_VERSIONS", ("numpy", "no-such-package"))
        assert set(versions()) == {"python", "numpy"}

    def test_needs_no_heavy_import(self) -> None:
        command = (
            "import sys; from flawline.provenance import versions; versions();"
            "print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
        )
        assert subprocess.check_output([sys.executable, "-c", command], text=True) == "[]\n"

    def test_a_file_is_known_by_its_content(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"abc" * 100_000)
        assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
