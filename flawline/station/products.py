"""The products of a station: categories, each with the detector that judges its parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flawline.errors import FlawlineError
from flawline.files import is_folder
from flawline.inspection.exported_detector import is_exported, open_exported
from flawline.inspection.judging import Judge
from flawline.layout import Layout


@dataclass(frozen=True)
class Product:
    """A category and the detector that judges its parts.

    Attributes
    ----------
    detector : its name.
    version : hash of its model and its threshold.
    note : what a person should know about this version.
    """

    category: str
    detector: str
    judge: Judge
    version: str
    note: str = ""

    def __str__(self) -> str:
        """Return a line about it."""
        return f"{self.category}: {self.detector}, version {self.version}{self.note}"


def open_products(
    source: Path | str,
    categories: Sequence[str] = (),
    detector: str | None = None,
    seed: int | None = None,
    *,
    device: str = "cpu",
) -> tuple[str, list[Product]]:
    """Open the detectors of a station, each once.

    Parameters
    ----------
    source : a configuration; or the folder of an exported detector, or a folder of such folders.
    categories : all of the configuration or folder, if none are given.
    detector, seed, device : as of `open_detector`.

    Returns
    -------
    The dataset's name, and the products.

    Raises
    ------
    FlawlineError
        If there is no such category or detector, or one cannot be opened.
    """
    source = Path(source)
    if is_folder(source):
        return _exported(source, categories, detector)
    return _trained(source, categories, detector, seed, device)


def _trained(
    configfile: Path,
    categories: Sequence[str],
    detector: str | None,
    seed: int | None,
    device: str,
) -> tuple[str, list[Product]]:
    from flawline.config import load_config
    from flawline.configfile import read_configfile
    from flawline.inspection.open_detector import chosen_detector
    from flawline.station.versions import Versions

    config = load_config(read_configfile(configfile), str(configfile))
    products = []
    for category in categories or config.category_names:
        own, chosen = chosen_detector(configfile, category, detector, seed)
        versions = Versions.of(own, chosen)
        judge, version, note = versions.open(device)
        products.append(Product(category, str(chosen.detector), judge, version, note))
    return config.dataset.name, products


def _exported(
    folder: Path, categories: Sequence[str], detector: str | None
) -> tuple[str, list[Product]]:
    folders = [folder] if is_exported(folder) else sorted(filter(is_exported, folder.iterdir()))
    if not folders:
        raise FlawlineError(
            f"{folder}: no exported detector, and no folder of exported detectors; make one with: "
            f"flawline export CONFIG {folder}"
        )
    found: dict[str, Product] = {}
    datasets = set()
    for one in folders:
        judge = open_exported(one)
        about = judge.about
        category, name = about["category"], about["detector"]
        if (categories and category not in categories) or detector not in (None, name):
            continue
        if category in found:
            raise FlawlineError(
                f"{folder}: has two detectors of {category!r}, {found[category].detector} and "
                f"{name}; name one with --detector, or move the other away"
            )
        datasets.add(about["dataset"])
        found[category] = Product(category, name, judge, judge.version)
    if missing := [name for name in categories if name not in found]:
        raise FlawlineError(f"{folder}: there is no exported detector of {', '.join(missing)}")
    if not found:
        raise FlawlineError(f"{folder}: there is no exported detector {detector!r}")
    if len(datasets) > 1:
        raise FlawlineError(
            f"{folder}: has detectors of several datasets ({', '.join(sorted(datasets))}); a "
            "station has one record, for one dataset. Keep them in a folder each"
        )
    return datasets.pop(), list(found.values())


def station_folder(dataset: str) -> Path:
    """Return where a station keeps its record, its pictures and the detectors it has used."""
    return Path(Layout(dataset).station)
