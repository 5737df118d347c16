"""The configuration: every option with its default, its limits and what it means.

Only the workflow's rules read this module. Library functions take plain arguments, so a change
here reruns nothing by itself.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from flawline.data.datasets import AnyDataset
from flawline.data.datasets.base import NAME, Name
from flawline.data.datasets.demo import Demo
from flawline.data.geometry import MULTIPLE
from flawline.data.index import Groups
from flawline.data.regions import Regions
from flawline.decisions.thresholds import RULES, MeanStd, Threshold
from flawline.detectors.registry import METHODS, DetectorOptions
from flawline.errors import FlawlineError
from flawline.features.backbones import weights_file
from flawline.files import is_file
from flawline.options import Options, did_you_mean, unknown_key
from flawline.synthesis.object_masks import ObjectMaskOptions
from flawline.synthesis.poses import Poses
from flawline.synthesis.synthesize import RECIPES, SyntheticSet

LONGEST = 300  # characters of what was found that a message repeats
RESERVED = ("benchmarks", "comparison", "inspection", "logs", "mlflow", "report")
RESERVED_DATASETS = ("feature_store",)
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


class Data(Options):
    """What the check of the image files allows."""

    on_problem: Literal["error", "skip"] = Field(
        "error",
        description="`error` stops at any problem; `skip` goes on without the files concerned.",
    )
    min_train_good: int = Field(
        8, ge=2, description="With fewer good training images a category cannot go on."
    )
    max_megapixels: float = Field(100.0, gt=0, description="Larger images are refused undecoded.")
    groups: Groups | None = Field(
        None,
        description="What tells which photographs show one part, lot or day; they stay on one side "
        "of every split and fold.",
    )
    white: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="The value that shows as white in files of more than 8 bits, such as 4095; "
        "found, if not given.",
    )


class Calibration(Options):
    """Training goods that thresholds come from: each is scored by what was learned from others."""

    mode: Literal["split", "cross", "leave_one_out"] = Field(
        "split",
        description="`split` holds a part of the goods back; `cross` trains on all of them, and "
        "once more without each fold in turn to score it: slower, nothing is lost. "
        "`leave_one_out`, for patchcore, trains on all of them once and compares each with what "
        "the memory has of the others.",
    )
    fraction: float | None = Field(
        None, gt=0, lt=1, description="Part held back by `split`; 0.2, if not given."
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="How many folds `cross` deals the goods into; 5, if not given.",
    )
    seed: int = Field(0, ge=0)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="Seeds of further draws by `split`: each trains and calibrates every detector "
        "anew, to show how far thresholds depend on the draw. No other figure uses them.",
    )

    @model_validator(mode="after")
    def _of_its_mode(self) -> Self:
        if self.mode != "split" and self.seeds:
            raise ValueError(
                f"seeds: `{self.mode}` holds nothing back; leave `seeds` out, or use `mode: split`"
            )
        if len({self.seed, *self.seeds}) < 1 + len(self.seeds):
            raise ValueError(
                f"seeds: {self.seeds} with seed {self.seed} has a draw twice; list each once, "
                "without `seed`"
            )
        if self.mode != "split" and self.fraction is not None:
            raise ValueError(
                f"fraction: `{self.mode}` holds nothing back; leave `fraction` out, or use "
                "`mode: split`"
            )
        if self.mode != "cross" and self.folds is not None:
            raise ValueError(
                f"folds: `{self.mode}` has none; use `mode: cross`, or leave `folds` out"
            )
        if self.mode == "leave_one_out" and self.seed:
            raise ValueError("seed: `leave_one_out` draws nothing by lot; leave `seed` out")
        return self

    @property
    def held_back(self) -> float:
        """The part that `split` holds back."""
        return 0.2 if self.fraction is None else self.fraction

    @property
    def fold_count(self) -> int:
        """How many folds `cross` has."""
        return self.folds or 5


class Supervised(Options):
    """The split of detectors that train on real defects."""

    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Part of the goods and of each defect type that is tested on (published: 0.2).",
    )
    seed: int = Field(0, ge=0)


class Boxes(Options):
    """Boxes around what stands out of the anomaly maps. All defaults are our choice."""

    quantile: float = Field(
        0.95,
        gt=0,
        le=1,
        description="1 on the scale of the maps: so many new goods stay below altogether.",
    )
    level: float = Field(
        1.0, gt=0, description="Pixels above this are boxed; 0 is the median pixel of goods."
    )
    min_area: int = Field(
        16, ge=1, description="Smaller regions get no box, pixels of the prepared image."
    )


class Tiles(Options):
    """Overlapping tiles of the photographs at full resolution, for what is small in a large one."""

    size: int = Field(512, ge=64, le=4096, description="Side of a tile, pixels.")
    overlap: int = Field(64, ge=0, description="Pixels that neighbours share at least.")

    @model_validator(mode="after")
    def _on_the_grid(self) -> Self:
        for key, value in (("size", self.size), ("overlap", self.overlap)):
            if value % MULTIPLE:
                raise ValueError(
                    f"{key}: must be a multiple of {MULTIPLE}, so that the cells of neighbouring "
                    f"tiles fall on each other; found {value}"
                )
        if 2 * self.overlap > self.size:
            raise ValueError(
                f"overlap: must be at most half of size ({self.size}); found {self.overlap}"
            )
        return self


Side = Annotated[int, Field(ge=32, le=4096)]


class Prepare(Options):
    """How photographs become arrays of one shape."""

    size: Side | tuple[Side, Side] | Literal["auto"] = Field(
        "auto",
        description="Side of a square or [height, width], pixels; `auto` takes the training "
        "photographs' median shape at the area of a 256 px square, in multiples of 32.",
    )
    resize: Literal["stretch", "letterbox", "center_crop"] = Field(
        "stretch",
        description="Photographs of another shape: `stretch` ignores their proportions; "
        "`letterbox` adds bars, which count as no image; `center_crop` takes their middle.",
    )
    tiles: Tiles | None = Field(
        None,
        description="Networks see tiles of the photographs at full resolution, not the image of "
        "`size`, which is what is shown and measured.",
    )

    @field_validator("size", mode="before")
    @classmethod
    def _shape(cls, given: Any) -> Any:
        sides = given if isinstance(given, list | tuple) else [given]
        whole = all(isinstance(side, int) and not isinstance(side, bool) for side in sides)
        number = whole and all(32 <= side <= 4096 for side in sides)
        if given != "auto" and not (number and (len(sides) == 2 or sides == [given])):
            raise ValueError(
                "must be a number of pixels from 32 to 4096, [height, width], or auto; found "
                f"{_as_yaml(given)}"
            )
        return given


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
    scale: float = Field(
        1.0,
        ge=0.1,
        le=8,
        description="Size of the network's input, as a part of the prepared images: sets of "
        "several scales see defects of several sizes.",
    )
    normalize: bool = Field(True, description="Apply ImageNet's mean and standard deviation.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="`auto` takes bfloat16 where the device has units for it."
    )
    batch_size: int = Field(0, ge=0, description="Images a batch; 0: what suits the device.")

    @field_validator("pool")
    @classmethod
    def _odd(cls, pool: int) -> int:
        if pool % 2 == 0:
            raise ValueError(f"must be odd, so that it has a centre; found {pool}")
        return pool

    @model_validator(mode="after")
    def _gabor_is_exact(self) -> Self:
        if self.backbone == "gabor" and self.precision == "bfloat16":
            raise ValueError(
                "precision: gabor is always computed in float32; leave `precision` out"
            )
        return self

    @property
    def weights_file(self) -> Path | None:
        """The weights' path, if they are a local file."""
        return weights_file(self.weights)


