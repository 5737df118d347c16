"""From folders of product photographs to honestly measured defect detectors.

What a notebook needs is here; the rest of the package belongs to the pipeline. Names are imported
on first use, because the Snakefile imports this package and must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flawline.config import load_config as load_config
    from flawline.data.geometry import Geometry as Geometry
    from flawline.decisions.thresholds import choose_threshold as choose_threshold
    from flawline.detectors.autoencoder import Autoencoder as Autoencoder
    from flawline.detectors.cam_classifier import CamClassifier as CamClassifier
    from flawline.detectors.data import Data as Data
    from flawline.detectors.fanogan import FAnoGAN as FAnoGAN
    from flawline.detectors.featcae import FeatCAE as FeatCAE
    from flawline.detectors.metric_learning import MetricLearning as MetricLearning
    from flawline.detectors.padim import Padim as Padim
    from flawline.detectors.patchcore import PatchCore as PatchCore
    from flawline.detectors.ssim_autoencoder import SsimAutoencoder as SsimAutoencoder
    from flawline.detectors.subspace import Subspace as Subspace
    from flawline.errors import FlawlineError as FlawlineError
    from flawline.evaluation.evaluate import evaluate as evaluate
    from flawline.evaluation.record import RunMetrics as RunMetrics
    from flawline.features.backbones import build_backbone as build_backbone
    from flawline.features.extraction import patch_features as patch_features
    from flawline.inspection.folder import inspect_folder as inspect_folder
    from flawline.inspection.open_detector import open_detector as open_detector

__version__ = "0.1.0"
__all__ = [
    "Autoencoder",
    "CamClassifier",
    "Data",
    "FAnoGAN",
    "FeatCAE",
    "FlawlineError",
    "Geometry",
    "MetricLearning",
    "Padim",
    "PatchCore",
    "RunMetrics",
    "SsimAutoencoder",
    "Subspace",
    "build_backbone",
    "choose_threshold",
    "evaluate",
    "inspect_folder",
    "load_config",
    "open_detector",
    "patch_features",
]

_HOMES = {
    "Autoencoder": "flawline.detectors.autoencoder",
    "CamClassifier": "flawline.detectors.cam_classifier",
    "Data": "flawline.detectors.data",
    "FAnoGAN": "flawline.detectors.fanogan",
    "FeatCAE": "flawline.detectors.featcae",
    "FlawlineError": "flawline.errors",
    "Geometry": "flawline.data.geometry",
    "MetricLearning": "flawline.detectors.metric_learning",
    "Padim": "flawline.detectors.padim",
    "PatchCore": "flawline.detectors.patchcore",
    "RunMetrics": "flawline.evaluation.record",
    "SsimAutoencoder": "flawline.detectors.ssim_autoencoder",
    "Subspace": "flawline.detectors.subspace",
    "build_backbone": "flawline.features.backbones",
    "choose_threshold": "flawline.decisions.thresholds",
    "evaluate": "flawline.evaluation.evaluate",
    "inspect_folder": "flawline.inspection.folder",
    "load_config": "flawline.config",
    "open_detector": "flawline.inspection.open_detector",
    "patch_features": "flawline.features.extraction",
}


def __getattr__(name: str) -> Any:
    """Import a public name from where it is defined."""
    if name not in _HOMES:
        raise AttributeError(f"module 'flawline' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
