"""Ways to use the workflow from elsewhere: deployed, as a module, installed."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import forked_python
import pytest
import yaml
from project import CONFIG, PARTS, ROOT

import flawline


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the repository has, but for the tests."""
    folder = tmp_path_factory.mktemp("clone") / "flawline"
    ignored = shutil.ignore_patterns("__pycache__")
    for part in (*PARTS, "workflow", "LICENSE"):
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=ignored)
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder)
    return folder


def dry_run(folder: Path, clone: Path) -> str:
    done = forked_python.run(
        ["-m", "snakemake", "-n", "--cores", "2"],
        folder=folder,
        environment=os.environ | {"PYTHONPATH": str(clone)},
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_a_copy_deployed_with_snakedeploy_plans_its_runs(clone: Path, tmp_path: Path) -> None:
    copy = tmp_path / "mine"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("snakedeploy"), "deploy-workflow"),
            *(clone, copy, "--tag", "any", "--name", "flawline"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "config/README.md").is_file()
    assert (copy / "profiles/default/profile.yaml").is_file()
    # of a local source, snakedeploy writes only the path inside it
    snakefile = copy / "workflow/Snakefile"
    text = snakefile.read_text()
    assert '"Snakefile"' in text
    snakefile.write_text(text.replace('"Snakefile"', f'"{clone}/Snakefile"'))
    (copy / "config/config.yaml").write_text(yaml.safe_dump(CONFIG))
    said = dry_run(copy, clone)
    assert "results/demo/report.html" in said
    assert re.search(r"^total +65$", said, re.MULTILINE)


def test_its_rules_can_be_used_as_a_module_with_a_prefix(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(CONFIG | {"categories": ["weave"]}))
    (tmp_path / "Snakefile").write_text(f"""
configfile: "mine.yaml"


module flawline:
    snakefile:
        "{clone}/Snakefile"
    config:
        config


use rule * from flawline as defects_*


rule all_of_mine:
    default_target: True
    input:
        rules.defects_report_page.output,
""")
    said = dry_run(tmp_path, clone)
    assert "rule all_of_mine" in said
    assert "defects_train" in said


def test_the_version_stands_in_one_place_and_is_cited_as_it_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "flawline.__version__"}
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == flawline.__version__
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == flawline.__version__  # type: ignore[index]


def test_the_catalogue_finds_the_schema_and_what_the_container_needs_is_in_it() -> None:
    assert (ROOT / "workflow/schemas/config.schema.json").samefile(ROOT / "config/schema.json")
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"]
    copied = (ROOT / ".dockerignore").read_text().splitlines()
    needed = {f"!{part}" for part in (*PARTS, "pyproject.toml", "requirements.lock", "README.md")}
    assert needed <= set(copied)


def test_a_wheel_has_the_whole_workflow() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path: Path(folder).relative_to("share/flawline")
        for folder, patterns in setuptools["data-files"].items()
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if path.is_file()
    }
    assert all(path.parent == ROOT / folder for path, folder in shipped.items())
    parts = [part for part in PARTS if not (ROOT / part / "__init__.py").exists()]
    files = {ROOT / "Snakefile"} | {
        path for part in parts for path in (ROOT / part).rglob("*") if path.is_file()
    }
    assert {path for path in files if path.suffix != ".pyc"} <= set(shipped)
