"""Compare a batch of new images with the calibration images, and keep a history of batches."""

import fcntl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flawline.evaluation.drift import MIN_SCORES, drift
from flawline.files import read_table, write_table
from flawline.inspection.folder import DEFECTIVE, GOOD, UNREADABLE, Verdict

if TYPE_CHECKING:
    from flawline.inspection.judging import Judge

OF_DETECTOR = ("category", "detector", "seed", "trained")
KEY = ("inspection", *OF_DETECTOR, "content")
COLUMNS = ("inspected", *KEY, "images", "defective", "unreadable", "median", "p_value", "drift")
SHOWN = 50


@dataclass(frozen=True)
class Comparison:
    """The comparison of a batch with the calibration images.

    Attributes
    ----------
    word : none, higher, lower, other, or `not tested`.
    p_value : two-sample Kolmogorov-Smirnov; None if not tested.
    verdict : in words.
    """

    word: str
    p_value: float | None
    verdict: str


def compared(verdicts: Sequence[Verdict], trained: "Judge") -> Comparison:
    """Test whether a batch's images that are called good score like calibration images.

    Any batch with defects would differ, so only scores up to the threshold are compared: these are
    equally distributed if the good images are. The number above it tells the rest. As in `drift`,
    lower scores are not drift if calibration images were scored by the memory of others.
    """
    if trained.threshold.get("mode") == "cross" or trained.threshold.get("folds"):
        return Comparison(
            "not tested",
            None,
            "Drift is not tested: the calibration images were scored by the models of "
            "cross-calibration, which score otherwise than the one in use.",
        )
    scores = np.array([v.score for v in verdicts if v.decision == GOOD], float)
    below = trained.calibration[~trained.defective(trained.calibration)]
    if min(len(scores), len(below)) < MIN_SCORES:
        return Comparison(
            "not tested",
            None,
            f"Drift is not tested: that takes {MIN_SCORES} images called good, and as many "
            "calibration images.",
        )
    left_out = trained.threshold.get("mode") == "leave_one_out"
    found = drift(below, scores, np.zeros(0), higher_only=left_out)
    p_value = float(found["p_value"])
    if not found["drifted"]:
        return Comparison(
            "none", p_value, "No drift seen: images called good score like the calibration images."
        )
    change = "The light, the pose, the material or the camera may have changed: compare pictures"
    if found["auroc"] > 0.6:
        word, verdict = (
            "higher",
            "Images called good score higher than the calibration images, so more good parts than "
            f"promised may be called defective. {change}.",
        )
    elif found["auroc"] < 0.4:
        word, verdict = (
            "lower",
            "Images called good score lower than the calibration images, so the threshold may be "
            f"too high for some defects. {change}.",
        )
    else:
        word, verdict = (
            "other",
            "Scores of images called good spread differently from those of the calibration images. "
            f"{change}.",
        )
    return Comparison(word, p_value, verdict)


def recorded(
    history: Path | str,
    verdicts: Sequence[Verdict],
    comparison: Comparison,
    names: Mapping[str, str],
) -> list[dict[str, str]]:
    """Add a batch to the history, or bring it up to date if the same images were inspected before.

    Parameters
    ----------
    history : CSV file, made if it is not there.
    names : the columns of `KEY`: what was inspected by what.

    Returns
    -------
    The batches that the same trained detector judged, the oldest first, as texts by `COLUMNS`.

    Raises
    ------
    FlawlineError
        If the file is damaged.
    """
    import pandas as pd

    history = Path(history)
    history.parent.mkdir(parents=True, exist_ok=True)
    scores = [verdict.score for verdict in verdicts if verdict.score is not None]
    decisions = [verdict.decision for verdict in verdicts]
    row = {name: str(names[name]) for name in KEY} | {
        "inspected": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        "images": str(len(decisions) - decisions.count(UNREADABLE)),
        "defective": str(decisions.count(DEFECTIVE)),
        "unreadable": str(decisions.count(UNREADABLE)),
        "median": f"{np.median(scores):.6g}" if scores else "",
        "p_value": "" if comparison.p_value is None else f"{comparison.p_value:.3g}",
        "drift": comparison.word,
    }
    with history.with_name(f".{history.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows: list[dict[str, str]] = []
        if history.is_file():
            table = read_table(history, dtype=dict.fromkeys(COLUMNS, str))
            rows = [
                {str(name): str(text) for name, text in one.items()}
                for one in table.to_dict("records")
            ]
        for known in rows:
            if all(known[name] == row[name] for name in KEY):
                known |= row | {"inspected": known["inspected"]}
                break
        else:
            rows.append(row)
        write_table(history, pd.DataFrame(rows, columns=list(COLUMNS)))
    return [known for known in rows if all(known[name] == row[name] for name in OF_DETECTOR)]
