"""The content of `metrics.json`: every metric of one trained detector on one category.

A value that the data do not allow is None; a key that does not apply to a run is absent.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from flawline.errors import FlawlineError
from flawline.files import read_json, write_json
from flawline.metrics import Metric


class Record(BaseModel):
    """A section of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RankingMetrics(Record):
    """Image scores, without a threshold."""

    auroc: float | None = None
    average_precision: float | None = None
    fpr_at_95_tpr: float | None = None
    tpr_at_5_fpr: float | None = None
    tpr_at_1_fpr: float | None = None


class DecisionMetrics(Record):
    """What one threshold does to the test images."""

    accuracy: float | None = None
    balanced_accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_alarm_rate: float | None = None
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class PixelMetrics(Record):
    """Anomaly maps against ground-truth masks."""

    auroc: float | None = None
    average_precision: float | None = None
    aupro_30: float | None = None
    aupro_05: float | None = None
    aupimo: float | None = None
    f1_oracle: float | None = None
    regions: int
    aupimo_note: str | None = None


class Oracle(Record):
    """The best that any threshold could reach, chosen with the test labels."""

    image_f1: float | None = None
    image_f1_threshold: float | None = None
    pixel_f1: float | None = None
    pixel_f1_threshold: float | None = None
    risk: float | None = None
    risk_threshold: float | None = None


class DefectType(Record):
    """The metrics of one defect type's images against all good ones."""

    n: int
    image_auroc: float | None
    recall: float | None
    pixel_auroc: float | None
    image: RankingMetrics
    at_threshold: DecisionMetrics
    pixel: PixelMetrics | None
    oracle: Oracle
    intervals: dict[str, tuple[float, float]]


class Counts(Record):
    """Numbers of images."""

    train: int = 0
    calibration: int = 0
    test_good: int
    test_defective: int
    masked: int
    test_left_out: int = 0
    defects_not_counted: int = 0
    defects_cut_off: int = 0


class Bootstrap(Record):
    """How intervals were made."""

    resamples: int
    confidence: float


Points = dict[str, list[float | None]]


class Curves(Record):
    """Points of the curves by axis, thinned for drawing."""

    roc: Points | None = None
    pr: Points | None = None
    pixel_roc: Points | None = None
    pixel_pr: Points | None = None
    pro: Points | None = None
    pimo: Points | None = None


class Risk(Record):
    """Expected cost per part, of the threshold in use, of trivial decisions, by threshold."""

    miss: float
    false_alarm: float
    defect_rate: float
    assumed: bool = False
    at_threshold: float
    call_none: float
    call_all: float
    threshold: list[float]
    risk: list[float]


class Spread(Record):
    """Quantiles of some scores."""

    n: int
    min: float
    q25: float
    median: float
    q75: float
    max: float
    mean: float


class Drift(Record):
    """The check whether good test images score like calibration images."""

    train: Spread | None
    calibration: Spread | None
    test_good: Spread | None
    auroc: float | None
    p_value: float | None
    drifted: bool | None
    verdict: str


class ImageScore(Record):
    """One image and its score."""

    image_id: str
    score: float


class Contamination(Record):
    """The check whether training images look defective."""

    calibration_outliers: list[ImageScore]
    train_suspects: list[ImageScore]
    limit: float
    rate: float
    rate_bound: float
    verdict: str


class DuplicatePair(Record):
    """Two nearly equal images in different subsets."""

    subset_a: str
    image_id_a: str
    subset_b: str
    image_id_b: str
    difference: float


class NearDuplicates(Record):
    """Their number, and the first of them."""

    count: int
    pairs: list[DuplicatePair]
    verdict: str


class Border(Record):
    """The check whether the scores of good images come from the image's border."""

    count: int
    n: int
    share: float | None
    gather: bool | None
    verdict: str


class Checks(Record):
    """The checks whether the metrics can be trusted."""

    drift: Drift
    contamination: Contamination
    near_duplicates: NearDuplicates
    border: Border


class ThresholdRecord(BaseModel):
    """The content of `threshold.json`; the options of its rule are further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    rule: str
    value: float
    n: int
    mode: str | None = None
    folds: int | None = None
    promise: str = ""
    false_alarm_bound: float | None = None
    certified: bool | None = None
    details: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The options of the rule, and the number of folds, as far as they are set."""
        settings = {"folds": self.folds, **(self.model_extra or {})}
        return {key: settings[key] for key in sorted(settings) if settings[key] is not None}


class Draw(Record):
    """The result of another draw of the calibration images."""

    seed: int
    threshold: float
    false_alarm_rate: float | None
    recall: float | None


class RunMetrics(Record):
    """All of `metrics.json`.

    Examples
    --------
    >>> from flawline import RunMetrics
    >>> metrics = RunMetrics.load("results/demo/bolt/.../metrics.json")  # doctest: +SKIP
    >>> metrics.image.auroc, metrics.interval(AUROC)  # doctest: +SKIP
    (0.892, (0.79, 0.95))
    >>> sorted(RunMetrics.model_fields)[:3]
    ['at_boundary', 'at_threshold', 'bootstrap']
    """

    category: str
    protocol: str
    detector: str
    seed: int
    method: str
    image: RankingMetrics
    at_threshold: DecisionMetrics
    at_boundary: DecisionMetrics | None = None
    pixel: PixelMetrics | None
    oracle: Oracle
    intervals: dict[str, tuple[float, float]]
    by_defect_type: dict[str, DefectType]
    curves: Curves
    risk: Risk | None
    counts: Counts
    bootstrap: Bootstrap
    checks: Checks
    threshold: ThresholdRecord
    draws: list[Draw] = []
    provenance: dict[str, Any]
    note: str | None

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read the file.

        Raises
        ------
        FlawlineError
            If it is damaged or was written by another version.
        """
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise FlawlineError(
                f"{path}: {place}: {first['msg'].lower()}; expected the metrics.json of this "
                "version of flawline. Delete the file and run the same command again."
            ) from None

    def save(self, path: Path | str) -> None:
        """Write the file."""
        write_json(path, self.model_dump(exclude_unset=True))

    def value(self, metric: Metric) -> float | None:
        """Return a metric, or None where it was not measured."""
        section = getattr(self, metric.part)
        return None if section is None else getattr(section, metric.name)

    def interval(self, metric: Metric) -> tuple[float, float] | None:
        """Return the ends of a metric's interval, or None where there is none."""
        return self.intervals.get(metric.key)
