"""Which image is trained on, which sets the threshold, which is tested on."""

from typing import TYPE_CHECKING

from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd


def split_unsupervised(
    index: "pd.DataFrame", *, fraction: float, seed: int, category: str
) -> "pd.DataFrame":
    """Add the column `subset`: train, calibration or test.

    The official test images stay the test subset. A random part of the official training goods is
    held back for calibration: no detector trains on it, thresholds come from it alone.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made.
    fraction : part of the training goods held back; at least one image on either side.
    seed, category : what the random choice derives from.
    """
    table = index.copy()
    table["subset"] = table["split"]
    goods = table.index[table["split"] == "train"].to_numpy()
    count = min(max(round(fraction * len(goods)), 1), len(goods) - 1)
    held_back = generator(seed, category, "calibration").permutation(goods)[:count]
    table.loc[held_back, "subset"] = "calibration"
    return table
