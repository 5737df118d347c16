"""PatchCore on fifteen categories of MVTec AD's size, made of the given ones under other names.

    python benchmarks/fifteen.py MVTEC_AD WEIGHTS [FRACTION]

Prints wall-clock seconds, the peak memory of the largest job, and the disk used.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import pandas as pd
import yaml
from machine import describe, watched

HERE = Path(__file__).resolve().parent


def main() -> None:
    root, weights = Path(sys.argv[1]), str(Path(sys.argv[2]).resolve())
    fraction = float(sys.argv[3]) if len(sys.argv) > 3 else 0.02
    given = sorted(path for path in root.iterdir() if path.is_dir())
    print(describe())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [f"{given[i % len(given)].name}_{i:02d}" for i in range(15)]
        for i, category in enumerate(names):
            shutil.copytree(given[i % len(given)], folder / "images" / category)
        configuration = {
            "dataset": {"name": "fifteen", "kind": "folder", "source": str(folder / "images")},
            "prepare": {"size": 256},
            "features": {
                "resnet18": {
                    "backbone": "resnet18",
                    "weights": weights,
                    "layers": ["layer2", "layer3"],
                }
            },
            "detectors": {
                "patchcore": {
                    "method": "patchcore",
                    "features": "resnet18",
                    "coreset_fraction": fraction,
                }
            },
        }
        file = folder / "fifteen.yaml"
        file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE.parent / "Snakefile")]
        command += ["--workflow-profile", str(HERE.parent / "profiles" / "default")]
        command += ["--directory", name, "--configfile", str(file)]
        seconds, memory, _ = watched(command)
        results = folder / "results" / "fifteen"
        tables = [pd.read_csv(path, sep="\t") for path in results.rglob("benchmarks/**/*.tsv")]
        largest = max(table["max_rss"].max() for table in tables)
        disk = sum(path.stat().st_size for path in unique_files(folder / "results"))
        aurocs = [
            json.loads(path.read_text(encoding="utf-8"))["image"]["auroc"]
            for path in results.rglob("metrics.json")
        ]
    print(f"{len(aurocs)} categories, {len(tables)} jobs, coreset {fraction:.0%}: {seconds:.0f} s")
    print(f"peak memory: largest job {largest:.0f} MiB, all processes together {memory:.0f} MiB")
    print(
        f"disk: {disk / (1 << 20):.0f} MiB; image AUROC, median of categories {median(aurocs):.3f}"
    )


def unique_files(folder: Path) -> list[Path]:
    """Files, hard links counted once."""
    seen: dict[tuple[int, int], Path] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            seen.setdefault((status.st_dev, status.st_ino), path)
    return list(seen.values())


if __name__ == "__main__":
    main()
