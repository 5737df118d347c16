"""Read ground-truth masks as people store them: which pixels are marked."""

from pathlib import Path

import numpy as np
from PIL import ImageOps

from flawline.data.folder_digest import files_below
from flawline.data.images import (
    TRANSPARENT,
    decoding,
    frames_of,
    open_image,
    read_deep_samples,
    refuse_frames,
)
from flawline.data.samples import UnfitError
from flawline.errors import FlawlineError

Read = tuple[np.ndarray, np.ndarray | None, bool]
"""Values (H, W) or (H, W, C), alpha (H, W), and whether the file is lossy."""
FEW = 8  # values besides 0 that can be labels of defects; more mean soft edges or a lossy file
LABELS = 0.9  # share of equal neighbours within marks, if many values are labels
BETWEEN = (0.2, 0.5)  # shares of pixels neither black nor white that photographs have
ALIKE = 0.6  # correlation with the photograph
MOST = 0.9  # larger shares of an image are not marked by any defect
INVERTED = 0.5  # the same if the whole border is marked


def decode_mask(path: Path, max_megapixels: float = 100) -> np.ndarray:
    """Decode one ground-truth mask: bool (H, W).

    A pixel is marked if any channel is not zero. With many values, as in lossy files and at soft
    edges, it is marked from half of the largest value on. If alpha varies and the colour does not,
    alpha is the mask. Transparent pixels are never marked.

    Raises
    ------
    FlawlineError
        If the file cannot be decoded.
    """
    return marked(*mask_values(path, max_megapixels))


def is_black(path: Path, max_megapixels: float = 100) -> bool:
    """Check whether a label picture marks nothing; False if it cannot be read."""
    try:
        return not decode_mask(path, max_megapixels).any()
    except FlawlineError:
        return False


def mask_values(path: Path, max_megapixels: float = 100) -> tuple[np.ndarray, bool]:
    """Return the largest of each pixel's channels, (H, W), and whether the file is lossy.

    A folder of masks is one mask: the union of all.
    """
    if path.is_dir():
        parts = [decode_mask(part, max_megapixels) for part in files_below(path)]
        if len({part.shape for part in parts}) != 1:
            sizes = ", ".join(sorted({f"{part.shape[1]} x {part.shape[0]}" for part in parts}))
            raise FlawlineError(f"{path}: masks of one photograph, of {sizes or 'none'}")
        return np.logical_or.reduce(parts), False
    with decoding(path):
        found = _deep(path, max_megapixels) or _ordinary(path, max_megapixels)
    values, alpha, lossy = found
    flat = values if values.ndim == 2 else values.max(axis=2)
    if alpha is None or alpha.min() == alpha.max():
        return flat, lossy
    visible = values[alpha > 0]
    if (visible == visible[0]).all():
        return alpha, lossy
    return np.where(alpha > 0, flat, np.zeros_like(flat)), lossy


def _deep(path: Path, max_megapixels: float) -> Read | None:
    found = read_deep_samples(path, max_megapixels)
    if found is None:
        return None
    values = found.pixels
    if not np.isfinite(values).all():
        raise UnfitError(path, "not finite", "NaN or infinite values", "0 where nothing is marked")
    return (values.max() - values if found.inverted else values), found.alpha, False


def _ordinary(path: Path, max_megapixels: float) -> Read:
    with open_image(path, max_megapixels) as image:
        refuse_frames(path, frames_of(image))
        lossy = image.format in ("JPEG", "MPO")
        image.load()
        upright = ImageOps.exif_transpose(image)
        alpha = None
        if upright.mode in TRANSPARENT or "transparency" in upright.info:
            layered = upright.convert("RGBA")
            alpha = np.asarray(layered.getchannel("A"))
            upright = layered.convert("RGB")
        elif upright.mode in ("P", "CMYK", "YCbCr"):
            # a palette may have black at any index
            upright = upright.convert("RGB")
        return np.asarray(upright), alpha, lossy


def marked(values: np.ndarray, lossy: bool = False) -> np.ndarray:
    """Return which pixels a mask marks: bool (H, W).

    Parameters
    ----------
    values : (H, W), of any type, not negative.
    lossy : whether they went through a lossy format.
    """
    if lossy or is_soft(values):
        return (values > 0) & (values >= values.max() / 2)
    return values > 0


def is_soft(values: np.ndarray) -> bool:
    """Check whether a mask has many values that are not labels of separate regions."""
    if values.dtype == bool or len(np.unique(values)) <= FEW + 1:
        return False
    equal, pairs = 0, 0
    for one, other in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        within = (one > 0) & (other > 0) & (np.minimum(one, other) < values.max())
        pairs += int(within.sum())
        equal += int((one == other)[within].sum())
    return equal < LABELS * pairs


def check_mask(path: Path, values: np.ndarray, lossy: bool, photograph: np.ndarray) -> None:
    """Raise an UnfitError if a mask marks nothing, nearly everything, or is a photograph.

    Parameters
    ----------
    values, lossy : as `mask_values` gives them.
    photograph : uint8 (H, W, 3), of the same size.
    """
    found = marked(values, lossy)
    if not found.any():
        raise UnfitError(path, "empty mask", "all zero", "the defect marked")
    if lossy or is_soft(values):
        share, likeness = _likeness(values, photograph)
        if share > BETWEEN[1] or (share > BETWEEN[0] and likeness > ALIKE):
            raise UnfitError(
                path,
                "mask is a photograph",
                f"{share:.0%} of its pixels are neither black nor white",
                "the defect in white on black, not painted over the photograph",
            )
    share = found.mean()
    border = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    if share >= MOST or (share > INVERTED and border.mean() > 0.99):
        expected = "the defect marked: not black on white, and not the whole part"
        raise UnfitError(path, "mask of nearly all", f"{share:.0%} of the image marked", expected)


def _likeness(values: np.ndarray, photograph: np.ndarray) -> tuple[float, float]:
    """Return the share of a mask's pixels between black and white, and their correlation."""
    scaled = values / values.max()
    between = (scaled > 0.05) & (scaled < 0.95)
    one, other = scaled[between], photograph.max(axis=2)[between].astype(float)
    if between.sum() < 2 or not one.std() or not other.std():
        return float(between.mean()), 0.0
    return float(between.mean()), float(np.corrcoef(one, other)[0, 1])
