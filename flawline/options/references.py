"""Checks of references between sections of the configuration."""

from collections.abc import Collection, Iterator, Mapping

from flawline.files import is_file
from flawline.options.base import did_you_mean
from flawline.options.calibration import Calibration
from flawline.options.detectors import METHODS
from flawline.options.fusion import Fusion
from flawline.options.method import MethodOptions
from flawline.options.prepare import Prepare
from flawline.options.presets import PRESETS
from flawline.options.weights import weights_file


def detector_problems(
    name: str,
    detector: MethodOptions,
    defined: Mapping[str, Collection[str]],
    calibration: Calibration,
    prepare: Prepare,
) -> Iterator[str]:
    """Yield what is wrong between a detector and the rest of the configuration.

    Parameters
    ----------
    name : of the detector.
    defined : names of the entries of `features`, `synthetic` and `poses`, by section.
    """
    for section, entry in [
        *(("features", entry) for entry in detector.feature_sets),
        ("synthetic", detector.synthetic_set),
        ("poses", detector.pose_set),
    ]:
        names = defined[section]
        if entry is not None and entry not in names:
            presets = list(PRESETS) if section == "features" else []
            yield (
                f"detectors.{name}.{section}: {entry!r} is not defined"
                f"{did_you_mean(entry, [*names, *presets])}; defined under {section}: "
                f"{', '.join(names) or 'none'}"
                + (f"; presets: {', '.join(presets)}" if presets else "")
            )
    drawn = detector.inputs(training=True) & {"synthetic", "poses"}
    if calibration.seeds and drawn:
        yield (
            f"calibration.seeds: {name} learns from pictures made of the images of one "
            "split, so it cannot be trained on other draws; leave `seeds` out, or "
            f"{', '.join(sorted(drawn))} of detectors.{name}"
        )
    if calibration.mode == "leave_one_out" and detector.apart != "wholly":
        remembering = [word for word, method in METHODS.items() if method.apart == "wholly"]
        yield (
            f"calibration.mode: leave_one_out is for methods that only remember "
            f"({', '.join(remembering)}). What {detector.method} (detectors.{name}) "
            "learned from an image cannot be left out afterwards; use cross, or leave this "
            "detector out"
        )
    if detector.is_shared:
        for given, key in [
            (calibration.mode == "leave_one_out", "calibration.mode: leave_one_out"),
            (calibration.seeds, "calibration.seeds"),
            (detector.pose_set, f"detectors.{name}.poses"),
        ]:
            if given:
                yield (
                    f"{key}: does not go with a model of all categories (detectors.{name}.shared), "
                    "which takes no other draws or poses and cannot leave single images out; leave "
                    "one of them out"
                )
    if detector.needs_tiles and not prepare.tiles:
        yield (
            f"detectors.{name}.tile_memory: there are no tiles; set prepare.tiles, or "
            "leave tile_memory out"
        )
    if prepare.tiles and detector.why_untiled:
        yield f"detectors.{name}: {detector.why_untiled}; leave out prepare.tiles for it"


def fusion_problems(
    name: str, fusion: Fusion, detectors: Mapping[str, MethodOptions]
) -> Iterator[str]:
    """Yield what is wrong between a fusion and the detectors that it names."""
    if name in detectors:
        yield f"fusion.{name}: a detector has this name; choose another one"
    for member in fusion.detectors:
        place = f"fusion.{name}.detectors: {member!r}"
        if member not in detectors:
            yield (
                f"{place} is not defined{did_you_mean(member, detectors)}; defined "
                f"under detectors: {', '.join(detectors)}"
            )
        elif detectors[member].protocol != "unsupervised":
            yield f"{place} is supervised, and has another split; leave it out"


def weights_problems(place: str, weights: str) -> Iterator[str]:
    """Yield what is wrong with the weights that an entry, `place`, names."""
    path = weights_file(weights)
    if path is not None and ("{" in weights or "}" in weights):
        yield (
            f"{place}.weights: {weights!r} cannot be read, because Snakemake takes braces in a "
            "path for a placeholder; rename the file or its folder"
        )
    elif path is not None and not is_file(path):
        yield (
            f"{place}.weights: there is no file {weights!r}; give an existing state dict, "
            "`default`, or a torchvision weights name"
        )
