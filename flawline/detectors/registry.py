"""The methods by name. A new one is a line in each of the two tables."""

from typing import Annotated

from pydantic import Field

from flawline.detectors.autoencoder import Autoencoder, AutoencoderOptions
from flawline.detectors.base import Detector
from flawline.detectors.cam_classifier import CamClassifier, CamClassifierOptions
from flawline.detectors.fanogan import FAnoGAN, FAnoGANOptions
from flawline.detectors.featcae import FeatCAE, FeatCAEOptions
from flawline.detectors.metric_learning import MetricLearning, MetricLearningOptions
from flawline.detectors.patchcore import PatchCore, PatchCoreOptions
from flawline.detectors.ssim_autoencoder import SsimAutoencoder, SsimAutoencoderOptions

METHODS: dict[str, type[Detector]] = {
    "patchcore": PatchCore,
    "featcae": FeatCAE,
    "autoencoder": Autoencoder,
    "ssim_autoencoder": SsimAutoencoder,
    "fanogan": FAnoGAN,
    "metric_learning": MetricLearning,
    "cam_classifier": CamClassifier,
}

DetectorOptions = Annotated[
    PatchCoreOptions
    | FeatCAEOptions
    | AutoencoderOptions
    | SsimAutoencoderOptions
    | FAnoGANOptions
    | MetricLearningOptions
    | CamClassifierOptions,
    Field(discriminator="method"),
]
