"""The methods. A new one is a module of options and a line in `DetectorOptions`."""

from typing import Annotated

from pydantic import Field

from flawline.options.anomalib import AnomalibOptions
from flawline.options.autoencoder import AutoencoderOptions
from flawline.options.base import union_by_tag
from flawline.options.cam_classifier import CamClassifierOptions
from flawline.options.fanogan import FAnoGANOptions
from flawline.options.featcae import FeatCAEOptions
from flawline.options.metric_learning import MetricLearningOptions
from flawline.options.padim import PadimOptions
from flawline.options.patchcore import PatchCoreOptions
from flawline.options.ssim_autoencoder import SsimAutoencoderOptions
from flawline.options.subspace import SubspaceOptions

DetectorOptions = Annotated[
    PatchCoreOptions
    | SubspaceOptions
    | FeatCAEOptions
    | PadimOptions
    | AutoencoderOptions
    | SsimAutoencoderOptions
    | FAnoGANOptions
    | MetricLearningOptions
    | CamClassifierOptions
    | AnomalibOptions,
    Field(discriminator="method"),
]
METHODS = union_by_tag(DetectorOptions)
