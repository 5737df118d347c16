"""A small copy of the project in a separate folder, and the configuration that it runs."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Self

import forked_python
import yaml

from flawline.files import read_table

ROOT = Path(__file__).parents[1]
PLUGIN = "snakemake_logger_plugin_flawline"
PARTS = ("Snakefile", "rules", "scripts", "flawline", PLUGIN, "envs", "profiles", "config")
CONFIG: dict[str, Any] = {
    "dataset": {"name": "demo", "size": 64, "train_good": 12, "test_good": 4, "test_defective": 5},
    "categories": ["bolt", "weave"],
    "prepare": {"size": 64},
    "features": {
        "gabor": {
            "backbone": "gabor",
            "layers": ["fine", "medium"],
            "pool": 1,
            "normalize": False,
        }
    },
    "synthetic": {"scratches": {"recipes": [{"recipe": "line"}]}},
    "detectors": {
        "patchcore": {"method": "patchcore", "features": "gabor", "coreset_fraction": 0.05},
        "featcae": {
            "method": "featcae",
            "features": "gabor",
            "latent": 2,
            "epochs": 2,
            "object_mask": "score",
        },
    },
}
ONE_THREAD = [
    "--set-threads",
    *(f"{rule}=1" for rule in ("extract_features", "train", "score", "index", "prepare")),
]


class Project:
    """A copy of the project in a separate folder."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        self.source = source
        folder.mkdir(parents=True, exist_ok=True)
        self.restore()

    @classmethod
    def copied(cls, source: Path, folder: Path) -> Self:
        """A project together with all that it has made, in a folder that is not there yet."""
        subprocess.run(["cp", "-a", source, folder], check=True)
        return cls(folder, source)

    def restore(self) -> None:
        """Put code and configuration back as they were."""
        ignored = shutil.ignore_patterns("__pycache__")
        for part in PARTS:
            source, copy = self.source / part, self.folder / part
            if source.is_dir():
                shutil.copytree(source, copy, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(source, copy)
        self.configure(CONFIG)

    def configure(self, config: dict[str, Any]) -> None:
        (self.folder / "test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--configfile", "test.yaml", *arguments]

    def environment(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": str(self.folder), "PYTHONHASHSEED": "0"}

    def python_m(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python("-m", module, *arguments)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program as `python ARGUMENTS` in the folder, without the time of its imports."""
        return forked_python.run(arguments, folder=self.folder, environment=self.environment())

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.python_m("snakemake", "--configfile", "test.yaml", *arguments)

    def plan(self, *arguments: str) -> str:
        """What `python -m flawline.workflow.plan` says."""
        done = self.python_m("flawline.workflow.plan", "--configfile", "test.yaml", *arguments)
        return (done.stdout or done.stderr).strip()

    def run(self, *targets: str) -> subprocess.CompletedProcess[str]:
        done = self.snakemake("--cores", "2", *ONE_THREAD, "--", *targets)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def table(self, *targets: str) -> list[dict[str, str]]:
        """What Snakemake says of every output file, its inputs included."""
        done = self.snakemake("--detailed-summary", "--", *targets)
        assert done.returncode == 0, done.stdout + done.stderr
        lines = done.stdout.splitlines()
        start = next(i for i, line in enumerate(lines) if line.startswith("output_file"))
        return list(csv.DictReader(lines[start:], delimiter="\t"))

    def pending(self, *targets: str) -> dict[str, str]:
        """Output files that would be made again, each with its rule."""
        rows = self.table(*targets)
        return {row["output_file"]: row["rule"] for row in rows if row["plan"] == "update pending"}

    def pending_rules(self) -> set[str]:
        return set(self.pending().values())

    def dag(self) -> list[dict[str, Any]]:
        """Every job with its rule, inputs and outputs, whether it would run or not."""
        done = self.python(str(ROOT / "tests/print_jobs.py"))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def results(self) -> dict[str, bytes]:
        """All tables and JSON files, without the seconds that jobs took."""
        return {
            str(path.relative_to(self.folder)): (
                read_table(path).drop(columns="seconds", errors="ignore").to_csv().encode()
                if path.name == "training.csv"
                else path.read_bytes()
            )
            for path in sorted(self.folder.glob("results/**/*"))
            if path.suffix in (".csv", ".json") and path.name != "cost.csv"
        }


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def changed(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    change(config)
    return config
