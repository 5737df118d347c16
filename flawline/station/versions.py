"""The trained detectors that a station has used, kept beside its record.

A new training replaces the files of the pipeline's results; here the earlier ones stay. Hard links
keep them, so that a version takes space of its own only once the pipeline has replaced it.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flawline.errors import FlawlineError
from flawline.files import given_path, is_file, read_json, write_json
from flawline.inspection.run_settings import FILES, check_files, run_folder, settings_of, version_of
from flawline.layout import RunFolder
from flawline.options.inspect import Inspect
from flawline.provenance import file_hash
from flawline.station.products import station_folder

if TYPE_CHECKING:
    from flawline.config import Config
    from flawline.inspection.trained_detector import TrainedDetector

CHOSEN, SETTINGS = "chosen.json", "settings.json"
OBJECT_MASKS = ("object_masks/background.npy", "object_masks/model.json")


@dataclass(frozen=True)
class Version:
    """A trained detector that is kept.

    Attributes
    ----------
    name : hash of its model and its threshold.
    trained : when, local time.
    """

    name: str
    trained: str
    threshold: float


class Versions:
    """The versions of one detector of one category.

    Parameters
    ----------
    folder : where they are kept, a folder for each.
    run : folder of the run in the results.
    settings : of the configuration, from `settings_of`.
    """

    def __init__(self, folder: Path, run: Path, settings: Mapping[str, Any]) -> None:
        self.folder, self.run, self.settings = folder, run, settings

    @classmethod
    def of(cls, config: "Config", chosen: Inspect) -> Self:
        """Return those of a detector that a configuration names."""
        category, detector = str(chosen.category), str(chosen.detector)
        folder = station_folder(config.dataset.name) / "versions" / category / detector
        return cls(folder, run_folder(config, chosen), settings_of(config, category, detector))

    @property
    def newest(self) -> str | None:
        """The version in the results; None if nothing is trained there."""
        files = RunFolder(self.run)
        if not (files.weights.is_file() and files.threshold.is_file()):
            return None
        return version_of(self.run)

    @property
    def used(self) -> str | None:
        """The version that a station uses: the one that was chosen, or the newest."""
        chosen = self._chosen
        return self.newest if chosen is None else chosen

    @property
    def _chosen(self) -> str | None:
        file = self.folder / CHOSEN
        return str(read_json(file)["version"]) if is_file(file) else None

    def all(self) -> list[Version]:
        """List what is kept, the oldest training first."""
        found = []
        for file in self.folder.glob(f"*/{SETTINGS}"):
            kept = RunFolder(_kept(file.parent))
            time = datetime.fromtimestamp(kept.weights.stat().st_mtime, UTC).astimezone()
            threshold = float(read_json(kept.threshold)["value"])
            found.append((time, Version(file.parent.name, f"{time:%Y-%m-%d %H:%M}", threshold)))
        return [version for _, version in sorted(found, key=lambda one: one[0])]

    def keep(self) -> str | None:
        """Keep the version in the results, if one is there; return it."""
        version = self.newest
        if version is None or (self.folder / version).is_dir():
            return version
        check_files(self.run)
        partial = self.folder / f".{version}.{os.getpid()}.part"
        kept = _kept(partial)
        protocol = RunFolder(self.run).protocol_folder
        pairs = [(self.run / name, kept / name) for name in FILES]
        pairs += [(protocol / name, partial / name) for name in OBJECT_MASKS]
        try:
            for source, target in pairs:
                if source.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(source, target)
            if version_of(kept) != version:  # the pipeline is at work
                raise FlawlineError(f"{self.run}: changed while it was kept; try again")
            write_json(partial / SETTINGS, self.settings)
            partial.rename(self.folder / version)
        except OSError as error:
            if not (self.folder / version).is_dir():  # else another process was faster
                raise FlawlineError(
                    f"{self.folder}: the detector cannot be kept there ({error.strerror})"
                ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return version

    def choose(self, name: str) -> str:
        """Let stations use a version from their next start on; the newest is followed again.

        Parameters
        ----------
        name : of the version, or how it begins.

        Raises
        ------
        FlawlineError
            If there is no such version, or several.
        """
        known = [version.name for version in self.all()]
        found = [version for version in known if version.startswith(name)]
        if len(found) != 1:
            raise FlawlineError(
                f"--back {name}: {'several versions begin so' if found else 'no such version'}; "
                f"kept: {', '.join(known) or 'none'}"
            )
        if found[0] == self.newest:
            (self.folder / CHOSEN).unlink(missing_ok=True)
        else:
            write_json(self.folder / CHOSEN, {"version": found[0]})
        return found[0]

    def open(self, device: str = "cpu") -> tuple["TrainedDetector", str, str]:
        """Open the version that a station uses, and keep it.

        Returns
        -------
        The detector, its version, and a note if it is not the newest one.
        """
        import torch

        from flawline.inspection.trained_detector import load_trained

        newest, chosen = self.newest, self._chosen
        where = torch.device(device)
        if chosen is None or chosen == newest:
            trained = load_trained(self.run, self.settings, where)
            return trained, str(self.keep()), ""
        folder = self.folder / chosen
        if not is_file(folder / SETTINGS):
            raise FlawlineError(
                f"{folder}: the version that was chosen is no longer there; choose another one "
                "with `flawline learn --back`"
            )
        # photographs are prepared as this version was trained, whatever the configuration says now
        settings = read_json(folder / SETTINGS)
        mask = settings["regions"]["mask"]
        if mask and file_hash(given_path(mask)) != settings["regions"]["mask_sha256"]:
            raise FlawlineError(
                f"{mask}: is another picture than the one that version {chosen} was trained with"
            )
        trained = load_trained(_kept(folder), settings, where)
        later = f"; the newest is {newest}" if newest else ""
        return trained, chosen, f", chosen by `flawline learn --back`{later}"


def _kept(folder: Path) -> Path:
    """Return the run below the folder of a version, as deep as in the results."""
    return folder / "detectors" / "detector" / "seed"


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without such links
        shutil.copy2(source, target)
