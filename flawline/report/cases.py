"""The images that are worth looking at, and the panels that show each of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from flawline.decisions.boxes import find_boxes
from flawline.files import read_json, replacing, write_json
from flawline.pictures import (
    _as_tall,
    any_uncounted,
    boxed,
    coloured,
    hatched,
    outlined,
    side_by_side,
)

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("image with boxes found", "ground truth outlined", "anomaly map")
CORNERS = ["x0", "y0", "x1", "y1"]
CALIBRATION = "calibration image"
"""The kind of a calibration image that is shown if there are no good test images."""
LARGEST_PANEL = 256  # side of a square panel of the page's gallery, pixels
GAP = 4
QUALITY = 80


@dataclass(frozen=True)
class Case:
    """One image of the gallery.

    Attributes
    ----------
    row : its number in its subset.
    name : its image id; for test images, without the subset.
    kind : why it is shown, a reason of `choose`, or `CALIBRATION`.
    defect_type : `good` for a good part.
    score : float.
    image : uint8 (H, W, 3), RGB.
    ground_truth : uint8 (H, W), not zero in defects; None without a mask.
    anomaly_map : float (h, w), higher is more anomalous.
    boxes : (n, 4), x0, y0, x1, y1 of each, drawn on the image.
    counted : uint8 (H, W), 1 where pixels count; None if all do.
    """

    row: int
    name: str
    kind: str
    defect_type: str
    score: float
    image: np.ndarray
    ground_truth: np.ndarray | None
    anomaly_map: np.ndarray
    boxes: np.ndarray | None = None
    counted: np.ndarray | None = None

    @property
    def title(self) -> str:
        return f"{self.name}: {self.kind}, score {format_score(self.score)}"


def format_score(value: float) -> str:
    """Format a score with four significant digits, because anomaly scores have no fixed scale."""
    return f"{value:#.4g}".rstrip(".")


def choose(
    labels: np.ndarray, scores: np.ndarray, threshold: float, count: int, typical: int = 0
) -> list[tuple[int, str]]:
    """Choose the test images that are worth looking at.

    Misses come first, the lowest score first; then false alarms, the highest score first. If there
    are too many, each kind gets at least half of the places that it can fill. Remaining places go
    to the right calls whose scores are nearest to the threshold, half of them to defective images
    if there are enough. Last come the typical right calls: those whose scores are nearest to the
    median of their class. Ties keep their order.

    Parameters
    ----------
    labels : (N,), 0 for good and 1 for defective.
    scores : float (N,), higher is more anomalous.
    threshold : scores above it are called defective.
    count : most images, without the typical ones.
    typical : number of typical images of each class.

    Returns
    -------
    list of (row number, reason), the reason being "miss", "false alarm", "closest call: good",
    "closest call: defective", "typical: defective" or "typical: good".
    """
    defective, scores = np.asarray(labels, bool), np.asarray(scores, float)
    called = scores > threshold
    misses = _ordered(defective & ~called, scores)
    alarms = _ordered(~defective & called, -scores)
    kept = min(len(misses), max(count - len(alarms), (count + 1) // 2))
    chosen = [(row, "miss") for row in misses[:kept]]
    chosen += [(row, "false alarm") for row in alarms[: count - kept]]
    free, far = count - len(chosen), np.abs(scores - threshold)
    found, passed = _ordered(defective & called, far), _ordered(~defective & ~called, far)
    close = max(free - len(passed), (free + 1) // 2)
    nearest = [*found[:close], *passed[: free - len(found[:close])]]
    nearest.sort(key=lambda row: (far[row], row))
    chosen += [(row, f"closest call: {_word(defective[row])}") for row in nearest]
    shown = np.zeros(len(scores), bool)
    shown[[row for row, _ in chosen]] = True
    for kind in (True, False):
        middle = np.median(scores[defective == kind]) if (defective == kind).any() else 0.0
        right = (defective == kind) & (called == kind) & ~shown
        rows = _ordered(right, np.abs(scores - middle))[:typical]
        chosen += [(row, f"typical: {_word(kind)}") for row in rows]
    return chosen


def open_cases(
    chosen: Sequence[tuple[int, str]],
    predictions: "pd.DataFrame",
    images: np.ndarray,
    masks: np.ndarray,
    anomaly_maps: np.ndarray,
    boxes: "pd.DataFrame | None" = None,
    counted: np.ndarray | None = None,
) -> list[Case]:
    """Return chosen test images as cases.

    Parameters
    ----------
    chosen : row numbers and reasons, from `choose`.
    predictions : columns image_id, label, defect_type, has_mask, score; one row per test image.
    images : uint8 (N, H, W, 3).
    masks : uint8 (N, H, W).
    anomaly_maps : float (N, h, w).
    boxes : columns row, x0, y0, x1, y1; None for none.
    counted : uint8 (N, H, W), 1 where pixels count; None where all do.
    """
    cases = []
    for row, kind in chosen:
        about = predictions.iloc[row]
        cases.append(
            Case(
                row,
                str(about["image_id"]).removeprefix("test/"),
                kind,
                str(about["defect_type"]) if about["label"] else "good",
                float(about["score"]),
                images[row],
                masks[row] if about["has_mask"] or not about["label"] else None,
                anomaly_maps[row].astype(np.float32),
                None if boxes is None else boxes.loc[boxes["row"] == row, CORNERS].to_numpy(),
                None if counted is None else counted[row],
            )
        )
    return cases


def calibration_cases(
    scores: "pd.DataFrame",
    split: "pd.DataFrame",
    images: np.ndarray,
    anomaly_maps: np.ndarray,
    count: int,
    *,
    limit: float,
    min_area: int,
    counted: np.ndarray | None = None,
) -> list[Case]:
    """Return the calibration images with the highest scores, to show without test images.

    Parameters
    ----------
    scores : columns row, score; rows are those of `images`.
    split : columns image_id, subset; without a calibration subset (cross-calibration), the images
        are those of the training subset.
    images : uint8 (N, H, W, 3).
    anomaly_maps : float16 (n, H, W), in the order of `scores`.
    count : most images.
    limit, min_area : of the boxes, as in `boxes.find_boxes`.
    counted : uint8 (N, H, W), 1 where pixels count; None where all do.
    """
    subset = "calibration" if (split["subset"] == "calibration").any() else "train"
    names = split.loc[split["subset"] == subset, "image_id"].to_numpy()
    found = []
    for place in np.argsort(-scores["score"].to_numpy(), kind="stable")[:count]:
        row = int(scores["row"].iloc[place])
        found.append(
            Case(
                row,
                str(names[row]),
                CALIBRATION,
                "good",
                float(scores["score"].iloc[place]),
                images[row],
                np.zeros(images[row].shape[:2], np.uint8),
                anomaly_maps[place].astype(np.float32),
                find_boxes(anomaly_maps[place], limit, min_area)[:, :4],
                None if counted is None else counted[row],
            )
        )
    return found


def panels(case: Case, scale: tuple[float, float]) -> list[np.ndarray]:
    """Draw the three pictures of `COLUMNS`, each uint8 (H, W, 3)."""
    image = hatched(case.image, case.counted)
    return [
        boxed(image, case.boxes),
        outlined(image, case.ground_truth),
        coloured(case.anomaly_map, scale, image.shape),
    ]


def some_hatched(cases: Iterable[Case]) -> bool:
    """Check whether any of the cases has pixels that do not count."""
    return any(any_uncounted(case.counted) for case in cases)


def picture_rows(
    cases: Sequence[Case], pictures: Mapping[str, np.ndarray], scale: tuple[float, float]
) -> list[tuple[str, list[np.ndarray]]]:
    """Return each case's title, with its image, the method's pictures of it, and its anomaly map.

    Parameters
    ----------
    pictures : from `Detector.pictures`; all maps have one scale. They get the proportions of the
        photographs, which a network may see otherwise.
    """
    maps = [array for array in pictures.values() if array.ndim == 3]
    low = min((float(array.min()) for array in maps), default=0.0)
    high = max((float(array.max()) for array in maps), default=1.0)
    ends = low, high if high > low else low + 1.0
    shown = [
        list(array) if array.ndim == 4 else [coloured(one, ends, one.shape) for one in array]
        for array in pictures.values()
    ]
    return [
        (
            case.title,
            [
                hatched(case.image, case.counted),
                *(_as_tall(pictures_of_one[number], case.image) for pictures_of_one in shown),
                coloured(case.anomaly_map, scale, case.image.shape),
            ],
        )
        for number, case in enumerate(cases)
    ]


def write_cases(
    folder: Path | str, cases: Sequence[Case], scale: tuple[float, float], **about: Any
) -> None:
    """Write one WebP image per case, its panels side by side, and ``cases.json``.

    Parameters
    ----------
    about : more keys of ``cases.json``.
    """
    folder = Path(folder)
    for old in folder.glob("*.webp"):
        old.unlink()
    written = []
    for number, case in enumerate(cases, start=1):
        strip = side_by_side(panels(case, scale), LARGEST_PANEL, GAP)
        file = f"{number:02d}.webp"
        with replacing(folder / file) as partial:
            Image.fromarray(strip).save(partial, "WEBP", quality=QUALITY, method=6)
        keys = ("row", "name", "kind", "defect_type", "score")
        written.append({"file": file} | {key: getattr(case, key) for key in keys})
    write_json(
        folder / "cases.json",
        {"cases": written, "scale": list(scale), "hatched": some_hatched(cases)} | about,
    )


def read_cases(folder: Path | str) -> Mapping[str, Any]:
    """Read what `write_cases` wrote, each case with the `content` of its file."""
    folder = Path(folder)
    if not (folder / "cases.json").exists():
        return {"cases": []}
    found = read_json(folder / "cases.json")
    for case in found["cases"]:
        case["content"] = (folder / case["file"]).read_bytes()
    return found


def _word(defective: bool) -> str:
    return "defective" if defective else "good"


def _ordered(wanted: np.ndarray, key: np.ndarray) -> list[int]:
    rows = np.flatnonzero(wanted)
    return [int(row) for row in rows[np.argsort(key[rows], kind="stable")]]
