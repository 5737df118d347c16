"""The folder of a trained detector, and the settings by which it sees photographs.

The workflow plans with these, so nothing here imports torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.errors import FlawlineError
from flawline.layout import Layout, RunFolder
from flawline.options.base import plain
from flawline.options.inspect import Inspect
from flawline.options.regions import Regions
from flawline.provenance import digest, file_hash

if TYPE_CHECKING:
    from flawline.config import Config

# Below the folder of a run.
FILES = (
    "model/model.json",
    "model/model.safetensors",
    "threshold.json",
    "calibration/scores.csv",
    "calibration/anomaly_maps.npy",
)


def run_folder(config: "Config", chosen: Inspect) -> Path:
    """Return the folder of one trained detector.

    Parameters
    ----------
    chosen : a category, a detector and a seed, none of them None.
    """
    category, detector = str(chosen.category), str(chosen.detector)
    protocol = config.of(category).detectors[detector].protocol
    names = {"category": category, "protocol": protocol, "detector": detector, "seed": chosen.seed}
    return Layout(config.dataset.name).run(**names).folder


def settings_of(config: "Config", category: str, detector: str) -> dict[str, Any]:
    """Return the configured settings by which a detector sees photographs, as plain values.

    Returns
    -------
    max_megapixels, white, prepare, regions, poses, detector, features (a list), object_masks,
    threshold, boxes; None where not used.
    """
    own = config.of(category)
    options = own.detectors[detector]
    wanted = options.inputs(training=False)
    return {
        "max_megapixels": own.data.max_megapixels,
        "white": own.data.white,
        "prepare": plain(own.prepare),
        "regions": _regions(own.regions),
        "poses": plain(own.poses[options.pose_set]) if options.pose_set else None,
        "detector": plain(options),
        "features": [plain(own.features[name]) for name in options.feature_sets],
        "object_masks": plain(own.object_masks) if "object_masks" in wanted else None,
        "threshold": plain(own.threshold),
        "boxes": plain(own.boxes),
    }


def _regions(regions: Regions) -> dict[str, Any]:
    file = regions.mask_file
    return plain(regions, mask_sha256=None if file is None else file_hash(file))


def check_files(run: Path) -> None:
    """Raise a FlawlineError if the detector in `run` has not been trained and calibrated."""
    missing = [name for name in FILES if not (run / name).is_file()]
    if missing:
        raise FlawlineError(
            f"{run}: no trained detector, because {', '.join(missing)} is missing. Inspection "
            "trains nothing: run the pipeline first, with the same configuration without `inspect`."
        )


def version_of(run: Path | str) -> str:
    """Return the version of a trained detector: a hash of its model and its threshold."""
    files = RunFolder(Path(run))
    return digest(files=[files.weights, files.threshold])[:12]
