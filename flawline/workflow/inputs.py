"""The input files of the rules: for each job, only those that it needs."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from snakemake.iocontainers import Wildcards

from flawline.config import Config
from flawline.layout import SUBSETS, Layout

Files = str | list[str]
Input = Callable[[Wildcards], Files]
Named = Callable[[Wildcards], dict[str, Files]]


class Inputs:
    """Input functions of a configuration."""

    def __init__(self, config: Config, layout: Layout) -> None:
        self.config = config
        self.layout = layout

    def made_data(self, wildcards: Wildcards) -> Files:
        """Return the stamp of downloaded or drawn data; nothing for the user's own folder."""
        return [] if self.config.provided else f"{self.layout.data}/{wildcards.category}.json"

    def seen(self, subset: str) -> Input:
        """Return a function for the images of a subset that networks see, or their tiles."""

        def seen(wildcards: Wildcards) -> Files:
            tiles = self.config.of(wildcards.category).prepare.tiles
            return self._in_subset(wildcards, subset, "tiles.npy" if tiles else "images.npy")

        return seen

    def counted(self, subset: str) -> Input:
        """Return a function for the file of counted pixels, if some may not count."""

        def counted(wildcards: Wildcards) -> Files:
            if not self.config.of(wildcards.category).restricted:
                return []
            return self._in_subset(wildcards, subset, "counted.npy")

        return counted

    def held_back(self, wildcards: Wildcards) -> Files:
        """Return the images of the calibration subset, if there is one."""
        if not self._splits(wildcards):
            return []
        return self._in_subset(wildcards, "calibration", "images.npy")

    def calibration_images(self, wildcards: Wildcards) -> Files:
        """Return the images that the calibration scores are of: training images if all train."""
        return self._in_subset(wildcards, self._calibrated_on(wildcards), "images.npy")

    def calibration_counted(self, wildcards: Wildcards) -> Files:
        """Return the file of their counted pixels."""
        return self.counted(self._calibrated_on(wildcards))(wildcards)

    def backbone(self, wildcards: Wildcards) -> Files:
        """Return the weights of a feature set, if they are a local file."""
        file = self.config.of(wildcards.category).features[wildcards.features].weights_file
        return [] if file is None else str(file)

    def cutouts(self, wildcards: Wildcards) -> Files:
        """Return the user's own pictures that a set of synthetic anomalies pastes."""
        synthetic = self.config.of(wildcards.category).synthetic[wildcards.synthetic]
        return sorted(str(path) for recipe in synthetic.recipes for path in recipe.cutouts)

    def detector(self, subset: str, *, training: bool = False) -> Named:
        """Return a function for the files of a subset that the detector needs.

        Parameters
        ----------
        subset : its name, or a pattern of wildcards.
        training : whether it learns from it.
        """

        def inputs(wildcards: Wildcards) -> dict[str, Files]:
            names = dict(wildcards) | {"subset": subset.format(**wildcards)}
            folder = self.layout.subset.format(**names)
            options = self.config.of(wildcards.category).detectors[wildcards.detector]
            needs = options.inputs(training=training)
            files: dict[str, Files] = {"geometry": f"{folder}/geometry.json"}
            if "images" in needs:
                files["images"] = self.seen(subset)(wildcards)
            if "object_masks" in needs:
                files["object_masks"] = f"{folder}/object_masks.npy"
            if counted := self.counted(subset)(wildcards):
                files["counted"] = counted
            if "poses" in needs:
                posed = self.layout.posed.format(**names, poses=options.pose_set)
                files["posed_counted"] = f"{posed}/counted.npy"
                files["posed_features"] = [
                    f"{posed}/features/{name}.npy" for name in options.feature_sets
                ]
            if "features" in needs:
                for key, suffix in (("features", "npy"), ("features_json", "json")):
                    files[key] = [
                        f"{folder}/features/{name}.{suffix}" for name in options.feature_sets
                    ]
            if "synthetic" in needs:
                synthetic = self.layout.synthetic.format(**names, synthetic=options.synthetic_set)
                files["synthetic_images"] = f"{synthetic}/images.npy"
                files["synthetic_masks"] = f"{synthetic}/masks.npy"
                files["synthetic_index"] = f"{synthetic}/index.csv"
            if "labels" in needs:
                files["labels"] = f"{folder}/labels.csv"
            if training and options.is_shared:
                files |= self._others(subset, wildcards)
            if training and options.local_weights:
                files["weights"] = str(options.local_weights)
            return files

        return inputs

    def _others(self, subset: str, wildcards: Wildcards) -> dict[str, Files]:
        """Return the other categories' files of those that a shared model learns from."""
        found: dict[str, list[str]] = {}
        for category in self.config.category_names:
            if category != wildcards.category:
                names = Wildcards(fromdict=dict(wildcards) | {"category": category})
                seen = self.detector(subset)(names)
                for name in ("geometry", "features", "counted", "object_masks"):
                    files = seen.get(name, [])
                    of_all = found.setdefault(f"others_{name}", [])
                    of_all += [files] if isinstance(files, str) else files
        return {name: files for name, files in found.items() if files}

    def leader(self, file: str) -> Input:
        """Return a function for a file of the category that trains the model of all categories."""
        first = self.config.category_names[0]
        return lambda wildcards: f"{self.layout.detector}/{file}".format(
            **dict(wildcards) | {"category": first}
        )

    def scored(self, wildcards: Wildcards) -> dict[str, Files]:
        """Return what is scored and, if each image is left out, which images belong together."""
        files = self.detector("{subset}")(wildcards)
        if wildcards.subset == "train" and self._mode(wildcards) == "leave_one_out":
            files["folds"] = f"{self.layout.protocol}/train/folds.csv".format(**wildcards)
        return files

    def drawn(self, wildcards: Wildcards) -> dict[str, Files]:
        """Return the files of all three subsets that the detector needs to train on other draws."""
        return self._of_subsets(SUBSETS, wildcards)

    def learning_curve(self, wildcards: Wildcards) -> dict[str, Files]:
        """Return the files that the detector needs to train on few of all good images."""
        split = self._mode(wildcards) == "split"
        return self._of_subsets(SUBSETS if split else ("train", "test"), wildcards)

    def _of_subsets(self, subsets: Iterable[str], wildcards: Wildcards) -> dict[str, Files]:
        files: dict[str, Files] = {}
        for subset in subsets:
            seen = self.detector(subset, training=subset == "train")(wildcards)
            files |= {f"{subset}_{name}": of_subset for name, of_subset in seen.items()}
        return files

    def ranked(self, wildcards: Wildcards) -> Files:
        """Return the training images' scores, if suspects among them are named by these."""
        if not self.config.of(wildcards.category).names_suspects(wildcards.detector):
            return []
        return f"{self.layout.detector}/train/scores.csv".format(**wildcards)

    def draws(self, wildcards: Wildcards) -> Files:
        """Return the thresholds of other draws, if they are asked for; a fusion is not redrawn."""
        own = self.config.of(wildcards.category)
        if wildcards.detector in own.fusion or not own.calibration.seeds:
            return []
        return f"{self.layout.detector}/draws.csv".format(**wildcards)

    def folds(self, file: str) -> Input:
        """Return a function for a file of every fold of a detector's cross-calibration."""
        return lambda wildcards: [
            f"{self.layout.fold}/{file}".format(fold=fold, **wildcards)
            for fold in range(self.config.of(wildcards.category).calibration.fold_count)
        ]

    def scored_folds(self, wildcards: Wildcards) -> Files:
        """Return the good test images' scores by every fold's model, in cross-calibration."""
        if self._mode(wildcards) != "cross":
            return []
        return self.folds("good_test_scores.csv")(wildcards)

    def members(self, file: str) -> Input:
        """Return a function for a file of every detector of a fusion."""
        return lambda wildcards: [
            f"{self.layout.detector}/{file}".format(**dict(wildcards) | {"detector": name})
            for name in self.config.fusion[wildcards.detector].detectors
        ]

    def _in_subset(self, wildcards: Wildcards, subset: str, file: str) -> str:
        names = dict(wildcards) | {"subset": subset.format(**wildcards)}
        return f"{self.layout.subset}/{file}".format(**names)

    def _mode(self, wildcards: Wildcards) -> str:
        return self.config.of(wildcards.category).calibration.mode

    def _splits(self, wildcards: Wildcards) -> bool:
        return self._mode(wildcards) == "split"

    def _calibrated_on(self, wildcards: Wildcards) -> str:
        return "calibration" if self._splits(wildcards) else "train"


def one_of(names: Iterable[Any]) -> str:
    """Return a wildcard's constraint to names, of which there may be none."""
    return "|".join(map(re.escape, names)) or "(?!)"
