"""The methods by name. A new one is a line in each of the two tables."""

from typing import Annotated

from pydantic import Field

from flawline.detectors.base import Detector
from flawline.detectors.featcae import FeatCAE, FeatCAEOptions
from flawline.detectors.patchcore import PatchCore, PatchCoreOptions

METHODS: dict[str, type[Detector]] = {
    "patchcore": PatchCore,
    "featcae": FeatCAE,
}

DetectorOptions = Annotated[PatchCoreOptions | FeatCAEOptions, Field(discriminator="method")]
