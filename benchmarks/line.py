"""Time the pipeline itself: planning, a run with nothing to do, the start of each job.

A folder of 15 categories, 10 detectors, 3 seeds. Nothing is computed: empty files and Snakemake's
own records of finished jobs stand in for results. Times are seconds of CPU in user mode, the best
of several, because they depend least on what else the machine does.
"""

import argparse
import ast
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
CATEGORIES = 15
IMAGES = {"train/good": 240, "test/good": 30, "test/scratch": 85}  # as many as MVTec AD has
CONFIG = {
    "features": {"gabor": {"backbone": "gabor", "layers": ["fine"]}},
    "detectors": {
        f"patchcore_{count}": {"method": "patchcore", "features": "gabor", "projection": count}
        for count in range(2, 12)
    },
    "seeds": [0, 1, 2],
}
PRETEND = """
import asyncio
from pathlib import Path
from snakemake.api import ConfigSettings, OutputSettings, ResourceSettings, SnakemakeApi
from snakemake.settings.types import ExecutionSettings

with SnakemakeApi(OutputSettings()) as api:
    line = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        config_settings=ConfigSettings(configfiles=[Path("line.yaml")]),
        snakefile=Path("Snakefile"),
    )
    line.dag().summary()
    line._workflow.execution_settings = ExecutionSettings()
    dag, records = line._workflow.dag, line._workflow.persistence
    jobs = [job for level in dag.toposorted() for job in level]
    for job in jobs:
        for file in map(Path, job.output):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch() if file.suffix else file.mkdir(exist_ok=True)
        asyncio.run(records.finished(job))
print(len(jobs))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="measurements of each figure")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        line = ["-m", "snakemake", "--configfile", "line.yaml"]
        dry = [*line, "--dry-run", "--quiet", "all"]
        print(f"dry run, nothing made yet: {seconds(dry, project, runs):.1f} s")
        print(f"jobs: {python(['-c', PRETEND], project).split()[-1]}")
        print(f"dry run, nothing to do: {seconds(dry, project, runs):.1f} s")
        print(f"run, nothing to do: {seconds(line, project, runs):.1f} s")
    for script in sorted((ROOT / "scripts").glob("*.py")):
        start = ["-c", imports(script)]
        print(f"imports of {script.name}: {seconds(start, ROOT, runs):.2f} s")


def make_project(folder: Path) -> Path:
    """A project folder with links to the code and a dataset of tiny images."""
    for part in ("Snakefile", "rules", "scripts", "flawline", "envs", "profiles"):
        (folder / part).symlink_to(ROOT / part)
    png = cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for category in range(CATEGORIES):
        for name, count in IMAGES.items():
            images = folder / f"images/category_{category}" / name
            images.mkdir(parents=True)
            for number in range(count):
                (images / f"{number:03d}.png").write_bytes(png)
    dataset = {"name": "line", "source": str(folder / "images")}
    (folder / "line.yaml").write_text(yaml.safe_dump(CONFIG | {"dataset": dataset}))
    return folder


def imports(script: Path) -> str:
    """The import statements of a script, those inside blocks too."""
    tree = ast.walk(ast.parse(script.read_text()))
    return "\n".join(ast.unparse(x) for x in tree if isinstance(x, ast.Import | ast.ImportFrom))


def seconds(arguments: list[str], folder: Path, runs: int) -> float:
    """Least CPU time in user mode of several runs of Python, with what it starts."""
    times = []
    for _ in range(runs):
        before = os.times().children_user
        python(arguments, folder)
        times.append(os.times().children_user - before)
    return min(times)


def python(arguments: list[str], folder: Path) -> str:
    """Return what a run of Python prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout


if __name__ == "__main__":
    main()
