"""The configuration: every option with its default, its limits and what it means.

Only the workflow's rules read this module. Library functions take plain arguments, so a change
here reruns nothing by itself.
"""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from flawline.data.datasets import DEMO_CATEGORIES, MVTEC_AD_CATEGORIES, categories_in
from flawline.detectors.registry import METHODS, DetectorOptions
from flawline.errors import FlawlineError
from flawline.options import Options

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
OVERRIDABLE = ("data", "calibration", "prepare", "features", "detectors", "threshold")


class MvtecAd(Options):
    """MVTec AD: downloaded, or a folder that has it already."""

    kind: Literal["mvtec_ad"] = "mvtec_ad"
    name: Name = "mvtec_ad"
    source: str = Field("download", description="`download`, or the folder with the categories.")
    url: str = Field(
        "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
        "420938113-1629960298/mvtec_anomaly_detection.tar.xz",
        description="Address of the archive.",
    )
    sha256: str = Field(
        "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the archive.",
    )


class Folder(Options):
    """Any folder of category folders in MVTec AD's layout; masks and defects may be missing."""

    kind: Literal["folder"] = "folder"
    name: Name
    source: str = Field(description="The folder with the categories.")


class Demo(Options):
    """Three drawn categories that come with flawline."""

    kind: Literal["demo"] = "demo"
    name: Name = "demo"
    seed: int = Field(0, ge=0)
    size: int = Field(256, ge=64, le=1024, description="Side of the drawn images, pixels.")
    train_good: int = Field(60, ge=8)
    test_good: int = Field(20, ge=1)
    test_defective: int = Field(40, ge=0)


def _kind(given: Any) -> str:
    get = given.get if isinstance(given, dict) else lambda key: getattr(given, key, None)
    kind, name = get("kind"), get("name")
    if kind is None:
        kind = name if name in ("mvtec_ad", "demo") else "folder"
    return str(kind)


Dataset = Annotated[
    Annotated[MvtecAd, Tag("mvtec_ad")]
    | Annotated[Folder, Tag("folder")]
    | Annotated[Demo, Tag("demo")],
    Discriminator(_kind),
]


class Data(Options):
    """What the check of the image files allows."""

    on_problem: Literal["error", "skip"] = Field(
        "error",
        description="`error` stops at any problem; `skip` goes on without the files concerned.",
    )
    min_train_good: int = Field(
        8, ge=2, description="With fewer good training images a category cannot go on."
    )
    max_megapixels: float = Field(100, gt=0, description="Larger images are refused undecoded.")


class Calibration(Options):
    """The part of the training goods that no detector trains on; thresholds come from it."""

    fraction: float = Field(0.2, gt=0, lt=1)
    seed: int = Field(0, ge=0)


class Prepare(Options):
    """How images become square arrays."""

    size: int = Field(256, ge=16, le=4096, description="Side of the square, pixels.")
    resize: Literal["stretch", "letterbox", "center_crop"] = Field(
        "stretch",
        description="`stretch` ignores the aspect ratio; `letterbox` pads with black; "
        "`center_crop` fills the square with the image's middle.",
    )


class Features(Options):
    """One set of frozen features."""

    backbone: str = Field("resnet18", description="`gabor`, or a torchvision classification model.")
    weights: str = Field(
        "default",
        description="`default`, a name in torchvision's weights enum, or a path to a state dict.",
    )
    layers: list[str] = Field(
        min_length=1, description="torchvision's layer names, shallow to deep."
    )
    pool: int = Field(3, ge=1, description="Side of the average over neighbouring positions.")
    normalize: bool = Field(True, description="Apply ImageNet's mean and standard deviation.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32", description="`auto` takes bfloat16 where the device has units for it."
    )
    batch_size: int = Field(32, ge=1, description="Images a batch.")

    @field_validator("pool")
    @classmethod
    def _odd(cls, pool: int) -> int:
        if pool % 2 == 0:
            raise ValueError(f"must be odd, so that it has a centre; found {pool}")
        return pool

    @property
    def weights_file(self) -> Path | None:
        """The weights' path, if they are a local file."""
        is_path = "/" in self.weights or Path(self.weights).suffix in (
            ".pth",
            ".pt",
            ".safetensors",
        )
        return Path(self.weights).expanduser() if is_path else None


class MeanStd(Options):
    """Mean plus k standard deviations of the calibration scores."""

    rule: Literal["mean_std"] = "mean_std"
    k: float = Field(3.0, ge=0)


class Quantile(Options):
    """A quantile of the calibration scores."""

    rule: Literal["quantile"] = "quantile"
    q: float = Field(0.95, gt=0, lt=1)


class Maximum(Options):
    """The largest calibration score."""

    rule: Literal["maximum"] = "maximum"


Threshold = Annotated[MeanStd | Quantile | Maximum, Field(discriminator="rule")]


class Report(Options):
    """The report's pictures."""

    cases: int = Field(6, ge=0, le=50, description="Most wrong images shown per detector.")


