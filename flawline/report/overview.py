"""The best detector of each category, and what limits what is known of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flawline.metrics import AUROC, BY_COLUMN
from flawline.report.leaderboard import (
    Value,
    by_detector,
    protocols,
    summary,
)
from flawline.report.runs import Run

SMALL_CALIBRATION = 30


@dataclass(frozen=True)
class Best:
    """The best detector of one category.

    Attributes
    ----------
    detector : empty if several cannot be compared because there are not enough test images; then
        nothing is measured.
    alike : detectors that the test images cannot distinguish from it.
    rivals : number of detectors that it was compared with.
    """

    category: str
    protocol: str
    detector: str
    auroc: Value
    rivals: int = 0
    alike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attention:
    """A limitation of what the metrics can tell, and where: (category, words)."""

    title: str
    explanation: str
    entries: tuple[tuple[str, str], ...]


def best_of_categories(
    runs: Sequence[Run], pairs: Sequence[Mapping[str, Any]] = ()
) -> tuple[Best, ...]:
    """Return the detector with the highest mean image AUROC in each protocol and category.

    Parameters
    ----------
    pairs : rows of ``pairwise.csv``, to find detectors that are not clearly worse.
    """
    found = []
    groups = by_detector(runs)
    for protocol in protocols(runs):
        for category in dict.fromkeys(run.category for run in runs):
            rivals = {
                key[2]: seeds for key, seeds in groups.items() if key[:2] == (category, protocol)
            }
            if not rivals:
                continue
            # among equals, the first by name, as in best.csv
            name = max(sorted(rivals), key=lambda name: summary(rivals[name], AUROC).mean or -1)
            auroc = summary(rivals[name], AUROC)
            known = auroc.mean is not None or len(rivals) == 1
            found.append(
                Best(
                    category,
                    protocol,
                    name if known else "",
                    auroc,
                    len(rivals) - 1,
                    _alike(name, [p for p in pairs if _of(p, category, protocol)]),
                )
            )
    return tuple(found)


def complement(value: Value) -> Value:
    """Return one minus a value: the share missed from the share found."""
    low, high = (None if end is None else 1 - end for end in (value.high, value.low))
    return Value(None if value.mean is None else 1 - value.mean, low, high)


def lacking(good: int, defective: int) -> str | None:
    """Say which kinds of test images are missing; None if there are both."""
    if good and defective:
        return None
    return f"no {'defective ' if good else 'good ' if defective else ''}test images"


def percent(value: float | None) -> str:
    """Format a share as a percentage, with a decimal near 0 and 1."""
    if value is None:
        return ""
    digits = 1 if 0 < value < 0.0995 or 0.9005 < value < 1 else 0
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def attention(runs: Sequence[Run], beside: Sequence[Run] = ()) -> tuple[Attention, ...]:
    """Return what a reader must know before trusting a metric, the most serious first.

    Parameters
    ----------
    beside : runs that the reader is told of anyway: what limits them, too, is not repeated.
    """
    kinds = (
        Attention(title, explanation, _entries(runs, words, beside))
        for title, explanation, words in KINDS
    )
    return tuple(kind for kind in kinds if kind.entries)


def failures(
    missing: Iterable[str], undrawn: Iterable[str] = (), jobs: Iterable[str] = ()
) -> tuple[Attention, ...]:
    """Return what a failed run cannot show.

    Parameters
    ----------
    missing, undrawn : runs without metrics and without pictures, in words.
    jobs : failed jobs with their logs, in words.
    """
    kinds = (
        (
            "Runs without results",
            "A job that they need failed, so they are missing from all tables and figures.",
            missing,
        ),
        ("Runs without pictures", "Drawing them failed; their metrics are complete.", undrawn),
        ("Failed jobs", "Their logs say why. Fix that and run the same command again.", jobs),
    )
    found = (
        Attention(title, explanation, tuple(("", one) for one in entries))
        for title, explanation, entries in kinds
    )
    return tuple(kind for kind in found if kind.entries)


def _entries(
    runs: Sequence[Run], words: Callable[[Run], str | None], beside: Sequence[Run]
) -> tuple[tuple[str, str], ...]:
    """Return the words of detectors by category; words common to all are said once."""
    found = []
    for category in dict.fromkeys(run.category for run in runs):
        told = {words(run) for run in beside if run.category == category}
        said: dict[str, list[str]] = {}
        own = [run for run in runs if run.category == category]
        for run in own:
            known = any(run.detector in names for names in said.values())  # with another seed
            if not known and (word := words(run)) is not None and word not in told:
                said.setdefault(word, []).append(run.detector)
        detectors = set() if beside else {run.detector for run in own}
        parts = [
            ", ".join(names if set(names) != detectors else []) + (f" ({word})" if word else "")
            for word, names in said.items()
        ]
        if said:
            found.append((category, "; ".join(part.strip() for part in parts).strip()))
    return tuple(found)


def _uncertified(run: Run) -> str | None:
    threshold = run.metrics.threshold
    return f"{threshold.n} images" if threshold.certified is False else None


def _drifted(run: Run) -> str | None:
    return "" if run.metrics.checks.drift.drifted else None


def _nothing(run: Run) -> str | None:
    if run.counts.test_good or run.counts.test_defective:
        return None
    count = run.counts.test_left_out
    return (
        f"{count} test image{'s' if count > 1 else ''} left out: see problems.csv" if count else ""
    )


def _one_kind(run: Run) -> str | None:
    good, defective = run.counts.test_good, run.counts.test_defective
    return lacking(good, defective) if good or defective else None


def _contaminated(run: Run) -> str | None:
    outliers = run.metrics.checks.contamination.calibration_outliers
    return f"{len(outliers)} image{'s' if len(outliers) > 1 else ''}" if outliers else None


def _duplicates(run: Run) -> str | None:
    count = run.metrics.checks.near_duplicates.count
    return f"{count} pair{'s' if count > 1 else ''}" if count else None


def _at_the_border(run: Run) -> str | None:
    border = run.metrics.checks.border
    return f"{border.count} of {border.n} images" if border.gather else None


def _small_calibration(run: Run) -> str | None:
    n = run.counts.calibration
    return f"{n} images" if n < SMALL_CALIBRATION else None


def _no_masks(run: Run) -> str | None:
    unmeasured = run.value(BY_COLUMN["pixel_auroc"]) is None and run.counts.test_defective > 0
    return "" if unmeasured else None


KINDS: tuple[tuple[str, str, Callable[[Run], str | None]], ...] = (
    (
        "Thresholds that cannot be certified",
        "There are too few calibration images for what the threshold's rule should promise. Add "
        "good images, or ask for less.",
        _uncertified,
    ),
    (
        "Good test parts differ from calibration parts",
        "Their scores have drifted, so the threshold may reject more or fewer parts than expected. "
        "Look for changes of light, camera or material.",
        _drifted,
    ),
    (
        "Good parts score highest at the image's border",
        "The border decides these scores, not the part. Leave some room around the part, or mark "
        "what reaches into the image there as an ignored region.",
        _at_the_border,
    ),
    (
        "Nothing to evaluate",
        "Without test images nobody knows how many defects are found and how many good parts are "
        "rejected. Add good parts to test/good and defective ones to test/<defect type>, and run "
        "the same command again.",
        _nothing,
    ),
    (
        "Test images of one kind alone",
        "How many defects are found takes defective parts in test/<defect type>, how many good "
        "parts are rejected takes good ones in test/good. Add what is missing, and run the same "
        "command again.",
        _one_kind,
    ),
    (
        "Odd calibration images",
        "Some of the good images that set the threshold score far from the others. Take out those "
        "that show defects: they raise the threshold. Leave the others in: without good "
        "images that score high, the threshold rejects more than it promises.",
        _contaminated,
    ),
    (
        "Near-duplicates across subsets",
        "Almost equal images in training and test make metrics look better than they are; in "
        "training and calibration they make thresholds too low.",
        _duplicates,
    ),
    (
        "Small calibration sets",
        f"With fewer than {SMALL_CALIBRATION} images behind a threshold, its false-alarm rate is "
        "poorly known. Add good images.",
        _small_calibration,
    ),
    ("No ground-truth masks", "How well defects are located was not measured.", _no_masks),
)


def _of(pair: Mapping[str, Any], category: str, protocol: str) -> bool:
    return pair.get("category") == category and pair.get("protocol") == protocol


def _alike(name: str, pairs: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return detectors whose difference from `name` is not clear for every seed."""
    found: dict[str, bool] = {}
    for pair in pairs:
        names = [str(pair["detector_a"]), str(pair["detector_b"])]
        if name in names and pair["p_holm"] not in ("", None):
            names.remove(name)
            unclear = float(pair["p_holm"]) >= 0.05
            found[names[0]] = found.get(names[0], False) or unclear
    return tuple(other for other, unclear in found.items() if unclear)
