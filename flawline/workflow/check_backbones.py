"""Backbones, weights and layers of a configuration, checked before any job starts."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flawline.data.geometry import input_size
from flawline.errors import FlawlineError
from flawline.files import replacing
from flawline.options.sizes import TYPICAL
from flawline.options.weights import weights_file

if TYPE_CHECKING:
    from flawline.config import Config
    from flawline.options.prepare import Prepare

HIDDEN = Path(".snakemake/flawline")  # caches that survive a run
Asked = tuple[str, str, list[str], tuple[int, int]]

# Common backbones and their layers: checking them need not import torchvision, which takes seconds.
STAGES = frozenset({"layer1", "layer2", "layer3", "layer4"})
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
USUAL = {"gabor": frozenset({"fine", "medium", "coarse"})} | dict.fromkeys(RESNETS, STAGES)


def check_features(config: "Config", origin: str, cache: Path) -> None:
    """Refuse a backbone, weights name or layer that does not exist or gives no map.

    Names that passed once are remembered in `cache`, because asking torchvision takes seconds;
    common ones pass at once. Where torch is not installed (jobs then have their own
    environments), nothing is checked.

    Raises
    ------
    FlawlineError
        One message with every mistake and the keys that hold it.
    """
    passed = _read(cache)
    unknown: dict[str, tuple[str, Asked]] = {}
    for category in config.category_names:
        prepare = config.of(category).prepare
        for name, features in config.of(category).features.items():
            shape = input_size(_seen(prepare), features.scale)
            asked: Asked = (features.backbone, features.weights, features.layers, shape)
            unknown.setdefault(json.dumps(asked), (f"features.{name}", asked))
        for name, detector in config.of(category).detectors.items():
            if detector.network is not None:
                asked = (*detector.network, [], TYPICAL)
                unknown.setdefault(json.dumps(asked), (f"detectors.{name}", asked))
    unknown = {
        key: (place, asked)
        for key, (place, asked) in unknown.items()
        if key not in passed and not _is_usual(*asked[:3])
    }
    if not unknown:
        return
    answers = _ask([asked for _, asked in unknown.values()])
    if answers is None:
        return
    keys = [key for key, _ in unknown.values()]
    wrong = [
        f"{origin}: {key}: {answer}" for key, answer in zip(keys, answers, strict=True) if answer
    ]
    if wrong:
        raise FlawlineError("\n".join(wrong))
    _write(cache, sorted(passed | set(unknown)))


def _seen(prepare: "Prepare") -> tuple[int, int]:
    """Return the shape that networks see; a typical one if it follows from the photographs."""
    if prepare.tiles:
        return prepare.tiles.size, prepare.tiles.size
    size = prepare.size
    if size == "auto":
        return TYPICAL
    return (size, size) if isinstance(size, int) else size


def _is_usual(backbone: str, weights: str, layers: list[str]) -> bool:
    known = weights == "default" or weights_file(weights) is not None
    return known and bool(layers) and USUAL.get(backbone, frozenset()).issuperset(layers)


def _ask(names: list[Asked]) -> list[str | None] | None:
    """Return what is wrong with each; None where torch is not installed.

    A separate process asks, or torch would stay in the memory of a Snakemake that runs for days.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=json.dumps(names), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise FlawlineError(
            "torch and torchvision are installed but do not work (their error is above). Install "
            "both together, from one place: pip install --force-reinstall torch torchvision"
        )
    answers: list[str | None] = json.loads(done.stdout)
    return answers


def _answer() -> None:
    from flawline.features.backbones import check_backbone

    json.dump([check_backbone(*asked) for asked in json.load(sys.stdin)], sys.stdout)


def _read(cache: Path) -> set[str]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {key for key in found if isinstance(key, str)} if isinstance(found, list) else set()


def _write(cache: Path, passed: list[str]) -> None:
    try:
        with replacing(cache) as partial:
            partial.write_text(json.dumps(passed), encoding="utf-8")
    except OSError:
        return


if __name__ == "__main__":
    _answer()
