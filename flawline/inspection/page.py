"""The page of an inspection: HTML that needs no network and no other file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment

from flawline.inspection.batches import SHOWN, Comparison, compared
from flawline.inspection.folder import DEFECTIVE, GOOD, UNREADABLE, Verdict
from flawline.report.html import environment, write_page

if TYPE_CHECKING:
    from flawline.inspection.judging import Judge

OWN_TEMPLATES = Path(__file__).parent / "templates"
PICTURES = 60  # defective images shown, the highest scores first
CLOSE_CALLS = 12  # good images shown, the highest scores first
ROWS = 2000  # of the table of all images: more slow a browser down
MOSTLY = 0.5  # share of alarms from which on defects are not the likeliest explanation


@dataclass(frozen=True)
class Inspection:
    """The content of the page.

    Attributes
    ----------
    title : of the page.
    facts : label and text, for its head.
    scale : ends of the colours of anomaly maps. boxed : pixels above it are boxed.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    threshold: float
    promise: str
    calibration: int
    scale: tuple[float, float]
    boxed: float
    overlays: Path
    drift: Comparison
    history: tuple[Mapping[str, str], ...] = ()

    def of(self, decision: str) -> list[Verdict]:
        """Return the files with a decision, the highest score first."""
        found = [verdict for verdict in self.verdicts if verdict.decision == decision]
        return sorted(found, key=lambda verdict: -(verdict.score or 0.0))

    @property
    def warning(self) -> str:
        """A warning if the decisions are probably not about defects; else empty."""
        defective, readable = len(self.of(DEFECTIVE)), len(self.readable)
        if readable and defective >= MOSTLY * readable:
            return (
                f"{defective} of {readable} images are called defective. If the parts are not, the "
                "camera, the light or the product has changed since the training images were "
                "taken: compare the pictures below with these, and train again on images as they "
                "are now."
            )
        return ""

    @property
    def hatched(self) -> bool:
        """Check whether parts of any image are hatched because they do not count."""
        return any(verdict.hatched for verdict in self.verdicts)

    @property
    def readable(self) -> list[Verdict]:
        """The files that are images, in the order of their names."""
        return [verdict for verdict in self.verdicts if verdict.decision != UNREADABLE]


def describe(
    verdicts: list[Verdict],
    trained: "Judge",
    overlays: Path | str,
    history: Sequence[Mapping[str, str]] = (),
    **about: str,
) -> Inspection:
    """Gather the content of the page.

    Parameters
    ----------
    overlays : folder of the pictures.
    history : the batches that this detector judged, this one included, as `batches.recorded` gives
        them.
    about : texts for the head of the page: category, detector, seed, folder.
    """
    facts = [(key.capitalize(), text) for key, text in about.items()]
    return Inspection(
        f"Inspection of {about.get('folder', 'new images')}",
        tuple(facts),
        tuple(verdicts),
        trained.threshold["value"],
        trained.threshold.get("promise", ""),
        len(trained.calibration),
        trained.scale,
        trained.limit,
        Path(overlays),
        compared(verdicts, trained),
        tuple(history[-SHOWN:]),
    )


def render(path: Path | str, inspection: Inspection) -> None:
    """Write the page; equal inspections give equal bytes."""
    template = _environment(inspection).get_template("inspection.html.j2")
    defective = inspection.of(DEFECTIVE)
    text = template.render(
        page=inspection,
        defective=defective,
        shown=defective[:PICTURES],
        close=inspection.of(GOOD)[:CLOSE_CALLS],
        unreadable=[v for v in inspection.verdicts if v.decision == UNREADABLE],
        rows=inspection.readable[:ROWS],
        overlays=inspection.overlays.name,
    )
    write_page(path, text)


def _environment(inspection: Inspection) -> Environment:
    def content(verdict: Verdict) -> bytes:
        return (inspection.overlays / verdict.overlay).read_bytes()

    made = environment(OWN_TEMPLATES)
    made.filters["content"] = content
    return made
