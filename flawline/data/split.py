"""Split images into training, calibration and test subsets.

Photographs of one group (one part, lot or day) stay together everywhere.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flawline.errors import FlawlineError
from flawline.seeding import generator

if TYPE_CHECKING:
    import pandas as pd


def units_of(groups: Sequence[str]) -> np.ndarray:
    """Number the groups of rows that stay together, in order of their first rows: int (N,).

    Parameters
    ----------
    groups : their names; a row without one is alone in its group.
    """
    numbers: dict[tuple[str, int], int] = {}
    keys = [(group, -1) if group else ("", row) for row, group in enumerate(groups)]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def deal(
    labels: np.ndarray, units: np.ndarray, fraction: float, rng: np.random.Generator
) -> np.ndarray:
    """Choose which photographs of a folder are tested on.

    These are all defects and a fraction of the good images; units stay together. If the units
    without a defect have too few good images to learn from, units with defects are trained on as
    well. Their defects are then neither tested nor, except by supervised detectors, trained on.

    Parameters
    ----------
    labels : (N,), 1 = defective.
    units : int (N,), from `units_of`.
    fraction : of good images that are tested on.

    Returns
    -------
    bool (N,).
    """
    good_counts = np.bincount(units, labels == 0)
    tainted = np.bincount(units, labels) > 0
    test_count = min(max(round(fraction * good_counts.sum()), 1), int(good_counts.sum()) - 1)
    clean = rng.permutation(np.flatnonzero(~tainted))
    tested = tainted.copy()
    for unit in clean:
        if good_counts[tested].sum() + good_counts[unit] <= test_count:
            tested[unit] = True
    for unit in rng.permutation(np.flatnonzero(tainted))[1:]:
        if good_counts[tested].sum() - good_counts[unit] >= test_count and good_counts[unit]:
            tested[unit] = False
    return tested[units]


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

    Defective images of the training split are left out. The official test images stay the test
    subset. Thresholds come from good training images that the detector did not train on: a part of
    them, or all, in turns.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made.
    mode : ``split`` holds a random part of the good images back as the calibration subset.
        ``cross`` keeps all in the training subset and deals them into folds, from 0; others have
        fold -1. So does ``leave_one_out``, with a fold for every image or group.
    fraction : part of the good training images held back; at least one image on either side.
    folds : their number.
    seed, category : what the random choice derives from.

    Raises
    ------
    FlawlineError
        If there are fewer good images than folds.
    """
    table = index[(index["split"] == "test") | (index["label"] == 0)].reset_index(drop=True)
    table["subset"] = table["split"]
    good_rows = table.index[table["split"] == "train"].to_numpy()
    _calibrate(table, good_rows, mode, fraction, folds, seed, category)
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

    The images of both official splits are pooled. The same fraction of good images and of each
    defect type is used for testing; a type with one image stays in training. A part of the
    remaining good images is held back for calibration: here too, thresholds come from good images
    alone.

    Parameters
    ----------
    index : the table that `flawline.data.index.scan` made.
    test_fraction : part of the good images, and of each defect type, that is tested on.
    test_seed : what the choice of test images derives from, with `category`.
    mode, fraction, folds, seed : as for `split_unsupervised`, of the good images that are not
        tested on; every model trains on all defects of the training subset.

    Raises
    ------
    FlawlineError
        If there are too few good images or defects to train on some and to test on others.
    """
    table = index.copy()
    table["subset"] = "train"
    units = units_of(_groups(table))
    kinds = _kinds(table, units)
    for kind, rows in table.groupby(kinds).groups.items():
        least_left = (
            2 if kind == "good" else 1
        )  # good images to train on and good images to calibrate with
        if len(rows) > least_left:
            rng = generator(test_seed, category, "test", str(kind))
            part = _part(rows.to_numpy(), test_fraction, rng, units, least_left)
            table.loc[part, "subset"] = "test"
    defective = table["label"] == 1
    good_rows = table.index[(table["subset"] == "train") & ~defective].to_numpy()
    if any(table.loc[some, "subset"].nunique() < 2 for some in (defective, ~defective)):
        raise FlawlineError(
            f"{category}: {(~defective).sum()} good images and {defective.sum()} "
            "defective ones are too few for the supervised protocol, which needs at least three "
            "good images, and two defects of one type under test/<defect type>/. Add images, "
            "leave the category out, or leave supervised detectors out."
        )
    _calibrate(table, good_rows, mode, fraction, folds, seed, category)
    return table


def held_back(table: "pd.DataFrame", *, fraction: float, seed: int, category: str) -> np.ndarray:
    """Return which rows are held back with this seed, as in the split itself.

    Parameters
    ----------
    table : all but the test subset, columns label and, if there are any, group.

    Returns
    -------
    bool (N,).
    """
    good = np.flatnonzero(table["label"].to_numpy() == 0)
    rng = generator(seed, category, "calibration")
    held = np.zeros(len(table), bool)
    held[_part(good, fraction, rng, units_of(_groups(table)))] = True
    return held


def fold_table(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the column `fold` of the training subset, all that a fold's jobs may see."""
    folds = table.loc[table["subset"] == "train", ["fold"]].reset_index(drop=True)
    return folds.rename_axis("row").reset_index()


