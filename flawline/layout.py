"""Where every file lies: patterns with wildcards for the rules, and the files of one run.

Nothing else takes a path of the results apart or puts one together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from flawline.errors import FlawlineError

PROTOCOLS = ("unsupervised", "supervised")
SUBSETS = ("train", "calibration", "test")
# Folders of results/<dataset> beside the categories, and of results/ beside the datasets.
RESERVED = ("benchmarks", "comparison", "inspection", "logs", "mlflow", "report", "station")
RESERVED_DATASETS = ("feature_store",)

# Below results/<dataset>, which may have been moved or renamed.
CATEGORY = "{category}"
PROTOCOL = f"{CATEGORY}/{{protocol}}"
SUBSET = f"{PROTOCOL}/{{subset}}"
POSED = f"{PROTOCOL}/train/poses/{{poses}}"
SYNTHETIC = f"{PROTOCOL}/synthetic/{{synthetic}}"
DETECTOR = f"{PROTOCOL}/detectors/{{detector}}/seed{{seed}}"
FOLD = f"{DETECTOR}/folds/{{fold}}"


class Layout:
    """The folders and some files of one dataset, as patterns with Snakemake's wildcards.

    Attributes
    ----------
    data : where the dataset is downloaded to or drawn.
    inspections : all inspections and their history, whatever the category.
    station : the records of stations, a folder for each category.
    posed : training images in other poses.
    detector : a run: one detector, trained on one category with one seed.
    fold : the model that did not see one fold.
    """

    def __init__(self, dataset: str) -> None:
        self.data = f"data/{dataset}"
        self.results = f"results/{dataset}"
        self.logs = f"{self.results}/logs"
        self.benchmarks = f"{self.results}/benchmarks"
        self.comparison = f"{self.results}/comparison"
        self.inspections = f"{self.results}/inspection"
        self.station = f"{self.results}/station"
        self.report = f"{self.results}/report.html"
        self.mlflow = f"{self.results}/mlflow.json"
        self.category = f"{self.results}/{CATEGORY}"
        self.protocol = f"{self.results}/{PROTOCOL}"
        self.subset = f"{self.results}/{SUBSET}"
        self.posed = f"{self.results}/{POSED}"
        self.synthetic = f"{self.results}/{SYNTHETIC}"
        self.detector = f"{self.results}/{DETECTOR}"
        self.fold = f"{self.results}/{FOLD}"

    def run(self, **names: object) -> "RunFolder":
        """Return the folder of the run with this category, protocol, detector and seed."""
        return RunFolder(Path(self.detector.format(**names)))


@dataclass(frozen=True)
class RunFolder:
    """The files of one run: one detector, trained on one category with one seed."""

    folder: Path

    @classmethod
    def of(cls, file: Path | str) -> Self:
        """Return the run that a file belongs to.

        Raises
        ------
        FlawlineError
            If the path does not name a category, protocol, detector and seed.
        """
        return cls(Path(_match(DETECTOR, file)["folder"]))

    @classmethod
    def all_in(cls, results: Path) -> list[Self]:
        """Return the evaluated runs in a folder ``results/<dataset>`` by path."""
        return [cls.of(file) for file in sorted(results.glob(f"{_any(DETECTOR)}/metrics.json"))]

    @cached_property
    def _names(self) -> dict[str, str]:
        return _match(DETECTOR, self.folder)

    @property
    def category(self) -> str:
        return self._names["category"]

    @property
    def protocol(self) -> str:
        return self._names["protocol"]

    @property
    def detector(self) -> str:
        return self._names["detector"]

    @property
    def seed(self) -> int:
        return int(self._names["seed"])

    def __str__(self) -> str:
        """Return the run's name for a person."""
        return f"{self.category}, {self.detector} ({self.protocol}), seed {self.seed}"

    @property
    def model(self) -> Path:
        """The folder of the model's two files."""
        return self.folder / "model"

    @property
    def weights(self) -> Path:
        return self.model / "model.safetensors"

    @property
    def description(self) -> Path:
        """Options and provenance of the model."""
        return self.model / "model.json"

    @property
    def training(self) -> Path:
        return self.folder / "training.csv"

    @property
    def threshold(self) -> Path:
        return self.folder / "threshold.json"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def predictions(self) -> Path:
        """The test images' labels, scores and decisions."""
        return self.folder / "predictions.csv"

    @property
    def pictures(self) -> Path:
        """The picture of what the method sees, if it can show that."""
        return self.folder / "figures/pictures.jpg"

    @property
    def cases(self) -> Path:
        """The folder of the images that the report shows."""
        return self.folder / "figures/cases"

    def scores(self, subset: str) -> Path:
        return self.folder / subset / "scores.csv"

    def maps(self, subset: str) -> Path:
        return self.folder / subset / "anomaly_maps.npy"

    @property
    def protocol_folder(self) -> Path:
        """The folder of what all detectors of the protocol share."""
        return self.folder.parents[2]

    @property
    def background(self) -> Path:
        """The object masks' model, its background."""
        return self.protocol_folder / "object_masks/background.npy"

    @property
    def object_model(self) -> Path:
        """The object masks' model, its description."""
        return self.protocol_folder / "object_masks/model.json"

    def images(self, subset: str) -> Path:
        return self.protocol_folder / subset / "images.npy"

    def tiles(self, subset: str) -> Path:
        return self.protocol_folder / subset / "tiles.npy"

    def sizes(self, subset: str) -> Path:
        return self.protocol_folder / subset / "sizes.csv"

    def counted(self, subset: str) -> Path:
        """Return the file of which pixels count, if some of the category may not."""
        return self.protocol_folder / subset / "counted.npy"


def synthetic_set(file: Path | str) -> tuple[str, str]:
    """Return the category and the name of the synthetic anomalies that a file belongs to."""
    names = _match(SYNTHETIC, file)
    return names["category"], names["synthetic"]


def feature_files(results: Path) -> Iterator[Path]:
    """Find the descriptions of all features below the folder of all datasets' results."""
    for folder in (SUBSET, POSED):
        yield from results.glob(f"*/{_any(folder)}/features/*.json")


def _any(pattern: str) -> str:
    """Return a pattern for `glob`, with any value of any wildcard."""
    return re.sub("{[^}]*}", "*", pattern)


def _match(pattern: str, file: Path | str) -> dict[str, str]:
    """Return the values of a pattern's wildcards in a path, and the folder that it ends with."""
    choices = {"protocol": "|".join(PROTOCOLS), "seed": r"\d+"}
    expression = "".join(
        f"(?P<{part}>{choices.get(part, '[^/]+')})" if number % 2 else re.escape(part)
        for number, part in enumerate(re.split("{([^}]*)}", pattern))
    )
    matched = re.fullmatch(f"(?P<folder>(.*/)?{expression})(/.*)?", Path(file).as_posix())
    if matched is None:
        place = pattern.replace("{", "<").replace("}", ">")
        raise FlawlineError(f"{file}: expected a path in a folder results/<dataset>/{place}")
    return matched.groupdict()
