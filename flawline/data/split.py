"""Which image is trained on, which sets the threshold, which is tested on."""

from typing import TYPE_CHECKING

import numpy as np

from flawline.errors import FlawlineError
from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd


def split_unsupervised(
    index: "pd.DataFrame",
    *,
    fraction: float,
    seed: int,
    category: str,
    mode: str = "split",
    folds: int = 5,
) -> "pd.DataFrame":
    """Add the columns `subset` (train, calibration or test) and `fold`.

    The official test images stay the test subset. Thresholds come from training goods that the
    detector did not train on: a part of them, or all, in turns.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made.
    mode : ``split`` holds a random part of the goods back as the calibration subset. ``cross``
        keeps all in the training subset and deals them into folds, from 0; others have fold -1.
    fraction : part of the training goods held back; at least one image on either side.
    folds : their number.
    seed, category : what the random choice derives from.

    Raises
    ------
    FlawlineError
        If there are fewer goods than folds.
    """
    table = index.copy()
    table["subset"] = table["split"]
    goods = table.index[table["split"] == "train"].to_numpy()
    _calibrate(table, goods, mode, fraction, folds, seed, category)
    return table


def split_supervised(
    index: "pd.DataFrame",
    *,
    test_fraction: float,
    test_seed: int,
    fraction: float,
    seed: int,
    category: str,
    mode: str = "split",
    folds: int = 5,
) -> "pd.DataFrame":
    """Add the column `subset`: train, calibration or test, defects in train and test.

    The images of both official splits are pooled. Of the goods and of every defect type the same
    part is tested on; a single image of a type is trained on. A part of the remaining goods is
    held back for calibration: thresholds come from goods alone here too.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made.
    test_fraction : part of the goods, and of each defect type, that is tested on.
    test_seed : what the choice of test images derives from, with `category`.
    mode, fraction, folds, seed : as for `split_unsupervised`, of the goods that are not tested on;
        every model trains on all defects of the training subset.

    Raises
    ------
    FlawlineError
        If there are too few goods or defects to train on some and to test on others.
    """
    table = index.copy()
    table["subset"] = "train"
    for kind, rows in table.groupby("defect_type").groups.items():
        kept = 2 if kind == "good" else 1  # goods to train on and goods to calibrate with
        if len(rows) > kept:
            lot = generator(test_seed, category, "test", str(kind))
            table.loc[_part(rows.to_numpy(), test_fraction, lot, kept), "subset"] = "test"
    defective = table["label"] == 1
    goods = table.index[(table["subset"] == "train") & ~defective].to_numpy()
    if any(table.loc[some, "subset"].nunique() < 2 for some in (defective, ~defective)):
        raise FlawlineError(
            f"{category}: {(~defective).sum()} good images and {defective.sum()} "
            "defective ones are too few for the supervised protocol, which needs at least three "
            "goods, and two defects of one type under test/<defect type>/. Add images, leave the "
            "category out, or leave supervised detectors out."
        )
    _calibrate(table, goods, mode, fraction, folds, seed, category)
    return table


def fold_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """The column `fold` of the training subset, by row: all that a fold's jobs may see."""
    folds = table.loc[table["subset"] == "train", ["fold"]].reset_index(drop=True)
    return folds.rename_axis("row").reset_index()


def rows_of(folds: "pd.DataFrame", fold: int) -> np.ndarray:
    """Rows of the training subset that a fold calibrates with, int (K,)."""
    return np.flatnonzero(folds["fold"] == fold)


def rows_outside(folds: "pd.DataFrame", fold: int) -> np.ndarray:
    """Rows of the training subset that a fold's model trains on, int (K,)."""
    return np.flatnonzero(folds["fold"] != fold)


def _calibrate(
    table: "pd.DataFrame",
    goods: np.ndarray,
    mode: str,
    fraction: float,
    folds: int,
    seed: int,
    category: str,
) -> None:
    lot = generator(seed, category, "calibration")
    table["fold"] = -1
    if mode == "split":
        table.loc[_part(goods, fraction, lot), "subset"] = "calibration"
        return
    if len(goods) < folds:
        raise FlawlineError(
            f"{category}: {len(goods)} good training images cannot be dealt into {folds} folds; "
            "lower calibration.folds, or add images"
        )
    for fold, part in enumerate(np.array_split(lot.permutation(goods), folds)):
        table.loc[part, "fold"] = fold


def _part(rows: np.ndarray, fraction: float, lot: np.random.Generator, kept: int = 1) -> np.ndarray:
    """A random part of the rows: at least one, and at least `kept` are left."""
    count = min(max(round(fraction * len(rows)), 1), len(rows) - kept)
    return lot.permutation(rows)[:count]
