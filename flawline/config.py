"""The configuration: every option with its default, its limits and its meaning.

The models of the sections are in `flawline.options`. Jobs read none of this: they take plain values
from the rules, so a change here reruns nothing by itself.
"""

import json
import re
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from flawline.data.datasets import AnyDataset
from flawline.data.datasets.demo import Demo
from flawline.errors import FlawlineError
from flawline.files import is_file
from flawline.layout import RESERVED, RESERVED_DATASETS
from flawline.options.base import Name, Options, did_you_mean, unknown_key
from flawline.options.boxes import Boxes
from flawline.options.calibration import Calibration, Supervised
from flawline.options.data import DataOptions
from flawline.options.detectors import METHODS, DetectorOptions
from flawline.options.evaluation import Evaluation
from flawline.options.features import Features
from flawline.options.fusion import Fusion
from flawline.options.inspect import Inspect
from flawline.options.learning_curve import LearningCurve
from flawline.options.messages import as_yaml, explain, prefixed, unwritable
from flawline.options.method import MethodOptions
from flawline.options.object_masks import ObjectMaskOptions
from flawline.options.poses import Poses
from flawline.options.prepare import Prepare
from flawline.options.presets import filled_in
from flawline.options.references import detector_problems, fusion_problems, weights_problems
from flawline.options.regions import Regions
from flawline.options.report import Mlflow, Report
from flawline.options.synthetic import RECIPES, SyntheticSet
from flawline.options.threshold import RULES, MeanStd, Threshold

TAGS = {
    "method": tuple(METHODS),
    "recipe": tuple(RECIPES),
    "rule": tuple(RULES),
}
OVERRIDABLE = (
    "data",
    "calibration",
    "supervised",
    "prepare",
    "regions",
    "poses",
    "object_masks",
    "synthetic",
    "features",
    "detectors",
    "threshold",
    "boxes",
)


def _of_any_method(schema: dict[str, Any]) -> None:
    """Let editors accept a detector without `method`, which has the method of its name."""
    (entry,) = schema["properties"]["detectors"]["patternProperties"].values()
    entry["anyOf"] = entry.pop("oneOf")
    entry["anyOf"].append({"type": "null"})
    del entry["discriminator"]


