"""Params of the rules: only the part of the configuration that each job uses."""

import json
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

from snakemake.iocontainers import Wildcards

from flawline.config import Config
from flawline.options.base import plain
from flawline.options.method import MethodOptions
from flawline.options.threshold import COSTS
from flawline.provenance import code_fingerprint, file_hash, templates_fingerprint

Param = Callable[[Wildcards], Any]
PACKAGE = Path(__file__).parents[1]


class Params:
    """Params of a configuration, as functions of a job's wildcards."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def value(self, key: str) -> Param:
        """Return a function for the value of a key such as `prepare.resize`."""
        get = attrgetter(key)
        return lambda wildcards: get(self.config.of(wildcards.category))

    def section(self, name: str) -> Param:
        """Return a function for all keys of a section."""
        return lambda wildcards: plain(getattr(self.config.of(wildcards.category), name))

    def entry(self, section: str, wildcard: str) -> Param:
        """Return a function for the entry of a section that a wildcard names."""
        return lambda wildcards: plain(
            getattr(self.config.of(wildcards.category), section)[wildcards[wildcard]]
        )

    def configuration(self, wildcards: Wildcards) -> str:
        """Return the whole configuration, as text: Snakemake compares params in key order."""
        content = self.config.model_dump(mode="json", exclude={"inspect"})
        return json.dumps(content, sort_keys=True)

    def folder(self, wildcards: Wildcards) -> str:
        """Return the folder that paths of photographs are relative to."""
        return str(self.config.folder)

    def photographs(self, cache: Path) -> Param:
        """Return a function for the digest of the user's own photographs; others have a stamp.

        Parameters
        ----------
        cache : of the hashes of unchanged files.
        """
        return lambda wildcards: (
            self.config.dataset.digest(wildcards.category, cache) if self.config.provided else ""
        )

    def intervals(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the options of the intervals."""
        options = plain(self.config.evaluation)
        options.pop("train_suspects")
        return options

    def split(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the options that the split of a protocol depends on."""
        own = self.config.of(wildcards.category)
        parts = {"fraction": own.calibration.held_back, "folds": own.calibration.fold_count}
        if wildcards.protocol == "supervised":
            parts["test_fraction"] = own.supervised.test_fraction
            parts["test_seed"] = own.supervised.seed
        options = plain(own.calibration, **parts)
        options.pop("seeds")
        return options

    def regions(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the ignored regions, and the hash of their mask."""
        regions = self.config.of(wildcards.category).regions
        content = None if regions.mask_file is None else file_hash(regions.mask_file)
        return plain(regions, mask_sha256=content)

    def costs(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the costs and defect rate of the category, if its threshold rule names them."""
        threshold = plain(self.config.of(wildcards.category).threshold)
        return {key: threshold[key] for key in COSTS} if threshold["rule"] == "cost" else {}

    def fold_count(self, wildcards: Wildcards) -> int | None:
        """Return the number of models that made the calibration scores; None for the one in use."""
        calibration = self.config.of(wildcards.category).calibration
        return calibration.fold_count if calibration.mode == "cross" else None

    def of_detector(self, name: str) -> Param:
        """Return a function for a fact about a detector or, if it is one, a fusion."""
        return lambda wildcards: getattr(
            self.config.fusion.get(wildcards.detector) or self._detector(wildcards), name
        )

    def implementation(self, wildcards: Wildcards) -> str:
        """Return where the detector's class is, as `module:name`."""
        return self._detector(wildcards).implementation

    def poses(self, wildcards: Wildcards) -> dict[str, Any] | None:
        """Return the options of the poses that the detector knows training images in."""
        name = self._detector(wildcards).pose_set
        return plain(self.config.of(wildcards.category).poses[name]) if name else None

    def object_masks(self, wildcards: Wildcards) -> dict[str, Any] | None:
        """Return the options of the object masks, if the detector's image score needs them."""
        if "object_masks" not in self._detector(wildcards).inputs(training=False):
            return None
        return plain(self.config.of(wildcards.category).object_masks)

    def members(self, wildcards: Wildcards) -> list[str]:
        """Return the names of a fusion's detectors."""
        return self.config.fusion[wildcards.detector].detectors

    def fusion(self, wildcards: Wildcards) -> dict[str, Any]:
        """Return the options of a fusion."""
        return plain(self.config.fusion[wildcards.detector])

    def shown(self, wildcards: Wildcards) -> dict[str, int]:
        """Return how many images of each kind the report shows."""
        return {"cases": self.config.report.cases, "typical": self.config.report.typical}

    def _detector(self, wildcards: Wildcards) -> MethodOptions:
        return self.config.of(wildcards.category).detectors[wildcards.detector]


class Code:
    """Content hashes of the code that jobs run, because Snakemake's trigger compares times."""

    def __init__(self, scripts: Path, params: Params) -> None:
        self.scripts = scripts
        self.params = params
        self._known: dict[tuple[str, ...], str] = {}

    def of(self, script: str, *modules: str) -> str:
        """Return the hash of a script, its imports and the modules that it loads by name."""
        key = (script, *modules)
        if key not in self._known:
            self._known[key] = code_fingerprint(self.scripts / script, *modules)
        return self._known[key]

    def with_method(self, script: str) -> Param:
        """Return a function for the hash of a script and the method of its detector."""
        return lambda wildcards: self.of(
            script, self.params.implementation(wildcards).split(":")[0]
        )

    def of_file(self, name: str) -> str:
        """Return the hash of a file of the package that jobs read."""
        return file_hash(PACKAGE / name)

    def of_templates(self, *names: str, packages: tuple[str, ...] = ("report",)) -> str:
        """Return the hash of the templates that pages are rendered from."""
        return templates_fingerprint([PACKAGE / name / "templates" for name in packages], *names)
