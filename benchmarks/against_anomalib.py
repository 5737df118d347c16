"""PatchCore from PNG files to AUROC: flawline against anomalib, one after the other.

    python benchmarks/against_anomalib.py DATA WEIGHTS [--anomalib PYTHON] [--categories ...]
        [--size HEIGHT WIDTH]

DATA is the folder with the categories, in MVTec AD's layout, WEIGHTS a state dict of torchvision's
resnet18, PYTHON the interpreter of an environment that has anomalib. ResNet18, layer2 and layer3,
256 px unless another size is given, 2 % coreset.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import yaml
from machine import describe, watched

HERE = Path(__file__).resolve().parent
FRACTION, LAYERS = 0.02, ["layer2", "layer3"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--anomalib", help="python of an environment with anomalib")
    parser.add_argument("--categories", nargs="+", default=["bottle", "screw"])
    parser.add_argument("--size", nargs=2, type=int, default=[256, 256])
    chosen = parser.parse_args()
    print(describe())
    for category in chosen.categories:
        job = [str(chosen.data.resolve()), str(chosen.weights.resolve()), category]
        size = [str(side) for side in chosen.size]
        show("flawline, the pipeline", category, *pipeline(*job, chosen.size))
        command = [sys.executable, str(HERE / "accuracy.py"), str(chosen.data / category)]
        command += ["--weights", job[1], "--size", *size]
        show("flawline, the same job", category, *same_job(command))
        if chosen.anomalib:
            command = [chosen.anomalib, str(HERE / "patchcore_anomalib.py"), *job, *size]
            show("anomalib", category, *same_job(command))


def show(who: str, category: str, seconds: float, memory: float, aurocs: dict) -> None:
    """One line of the table."""
    measured = {name: value for name, value in aurocs.items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in measured.items())
    print(f"{category:8} {who:24} {seconds:8.1f} s {memory:7.0f} MiB  {shown}", flush=True)


def same_job(command: list[str]) -> tuple[float, float, dict]:
    """One process that fits on all good images and scores the test images."""
    seconds, memory, output = watched(command)
    return seconds, memory, json.loads(output.splitlines()[-1])


def pipeline(data: str, weights: str, category: str, size: list[int]) -> tuple[float, float, dict]:
    """`snakemake` from nothing to the table of metrics; 20 % of the good images set the
    threshold."""
    with tempfile.TemporaryDirectory() as folder:
        configuration = {
            "dataset": {"name": "race", "source": data},
            "data": {"on_problem": "skip"},
            "categories": [category],
            "prepare": {"size": size},
            "features": {
                "resnet18": {"backbone": "resnet18", "weights": weights, "layers": LAYERS}
            },
            "detectors": {
                "patchcore": {
                    "method": "patchcore",
                    "features": "resnet18",
                    "coreset_fraction": FRACTION,
                }
            },
        }
        file = Path(folder, "race.yaml")
        file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE.parent / "Snakefile")]
        command += ["--workflow-profile", str(HERE.parent / "profiles" / "default")]
        command += ["results/race/comparison/runs.csv", "--directory", folder]
        command += ["--configfile", str(file)]
        seconds, memory, _ = watched(command)
        path = Path(folder, "results", "race", category, "unsupervised", "detectors", "patchcore")
        metrics = json.loads((path / "seed0" / "metrics.json").read_text(encoding="utf-8"))
        levels = [
            level for level in ("image", "pixel") if metrics[level]
        ]  # no masks, no pixel metrics
    aurocs = {f"{level}_auroc": metrics[level]["auroc"] for level in levels}
    return seconds, memory, aurocs


if __name__ == "__main__":
    main()
