"""The pictures that a station keeps: by decision, and within a number of megabytes."""

from pathlib import Path
from typing import Literal, get_args

from flawline.inspection.folder import DEFECTIVE

Rule = Literal["defective", "all", "none"]
RULES = get_args(Rule)
SUFFIXES = {
    b"\x89PNG": ".png",
    b"\xff\xd8": ".jpg",
    b"BM": ".bmp",
    b"II": ".tif",
    b"MM": ".tif",
    b"RIFF": ".webp",
}


def suffix_of(photograph: Path | bytes) -> str:
    """Return the suffix that a photograph should have, by how its content begins."""
    content = photograph if isinstance(photograph, bytes) else photograph.read_bytes()[:8]
    return next((end for start, end in SUFFIXES.items() if content.startswith(start)), ".bin")


class Pictures:
    """A folder of pictures whose names sort by their age.

    Parameters
    ----------
    rule : of which parts pictures are kept.
    quota : MB; the oldest make room.
    """

    def __init__(self, folder: Path | str, rule: Rule = "all", quota: float = 1000) -> None:
        self.folder = Path(folder)
        self.rule = rule
        self._quota = quota * 1e6
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sizes = {path.name: path.stat().st_size for path in sorted(self.folder.glob("2*"))}
        self._total = sum(self._sizes.values())

    def wanted(self, decision: str) -> bool:
        """Check whether the picture of a part is to be kept."""
        return self.rule == "all" or (self.rule == "defective" and decision == DEFECTIVE)

    def keep(self, name: str) -> None:
        """Count a new picture, and delete the oldest others above the quota."""
        self._sizes[name] = (self.folder / name).stat().st_size
        self._total += self._sizes[name]
        for old in list(self._sizes):
            if self._total <= self._quota or old == name:
                return
            self.discard(old)

    def discard(self, name: str) -> None:
        """Delete a picture, if it is there."""
        (self.folder / name).unlink(missing_ok=True)
        self._total -= self._sizes.pop(name, 0)
