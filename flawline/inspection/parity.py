"""Compare an exported detector with the trained one, on good images and on synthetic defects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flawline.errors import FlawlineError
from flawline.inspection.exported_detector import ExportedDetector
from flawline.inspection.judging import Judge, Photograph
from flawline.options.synthetic import CutPaste, Line, Noise, SyntheticSet
from flawline.seeding import generator
from flawline.synthesis.base import Sources
from flawline.synthesis.synthesize import InvisibleError, draw_one

TOLERANCE = 5e-3
"""Largest difference from PyTorch: of scores, relative to the largest score; of maps, relative to
their range. Features have half precision, and two runtimes round some of them differently."""
LOST = 0.01  # of the AUROC, by 8-bit convolutions
BATCH, NOISY = 8, 8
DEFECTS = SyntheticSet(recipes=[Line(), CutPaste(), Noise()], combine="one_of")


@dataclass(frozen=True)
class Comparison:
    """The results of an exported detector and of PyTorch on the same images.

    Attributes
    ----------
    good, defective : numbers of compared images: good ones, and ones with a synthetic defect.
    above : number of images above the threshold, by PyTorch.
    score, pixel : the largest differences of scores and maps, relative to the largest score and to
        the maps' range, for good and for defective images separately.
    close : number of differing decisions on scores within `TOLERANCE` of the threshold.
    """

    good: int
    defective: int
    above: int
    score: float
    pixel: float
    close: int

    def __str__(self) -> str:
        text = (
            f"compared with PyTorch on {self.good} good images and {self.defective} with a "
            f"synthetic defect, {self.above} of them above the threshold: scores differ by at most "
            f"{self.score:.1e} of the largest, maps by {self.pixel:.1e} of their range; "
        )
        if not self.close:
            return text + "all decisions are alike"
        return text + (
            f"decisions differ: {self.close}, of scores within {TOLERANCE:.1%} of the threshold"
        )


@dataclass(frozen=True)
class _Differences:
    """The scores of a group of images, counts, and the largest differences.

    Attributes
    ----------
    above : images above the threshold.
    close, wrong : other decisions at and away from it.
    """

    expected: np.ndarray
    found: np.ndarray
    above: int
    close: int
    wrong: int
    score: float
    pixel: float


def compare(
    trained: Judge, exported: ExportedDetector, good_images: Sequence[Photograph]
) -> Comparison:
    """Compare scores, maps and decisions.

    Raises
    ------
    FlawlineError
        If a score or a map differs by more than `TOLERANCE`, or a decision differs and its score is
        not that close to the threshold.
    """
    groups = [good_images, with_defects(trained, good_images)]
    found = [_differences(trained, exported, group) for group in groups]
    wrong = sum(one.wrong for one in found)
    score, pixel = (max(getattr(one, name) for one in found) for name in ("score", "pixel"))
    method = trained.settings["detector"]["method"]
    if not (score <= TOLERANCE and pixel <= TOLERANCE):
        raise FlawlineError(
            f"{method}: the ONNX graph scores differently from "
            f"PyTorch: scores differ by {score:.2g} of the largest, maps by {pixel:.2g} of their "
            f"range (allowed {TOLERANCE:g}). Nothing was written. "
            "Features in bfloat16 are one reason: train with `precision: float32`."
        )
    if wrong:
        raise FlawlineError(
            f"{method}: the ONNX graph decides differently from PyTorch on {wrong} of "
            f"{sum(map(len, groups))} images. Nothing was written."
        )
    return _comparison(groups, found)


def compare_coarse(
    trained: Judge, exported: ExportedDetector, good_images: Sequence[Photograph]
) -> Comparison:
    """Compare decisions, and how well scores tell synthetic defects from good images.

    Raises
    ------
    FlawlineError
        If a decision differs and its score is not within `TOLERANCE` of the threshold, or the AUROC
        falls by more than `LOST`.
    """
    groups = [good_images, with_defects(trained, good_images)]
    found = [_differences(trained, exported, group) for group in groups]
    wrong = sum(differences.wrong for differences in found)
    before, after = (
        _auroc(*(getattr(differences, name) for differences in found))
        for name in ("expected", "found")
    )
    method = trained.settings["detector"]["method"]
    if wrong or before - after > LOST:
        raise FlawlineError(
            f"{method}: with 8 bits it decides differently on {wrong} of "
            f"{sum(map(len, groups))} images, and its AUROC of synthetic defects is {after:.4f} "
            f"instead of {before:.4f}. Nothing was written; export it without --int8."
        )
    return _comparison(groups, found)


def _auroc(good: np.ndarray, defective: np.ndarray) -> float:
    """Return how often a defective image scores above a good one."""
    gaps = defective[:, None] - good
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def _comparison(
    groups: Sequence[Sequence[Photograph]], found: "Sequence[_Differences]"
) -> Comparison:
    return Comparison(
        len(groups[0]),
        len(groups[1]),
        sum(one.above for one in found),
        max(one.score for one in found),
        max(one.pixel for one in found),
        sum(one.close for one in found),
    )


def with_defects(judge: Judge, photographs: Sequence[Photograph]) -> list[Photograph]:
    """Draw a synthetic defect on each photograph: a line, a stain, a crack, a hole or noise.

    Those on which it stays invisible are left out. A few have noise in their middle instead, small
    to large, so that there are scores above the threshold. On tiled ones, all this is done to the
    tile in the middle.
    """
    images = np.stack([one.seen[len(one.seen) // 2] for one in photographs])
    objects = np.ones(images.shape[:3], np.uint8)
    counted: Sequence[np.ndarray | None] = [None] * len(photographs)
    if judge.geometry.tiling is None:
        masks = judge.object_masks(photographs)
        objects = objects if masks is None else masks
        counted = [one.counted for one in photographs]
    sources, drawn = Sources(images, objects), []
    for row, (one, counts) in enumerate(zip(photographs, counted, strict=True)):
        try:
            rng = generator(0, "parity", str(row))
            drawn.append(_with(one, draw_one(sources, row, DEFECTS, rng, counts)[0]))
        except InvisibleError:
            continue
    for part, (one, image) in enumerate(zip(photographs[:NOISY], images, strict=False), start=1):
        drawn.append(_with(one, _noisy(image, part)))
    return drawn


def _with(photograph: Photograph, image: np.ndarray) -> Photograph:
    """Replace the image, or the tile in the middle."""
    if photograph.tiles is None:
        return replace(photograph, image=image)
    tiles = np.array(photograph.tiles)
    tiles[len(tiles) // 2] = image
    return replace(photograph, tiles=tiles)


def _noisy(image: np.ndarray, part: int) -> np.ndarray:
    """Put noise in the middle of an image, over `part` eighths of each side."""
    image = image.copy()
    middle = tuple(
        slice(start := (side - max(side * part // NOISY, 1)) // 2, side - start)
        for side in image.shape[:2]
    )
    image[middle] = np.random.default_rng(part).integers(0, 256, image[middle].shape)
    return image


def _differences(
    trained: Judge, exported: ExportedDetector, photographs: Sequence[Photograph]
) -> "_Differences":
    scores: list[np.ndarray] = []
    decisions: list[np.ndarray] = []
    low, high, pixel = np.inf, -np.inf, 0.0
    for start in range(0, len(photographs), BATCH):
        batch = photographs[start : start + BATCH]
        expected = trained.score(batch)
        found, maps, defective = exported.run(exported.inputs(batch))
        scores.append(np.stack([expected.scores, found.astype(float)]))
        decisions.append(np.stack([trained.defective(expected.scores), defective]))
        wanted = expected.anomaly_maps.astype(np.float32)
        low, high = min(low, float(wanted.min())), max(high, float(wanted.max()))
        pixel = max(pixel, float(np.abs(maps - wanted).max()))
    (theirs, ours), (called, found) = np.concatenate(scores, 1), np.concatenate(decisions, 1)
    largest = max(float(np.abs(theirs).max()), 1e-12)
    near = np.abs(theirs - trained.threshold["value"]) <= TOLERANCE * largest
    other = called != found
    return _Differences(
        theirs,
        ours,
        int(called.sum()),
        int((other & near).sum()),
        int((other & ~near).sum()),
        float(np.abs(ours - theirs).max()) / largest,
        pixel / max(high - low, 1e-12),
    )