class Fusion(Options):
    """Several detectors as one: a part is defective where any of them is alarmed enough."""

    method: ClassVar[str] = "fusion"
    protocol: ClassVar[str] = "unsupervised"
    boundary: ClassVar[float | None] = None
    apart: ClassVar[str] = "no"
    unit: ClassVar[str] = (
        "distance of the most alarmed detector beyond its threshold; 1 is as far as that is above "
        "its median good part"
    )

    detectors: list[str] = Field(min_length=2, description="Unsupervised detectors, each once.")
    alpha: float = Field(
        0.05,
        gt=0,
        lt=1,
        description="The false-alarm rate to stay under, of all of them together.",
    )

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, detectors: list[str]) -> list[str]:
        if len(set(detectors)) < len(detectors):
            raise ValueError(f"{detectors} has a detector twice; list each once")
        return detectors


class Report(Options):
    """The report's pictures."""

    cases: int = Field(6, ge=0, le=50, description="Most wrong images shown per detector.")
    typical: int = Field(
        1, ge=0, le=50, description="Typical right calls shown, of goods and of defects each."
    )


class Mlflow(Options):
    """Logging to MLflow, in a local store without a server."""

    enabled: bool = Field(
        False, description="Log every run; needs the optional packages `flawline[mlflow]`."
    )
    store: str | None = Field(
        None,
        description="Folder of the database and the artefacts; `results/<dataset>/mlflow`, if not "
        "given.",
    )


