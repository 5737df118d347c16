"""Find where the object is, learned from good training images alone.

``mean_difference``: parts in varying poses average out, so the training images show the background
behind them. ``border_color``: aligned parts lie on a background that the image's border shows.
``whole``: a texture fills the image. ``auto`` chooses by two measured ratios.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import cv2
import numpy as np
from tqdm import tqdm

from flawline.files import new_array, read_array, read_json, write_array, write_json
from flawline.logs import hide_bar
from flawline.options.object_masks import ObjectMaskOptions
from flawline.synthesis.base import side_of

Method = Literal["mean_difference", "border_color", "whole"]

# `auto`: up to here the border is plain compared with the image; above, it is as textured.
PLAIN_BORDER = 0.6
# `auto`: standard deviation over images, relative to the contrast within one; above, poses vary.
VARYING_POSE = 0.5
# Factor above Otsu's threshold from which a difference is not a shadow; set on drawn parts.
STRONG = 1.4
SAMPLE = 200  # training images used for statistics
ROUNDS = 3
RARELY_SEEN = 0.15  # fraction of images below which a pixel's background counts as unknown
BORDER = 0.04  # width of the border, as a fraction of the side of a square image


@dataclass(frozen=True)
class ObjectModel:
    """A model that masks any image of the category.

    Attributes
    ----------
    method : the method in use.
    reason : why `auto` chose it; "configured" otherwise.
    background : float32 (H, W, 3), expected image without object; zeros where not needed.
    thresholds : differences from the background below which a pixel is surely not object, and
        above which it surely is.
    measured : the ratios behind the choice.
    """

    method: Method
    reason: str
    background: np.ndarray
    thresholds: tuple[float, float]
    measured: dict[str, float]

    def save(self, background: Path | str, about: Path | str) -> None:
        """Write the background as .npy and the rest as JSON."""
        write_array(background, self.background)
        fields = {key: getattr(self, key) for key in ("method", "reason", "thresholds", "measured")}
        write_json(about, fields)

    @classmethod
    def load(cls, background: Path | str, about: Path | str) -> Self:
        """Read a saved model."""
        return cls(background=np.array(read_array(background)), **read_json(about))


def fit(
    images: np.ndarray, options: ObjectMaskOptions, counted: np.ndarray | None = None
) -> ObjectModel:
    """Learn the background from good training images.

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB.
    counted : uint8 (H, W) or (N, H, W), 1 where pixels count; everywhere, if None.
    """
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)
    sample, counting = images[rows], _counting(counted, images.shape[:3])[rows]
    smooth = np.stack([_smooth(image, options) for image in sample])
    measured = _measure(smooth, counting)
    method, reason = _choose(measured) if options.method == "auto" else (options.method, "")
    for candidate in dict.fromkeys((method, "border_color", "whole")):
        model = _fit(candidate, smooth, counting, measured, reason or "configured")
        if options.method != "auto" or candidate == "whole":
            return model
        shares = [
            mask_of(image, model, options, own).sum() / max(own.sum(), 1)
            for image, own in zip(sample[::8], counting[::8], strict=True)
        ]
        covered = float(np.mean(shares))
        if 0.01 < covered < 0.95:
            return model
        reason = f"{candidate} covered {covered:.0%} of the image, which is not an object"
    raise AssertionError("whole always fits")


def mask_of(
    image: np.ndarray,
    model: ObjectModel,
    options: ObjectMaskOptions,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """Mask the object in one image: uint8 (H, W, 3) to uint8 (H, W), 0 or 1.

    Pixels that differ strongly from the background are object, those that hardly differ are not.
    Between the two, a watershed puts the outline on the strongest edge, which leaves soft shadows
    outside. Pixels where `counted`, uint8 (H, W), is 0 are never object.
    """
    shape = image.shape[:2]
    counts = _counting(counted, shape) > 0
    if model.method == "whole":
        return counts.astype(np.uint8)
    smooth = _smooth(image, options)
    different = np.where(counts, _difference(smooth, _background_of(smooth, counts, model)), 0)
    low, high = model.thresholds
    strong = (different > high).astype(np.uint8)
    surely = cv2.morphologyEx(strong, cv2.MORPH_OPEN, _disc(options.opening, shape))
    faint = (different > low).astype(np.uint8)
    perhaps = cv2.morphologyEx(faint, cv2.MORPH_CLOSE, _disc(options.closing, shape))
    markers = np.where(surely > 0, 2, np.where(perhaps > 0, 0, 1)).astype(np.int32)
    relief = np.clip(smooth, 0, 255).astype(np.uint8)
    labels = cv2.watershed(relief, markers)
    # pixels on the outline itself, and all at the image's border, are unlabelled
    found = (labels == 2) | ((labels == -1) & (different > high))
    closing = _disc(options.closing, shape)
    closed = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, closing)
    return _without_small(closed.astype(np.uint8)) * counts


def mask_all(
    images: np.ndarray,
    path: Path | str,
    model: ObjectModel,
    options: ObjectMaskOptions,
    counted: np.ndarray | None = None,
) -> None:
    """Write the masks of all images, uint8 (N, H, W), to the .npy file `path`.

    Parameters
    ----------
    counted : uint8 (H, W) or (N, H, W), 1 where pixels count; everywhere, if None.
    """
    counting = _counting(counted, images.shape[:3])
    with new_array(path, images.shape[:3], np.uint8) as masks:
        for row in tqdm(range(len(images)), desc="object masks", unit="image", disable=hide_bar()):
            masks[row] = mask_of(images[row], model, options, counting[row])


def _counting(counted: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """Return which pixels count, uint8 `shape`."""
    return np.broadcast_to(np.uint8(1) if counted is None else counted, shape)


def _choose(measured: dict[str, float]) -> tuple[Method, str]:
    border, pose = measured["border_ratio"], measured["pose_ratio"]
    if border > PLAIN_BORDER:
        return "whole", f"the border is as varied as the image ({border:.2f} > {PLAIN_BORDER})"
    if pose > VARYING_POSE:
        return "mean_difference", f"poses vary ({pose:.2f} > {VARYING_POSE}) on a plain border"
    return "border_color", f"parts are aligned ({pose:.2f} <= {VARYING_POSE}) on a plain border"


def _measure(smooth: np.ndarray, counting: np.ndarray) -> dict[str, float]:
    """Measure how varied the border is, and how much the middle varies over images (no units)."""
    grey = smooth.mean(3)
    pairs = list(zip(grey, map(_border, counting), strict=True))
    within = np.median([one[own > 0].std() for one, own in zip(grey, counting, strict=True)])
    rim = np.median([(image - _plane(image, border))[border].std() for image, border in pairs])
    over_images = np.sqrt(np.mean(grey.var(axis=0)[_always(counting)]))
    return {
        "border_ratio": float(rim / max(within, 1e-6)),
        "pose_ratio": float(over_images / max(within, 1e-6)),
    }


def _fit(
    method: Method,
    smooth: np.ndarray,
    counting: np.ndarray,
    measured: dict[str, float],
    reason: str,
) -> ObjectModel:
    hidden = method == "mean_difference"
    background = _empty_scene(smooth, counting) if hidden else np.zeros_like(smooth[0])
    model = ObjectModel(method, reason, background, (0.0, 0.0), measured)
    if method == "whole":
        return model
    differences = [
        _difference(image, _background_of(image, own > 0, model))
        for image, own in zip(smooth, counting, strict=True)
    ]
    return replace(model, thresholds=_thresholds(differences, counting))


def _empty_scene(smooth: np.ndarray, counting: np.ndarray) -> np.ndarray:
    """Estimate the mean of the training images without the object.

    The object is first separated from the light at the border. Its pixels are left out of the
    mean, which then separates it better, and so on. Pixels hidden in all images are filled from
    their surroundings.
    """
    border = _border(_always(counting))
    plane = [_plane(smooth[..., channel].mean(axis=0), border) for channel in range(3)]
    background = np.dstack(plane).astype(np.float32)
    for _ in range(ROUNDS):
        differences = [
            _difference(image, _aligned_light(image, own, background))
            for image, own in zip(smooth, counting, strict=True)
        ]
        low, _ = _thresholds(differences, counting)
        free = (np.stack([found <= low for found in differences]) * counting).astype(np.float32)
        seen = free.sum(axis=0)
        mean = np.einsum("nhw,nhwc->hwc", free, smooth) / np.maximum(seen, 1)[..., None]
        background = _fill(mean, seen < max(2, RARELY_SEEN * len(smooth)))
    return background


def _background_of(smooth: np.ndarray, counts: np.ndarray, model: ObjectModel) -> np.ndarray:
    if model.method == "mean_difference":
        return _aligned_light(smooth, counts, model.background)
    border = _border(counts)
    return np.dstack([_plane(smooth[..., channel], border) for channel in range(3)])


def _aligned_light(image: np.ndarray, counts: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Scale the background to the brightness of this image's border."""
    return background + np.median((image - background)[_border(counts)], axis=0)


