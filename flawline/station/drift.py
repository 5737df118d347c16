"""Watch whether the latest parts still score like the calibration images."""

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flawline.inspection.batches import compared
from flawline.inspection.folder import DEFECTIVE, UNREADABLE, Verdict
from flawline.station.record import Alarm, Part

if TYPE_CHECKING:
    from flawline.inspection.judging import Judge

WINDOW = 20  # parts
# An inspection tests a batch once, at 1 %; here every part begins another test.
ALARM, CALM = 1e-4, 0.05
MOSTLY = 0.5  # part of the window called defective that is an alarm
NONE = "none"


class Drift:
    """The latest parts, compared with the calibration images as an inspection compares a batch.

    An alarm is raised once, and is over when the scores are like those of the calibration images
    again. Parts called defective are no drift, unless they are half of the window.

    Parameters
    ----------
    parts : what the same version of the detector judged before, the oldest first.
    word : of the latest alarm.
    """

    def __init__(self, judge: "Judge", parts: Iterable[Part] = (), word: str = NONE) -> None:
        self._judge = judge
        self._window: deque[Verdict] = deque(maxlen=WINDOW)
        self.word = word
        for part in parts:
            self.take(part, None)

    def alarm(self, part: Part) -> Alarm | None:
        """Return the alarm that a part raises, or the end of one; changes nothing."""
        if part.decision == UNREADABLE:
            return None
        window = [*self._window, _verdict(part)][-WINDOW:]
        defective = sum(one.decision == DEFECTIVE for one in window)
        found = compared(window, self._judge)
        drifted = found.p_value is not None and found.p_value < ALARM
        calm = found.p_value is None or found.p_value >= CALM
        if defective >= MOSTLY * WINDOW:
            word, verdict = (
                "mostly",
                f"{defective} of the last {len(window)} parts are called defective. If they are "
                "not, the camera, the light or the product has changed: compare pictures.",
            )
        elif drifted:
            word, verdict = found.word, found.verdict
        elif calm and self.word != NONE:
            word, verdict = NONE, "Parts score like the calibration images again."
        else:
            return None
        if word == self.word:
            return None
        return Alarm(part.time, part.id, part.version, word, verdict, part.category, part.detector)

    def take(self, part: Part, alarm: Alarm | None) -> None:
        """Add a part, and remember the alarm that it raised."""
        if part.decision != UNREADABLE:
            self._window.append(_verdict(part))
        if alarm is not None:
            self.word = alarm.word


def _verdict(part: Part) -> Verdict:
    return Verdict(part.name, part.decision, part.score)
