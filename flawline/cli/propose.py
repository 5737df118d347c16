"""A commented configuration that suits the photographs and the machine."""

import json
import math
import os
from pathlib import Path
from typing import Any

from flawline.cli.look import Category, Found
from flawline.config import Config
from flawline.data.geometry import AREA, at_area
from flawline.decisions.thresholds import images_needed
from flawline.errors import FlawlineError
from flawline.options.calibration import Calibration
from flawline.options.data import DataOptions
from flawline.options.presets import PRESETS

RATE = 0.05  # of false alarms that thresholds aim at
LARGE = 3  # times smaller than the photographs: small defects may be lost


def propose(found: Found, preset: str, weights: Path | None, schema: Path) -> str:
    """Return a configuration as YAML with comments.

    Parameters
    ----------
    preset : name of the feature set.
    weights : file with the weights of its network; None to download them.
    schema : JSON schema of configurations, for editors.

    Raises
    ------
    FlawlineError
        If a category has too few good photographs.
    """
    needed = DataOptions().min_train_good
    if few := [each for each in found.categories if each.good < needed]:
        raise FlawlineError(
            "\n".join(map(str, few))
            + f"\nAt least {needed} good photographs of each product are needed to learn from."
        )
    lines = [
        f"# yaml-language-server: $schema={schema}",
        "# Written by `flawline init`. config/README.md explains every option.",
        *(f"# {each}" for each in found.categories),
        "dataset:",
        *(f"  {key}: {_yaml(value)}" for key, value in found.dataset.items()),
    ]
    if not found.all_of_it:
        lines.append(f"categories: {_yaml([each.name for each in found.categories])}")
    lines += ["", *_size(found.categories), "", *_calibration(found.categories), ""]
    if weights:
        file = _yaml(str(weights.expanduser().absolute()))
        lines += ["features:", f"  {preset}: {{weights: {file}}}"]
    others = ", ".join(name for name in PRESETS if name != preset)
    lines += [
        f"# Other presets: {others}. Other methods, to compare: featcae, autoencoder, ...",
        "detectors:",
        f"  patchcore: {{features: {preset}}}",
    ]
    return "\n".join(lines) + "\n"


def _size(categories: list[Category]) -> list[str]:
    measured = [(each.height, each.width) for each in categories if each.height and each.width]
    shapes = {f"{height} x {width}" for height, width in (at_area(one, AREA) for one in measured)}
    times = max((math.sqrt(height * width / AREA) for height, width in measured), default=0)
    lines = [
        "# Photographs keep their proportions and are shrunk to the area of 256 x 256 pixels:",
        f"# {' or '.join(sorted(shapes))} pixels (height x width).",
    ]
    if times >= LARGE:
        lines += [
            f"# That makes them up to {times:.0f} times smaller: defects of a few pixels are lost.",
            "# `tiles: {size: 512}` below `size` shows full resolution, which takes longer.",
        ]
    return [*lines, "prepare:", "  size: auto"]


def _calibration(categories: list[Category]) -> list[str]:
    good = min(each.good for each in categories)
    certified = images_needed(RATE)
    split = good * Calibration().held_back >= certified
    mode = "split" if split else "leave_one_out"
    lines = ["# Thresholds come from a part of the good photographs, which is held back."]
    if not split:
        lines = [
            "# Thresholds come from each good photograph, compared with all others, as they are",
            "# too few to hold some back.",
        ]
    lines += ["calibration:", f"  mode: {mode}"]
    if good >= certified:
        return [
            *lines,
            f"# At most {RATE:.0%} of good parts are called defective, on average.",
            f"threshold: {{rule: conformal, alpha: {RATE}}}",
        ]
    return [
        *lines,
        f"# {good} good photographs cannot promise a rate of {RATE:.0%}; from {certified} on, take "
        f"{{rule: conformal, alpha: {RATE}}}.",
        "threshold: {rule: mean_std}",
    ]


def weights_to_download(config: Config) -> list[str]:
    """Return the networks whose weights a run downloads, as they are not on this machine."""
    usual = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    cache = Path(os.environ.get("TORCH_HOME", usual), "hub", "checkpoints").expanduser()
    networks = [
        (features.backbone, features.weights)
        for features in config.features.values()
        if features.backbone != "gabor" and features.weights_file is None
    ]
    networks += [
        detector.network
        for detector in config.detectors.values()
        if detector.network and detector.local_weights is None and detector.network[1] != "none"
    ]
    wanted = dict.fromkeys(backbone for backbone, _ in networks)
    return [name for name in wanted if not list(cache.glob(f"{name}-*.pth"))]


def _yaml(value: Any) -> str:
    """Return a value in YAML's flow style, in a line."""
    return json.dumps(value, ensure_ascii=False)
