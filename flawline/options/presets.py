"""Presets: named feature sets that need no entry, and detectors named by their method.

docs/methods.md has what each costs and finds.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Preset(NamedTuple):
    """A feature set, and the part of its patches that `patchcore` keeps, unless it is told."""

    features: Mapping[str, Any]
    coreset_fraction: float


RESNET18 = {"backbone": "resnet18", "layers": ["layer2", "layer3"]}
PRESETS = {
    "fast": Preset(RESNET18, 0.01),
    "balanced": Preset(RESNET18 | {"scale": 1.25}, 0.02),
    "accurate": Preset(RESNET18 | {"scale": 1.5}, 0.02),
}


def filled_in(content: Mapping[str, Any], methods: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which detectors and presets are written out.

    A detector without `method` has the method of its name, one without `features` those of the
    usual preset. A preset that a detector names, or an entry of `features` with its name, has
    every option that is not given. What is wrong stays, for the validation to find.

    Parameters
    ----------
    methods : models of the methods' options, by method.
    """
    detectors = content.get("detectors")
    features = content.get("features", {})
    if not isinstance(detectors, dict):
        return dict(content)
    detectors = {
        name: _detector(name, given, methods) if isinstance(given, dict | None) else given
        for name, given in detectors.items()
    }
    content = {**content, "detectors": detectors}
    if not isinstance(features, dict):
        return content
    named = [name for given in detectors.values() for name in _feature_sets(given)]
    sets = features | {name: {} for name in named if name in PRESETS and name not in features}
    sets = {name: _feature_set(name, given) for name, given in sets.items()}
    return content | ({"features": sets} if sets else {})


def _detector(name: str, given: dict[str, Any] | None, methods: Mapping[str, Any]) -> Any:
    options = dict(given or {})
    if name in methods:
        options.setdefault("method", name)
    method = options.get("method")
    model = methods.get(method) if isinstance(method, str) else None
    if model is None:
        return options
    if "features" in model.model_fields:
        options.setdefault("features", model.model_fields["features"].default)
    preset = PRESETS.get(str(options.get("features")))
    if preset and "coreset_fraction" in model.model_fields and "coreset_size" not in options:
        options.setdefault("coreset_fraction", preset.coreset_fraction)
    return options


def _feature_set(name: str, given: Any) -> Any:
    own = given is not None and (not isinstance(given, dict) or "backbone" in given)
    if name not in PRESETS or own:
        return given
    return dict(PRESETS[name].features) | (given or {})


def _feature_sets(detector: Any) -> Iterable[str]:
    names = detector.get("features") if isinstance(detector, dict) else None
    names = names if isinstance(names, list) else [names]
    return [name for name in names if isinstance(name, str)]
