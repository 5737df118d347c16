"""Open a trained detector by the configuration that it was trained with."""

from pathlib import Path

import torch

from flawline.config import Config, load_config
from flawline.configfile import read_configfile
from flawline.inspection.run_settings import run_folder, settings_of
from flawline.inspection.trained_detector import TrainedDetector, load_trained
from flawline.options.inspect import Inspect


def open_detector(
    configfile: Path | str,
    category: str | None = None,
    detector: str | None = None,
    seed: int | None = None,
    *,
    device: torch.device | str = "cpu",
) -> TrainedDetector:
    """Open a detector that the pipeline has trained, as `snakemake inspect` would.

    Call it in the folder that has `results/`.

    Parameters
    ----------
    configfile : YAML, the configuration of the training.
    category, detector : may be left out if there is only one.
    seed : the first of the configuration's, if not given.

    Raises
    ------
    FlawlineError
        If there is no such detector, or if it was trained with other settings.

    Examples
    --------
    >>> from flawline import open_detector
    >>> trained = open_detector("my.yaml", "bolt", "patchcore")
    >>> found = trained.score([trained.prepare(photograph)])
    >>> found.scores.shape
    (1,)
    """
    config, chosen = chosen_detector(configfile, category, detector, seed)
    settings = settings_of(config, str(chosen.category), str(chosen.detector))
    return load_trained(run_folder(config, chosen), settings, torch.device(device))


def chosen_detector(
    configfile: Path | str,
    category: str | None = None,
    detector: str | None = None,
    seed: int | None = None,
) -> tuple[Config, Inspect]:
    """Return a configuration, and which of its detectors is meant: see `open_detector`."""
    wanted = {"folder": ".", "category": category, "detector": detector, "seed": seed}
    config = load_config(read_configfile(Path(configfile)) | {"inspect": wanted}, str(configfile))
    chosen = config.inspected
    assert chosen is not None
    return config, chosen
