"""The class of a method, loaded when it is asked for."""

from pkgutil import resolve_name

from flawline.detectors.base import Detector
from flawline.options.detectors import METHODS


def method_class(name: str) -> type[Detector]:
    """Return the detector class of a method, such as ``patchcore``."""
    implementation: type[Detector] = resolve_name(METHODS[name].implementation)
    return implementation
