"""Find photographs that appear in two subsets."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from flawline.data.fingerprints import alike, fingerprint

MAX_SHOWN_PAIRS = 20


def near_duplicates(images: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Find pairs of nearly equal images in two subsets, by `data.fingerprints`.

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB, per subset.

    Returns
    -------
    Columns subset_a, row_a, subset_b, row_b, difference (mean grey levels); most alike first.
    """
    prints = {subset: [fingerprint(image) for image in array] for subset, array in images.items()}
    found = [
        (a, row_a, b, row_b, gap)
        for a, b in combinations(prints, 2)
        for row_a, row_b, gap in alike(prints[a], prints[b])
    ]
    table = pd.DataFrame(found, columns=["subset_a", "row_a", "subset_b", "row_b", "difference"])
    return table.sort_values(["difference", "row_a", "row_b"], ignore_index=True)


def describe_duplicates(pairs: pd.DataFrame, names: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Describe the pairs by image name, for the report.

    Parameters
    ----------
    pairs : from `near_duplicates`.
    names : image names per subset, in the order of its rows.
    """
    shown = [
        {
            "subset_a": a,
            "image_id_a": str(names[a][row_a]),
            "subset_b": b,
            "image_id_b": str(names[b][row_b]),
            "difference": difference,
        }
        for a, row_a, b, row_b, difference in pairs.head(MAX_SHOWN_PAIRS).to_dict("split")["data"]
    ]
    tested = int((pairs[["subset_a", "subset_b"]] == "test").any(axis=1).sum())
    found = [
        f"{_pairs(tested)} of a test image and one learned from or calibrated with: metrics are "
        "too good."
        if tested
        else "",
        f"{_pairs(len(pairs) - tested)} of an image learned from and one calibrated with: the "
        "threshold is too low, and more good parts are rejected than it promises."
        if len(pairs) > tested
        else "",
    ]
    verdict = " ".join(filter(None, found)) or "No photograph is in two subsets."
    return {"count": len(pairs), "pairs": shown, "verdict": verdict}


def _pairs(count: int) -> str:
    return f"{count} pair{'s' if count > 1 else ''} of nearly equal images"
