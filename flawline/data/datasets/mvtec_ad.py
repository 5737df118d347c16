"""MVTec AD: Bergmann, Batzner, Fauser, Sattlegger, Steger, IJCV 2021; downloaded, or a folder."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from flawline.data.datasets.layout import Laid
from flawline.options.base import Name

CATEGORIES = (
    "bottle",
    "cable",
    "capsule",
    "carpet",
    "grid",
    "hazelnut",
    "leather",
    "metal_nut",
    "pill",
    "screw",
    "tile",
    "toothbrush",
    "transistor",
    "wood",
    "zipper",
)
LICENCE = (
    "MVTec AD (Bergmann, Fauser, Sattlegger, Steger; MVTec Software GmbH) is licensed "
    "CC BY-NC-SA 4.0: no commercial use."
)


class MvtecAd(Laid):
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

    @model_validator(mode="after")
    def _downloads(self) -> Self:
        fields = type(self).model_fields
        for key in ("url", "sha256"):
            if self.provided and getattr(self, key) != fields[key].default:
                raise ValueError(
                    f"{key}: nothing is downloaded, because `source` is a folder; leave it out"
                )
        return self

    @property
    def provided(self) -> bool:  # type: ignore[override]
        """Check whether the user has the folder."""
        return self.source != "download"

    @property
    def folder(self) -> Path:
        """The source, or the folder that the download is unpacked to."""
        return super().folder if self.provided else Path("data") / self.name / "images"

    def categories(self) -> list[str]:
        """Return all fifteen, or those in the folder."""
        return super().categories() if self.provided else list(CATEGORIES)

    def passed_over(self) -> list[str]:
        """Describe other folders with images; a download has none."""
        return super().passed_over() if self.provided else []
