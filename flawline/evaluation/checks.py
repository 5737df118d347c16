"""Checks that tell whether the figures can be trusted: drift, contamination, near-duplicates.

None of them sees a label of a defect; none changes a figure.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from flawline.data.fingerprints import alike, fingerprint

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.01
FAR_OUT = 0.05  # chance that any of n clean images is called far out
DRAWS = 2000  # simulated samples of n scores, by which that is set
FEW = 8  # with fewer scores quartiles and tests say nothing
SUSPECTS = 10
PAIRS = 20
BORDER = 1 / 16  # of the side: two cells of 8 pixels at 256 px


def check(
    split: "pd.DataFrame",
    scores: Mapping[str, "pd.DataFrame"],
    test_good: np.ndarray,
    pairs: "pd.DataFrame",
    border: dict[str, Any],
    *,
    apart: bool = False,
    folds: Sequence[np.ndarray] = (),
    left_out: bool = False,
) -> dict[str, Any]:
    """All checks of one detector on one category.

    Parameters
    ----------
    split : columns image_id, label, subset.
    scores : columns row, score; keys `train` and `calibration`. Where no subset was held back
        (cross-calibration), the rows of `calibration` are those of `train`.
    test_good : float (n,), scores of the good test images.
    pairs : from `near_duplicates`.
    border : from `border_peaks`.
    apart : whether training images were scored without what is remembered of themselves.
    folds : with cross-calibration, the scores that each fold's model gives to the good test images.
    left_out : whether calibration images were compared with what the memory has of the others.
    """
    of_subset = {
        str(subset): rows.reset_index(drop=True) for subset, rows in split.groupby("subset")
    }
    found, names = {}, {}
    for subset, table in scores.items():
        source = of_subset.get(subset, of_subset["train"]).loc[table["row"]]
        # the supervised protocol trains on defects too
        good = source["label"].to_numpy() == 0
        found[subset] = table["score"].to_numpy()[good]
        names[subset] = source["image_id"].to_numpy()[good]
    ids = {subset: rows["image_id"].to_numpy() for subset, rows in of_subset.items()}
    own_fold = np.zeros(0, int)
    if folds:
        own_fold = of_subset["train"]["fold"].to_numpy()[scores["calibration"]["row"]]
    compared = [
        (found["calibration"][own_fold == fold], of_test) for fold, of_test in enumerate(folds)
    ]
    all_calibrate = "calibration" not in of_subset
    unlike = "calibration" if all_calibrate else "train" if apart else None
    return {
        "drift": drift(found["calibration"], test_good, found["train"], compared, left_out),
        "contamination": contamination(found["calibration"], names["calibration"])
        | {"train_suspects": _highest(found[unlike], names[unlike], SUSPECTS) if unlike else []},
        "near_duplicates": describe_duplicates(pairs, ids),
        "border": border,
    }


def border_peaks(maps: np.ndarray, counted: np.ndarray | None = None) -> dict[str, Any]:
    """Whether the image's border, not the part, decides the scores of good parts.

    A network sees nothing beyond the border, so features there are unlike any others, and a method
    that takes them at face value finds its largest values there in good images and defective ones.

    Parameters
    ----------
    maps : float (n, H, W), anomaly maps of good parts.
    counted : uint8 (n, H, W), not zero where pixels count; all, if None.

    Returns
    -------
    `count` of `n` maps whose largest value lies at the border (a sixteenth of the side), the
    `share` of the area that this is, whether they `gather` there (more than half of them, and more
    than chance has it) and a `verdict` in words.
    """
    from scipy.stats import binom

    count, shares = 0, []
    for row, one in enumerate(maps):
        counts = np.ones(one.shape, bool) if counted is None else counted[row] > 0
        rim = counts & ~_inner(counts)
        y, x = np.unravel_index(np.where(counts, one, -np.inf).argmax(), one.shape)
        count += int(rim[y, x])
        shares.append(rim.sum() / counts.sum())
    n = len(shares)
    found: dict[str, Any] = {"count": count, "n": n, "share": None, "gather": None}
    if n < FEW:
        return found | {"verdict": f"Fewer than {FEW} good test images: not tested."}
    share = float(np.mean(shares))
    gather = count > n / 2 and bool(binom.sf(count - 1, n, share) < ALPHA)
    verdict = (
        f"Scores of good parts peak at the border in {count} of {n} images; the border is "
        f"{100 * share:.0f} % of the area."
    )
    if gather:
        verdict += (
            " The border, not the part, decides these scores: leave some room around the part, or "
            "mark what reaches into the image there as an ignored region."
        )
    return found | {"share": share, "gather": gather, "verdict": verdict}


def _inner(counts: np.ndarray) -> np.ndarray:
    """What counts, without a rim as wide as a sixteenth of the image's side."""
    import cv2

    width = max(round(BORDER * float(np.sqrt(counts.size))), 1)
    padded = np.pad(counts.astype(np.uint8), width)
    square = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return cv2.erode(padded, square)[width:-width, width:-width] > 0


