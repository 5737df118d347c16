"""The verdict on each product, for readers who know parts and not statistics: a card for each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flawline.evaluation.intervals import clopper_pearson
from flawline.options.report import Report
from flawline.report.cases import CALIBRATION, format_score
from flawline.report.overview import Best, percent
from flawline.report.runs import Run

USABLE, BORDERLINE, NOT_YET, UNTESTED = "usable", "borderline", "not yet", "not tested"
FEW_CALIBRATION = 30
"""With fewer images behind a threshold, more good photographs are the first thing to try."""


@dataclass(frozen=True)
class Count:
    """Test parts that are called wrong.

    Attributes
    ----------
    least, most : of the seeds.
    of : number of test parts; 0 if there are none.
    high : the share that it could be, the upper end of the interval.
    """

    least: int
    most: int
    of: int
    high: float | None = None

    @property
    def words(self) -> str:
        """Such as "1 of 20"."""
        several = "" if self.least == self.most else f"{self.least}\N{EN DASH}"
        return f"{several}{self.most} of {self.of}"

    @property
    def share(self) -> float:
        """The share of the worst seed."""
        return self.most / self.of if self.of else 0.0

    def within(self, limit: float) -> bool:
        return self.share <= limit

    def surely_within(self, limit: float) -> bool:
        return self.high is not None and self.high <= limit


@dataclass(frozen=True)
class Card:
    """What a reader must know of one product.

    Attributes
    ----------
    best : its best detector.
    verdict : one of `USABLE`, `BORDERLINE`, `NOT_YET`, `UNTESTED`.
    reason : of the verdict, a sentence.
    types : defect types, the most missed first.
    drift : in a sentence. drifted : None if it could not be tested.
    pictures : words and a case of the gallery.
    steps : what to do next, sentences.
    run : of the first seed.
    anchor : of the detector's section.
    """

    best: Best
    verdict: str
    reason: str
    missed: Count
    rejected: Count
    types: tuple[tuple[str, Count], ...]
    drift: str
    drifted: bool | None
    pictures: tuple[tuple[str, Mapping[str, Any]], ...]
    steps: tuple[str, ...]
    run: Run
    anchor: str = ""


def cards(runs: Sequence[Run], best: Sequence[Best], limits: Report) -> tuple[Card, ...]:
    """Return a card for the best detector of each category and protocol."""
    found = []
    for one in best:
        rivals = [r for r in runs if (r.category, r.protocol) == (one.category, one.protocol)]
        # several that cannot be compared: what is known of the data is known of the first
        own = [run for run in rivals if run.detector == one.detector] or rivals[:1]
        found.append(_card(one, own, [run for run in rivals if run not in own], limits))
    return tuple(found)


def judge(missed: Count, rejected: Count, limits: Report) -> tuple[str, str]:
    """Return the verdict and its reason.

    Beyond a limit, the detector is not usable yet. Within both it is usable only if the upper ends
    of the intervals are, too: few test parts prove little.
    """
    over = []
    if not missed.within(limits.max_missed):
        over.append(f"misses more than {percent(limits.max_missed)} of the defective parts")
    if not rejected.within(limits.max_rejected):
        good = "ones" if over else "parts"
        over.append(f"rejects more than {percent(limits.max_rejected)} of the good {good}")
    if over:
        return NOT_YET, _sentence(" and ".join(over))
    if not missed.of and not rejected.of:
        return (
            UNTESTED,
            "There are no test parts: it can inspect new images, but nobody knows how well.",
        )
    if not missed.of:
        return UNTESTED, "There are no defective test parts, so nobody knows what it misses."
    if not rejected.of:
        return UNTESTED, "There are no good test parts, so nobody knows how many it rejects."
    sure = missed.surely_within(limits.max_missed), rejected.surely_within(limits.max_rejected)
    if all(sure):
        return USABLE, "Within both limits, and there are enough test parts to rely on that."
    few = " and ".join(
        kind for kind, enough in zip(("defective", "good"), sure, strict=True) if not enough
    )
    return BORDERLINE, f"Within both limits on these parts, but too few {few} ones were tested."


def in_words(made: Sequence[Card]) -> str:
    """Say in a sentence or two which products are usable."""
    kinds = (
        (USABLE, "usable"),
        (BORDERLINE, "borderline"),
        (NOT_YET, "not usable yet"),
        (UNTESTED, "not tested"),
    )
    named = [
        (words, [card.best.category for card in made if card.verdict == kind])
        for kind, words in kinds
    ]
    named = [(words, names) for words, names in named if names]
    if len(made) == 1:
        card = made[0]
        subject = f"{card.best.detector} on {card.best.category}" if card.best.detector else ""
        return f"{subject or card.best.category} is {named[0][0]}. {card.reason}"
    if len(named) == 1:
        words, names = named[0]
        every = "Both" if len(names) == 2 else f"All {len(names)}"
        return f"{every} products are {words}: {', '.join(names)}."
    parts = [
        f"{len(names)} of {len(made)} products {'is' if len(names) == 1 else 'are'} {words}"
        if not number
        else f"{len(names)} {'is' if len(names) == 1 else 'are'} {words}"
        for number, (words, names) in enumerate(named)
    ]
    said = [f"{part}: {', '.join(names)}" for part, (_, names) in zip(parts, named, strict=True)]
    return "; ".join(said) + "."


def parts_needed(wrong: int, limit: float, confidence: float) -> int | None:
    """Return how many test parts it takes to be sure of a limit, with as many called wrong.

    None if it would take more than ten thousand.
    """
    low, high = 1, 10_000
    if clopper_pearson(wrong, high, confidence)[1] > limit:
        return None
    while low < high:
        middle = (low + high) // 2
        enough = middle >= wrong and clopper_pearson(wrong, middle, confidence)[1] <= limit
        low, high = (low, middle) if enough else (middle + 1, high)
    return low


def threshold_within(run: Run, limits: Report) -> tuple[float, int, int] | None:
    """Return a threshold that keeps both limits on the test images, and what it misses, rejects.

    The one with the least sum of both shares, in the middle of its gap between scores.
    """
    good, bad = (np.sort(run.scores.get(kind, np.zeros(0))) for kind in ("good", "defective"))
    values = np.unique(np.concatenate([good, bad]))
    if not (len(good) and len(bad)) or len(values) < 2:
        return None
    between = (values[1:] + values[:-1]) / 2
    missed = np.searchsorted(bad, between, side="right")
    rejected = len(good) - np.searchsorted(good, between, side="right")
    shares = missed / len(bad), rejected / len(good)
    fits = (shares[0] <= limits.max_missed) & (shares[1] <= limits.max_rejected)
    if not fits.any():
        return None
    at = int(np.argmin(np.where(fits, shares[0] + shares[1], math.inf)))
    return float(between[at]), int(missed[at]), int(rejected[at])


def _card(best: Best, own: Sequence[Run], others: Sequence[Run], limits: Report) -> Card:
    missed, rejected = _missed(own), _rejected(own)
    verdict, reason = judge(missed, rejected, limits)
    if not best.detector:
        lacking = "defective " if rejected.of else "good " if missed.of else ""
        verdict = UNTESTED
        reason = f"Without {lacking}test parts, nobody knows which detector is best."
    drift = next((r.metrics.checks.drift for r in own if r.metrics.checks.drift.drifted), None)
    drift = drift or own[0].metrics.checks.drift
    return Card(
        best,
        verdict,
        reason,
        missed,
        rejected,
        _types(own) if best.detector else (),
        drift.verdict,
        drift.drifted,
        _pictures(own[0]) if best.detector else (),
        tuple(_steps(verdict, missed, rejected, own, others, limits, bool(drift.drifted))),
        own[0],
    )


def _missed(runs: Sequence[Run]) -> Count:
    at = [run.metrics.at_threshold for run in runs]
    counts = [one.false_negative for one in at]
    of = at[0].true_positive + at[0].false_negative
    lows = [ends[0] for run in runs if (ends := run.metrics.intervals.get("at_threshold.recall"))]
    return Count(min(counts), max(counts), of, 1 - min(lows) if lows else None)


def _rejected(runs: Sequence[Run]) -> Count:
    at = [run.metrics.at_threshold for run in runs]
    counts = [one.false_positive for one in at]
    name = "at_threshold.false_alarm_rate"
    highs = [ends[1] for run in runs if (ends := run.metrics.intervals.get(name))]
    of = at[0].false_positive + at[0].true_negative
    return Count(min(counts), max(counts), of, max(highs, default=None))


def _types(runs: Sequence[Run]) -> tuple[tuple[str, Count], ...]:
    names = runs[0].metrics.by_defect_type
    found = []
    for name in names:
        own = [run.metrics.by_defect_type[name] for run in runs]
        counts = [one.at_threshold.false_negative for one in own]
        lows = [e[0] for one in own if (e := one.intervals.get("at_threshold.recall"))]
        high = 1 - min(lows) if lows else None
        found.append((name, Count(min(counts), max(counts), own[0].n, high)))
    return tuple(sorted(found, key=lambda pair: (-pair[1].share, pair[0])))


def _pictures(run: Run) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """Return a typical find and the worst call or, without both, what there is."""
    by_kind: dict[str, Mapping[str, Any]] = {}
    for case in run.cases.get("cases", ()):
        by_kind.setdefault(case["kind"], case)
    wanted = (
        ("Typical find", ("typical: defective", "closest call: defective")),
        ("Worst miss", ("miss",)),
        ("Worst false alarm", ("false alarm",)),
        ("Good part with the highest score", (CALIBRATION,)),
    )
    found = [
        (words, case)
        for words, kinds in wanted
        if (case := next((by_kind[kind] for kind in kinds if kind in by_kind), None))
    ]
    return tuple(found[:2])


def _steps(
    verdict: str,
    missed: Count,
    rejected: Count,
    own: Sequence[Run],
    others: Sequence[Run],
    limits: Report,
    drifted: bool,
) -> Iterable[str]:
    """Yield what to do next, the most useful first."""
    if drifted:
        yield (
            "Make light, camera and position the same as for the training photographs, or train "
            "again with photographs as they are now."
        )
    confidence = own[0].metrics.bootstrap.confidence
    tests = [
        ("defective", "test/<defect type>", missed, limits.max_missed),
        ("good", "test/good", rejected, limits.max_rejected),
    ]
    for kind, place, count, limit in tests:
        if not count.of:
            enough = parts_needed(0, limit, confidence)
            told = (
                f": {enough} with none called wrong are enough for {percent(limit)}"
                if enough
                else ""
            )
            yield f"Put photographs of {kind} parts into {place}{told}."
    if verdict == NOT_YET:
        yield from _to_improve(missed, rejected, own, others, limits)
    elif verdict == BORDERLINE:
        for kind, _, count, limit in tests:
            enough = parts_needed(count.most, limit, confidence)
            if not count.surely_within(limit) and enough:
                wrong = f"{count.most or 'none'} {'missed' if kind == 'defective' else 'rejected'}"
                yield f"Test more {kind} parts: {enough} with {wrong} are enough (now {count.of})."
    elif verdict == USABLE and not drifted:
        yield "Inspect new parts, and watch for drift from batch to batch."


def _to_improve(
    missed: Count,
    rejected: Count,
    own: Sequence[Run],
    others: Sequence[Run],
    limits: Report,
) -> Iterable[str]:
    if better := _within(others, limits):
        yield f"Use {better[0]}: it keeps both limits on these parts."
        return
    run = own[0]
    found = threshold_within(run, limits)
    if found and len(own) > 1:
        yield "Try other thresholds with the sliders below: one keeps both limits on these parts."
    elif found:
        value, still_missed, still_rejected = found
        way = "lower" if value < run.threshold else "higher"
        yield (
            f"Try a {way} threshold: at {format_score(value)}, {still_missed} would be missed and "
            f"{still_rejected} rejected. It would be chosen on these test parts, so confirm it on "
            "new ones."
        )
    elif missed.of and rejected.of:
        yield (
            "No threshold keeps both limits: try another detector or other features, or larger "
            "images (prepare.size)."
        )
    n = run.metrics.threshold.n
    if not rejected.within(limits.max_rejected) and n < FEW_CALIBRATION:
        yield f"Add good photographs: the threshold comes from {n}."


def _within(runs: Sequence[Run], limits: Report) -> list[str]:
    """Return the detectors that keep both limits with every seed."""
    names = dict.fromkeys(run.detector for run in runs)
    kept = []
    for name in names:
        own = [run for run in runs if run.detector == name]
        missed, rejected = _missed(own), _rejected(own)
        both = missed.of and rejected.of
        if both and missed.within(limits.max_missed) and rejected.within(limits.max_rejected):
            kept.append(name)
    return kept


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."