def rows_of(folds: "pd.DataFrame", fold: int) -> np.ndarray:
    """Return the rows of the training subset that a fold calibrates with, int (K,)."""
    return np.flatnonzero(folds["fold"] == fold)


def rows_outside(folds: "pd.DataFrame", fold: int) -> np.ndarray:
    """Return the rows of the training subset that a fold's model trains on, int (K,)."""
    return np.flatnonzero(folds["fold"] != fold)


def _calibrate(
    table: "pd.DataFrame",
    good_rows: np.ndarray,
    mode: str,
    fraction: float,
    folds: int,
    seed: int,
    category: str,
) -> None:
    rng = generator(seed, category, "calibration")
    units = units_of(_groups(table))
    count = len(np.unique(units[good_rows]))
    table["fold"] = -1
    if mode == "split":
        if count < 2:
            raise FlawlineError(
                f"{category}: all {len(good_rows)} good training images are of one group, so "
                "none can be held back for the threshold; add images of other groups, or "
                "tell the groups apart (data.groups)"
            )
        table.loc[_part(good_rows, fraction, rng, units), "subset"] = "calibration"
        return
    if mode == "leave_one_out":
        if count < 2:
            raise FlawlineError(
                f"{category}: all {len(good_rows)} good training images are of one group, so "
                "none is left to score another by; add images of other groups, or tell the "
                "groups apart (data.groups)"
            )
        table.loc[good_rows, "fold"] = np.unique(units[good_rows], return_inverse=True)[1]
        return
    if count < folds:
        of_groups = "" if count == len(good_rows) else f", of {count} groups,"
        raise FlawlineError(
            f"{category}: {len(good_rows)} good training images{of_groups} cannot be dealt into "
            f"{folds} folds; lower calibration.folds, or add images"
        )
    for fold, part in enumerate(_folds(good_rows, folds, rng, units)):
        table.loc[part, "fold"] = fold


def _groups(table: "pd.DataFrame") -> list[str]:
    return table["group"].tolist() if "group" in table else [""] * len(table)


def _kinds(table: "pd.DataFrame", units: np.ndarray) -> np.ndarray:
    """Return the kind of each row by which parts are drawn: its unit's rarest defect type."""
    types = table["defect_type"].to_numpy(dtype=object)
    defective = table["label"].to_numpy() == 1
    rarity = table["defect_type"].value_counts()
    kinds = types.copy()
    for unit in np.unique(units[defective]):
        rows = np.flatnonzero(units == unit)
        own = types[rows[defective[rows]]].tolist()
        kinds[rows] = min(own, key=lambda kind: (rarity[kind], kind))
    return kinds


def _part(
    rows: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    units: np.ndarray,
    least_left: int = 1,
) -> np.ndarray:
    """Draw a part of the rows: at least one unit, and at least `kept` rows are left."""
    count = min(max(round(fraction * len(rows)), 1), len(rows) - least_left)
    _, first, sizes = np.unique(units[rows], return_index=True, return_counts=True)
    size_of = dict(zip(units[rows[first]].tolist(), sizes.tolist(), strict=True))
    chosen_units, taken = [], 0
    for row in rng.permutation(rows[np.sort(first)]):
        size = size_of[units[row]]
        if taken + size <= count or (not taken and size <= len(rows) - least_left):
            chosen_units.append(units[row])
            taken += size
    return rows[np.isin(units[rows], chosen_units)]


def _folds(
    rows: np.ndarray, folds: int, rng: np.random.Generator, units: np.ndarray
) -> list[np.ndarray]:
    """Deal the rows into parts of about equal size; units stay together."""
    _, first, sizes = np.unique(units[rows], return_index=True, return_counts=True)
    if len(first) == len(rows):
        return np.array_split(rng.permutation(rows), folds)
    parts: list[list[int]] = [[] for _ in range(folds)]
    order = rng.permutation(len(first))
    for unit in sorted(order.tolist(), key=lambda unit: -sizes[unit]):
        smallest = min(parts, key=len)
        smallest += rows[units[rows] == units[rows[first[unit]]]].tolist()
    return [np.array(part, dtype=rows.dtype) for part in parts]