class Evaluation(Options):
    """How the uncertainty of figures is measured."""

    resamples: int = Field(1000, ge=100, le=100_000, description="Bootstrap resamples.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of every interval.")


class Inspect(Options):
    """New images for a trained detector to judge."""

    folder: str = Field(description="The folder with the new images, searched recursively.")
    category: str | None = Field(None, description="May be left out if there is only one.")
    detector: str | None = Field(None, description="May be left out if there is only one.")
    seed: int | None = Field(None, ge=0, description="The first of `seeds`, if not given.")
    name: Name | None = Field(
        None, description="Names the results folder; that of the images' folder, if not given."
    )


class Config(Options):
    """Everything that a user can set."""

    dataset: AnyDataset = Demo()
    data: Data = Data()
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
    report: Report = Report()
    mlflow: Mlflow = Mlflow()
    inspect: Inspect | None = Field(None, description="What `snakemake inspect` looks at.")
    overrides: dict[str, dict[str, Any]] = Field(
        {}, description=f"Per category, any of: {', '.join(OVERRIDABLE)}."
    )

    @field_validator("categories", mode="before")
    @classmethod
    def _all_or_names(cls, given: Any) -> Any:
        names = given if isinstance(given, list) else []
        if given != "all" and not (names and all(isinstance(name, str) for name in names)):
            quotes = "; names like 01 or true need quotes" if names else ""
            raise ValueError(
                f"must be `all` or a list of categories; found {_as_yaml(given)}{quotes}"
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
        for name, detector in self.detectors.items():
            for section, wanted in [
                *(("features", name) for name in getattr(detector, "feature_sets", [])),
                ("synthetic", getattr(detector, "synthetic", None)),
                ("poses", getattr(detector, "poses", None)),
            ]:
                defined = getattr(self, section)
                if wanted is not None and wanted not in defined:
                    wrong.append(
                        f"detectors.{name}.{section}: {wanted!r} is not defined"
                        f"{did_you_mean(wanted, defined)}; defined under {section}: "
                        f"{', '.join(defined) or 'none'}"
                    )
            made = METHODS[detector.method].inputs(detector, training=True)
            if self.calibration.seeds and made & {"synthetic", "poses"}:
                wrong.append(
                    f"calibration.seeds: {name} learns from pictures made of the images of one "
                    "split, so it cannot be trained on other draws; leave `seeds` out, or "
                    f"{', '.join(sorted(made & {'synthetic', 'poses'}))} of detectors.{name}"
                )
            if self.calibration.mode == "leave_one_out" and (
                METHODS[detector.method].apart != "wholly"
            ):
                wrong.append(
                    f"calibration.mode: leave_one_out is for methods that only remember "
                    f"({', '.join(_forgetting())}): what {detector.method} (detectors.{name}) "
                    "learned from an image cannot be left out again; use cross, or leave this "
                    "detector out"
                )
            if getattr(detector, "tile_memory", False) and not self.prepare.tiles:
                wrong.append(
                    f"detectors.{name}.tile_memory: there are no tiles; set prepare.tiles, or "
                    "leave tile_memory out"
                )
            if self.prepare.tiles and (why := _untiled(detector)):
                wrong.append(f"detectors.{name}: {why}; leave out prepare.tiles for it")
        for name, fusion in self.fusion.items():
            if name in self.detectors:
                wrong.append(f"fusion.{name}: a detector has this name; choose another one")
            for member in fusion.detectors:
                place = f"fusion.{name}.detectors: {member!r}"
                if member not in self.detectors:
                    wrong.append(
                        f"{place} is not defined{did_you_mean(member, self.detectors)}; defined "
                        f"under detectors: {', '.join(self.detectors)}"
                    )
                elif METHODS[self.detectors[member].method].protocol != "unsupervised":
                    wrong.append(f"{place} is supervised, and has a split of its own; leave it out")
        mask = self.regions.mask_file
        if mask is not None and not is_file(mask):
            wrong.append(
                f"regions.mask: there is no file {str(mask)!r}; give a picture that is not black "
                "where photographs are ignored"
            )
        for place, entries in (("features", self.features), ("detectors", self.detectors)):
            for name, entry in entries.items():
                weights = getattr(entry, "weights", "none")
                if (path := weights_file(weights)) is None:
                    continue
                if "{" in weights or "}" in weights:
                    wrong.append(
                        f"{place}.{name}.weights: {weights!r} cannot be read, because Snakemake "
                        "takes braces in a path for a placeholder; rename the file or its folder"
                    )
                elif not is_file(path):
                    wrong.append(
                        f"{place}.{name}.weights: there is no file {weights!r}; "
                        "give an existing state dict, `default`, or a torchvision weights name"
                    )
        if wrong:
            raise ValueError("\n".join(wrong))
        return self

    @property
    def folder(self) -> Path:
        """What the paths of photographs are relative to."""
        return self.dataset.folder

    @property
    def provided(self) -> bool:
        """Whether the user's own folder is read; otherwise a rule makes the folder."""
        return self.dataset.provided

    @property
    def protocols(self) -> dict[str, str]:
        """What each detector and each fusion of detectors is evaluated among."""
        found = {name: METHODS[one.method].protocol for name, one in self.detectors.items()}
        return found | {name: one.protocol for name, one in self.fusion.items()}

    @property
    def restricted(self) -> bool:
        """Whether some pixels of the prepared images may not count."""
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
        """Folders that `categories: all` does not take, though they hold images, and why."""
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
        """The configuration of one category, its overrides applied."""
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
        with _prefixed(f"{place}."):
            return _validated(_merge(base, changes))


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
    with _prefixed(f"{origin}: "):
        if wrong := list(_unwritable(given, [])):
            raise FlawlineError("\n".join(wrong))
        config = _validated(given)
        for category in config.category_names:
            config.of(category)
        _ = config.inspected
    return config


def _unwritable(given: Any, keys: list[str], above: tuple[int, ...] = ()) -> Iterator[str]:
    """What no path, table or message could hold: text that is no text, endless numbers, loops."""
    place = ".".join(keys) or "configuration"
    if isinstance(given, str) and ("\0" in given or not _is_text(given)):
        yield f"{place}: has characters that are no text: {_as_yaml(given)}"
    if isinstance(given, int) and given.bit_length() > 1024:
        yield f"{place}: must be a number of at most 300 digits; found a longer one"
    if id(given) in above:
        yield f"{place}: holds itself; write it out, without YAML's & and *"
        return
    entries = list(given.items()) if isinstance(given, dict) else []
    if isinstance(given, list):
        entries = [(str(number), value) for number, value in enumerate(given)]
    for key, value in entries:
        if isinstance(key, str) and not _is_text(key):
            yield f"{place}: has a key with characters that are no text: {_as_yaml(key)}"
        else:
            yield from _unwritable(value, [*keys, _on_one_line(key)], (*above, id(given)))


def _on_one_line(key: Any) -> str:
    text = str(key)
    return text if text.isprintable() else repr(text)


def _is_text(given: str) -> bool:
    return given == given.encode("utf-8", "replace").decode("utf-8")


def _expanded(key: str, path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FlawlineError(f"{key}: {path!r}: no such user; give the whole path") from None


def _forgetting() -> list[str]:
    """Methods that can leave out all that they learned of one image."""
    return [name for name, method in METHODS.items() if method.apart == "wholly"]


def _untiled(detector: Any) -> str | None:
    """Why a detector cannot work on tiles."""
    if METHODS[detector.method].protocol == "supervised":
        return "a label is of a whole photograph, so no tile can be learned from"
    if getattr(detector, "reweight", False):
        return "`reweight` needs the one match of a photograph's patch"
    if getattr(detector, "tile_memory", False) and getattr(detector, "poses", None):
        return "`tile_memory` is for parts that always lie alike, `poses` for others"
    return None


def _one_of(key: str, given: Any, known: list[Any]) -> Any:
    """What is given, or the only one there is."""
    if given is None and len(known) == 1:
        return known[0]
    if given in known:
        return given
    found = "is required"
    if given is not None:
        found = f"there is no {key} {_as_yaml(given)}{did_you_mean(given, map(str, known))}"
    raise FlawlineError(f"inspect.{key}: {found}; defined: {', '.join(map(str, known))}")


def params(options: Options, **more: Any) -> dict[str, Any]:
    """Options as plain values with sorted keys, for a rule's `params`."""
    plain = json.loads(options.model_dump_json()) | more
    return {key: plain[key] for key in sorted(plain)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            # another rule or method has other keys: nothing of the old one can stay
            same_kind = key == "object_masks" or all(
                value.get(tag, old.get(tag)) == old.get(tag) for tag in TAGS
            )
            value = _merge(old, value) if same_kind else value
        merged[key] = value
    return merged


@contextmanager
def _prefixed(prefix: str) -> Iterator[None]:
    try:
        yield
    except FlawlineError as error:
        lines = str(error).splitlines()
        raise FlawlineError("\n".join(prefix + line for line in lines)) from None


def _validated(given: dict[str, Any]) -> Config:
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        raise FlawlineError("\n".join(_explain(item) for item in error.errors())) from None


TAGS = {
    "method": tuple(METHODS),
    "recipe": tuple(RECIPES),
    "rule": tuple(RULES),
}
REASONS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must hold keys with values",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must hold keys with values",
    "model_type": "must hold keys with values",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be text (a number in quotes)",
    "too_short": "must have at least one entry",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "is required; allowed: {allowed}",
}


def _explain(item: Any) -> str:
    """One line for one of pydantic's errors: the key, what is wrong, what was found."""
    keys = [_on_one_line(part) for part in item["loc"]]
    kind, found, context = item["type"], item["input"], dict(item.get("ctx") or {})
    # pydantic puts the kind of dataset, rule or method into the location; they are no keys
    tag = (
        {"dataset": 1, "threshold": 1, "detectors": 2, "synthetic": 4}.get(keys[0], 0)
        if keys
        else 0
    )
    if tag and keys[tag : tag + 1] != ["[key]"]:
        del keys[tag : tag + 1]
    if kind.startswith("union_tag"):
        key = re.sub(r"\W", "", context["discriminator"]).removeprefix("_")
        keys.append(key)
        found = context.get("tag", {})
        context["allowed"] = ", ".join(map(repr, TAGS.get(key, ())))
    message = REASONS[kind].format_map(context) if kind in REASONS else item["msg"]
    if context.get("pattern") == NAME:
        message = "must be of letters, digits, '_', '.' and '-' and start with a letter or digit"
    if keys[-1:] == ["[key]"]:
        keys[-2:], message = [], f"a name {message}"
    if kind in ("value_error", "unknown_key"):
        message = message.removeprefix("Value error, ")
    elif not isinstance(found, dict):
        message += f"; found {_as_yaml(found)}"
        allowed = context.get("expected_tags") or context.get("expected") or ""
        message += did_you_mean(found, re.findall(r"'([^']*)'", str(allowed)))
    return f"{'.'.join(keys)}: {message}" if keys else message


def _as_yaml(found: Any) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, bool):
        return str(found).lower()
    try:
        text = repr(found)
    except ValueError:  # Python prints no numbers of more than some thousand digits
        return "a very long number"
    return text if len(text) < LONGEST else text[:LONGEST] + "..."


if __name__ == "__main__":
    print(json.dumps(Config.model_json_schema(), indent=2, sort_keys=True))