class Config(Options):
    """Everything that a user can set."""

    model_config = ConfigDict(json_schema_extra=_of_any_method)

    dataset: AnyDataset = Demo()
    data: DataOptions = DataOptions()
    categories: list[str] | Literal["all"] = "all"
    calibration: Calibration = Calibration()
    supervised: Supervised = Supervised()
    prepare: Prepare = Prepare()
    regions: Regions = Regions()
    poses: dict[Name, Poses] = Field({})
    object_masks: ObjectMaskOptions = ObjectMaskOptions()
    synthetic: dict[Name, SyntheticSet] = Field({})
    synthetic_seed: int = Field(0, ge=0, description="Seed of all synthetic anomalies.")
    features: dict[Name, Features] = Field({})
    detectors: dict[Name, DetectorOptions] = Field(min_length=1)
    fusion: dict[Name, Fusion] = Field({}, description="Detectors taken together.")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    threshold: Threshold = MeanStd()
    boxes: Boxes = Boxes()
    evaluation: Evaluation = Evaluation()
    learning_curve: LearningCurve = LearningCurve()
    report: Report = Report()
    mlflow: Mlflow = Mlflow()
    inspect: Inspect | None = Field(None, description="What `snakemake inspect` judges.")
    overrides: dict[str, dict[str, Any]] = Field(
        {}, description=f"Per category, any of: {', '.join(OVERRIDABLE)}."
    )

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, given: Any) -> Any:
        return filled_in(given, METHODS) if isinstance(given, dict) else given

    @field_validator("categories", mode="before")
    @classmethod
    def _all_or_names(cls, given: Any) -> Any:
        names = given if isinstance(given, list) else []
        if given != "all" and not (names and all(isinstance(name, str) for name in names)):
            quotes = "; names like 01 or true need quotes" if names else ""
            raise ValueError(
                f"must be `all` or a list of categories; found {as_yaml(given)}{quotes}"
            )
        if len(set(names)) < len(names):
            raise ValueError(f"{names} has a category twice; list each once")
        return given

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"{seeds} has a seed twice; list each once")
        return seeds

    @model_validator(mode="after")
    def _references(self) -> Self:
        wrong = []
        if self.dataset.name in RESERVED_DATASETS:
            wrong.append(
                f"dataset.name: {self.dataset.name!r} cannot name a dataset, because results/ has "
                "a folder of that name; choose another name"
            )
        defined: dict[str, Collection[str]] = {
            "features": self.features,
            "synthetic": self.synthetic,
            "poses": self.poses,
        }
        for name, detector in self.detectors.items():
            wrong += detector_problems(name, detector, defined, self.calibration, self.prepare)
            if detector.is_shared and self.learning_curve.train_images:
                wrong.append(
                    f"learning_curve: has no number of images for a model of all categories "
                    f"(detectors.{name}.shared); leave one of them out"
                )
        for name, fusion in self.fusion.items():
            wrong += fusion_problems(name, fusion, self.detectors)
        mask = self.regions.mask_file
        if mask is not None and not is_file(mask):
            wrong.append(
                f"regions.mask: there is no file {str(mask)!r}; give a picture that is black "
                "where photographs count"
            )
        for name, features in self.features.items():
            wrong += weights_problems(f"features.{name}", features.weights)
        for name, detector in self.detectors.items():
            if detector.network:
                wrong += weights_problems(f"detectors.{name}", detector.network[1])
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def folder(self) -> Path:
        """Return the folder that paths of photographs are relative to."""
        return self.dataset.folder

    @property
    def provided(self) -> bool:
        """Return True if the user's own folder is read, False if a rule makes the folder."""
        return self.dataset.provided

    @property
    def protocols(self) -> dict[str, str]:
        """Return the protocol of each detector and each fusion."""
        entries: dict[str, MethodOptions | Fusion] = {**self.detectors, **self.fusion}
        return {name: entry.protocol for name, entry in entries.items()}

    def names_suspects(self, detector: str) -> bool:
        """Check whether training images are scored to name those least like the others.

        It takes a method that can leave out what it learned of an image itself. Where no images are
        held back, calibration scores are of the training images already.
        """
        method = self.detectors.get(detector)
        apart = method is not None and method.apart != "no" and not method.is_shared
        return apart and self.calibration.mode == "split" and self.evaluation.train_suspects

    @property
    def restricted(self) -> bool:
        """Check whether some pixels of the prepared images may not count."""
        return self.prepare.resize == "letterbox" or bool(self.regions)

    @cached_property
    def category_names(self) -> list[str]:
        """The categories to run, checked against those that the dataset has."""
        known = self.dataset.categories()
        if self.data.on_problem == "error" and (over := self.left_out):
            raise FlawlineError(
                "\n".join(f"dataset.source: {folder}" for folder in over)
                + "\nList the categories that you want under `categories`, or set "
                f"`data: {{on_problem: skip}}` to go on with {', '.join(known)}."
            )
        wanted = known if self.categories == "all" else self.categories
        if unknown := [name for name in wanted if name not in known]:
            raise FlawlineError(
                f"categories: {', '.join(map(repr, unknown))} not in dataset "
                f"{self.dataset.name!r}{did_you_mean(unknown[0], known)}; it has: "
                f"{', '.join(known)}"
            )
        if unknown := [name for name in self.overrides if name not in known]:
            raise FlawlineError(
                f"overrides: {', '.join(map(repr, unknown))} not in dataset "
                f"{self.dataset.name!r}{did_you_mean(unknown[0], known)}; it has: "
                f"{', '.join(known)}"
            )
        if taken := [name for name in wanted if name in RESERVED]:
            raise FlawlineError(
                f"categories: {', '.join(map(repr, taken))} cannot name a category, because "
                "results/ has a folder of that name; rename the category's folder"
            )
        return list(wanted)

    @cached_property
    def left_out(self) -> list[str]:
        """Folders with images that `categories: all` leaves out, and why."""
        return self.dataset.passed_over() if self.categories == "all" else []

    @cached_property
    def inspected(self) -> Inspect | None:
        """`inspect` with its defaults filled in, checked against what is defined."""
        if self.inspect is None:
            return None
        given = self.inspect
        if given.detector in self.fusion:
            raise FlawlineError(
                f"inspect.detector: {given.detector!r} is a fusion, which cannot inspect; name one "
                f"of its detectors: {', '.join(self.fusion[given.detector].detectors)}"
            )
        name = re.sub(
            r"[^A-Za-z0-9_.-]", "_", _expanded("inspect.folder", given.folder).resolve().name
        )
        return Inspect(
            folder=given.folder,
            category=_one_of("category", given.category, self.category_names),
            detector=_one_of("detector", given.detector, list(self.detectors)),
            seed=_one_of("seed", self.seeds[0] if given.seed is None else given.seed, self.seeds),
            name=given.name or name.lstrip("_.-") or "images",
        )

    @cached_property
    def _by_category(self) -> dict[str, "Config"]:
        merged, wrong = {}, []
        for name in dict.fromkeys([*self.category_names, *self.overrides]):
            try:
                merged[name] = self._merged(name)
            except FlawlineError as error:
                wrong.append(str(error))
        if wrong:
            raise FlawlineError("\n".join(wrong))
        return merged

    def of(self, category: str) -> "Config":
        """Return the configuration of one category, its overrides applied."""
        return self._by_category[category]

    def _merged(self, category: str) -> "Config":
        changes = self.overrides.get(category)
        if not changes:
            return self
        place = f"overrides.{category}"
        for key in changes:
            if key in OVERRIDABLE:
                continue
            if key in type(self).model_fields:
                allowed = ", ".join(OVERRIDABLE)
                raise FlawlineError(
                    f"{place}: {key!r} cannot differ between categories; allowed keys: {allowed}"
                )
            raise FlawlineError(f"{place}: {unknown_key(key, list(OVERRIDABLE))}")
        for section in ("synthetic", "features", "detectors"):
            defined, entries = getattr(self, section), changes.get(section)
            for name in entries if isinstance(entries, dict) else ():
                if name not in defined:
                    raise FlawlineError(
                        f"{place}.{section}: {name!r} is not defined"
                        f"{did_you_mean(name, defined)}; defined: {', '.join(defined) or 'none'}"
                    )
        base = self.model_dump(mode="json", exclude={"overrides"})
        with prefixed(f"{place}."):
            own = _validated(_merge(base, changes))
        for name in (name for name, detector in own.detectors.items() if detector.is_shared):
            for key in ("prepare", "regions", "object_masks", "features", "detectors"):
                if getattr(own, key) != getattr(self, key):
                    raise FlawlineError(
                        f"{place}.{key}: cannot differ between categories that share a model "
                        f"(detectors.{name}.shared); leave it out here, or `shared` there"
                    )
        if new := [name for name in own.features if name not in self.features]:
            raise FlawlineError(
                f"{place}.detectors: the preset {new[0]!r} is used for this category alone; add "
                f"`features: {{{new[0]}: {{}}}}` outside of `overrides`"
            )
        return own