def _plane(values: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Fit a plane of light to the border, without its outliers."""
    height, width = values.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = y / height - 0.5, x / width - 0.5
    terms = np.stack([np.ones_like(x), x, y], axis=-1)
    rows, wanted = terms[border], values[border]
    keep = np.ones(len(wanted), bool)
    for _ in range(3):
        solution = np.linalg.lstsq(rows[keep], wanted[keep], rcond=None)[0]
        residual = np.abs(wanted - rows @ solution)
        keep = residual <= max(2.5 * float(np.median(residual)), 1e-3)
    return terms @ solution


def _always(counting: np.ndarray) -> np.ndarray:
    """Return which pixels count in all images, or else in any: (N, H, W) to bool (H, W)."""
    always = np.asarray(counting.all(axis=0))
    return always if always.any() else np.asarray(counting.any(axis=0))


def _border(counts: np.ndarray) -> np.ndarray:
    """Return the counted pixels at the border of their bounding box: bool (H, W)."""
    border = counts > 0
    if not border.any():
        border = np.ones_like(border)
    x, y, width, height = cv2.boundingRect(border.astype(np.uint8))
    rim = max(round(BORDER * side_of(counts.shape)), 2)
    border[y + rim : y + height - rim, x + rim : x + width - rim] = False
    return border


def _fill(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Fill hidden pixels from their surroundings."""
    if not hidden.any():
        return image
    bytes_ = np.clip(image, 0, 255).astype(np.uint8)
    filled = cv2.inpaint(bytes_, hidden.astype(np.uint8), 5, cv2.INPAINT_TELEA)
    return np.where(hidden[..., None], filled.astype(np.float32), image)


def _difference(image: np.ndarray, background: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(image - background).sum(axis=2))


def _thresholds(differences: list[np.ndarray], counting: np.ndarray) -> tuple[float, float]:
    """Return two differences: surely background below the first, surely object above the second.

    Otsu's method is used twice: on logarithms it separates noise from the rest, shadows included;
    on the plain values it separates strong from faint.
    """
    pairs = zip(differences, counting, strict=True)
    values = np.concatenate([found[own > 0][::7] for found, own in pairs])
    low = float(np.expm1(_otsu(np.log1p(values))))
    return low, max(STRONG * _otsu(values), low)


def _otsu(values: np.ndarray) -> float:
    top = max(float(values.max()), 1e-3)
    scaled = (values / top * 255).astype(np.uint8)
    level = cv2.threshold(scaled, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return (level + 1) / 255 * top


def _smooth(image: np.ndarray, options: ObjectMaskOptions) -> np.ndarray:
    values = image.astype(np.float32)
    sigma = options.smoothing * side_of(image.shape) / 256
    return cv2.GaussianBlur(values, (0, 0), sigma) if sigma > 0.2 else values


def _disc(diameter: int, shape: tuple[int, ...]) -> np.ndarray:
    side = 2 * int(diameter * side_of(shape) / 512) + 1  # odd, as an even one would shift the mask
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _without_small(mask: np.ndarray) -> np.ndarray:
    """Drop specks and fill pinholes smaller than a hundredth of the largest piece."""
    for value in (1, 0):
        count, labels, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8))
        areas = stats[1:, cv2.CC_STAT_AREA]
        largest = int((mask == 1).sum())
        small = np.flatnonzero(areas < 0.01 * largest) + 1
        if count > 1 and len(small):
            mask = np.where(np.isin(labels, small), 1 - value, mask).astype(np.uint8)
    return mask