class Config(Options):
    """Everything that a user can set."""

    dataset: Dataset = Demo()
    data: Data = Data()
    categories: list[str] | Literal["all"] = "all"
    calibration: Calibration = Calibration()
    prepare: Prepare = Prepare()
    features: dict[Name, Features] = Field({})
    detectors: dict[Name, DetectorOptions] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0], min_length=1)
    threshold: Threshold = MeanStd()
    report: Report = Report()
    overrides: dict[str, dict[str, Any]] = Field(
        {}, description=f"Per category, any of: {', '.join(OVERRIDABLE)}."
    )

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, detector in self.detectors.items():
            wanted = getattr(detector, "features", None)
            if wanted is not None and wanted not in self.features:
                raise ValueError(
                    f"detectors.{name}.features: there is no feature set {wanted!r}; "
                    f"defined under features: {', '.join(self.features) or 'none'}"
                )
        for name, features in self.features.items():
            file = features.weights_file
            if file is not None and not file.is_file():
                raise ValueError(
                    f"features.{name}.weights: there is no file {features.weights!r}; "
                    "give an existing state dict, `default`, or a torchvision weights name"
                )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: {self.seeds} has a seed twice; list each once")
        return self

    @cached_property
    def folder(self) -> Path:
        """The folder that holds the category folders."""
        data = self.dataset
        if self.provided and not isinstance(data, Demo):
            return Path(data.source).expanduser()
        return Path("data") / data.name

    @property
    def provided(self) -> bool:
        """Whether the user's own folder is read; otherwise a rule makes the folder."""
        data = self.dataset
        return isinstance(data, Folder) or (isinstance(data, MvtecAd) and data.source != "download")

    @cached_property
    def category_names(self) -> list[str]:
        """The categories to run, checked against those that the dataset has."""
        if isinstance(self.dataset, Demo):
            known = list(DEMO_CATEGORIES)
        elif isinstance(self.dataset, MvtecAd) and not self.provided:
            known = list(MVTEC_AD_CATEGORIES)
        else:
            known = categories_in(self.folder)
        wanted = known if self.categories == "all" else self.categories
        if unknown := [name for name in wanted if name not in known]:
            raise FlawlineError(
                f"categories: {', '.join(map(repr, unknown))} not in dataset "
                f"{self.dataset.name!r}; it has: {', '.join(known)}"
            )
        if unknown := [name for name in self.overrides if name not in known]:
            raise FlawlineError(
                f"overrides: {', '.join(map(repr, unknown))} not in dataset "
                f"{self.dataset.name!r}; it has: {', '.join(known)}"
            )
        return list(wanted)

    @cached_property
    def _by_category(self) -> dict[str, "Config"]:
        return {name: self._merged(name) for name in self.category_names}

    def of(self, category: str) -> "Config":
        """The configuration of one category, its overrides applied."""
        return self._by_category[category]

    def _merged(self, category: str) -> "Config":
        changes = self.overrides.get(category)
        if not changes:
            return self
        if wrong := [key for key in changes if key not in OVERRIDABLE]:
            raise FlawlineError(
                f"overrides.{category}: {', '.join(map(repr, wrong))} cannot differ between "
                f"categories; allowed: {', '.join(OVERRIDABLE)}"
            )
        for section in ("features", "detectors"):
            for name in changes.get(section) or {}:
                if name not in getattr(self, section):
                    raise FlawlineError(
                        f"overrides.{category}.{section}: {name!r} is not defined; "
                        f"defined: {', '.join(getattr(self, section))}"
                    )
        base = self.model_dump(mode="json", exclude={"overrides"})
        return _validated(_merge(base, changes), f"overrides.{category}")


def load_config(given: dict[str, Any], origin: str) -> Config:
    """Validate a configuration and the overrides of every category.

    Parameters
    ----------
    given : the parsed YAML.
    origin : the file's name, for messages.

    Raises
    ------
    FlawlineError
        One message with every mistake: its key, what was found, what is allowed.
    """
    config = _validated(given, origin)
    try:
        for category in config.category_names:
            config.of(category)
    except FlawlineError as error:
        raise FlawlineError(f"{origin}: {error}") from None
    return config


def params(options: Options, **more: Any) -> dict[str, Any]:
    """Options as plain values with sorted keys, for a rule's `params`."""
    plain = json.loads(options.model_dump_json()) | more
    return {key: plain[key] for key in sorted(plain)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        if both and merged[key].get("rule") == value.get("rule", merged[key].get("rule")):
            value = _merge(merged[key], value)
        merged[key] = value
    return merged


def _validated(given: dict[str, Any], origin: str) -> Config:
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        raise FlawlineError(f"{origin}: " + f"\n{origin}: ".join(lines)) from None


def _explain(item: Any) -> str:
    # pydantic puts the tags of unions into the location; they are no keys of the file
    tags = {"mvtec_ad", "folder", "demo", "mean_std", "quantile", "maximum", "list[str]"}
    parts = [str(part) for part in item["loc"]]
    keys = [part for i, part in enumerate(parts) if not (i and _is_tag(part, parts[:i], tags))]
    message = re.sub("^Value error, ", "", item["msg"])
    found = item["input"]
    shown = "" if isinstance(found, dict) or item["type"] == "value_error" else f"; found {found!r}"
    return f"{'.'.join(keys)}: {message}{shown}" if keys else message


def _is_tag(part: str, before: list[str], tags: set[str]) -> bool:
    if before[0] == "detectors":
        return len(before) == 2 and part in METHODS
    return (before[0] in ("dataset", "threshold") and part in tags) or part.startswith("literal[")


if __name__ == "__main__":
    print(json.dumps(Config.model_json_schema(), indent=2, sort_keys=True))
