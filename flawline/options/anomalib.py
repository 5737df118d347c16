"""Options of `anomalib`."""

import shutil
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from flawline.files import given_path
from flawline.options.method import MethodOptions
from flawline.options.weights import weights_file


class AnomalibOptions(MethodOptions):
    """A model of anomalib, in an environment of its own."""

    implementation: ClassVar[str] = "flawline.detectors.anomalib:Anomalib"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    unit: ClassVar[str] = "anomaly score of anomalib's model"

    method: Literal["anomalib"] = "anomalib"
    model: str = Field(
        description="Name of a class in `anomalib.models`, such as `Padim` or `Dinomaly`."
    )
    python: str = Field(
        description="The Python of an environment that has anomalib and safetensors: a path, or "
        "the name of a program."
    )
    arguments: dict[str, Any] = Field(
        {}, description="Arguments of the model's class, such as `{backbone: resnet18}`."
    )
    weights: str | None = Field(
        None,
        description="Path of a state dict for the model's feature extractor; set `pre_trained: "
        "false` among its arguments, so that it downloads none.",
    )
    max_epochs: int | None = Field(None, ge=1, description="The model's own, if not given.")

    @field_validator("python")
    @classmethod
    def _is_a_program(cls, python: str) -> str:
        if shutil.which(python) is None and shutil.which(given_path(python)) is None:
            raise ValueError(
                f"there is no program {python!r}; make an environment (python -m venv there; "
                "there/bin/pip install anomalib safetensors) and give its bin/python"
            )
        return python

    @property
    def program(self) -> str:
        """The Python to start."""
        return shutil.which(self.python) or str(given_path(self.python))

    @property
    def local_weights(self) -> Path | None:
        """The weights, if they are a local file."""
        return weights_file(self.weights) if self.weights else None

    @property
    def why_untiled(self) -> str | None:
        """Return why it cannot work on tiles, or None if it can."""
        return "anomalib's models score whole photographs"

    @property
    def why_not_exported(self) -> str | None:
        """Return why its models cannot be exported, or None if they can."""
        return "its models run in anomalib's own environment; anomalib can export them itself"
