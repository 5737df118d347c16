"""An exported detector: a folder that numpy, OpenCV and ONNX Runtime can judge with.

``detector.onnx`` is the network with all that follows up to the score; ``detector.json`` says how
photographs are prepared for it, and has the threshold and the calibration images' scores;
``background.npy`` and ``ignored.png`` are there where the detector needs them. Nothing here imports
torch.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from flawline.data.geometry import Geometry
from flawline.data.masks import decode_mask
from flawline.data.samples import Levels
from flawline.detectors.data import Scores
from flawline.errors import FlawlineError
from flawline.files import given_path, is_file, read_array, read_json, write_array, write_json
from flawline.inspection.judging import Judge, Photograph
from flawline.provenance import file_hash
from flawline.synthesis.object_masks import ObjectModel

FORMAT = 1
NETWORK, DESCRIPTION, BACKGROUND, IGNORED = (
    *("detector.onnx", "detector.json"),
    *("background.npy", "ignored.png"),
)
SETTINGS = ("max_megapixels", "white", "prepare", "regions", "detector", "object_masks", "boxes")
"""What judging uses of `settings_of`; the network's own are in the graph."""

Run = Callable[[Mapping[str, np.ndarray]], Sequence[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class ExportedDetector(Judge):
    """A detector whose network another runtime runs.

    Attributes
    ----------
    run : maps inputs by name to scores, maps and decisions.
    about : dataset, category and detector's name.
    version : of the trained detector.
    """

    run: Run
    about: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @classmethod
    def of(cls, judge: Judge, run: Run) -> Self:
        """Return a detector that judges as `judge`, with another network."""
        names = Judge.__dataclass_fields__
        return cls(run=run, **{name: getattr(judge, name) for name in names})

    def _found(self, photographs: Sequence[Photograph]) -> Scores:
        scores, maps, _ = self.run(self.inputs(photographs))
        return Scores(scores.astype(np.float32), maps)


def onnxruntime(file: Path | str, threads: int | None = None) -> Run:
    """Return ONNX Runtime with a network.

    Parameters
    ----------
    threads : None for all cores.
    """
    try:
        from onnxruntime import InferenceSession, SessionOptions
    except ImportError:
        raise FlawlineError(
            f"{file}: needs ONNX Runtime: pip install onnxruntime, or pip install 'flawline[onnx]'"
        ) from None
    options = SessionOptions()
    # a thread that spins takes a core from the one that it waits for
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, dict(inputs))


def write_description(folder: Path, judge: Judge, about: Mapping[str, str], version: str) -> None:
    """Write all but the network, which must be there, into a folder."""
    settings = {key: judge.settings[key] for key in SETTINGS}
    if (mask := settings["regions"]["mask"]) is not None:
        ignored = decode_mask(given_path(mask))
        Image.fromarray(ignored.astype(np.uint8) * 255).save(folder / IGNORED)
        settings["regions"] = {**settings["regions"], "mask": IGNORED}
    model = judge.object_model
    if model is not None and model.background.any():
        write_array(folder / BACKGROUND, model.background)
    fields = ("method", "reason", "thresholds", "measured")
    content = {
        "format": FORMAT,
        "about": dict(about),
        "version": version,
        "settings": settings,
        "threshold": dict(judge.threshold),
        "calibration": judge.calibration.tolist(),
        "scale": judge.scale,
        "limit": judge.limit,
        "geometry": judge.geometry.as_json(),
        "levels": vars(judge.levels),
        "object_model": model and {key: getattr(model, key) for key in fields},
        "sha256": {path.name: file_hash(path) for path in sorted(folder.iterdir())},
    }
    write_json(folder / DESCRIPTION, content)


def is_exported(folder: Path | str) -> bool:
    """Check whether a folder is an exported detector."""
    return is_file(Path(folder) / DESCRIPTION)


def open_exported(folder: Path | str, *, threads: int | None = None) -> ExportedDetector:
    """Open an exported detector.

    Parameters
    ----------
    folder : as ``flawline export`` wrote it.
    threads : None for all cores.

    Raises
    ------
    FlawlineError
        If the folder is none, is damaged, or was written by a newer version.
    """
    folder = Path(folder)
    if not is_exported(folder):
        raise FlawlineError(
            f"{folder}: no exported detector, because {DESCRIPTION} is missing; make one with: "
            f"flawline export CONFIG {folder}"
        )
    again = "Export the detector again."
    try:
        content = read_json(folder / DESCRIPTION)
        if content["format"] != FORMAT:
            raise FlawlineError(
                f"{folder}: has the format {content['format']}, and this version of flawline reads "
                f"{FORMAT}. {again}"
            )
        for name, sha256 in content["sha256"].items():
            if file_hash(folder / name) != sha256:
                raise FlawlineError(f"{folder / name}: is damaged (another SHA-256). {again}")
        settings = content["settings"]
        if settings["regions"]["mask"] is not None:
            settings["regions"]["mask"] = str((folder / IGNORED).absolute())
        geometry = Geometry.from_json(content["geometry"])
        return ExportedDetector(
            run=onnxruntime(folder / NETWORK, threads),
            about=content["about"],
            version=content["version"],
            settings=settings,
            threshold=content["threshold"],
            calibration=np.array(content["calibration"], float),
            scale=tuple(content["scale"]),
            limit=content["limit"],
            geometry=geometry,
            levels=Levels(**content["levels"]),
            object_model=_object_model(folder, content["object_model"], geometry),
        )
    except FlawlineError:
        raise
    except Exception as error:  # a damaged file can raise any exception
        raise FlawlineError(f"{folder}: is damaged ({error}). {again}") from error


def _object_model(
    folder: Path, fields: Mapping[str, Any] | None, geometry: Geometry
) -> ObjectModel | None:
    if fields is None:
        return None
    background = np.zeros((*geometry.shape, 3), np.float32)
    if is_file(folder / BACKGROUND):
        background = np.array(read_array(folder / BACKGROUND))
    return ObjectModel(background=background, **fields)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside an exported detector's, which takes its place on success.

    Raises
    ------
    FlawlineError
        If the path is that of something else.
    """
    if folder.exists() and not is_exported(folder) and (folder.is_file() or any(folder.iterdir())):
        raise FlawlineError(
            f"{folder}: is there already and is no exported detector; give another name"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = partial.with_suffix(".old")
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():  # what was there stays
                old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