def load_config(content: dict[str, Any], origin: str) -> Config:
    """Validate a configuration and the overrides of every category.

    Parameters
    ----------
    content : the parsed YAML.
    origin : the file's name, for messages.

    Raises
    ------
    FlawlineError
        One message with every mistake: its key, what was found, what is allowed.

    Examples
    --------
    >>> from flawline import load_config
    >>> detectors = {"small": {"method": "autoencoder", "epochs": 5}}
    >>> config = load_config({"detectors": detectors}, "an example")
    >>> config.of("bolt").detectors["small"].epochs
    5
    """
    with prefixed(f"{origin}: "):
        if wrong := list(unwritable(content, [])):
            raise FlawlineError("\n".join(wrong))
        config = _validated(content)
        for category in config.category_names:
            config.of(category)
        _ = config.inspected
    return config


def _expanded(key: str, path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FlawlineError(f"{key}: {path!r}: no such user; give the whole path") from None


def _one_of(key: str, given: Any, known: list[Any]) -> Any:
    """Return the given name or, if none is given, the only one that is defined."""
    if given is None and len(known) == 1:
        return known[0]
    if given in known:
        return given
    found = "is required"
    if given is not None:
        found = f"there is no {key} {as_yaml(given)}{did_you_mean(given, map(str, known))}"
    raise FlawlineError(f"inspect.{key}: {found}; defined: {', '.join(map(str, known))}")


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            # a different rule or method has different keys, so replace the entry
            same_kind = key == "object_masks" or all(
                value.get(tag, old.get(tag)) == old.get(tag) for tag in TAGS
            )
            value = _merge(old, value) if same_kind else value
        merged[key] = value
    return merged


def _validated(given: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        raise FlawlineError("\n".join(explain(item, TAGS) for item in error.errors())) from None


if __name__ == "__main__":
    print(json.dumps(Config.model_json_schema(), indent=2, sort_keys=True))
