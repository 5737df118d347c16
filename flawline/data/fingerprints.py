"""Find nearly equal photographs: copies that were recompressed, resized or slightly noisy.

All photographs of a product are similar, so the criterion is strict: perceptual hashes that differ
in few bits propose a pair, and the mean difference of 64-px grey thumbnails must stay under one
grey level. Shifted, turned or differently lit copies are not found.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

HASH_SIZE = 16  # bits per side
HASH_DISTANCE = 16  # of 256 bits; recompressed, resized or noisy copies differ by up to 12
THUMBNAIL = 64  # pixels per side
MAX_DIFFERENCE = 1.0  # grey levels; on MVTec AD's bottle the closest two photographs have 1.38

Fingerprint = tuple[np.ndarray, np.ndarray]


def fingerprint(image: np.ndarray) -> Fingerprint:
    """Compute the fingerprint by which nearly equal photographs are found.

    Parameters
    ----------
    image : uint8 (H, W, 3), RGB.

    Returns
    -------
    Bits of a perceptual hash, bool (256,), and a grey thumbnail, uint8 (64, 64).
    """
    import imagehash
    from PIL import Image

    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    bits = imagehash.phash(Image.fromarray(grey), hash_size=HASH_SIZE).hash.ravel()
    return bits, cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def alike(
    ones: Sequence[Fingerprint], others: Sequence[Fingerprint]
) -> Iterator[tuple[int, int, float]]:
    """Return pairs of nearly equal photographs: a row of each side, and their mean difference."""
    if not ones or not others:
        return
    bits, opposite = (np.array([one[0] for one in side], np.float32) for side in (ones, others))
    distance = bits @ (1 - opposite.T) + (1 - bits) @ opposite.T
    for row, other in np.argwhere(distance <= HASH_DISTANCE).tolist():
        gap = np.abs(ones[row][1].astype(np.float32) - others[other][1]).mean()
        if gap <= MAX_DIFFERENCE:
            yield row, other, float(gap)
