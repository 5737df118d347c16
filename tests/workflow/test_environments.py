"""Profiles and conda environments: that they agree with each other and with the rules.

No conda is needed: a stand-in makes virtual environments that already see the installed packages.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT, Project

PROFILES = sorted(path.parent.name for path in ROOT.glob("profiles/*/profile.yaml"))
ENVIRONMENTS = sorted(path.stem for path in ROOT.glob("envs/*.yaml"))
RULES = "\n".join(path.read_text() for path in sorted(ROOT.glob("rules/*.smk")))
INHERITING = dict(re.findall(r"^use rule (\w+) as (\w+) with:", RULES, re.MULTILINE))
NAMES = {*re.findall(r"^ *rule (\w+):", RULES, re.MULTILINE), *INHERITING.values()}
CONDA = """#!/usr/bin/env bash
set -euo pipefail
case "$*" in
  "info --json") echo '{{"conda_prefix": "{folder}", "platform": "linux-64"}}' ;;
  --version) echo conda 25.1.0 ;;
  clean*) ;;
  config*) echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  "env create"*)
    while [ "$1" != --prefix ]; do shift; done
    {python} -m venv --without-pip "$2"  # pip is among the packages that it sees
    for folder in "$2"/lib/python*/site-packages; do echo '{packages}' > "$folder/seen.pth"; done
    ;;
  *) echo "unknown: $*" >&2; exit 1 ;;
esac
"""


def profile(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "profiles" / name / "profile.yaml").read_text())


@pytest.mark.parametrize("name", PROFILES)
class TestAProfile:
    def test_repeats_what_matters_in_the_default_one_that_it_replaces(self, name: str) -> None:
        default, other = profile("default"), profile(name)
        assert "code" not in other["rerun-triggers"]
        # on a cluster, Snakemake's own lines name the jobs as the cluster does
        for key in default.keys() - {"cores", "resources", "logger"}:
            assert other[key] == default[key], key
        assert other["resources"]["gpu"] >= 1

    def test_sets_threads_of_rules_that_exist(self, name: str) -> None:
        assert set(profile(name).get("set-threads", {})) <= NAMES


class TestAnEnvironment:
    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_names_its_channels_and_python(self, name: str) -> None:
        content = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
        assert content["channels"] == ["conda-forge", "nodefaults"]
        assert any(package.startswith("python ") for package in content["dependencies"])
        assert (ROOT / "envs" / f"{name}.post-deploy.sh").is_file()

    @pytest.mark.parametrize("name", ENVIRONMENTS)
    def test_is_made_from_any_folder_and_jobs_run_in_it(self, name: str, tmp_path: Path) -> None:
        project = Project(tmp_path / "project", ROOT)
        for file in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
            shutil.copy(ROOT / file, project.folder)
        elsewhere = tmp_path / "elsewhere"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "snakemake", "results/demo/bolt/index.csv", "--cores", "1"),
                *("--snakefile", str(project.folder / "Snakefile")),
                *("--configfile", str(project.folder / "test.yaml")),
                *("--directory", str(elsewhere), "--software-deployment-method", "conda"),
            ],
            cwd=tmp_path,
            env=project.environment() | {"PATH": with_conda(tmp_path), "FLAWLINE_ENV": name},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert (elsewhere / "results/demo/bolt/index.csv").is_file()
        (python,) = elsewhere.glob(".snakemake/conda/*/bin/python")
        found = subprocess.run(
            [python, "-c", "import flawline; print(flawline.__file__)"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(found.stdout.strip()) == project.folder / "flawline/__init__.py"

    def test_for_cpus_leaves_out_torch_and_cuda_alone(self, tmp_path: Path) -> None:
        """What its script gives to pip."""
        fake = tmp_path / "python"
        fake.write_text(
            f'#!/bin/sh\n[ "$4" = --requirement ] && cat "$5" > {tmp_path}/given\nexit 0\n'
        )
        fake.chmod(0o755)
        subprocess.run(
            ["bash", ROOT / "envs/cpu.post-deploy.sh"],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", "FLAWLINE_SOURCE": str(ROOT)},
            check=True,
        )
        locked = (ROOT / "requirements.lock").read_text().splitlines()
        left_out = set(locked) - set((tmp_path / "given").read_text().splitlines())
        names = {line.split("==")[0].split("-")[0] for line in left_out}
        assert names == {"torch", "torchvision", "triton", "cuda", "nvidia"}


def with_conda(folder: Path) -> str:
    """A search path on which conda is the stand-in."""
    programs = folder / "bin"
    programs.mkdir()
    packages = "\n".join(path for path in sys.path if path.endswith("-packages"))
    conda = programs / "conda"
    conda.write_text(CONDA.format(folder=folder, python=sys.executable, packages=packages))
    conda.chmod(0o755)
    (programs / "activate").write_text('source "$1/bin/activate"\n')
    return f"{programs}{os.pathsep}{os.environ['PATH']}"