def drift(
    calibration: np.ndarray,
    test_good: np.ndarray,
    train: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = (),
    higher_only: bool = False,
) -> dict[str, Any]:
    """Whether test goods score like the calibration goods that the threshold comes from.

    Parameters
    ----------
    calibration, test_good, train : float (n,), scores of good images.
    folds : where several models made the calibration scores, those of each and what it gives to the
        test goods: scores of different models are not compared.
    higher_only : whether lower test goods are no drift: where calibration goods lack their own part
        of a memory that test goods have all of, they score a little higher by nature.

    Returns
    -------
    Summaries of the three, `auroc` (chance that a test good scores above a calibration good of the
    same model), `p_value` (two-sample Kolmogorov-Smirnov; of folds, `_rank_sum`), `drifted` and a
    `verdict` in words.
    """
    found: dict[str, Any] = {
        "train": _summary(train),
        "calibration": _summary(calibration),
        "test_good": _summary(test_good),
        "auroc": None,
        "p_value": None,
        "drifted": None,
    }
    if min(len(calibration), len(test_good)) < FEW:
        return found | {"verdict": f"Fewer than {FEW} good images in a subset: not tested."}
    from scipy.stats import ks_2samp

    auroc, p_value = _rank_sum(folds or [(calibration, test_good)])
    if not folds:
        way = "greater" if higher_only else "two-sided"
        p_value = float(ks_2samp(calibration, test_good, alternative=way).pvalue)
    if p_value >= ALPHA:
        like = "do not score higher than" if higher_only else "score like"
        verdict = f"No drift seen: test goods {like} calibration goods."
    elif auroc > 0.6:
        verdict = (
            "Test goods score higher than calibration goods: expect more false alarms than the "
            "threshold promises. Look for changed light, pose or material, or defects among them."
        )
    elif auroc < 0.4:
        verdict = (
            "Test goods score lower than calibration goods: the threshold is higher than it need "
            "be, so more defects pass."
        )
    else:
        verdict = "Test goods' scores spread differently from those of calibration goods."
    return found | {
        "auroc": auroc,
        "p_value": p_value,
        "drifted": p_value < ALPHA,
        "verdict": verdict,
    }


