"""A category of photographs with trained detectors, made without Snakemake."""

from pathlib import Path
from typing import Any

import pandas as pd
import torch

from flawline.config import load_config
from flawline.data.demo.draw import write_category
from flawline.data.geometry import Geometry
from flawline.data.prepare import prepare_images
from flawline.data.regions import Counting, write_counted
from flawline.decisions.thresholds import choose_threshold
from flawline.detectors.data import Data
from flawline.detectors.registry import method_class
from flawline.detectors.scoring import score_to_files
from flawline.features.extraction import extract
from flawline.files import read_array, read_json, read_table, write_json, write_table
from flawline.inspection.run_settings import settings_of
from flawline.inspection.trained_detector import TrainedDetector, load_trained
from flawline.options.object_masks import ObjectMaskOptions
from flawline.provenance import record
from flawline.synthesis.object_masks import fit, mask_all

CPU = torch.device("cpu")
SHAPE = (64, 96)
GOOD, NEW = 16, 9
FEATURES = {"backbone": "gabor", "layers": ["fine", "medium"], "pool": 1, "normalize": False}
METRIC: dict[str, Any] = {
    "method": "metric_learning",
    "backbone": "squeezenet1_1",
    "weights": "none",
    "network_size": 64,
    "epochs": 1,
}
DETECTORS: dict[str, dict[str, Any]] = {
    "patchcore": {"method": "patchcore", "features": "gabor", "coreset_fraction": 0.05},
    "masked": {"method": "patchcore", "features": "gabor", "object_mask": "memory"},
    "two_sets": {"method": "patchcore", "features": ["gabor", "coarse"]},
    "featcae": {"method": "featcae", "features": "gabor", "latent": 2, "epochs": 1},
    "autoencoder": {"method": "autoencoder", "network_size": 32, "width": 4, "epochs": 1},
    "ssim": {"method": "ssim_autoencoder", "network_size": 32, "width": 4, "epochs": 1},
    "metric": METRIC,
}
CORNER = [[0, 0], [20, 0], [20, 12], [0, 12]]
OVERRIDES = {
    "bolt": {
        "prepare": {"resize": "letterbox"},
        "regions": {"polygons": [CORNER]},
        "boxes": {"level": 0.5, "min_area": 1},
    }
}


class TrainedCategory:
    """The results of one category, made by the functions that the scripts call."""

    def __init__(self, root: Path) -> None:
        self.root = root
        photographs = root / "photographs"
        counts = {"train_good": GOOD, "test_good": 3, "test_defective": NEW - 3}
        write_category(photographs / "bolt", "bolt", size=80, **counts)
        self.given: dict[str, Any] = {
            "dataset": {"name": "mine", "source": str(photographs)},
            "prepare": {"size": list(SHAPE)},
            "features": {"gabor": FEATURES, "coarse": FEATURES | {"layers": ["coarse"]}},
            "detectors": DETECTORS,
            "threshold": {"rule": "maximum"},
            "overrides": OVERRIDES,
        }
        self.new = photographs / "bolt" / "test"
        self.protocol = root / "results/mine/bolt/unsupervised"
        good_images = sorted((photographs / "bolt/train/good").iterdir())
        subsets = {
            "train": good_images[4:],
            "calibration": good_images[:4],
            "test": sorted(self.new.rglob("*.png")),
        }
        settings = self.settings("masked")
        self.geometry = Geometry(SHAPE)
        counting = Counting.of_options(settings["regions"], SHAPE, "letterbox")
        for subset, paths in subsets.items():
            place = self.protocol / subset
            prepare_images(paths, place / "images.npy", counting, max_megapixels=1, workers=1)
            sizes = pd.DataFrame({"height": [80] * len(paths), "width": [80] * len(paths)})
            write_table(place / "sizes.csv", sizes)
            write_counted(sizes, place / "counted.npy", counting)
            write_json(place / "geometry.json", self.geometry.as_json())
            images = read_array(place / "images.npy")
            for name, chosen in self.config().of("bolt").features.items():
                extract(
                    images,
                    place / f"features/{name}.npy",
                    device=CPU,
                    images_hash="",
                    **chosen.model_dump(),
                )
            options = ObjectMaskOptions.model_validate(settings["object_masks"])
            if subset == "train":
                self.object_model = fit(images, options, read_array(place / "counted.npy"))
                objects = self.protocol / "object_masks"
                self.object_model.save(objects / "background.npy", objects / "model.json")
            counted = read_array(place / "counted.npy")
            mask_all(images, place / "object_masks.npy", self.object_model, options, counted)

    def config(self, **changes: Any) -> Any:
        return load_config(self.given | changes, "my.yaml")

    def settings(self, detector: str, **changes: Any) -> dict[str, Any]:
        return settings_of(self.config(**changes), "bolt", detector)

    def run(self, detector: str) -> Path:
        return self.protocol / "detectors" / detector / "seed0"

    def train(self, name: str) -> None:
        """As scripts/train.py, score.py and threshold.py do."""
        run, settings = self.run(name), self.settings(name)
        options = self.config().of("bolt").detectors[name]
        files = self.files("train", name)
        features = [read_json(Path(path).with_suffix(".json")) for path in files["features"]]
        detector = method_class(options.method)(options, 0, CPU)
        detector.fit(Data.open(files))
        about = record(
            settings["detector"],
            "",
            device="cpu",
            features=features,
            geometry=self.geometry.as_json(),
            prepare=settings["prepare"],
            regions=settings["regions"],
            poses=settings["poses"],
            object_masks=settings["object_masks"],
        )
        detector.save(run / "model", about)
        for subset in ("calibration", "test"):
            data = Data.open(self.files(subset, name))
            place = run / subset
            score_to_files(detector, data, place / "scores.csv", place / "anomaly_maps.npy")
        scores = read_table(run / "calibration/scores.csv")["score"].to_numpy()
        write_json(run / "threshold.json", choose_threshold(scores, **settings["threshold"]))

    def files(self, subset: str, detector: str) -> dict[str, Any]:
        place = self.protocol / subset
        chosen = self.config().of("bolt").detectors[detector]
        sets = getattr(chosen, "feature_sets", [])
        found: dict[str, Any] = {"images": place / "images.npy"}
        found["object_masks"] = place / "object_masks.npy"
        found["counted"], found["geometry"] = place / "counted.npy", place / "geometry.json"
        found["features"] = [place / f"features/{name}.npy" for name in sets]
        return found

    def trained(self, detector: str = "patchcore", **changes: Any) -> TrainedDetector:
        return load_trained(self.run(detector), self.settings(detector, **changes), CPU)
