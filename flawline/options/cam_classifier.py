"""Options of `cam_classifier`."""

from typing import ClassVar, Literal

from pydantic import Field

from flawline.options.method import NetworkUse
from flawline.options.training import Budget


class CamClassifierOptions(NetworkUse, Budget):
    """Defaults are the published detector's, unless a description says otherwise."""

    implementation: ClassVar[str] = "flawline.detectors.cam_classifier:CamClassifier"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "labels"})
    protocol: ClassVar[Literal["unsupervised", "supervised"]] = "supervised"
    unit: ClassVar[str] = "log-odds of being defective"
    boundary: ClassVar[float | None] = 0.0

    method: Literal["cam_classifier"] = "cam_classifier"
    backbone: str = Field(
        "vgg16",
        description="A convolutional classification network of torchvision that ends in global "
        "average pooling; VGG's own classifier is left out.",
    )
    image_size: int = Field(224, ge=32, description="Side of the network's input, pixels.")
    trained_convolutions: int = Field(
        3, ge=1, description="Number of last convolutions that train; all before are frozen."
    )
    max_pool: bool = Field(
        True, description="Halve the last feature map by max-pooling before it is averaged."
    )
    normalize: bool = Field(
        True, description="Apply ImageNet's mean and standard deviation (ours; published: false)."
    )
    flips: bool = Field(
        False, description="Train on mirrored images too (ours): four times the frozen pass."
    )
    defect_weight: float = Field(
        3.0, gt=0, description="Weight of defective images in the loss; that of good images is 1."
    )
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(10, ge=2)
    learning_rate: float = Field(1e-4, gt=0, description="Of Adam.")
    validation_fraction: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Fraction of training images kept out for a validation loss, which shows "
        "whether training went on too long (0 is ours: there are few defects to learn from).",
    )
    stop_accuracy: float | None = Field(
        0.98, gt=0, le=1, description="Stop after an epoch with this training accuracy."
    )