def _rank_sum(folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Rank-sum test, each model's calibration goods against its own scores of the test goods.

    The test goods are the same for all models, so their Mann-Whitney statistics depend on each
    other. Their sum has at most the variance that it would have if all models ranked alike, which
    is that of one test with all calibration goods (Cauchy-Schwarz); it is taken for it.

    Returns
    -------
    Chance that a test good scores above a calibration good, and the two-sided p-value.
    """
    from scipy.stats import norm

    n, m = sum(len(own) for own, _ in folds), len(folds[0][1])
    above = 0.0
    for own, test in folds:
        gaps = test[:, None] - own
        above += float((gaps > 0).sum() + 0.5 * (gaps == 0).sum())
    z = (above - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12)
    return above / (n * m), float(2 * norm.sf(abs(z)))


def far_out(scores: np.ndarray) -> float:
    """The limit that the largest of n clean scores passes with a chance of at most about `FAR_OUT`.

    So many interquartile ranges above the median as such a part of simulated samples of n does not
    reach. These follow Gumbel's distribution, that of largest values, which image scores mostly
    are; its tail is longer than the normal one. Positive scores are compared by their logarithms,
    whose tails are shorter.

    Parameters
    ----------
    scores : float (n,).
    """
    positive = scores.min() > 0
    values = np.log(scores) if positive else scores
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if low == high:
        return float(scores.max())
    limit = middle + _reach(len(values)) * (high - low)
    return float(np.exp(limit) if positive else limit)


@cache
def _reach(n: int) -> float:
    """How far above the median the largest of n comes, in interquartile ranges."""
    lot = np.random.default_rng(0)
    found = []
    for _ in range(10):
        drawn = lot.gumbel(size=(DRAWS // 10, n))
        low, middle, high = np.quantile(drawn, [0.25, 0.5, 0.75], axis=1)
        found.append((drawn.max(axis=1) - middle) / (high - low))
    return float(np.quantile(found, 1 - FAR_OUT))


def contamination(calibration: np.ndarray, names: np.ndarray) -> dict[str, Any]:
    """Whether goods to learn from look defective.

    Calibration images were drawn from the same goods as training images and not learned: those far
    out among them estimate how many defective images the training subset has.

    Parameters
    ----------
    calibration : float (n,), scores.
    names : of their images.
    """
    from flawline.evaluation.uncertainty import clopper_pearson

    limit = far_out(calibration)
    out = calibration > limit if len(calibration) >= FEW else np.zeros(len(calibration), bool)
    count, n = int(out.sum()), len(calibration)
    bound = clopper_pearson(count, n, 0.9)[1]
    if n < FEW:
        verdict = f"Fewer than {FEW} calibration images: not tested."
    elif count:
        verdict = (
            f"{count} of {n} calibration images score far out: look at them. Up to "
            f"{100 * bound:.0f} % of the training images may be like that. Take out what is "
            "defective, and nothing else: without goods that only score high, the threshold is too "
            "low and rejects more than it promises."
        )
    else:
        verdict = (
            f"None of {n} calibration images scores far out; with 95 % confidence under "
            f"{100 * bound:.0f} % of the training images would."
        )
    return {
        "calibration_outliers": _highest(calibration, names, count),
        "limit": limit,
        "rate": count / n,
        "rate_bound": bound,
        "verdict": verdict,
    }


def near_duplicates(images: Mapping[str, np.ndarray]) -> "pd.DataFrame":
    """Pairs of nearly equal images in two subsets, as `data.fingerprints` finds them.

    Parameters
    ----------
    images : uint8 (N, H, W, 3), RGB, per subset.

    Returns
    -------
    Columns subset_a, row_a, subset_b, row_b, difference (mean grey levels); most alike first.
    """
    import pandas as pd

    prints = {subset: [fingerprint(image) for image in array] for subset, array in images.items()}
    found = [
        (a, row_a, b, row_b, gap)
        for a, b in combinations(prints, 2)
        for row_a, row_b, gap in alike(prints[a], prints[b])
    ]
    table = pd.DataFrame(found, columns=["subset_a", "row_a", "subset_b", "row_b", "difference"])
    return table.sort_values(["difference", "row_a", "row_b"], ignore_index=True)


def describe_duplicates(pairs: "pd.DataFrame", names: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The pairs by image name, for the report.

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
        for a, row_a, b, row_b, difference in pairs.head(PAIRS).to_dict("split")["data"]
    ]
    tested = int((pairs[["subset_a", "subset_b"]] == "test").any(axis=1).sum())
    found = [
        f"{_pairs(tested)} of a test image and one learned from or calibrated with: figures are "
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


def _highest(scores: np.ndarray, names: np.ndarray, count: int) -> list[dict[str, Any]]:
    rows = np.argsort(-scores, kind="stable")[:count]
    return [{"image_id": str(names[row]), "score": float(scores[row])} for row in rows]


def _summary(scores: np.ndarray) -> dict[str, float] | None:
    if not len(scores):
        return None
    quartiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
    names = ("min", "q25", "median", "q75", "max")
    mean = float(np.mean(scores))
    return {"n": len(scores), **dict(zip(names, quartiles, strict=True)), "mean": mean}
