"""Inspect a folder of new photographs with a trained detector."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from flawline.data.datasets.base import shown
from flawline.data.folder_digest import files_below
from flawline.data.images import decode_photograph, reason
from flawline.data.resize import to_original
from flawline.decisions.boxes import find_boxes
from flawline.detectors.data import CHUNK_IMAGES
from flawline.errors import FlawlineError
from flawline.files import given_path, is_folder, replacing, write_table
from flawline.logs import hide_bar
from flawline.pictures import any_uncounted

if TYPE_CHECKING:
    import pandas as pd

    from flawline.inspection.judging import Judge, Photograph

DEFECTIVE, GOOD, UNREADABLE = "defective", "good", "unreadable"
CHANGED = "changed while it was read; the next inspection takes it"
ARRIVED = "arrived during the inspection; the next one takes it"
LARGEST_PANEL = 512  # side of each half of a square overlay, pixels


@dataclass(frozen=True)
class Verdict:
    """The result of an inspection for one file.

    Attributes
    ----------
    file : its path below the folder; bytes that are not text are written as \\x and two digits.
    decision : defective, good or unreadable.
    boxes : x0, y0, x1, y1 of each region that stands out, in pixels of the file's image.
    overlay : file name of the picture that shows them; empty for unreadable files.
    hatched : whether parts of it are hatched because they do not count.
    reason : why it is unreadable.
    """

    file: str
    decision: str
    score: float | None = None
    p_value: float | None = None
    boxes: list[list[int]] = field(default_factory=list)
    overlay: str = ""
    reason: str = ""
    hatched: bool = False


def inspect_folder(
    folder: Path | str, trained: "Judge", overlays: Path | str, *, workers: int = 1
) -> list[Verdict]:
    """Judge every file in `folder` and below it, in the order of their names.

    A file that cannot be read as one image, or is still being written, gets a verdict that says so,
    and the rest goes on. Memory does not grow with the number of files.

    Parameters
    ----------
    overlays : folder for one JPEG per image: the image with its boxes, and its anomaly map.
    workers : threads that decode.

    Raises
    ------
    FlawlineError
        If the folder does not exist.

    Examples
    --------
    >>> from flawline import inspect_folder, open_detector
    >>> trained = open_detector("my.yaml", "bolt", "patchcore")
    >>> verdicts = inspect_folder("incoming", trained, "overlays")
    >>> {verdict.decision for verdict in verdicts} <= {"defective", "good"}
    True
    """
    folder, overlays = given_path(str(folder)), Path(overlays)
    if not is_folder(folder):
        raise FlawlineError(
            f"inspect.folder: there is no folder {str(folder)!r}. Give the folder with the images "
            "to inspect."
        )
    overlays.mkdir(parents=True, exist_ok=True)
    paths = files_below(folder)
    verdicts: list[Verdict] = []
    cv2.setNumThreads(1)  # the pool runs one image per thread
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(paths), desc="inspected", unit="image", disable=hide_bar()) as bar,
    ):
        at_once = max(CHUNK_IMAGES // trained.geometry.pieces, 1)
        for start in range(0, len(paths), at_once):
            part = paths[start : start + at_once]
            read = list(pool.map(lambda path: read_photograph(path, trained), part))
            judged = judge_photographs([one for one in read if not isinstance(one, str)], trained)
            for number, (path, one) in enumerate(zip(part, read, strict=True), start=start + 1):
                name = shown(path, folder)
                if isinstance(one, str):
                    verdicts.append(Verdict(name, UNREADABLE, reason=one))
                    continue
                score, decision, p_value, boxes, anomaly_map = next(judged)
                overlay = f"{number:06d}.jpg"
                draw_overlay(overlays / overlay, one, anomaly_map, boxes, trained)
                mode = trained.settings["prepare"]["resize"]
                original = to_original(boxes, trained.image_shape, one.original, mode).tolist()
                verdicts.append(
                    Verdict(
                        name,
                        decision,
                        score,
                        p_value,
                        original,
                        overlay,
                        hatched=any_uncounted(one.counted),
                    )
                )
            bar.update(len(part))
    known = set(paths)
    for path in files_below(folder):
        if path not in known:
            verdicts.append(Verdict(shown(path, folder), UNREADABLE, reason=ARRIVED))
    return verdicts


def verdict_table(verdicts: list[Verdict]) -> "pd.DataFrame":
    """Return a row per file: file, decision, score, p_value, box_count, boxes, overlay, reason."""
    import pandas as pd

    return pd.DataFrame(
        [
            (
                v.file,
                v.decision,
                v.score,
                v.p_value,
                len(v.boxes) if v.overlay else None,
                json.dumps(v.boxes) if v.overlay else "",
                v.overlay,
                v.reason,
            )
            for v in verdicts
        ],
        columns=["file", "decision", "score", "p_value", "box_count", "boxes", "overlay", "reason"],
    ).astype({"box_count": "Int64", "score": float, "p_value": float})


def write_verdicts(path: Path | str, verdicts: list[Verdict]) -> None:
    """Write the table as CSV."""
    write_table(path, verdict_table(verdicts))


def read_photograph(path: Path, trained: "Judge") -> "Photograph | str":
    """Return the prepared photograph, or why it cannot be read."""
    most = trained.settings["max_megapixels"]
    try:
        before = path.stat()
        if not before.st_size and path.is_file():
            return "empty: zero bytes"
        image = decode_photograph(path, most, trained.levels)
        after = path.stat()
    except FlawlineError as error:
        return str(error).removeprefix(f"{path}: ")
    except OSError as error:
        return reason(error)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return CHANGED
    return trained.prepare(image)


def judge_photographs(
    photographs: "list[Photograph]", trained: "Judge"
) -> Iterator[tuple[float, str, float, np.ndarray, np.ndarray]]:
    """Return score, decision, p-value, boxes in prepared pixels and map of each photograph."""
    if not photographs:
        return
    found = trained.score(photographs)
    defective, p_values = trained.defective(found.scores), trained.p_values(found.scores)
    for row, anomaly_map in enumerate(found.anomaly_maps):
        boxes = find_boxes(anomaly_map, trained.limit, trained.settings["boxes"]["min_area"])
        decision = DEFECTIVE if defective[row] else GOOD
        yield float(found.scores[row]), decision, float(p_values[row]), boxes[:, :4], anomaly_map


def draw_overlay(
    path: Path,
    photograph: "Photograph",
    anomaly_map: np.ndarray,
    boxes: np.ndarray,
    trained: "Judge",
) -> None:
    """Draw the image with its boxes beside its map, with the same colours in all inspections."""
    from flawline.pictures import boxed, coloured, hatched, side_by_side

    image = hatched(photograph.image, photograph.counted)
    shown = boxed(image, boxes), coloured(anomaly_map, trained.scale, image.shape)
    strip = side_by_side(shown, LARGEST_PANEL)
    with replacing(path) as partial:
        Image.fromarray(strip).save(partial, "JPEG", quality=85)
