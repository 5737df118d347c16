"""The metrics: their place in `metrics.json`, their names, and what they mean.

The tables, the report and its list of words read them from here, in this order.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    part, name : section of `metrics.json` and key there.
    column : in the tables of `comparison/`.
    title, label : what it is called, and what it is called below its section's heading.
    words : what it means to a reader who knows parts, not statistics.
    higher : whether more is better.
    ranked : whether the report has a leaderboard of it.
    tested : whether its differences between detectors are tested over the categories.
    headline : whether it is among the few that a comparison of two results shows.
    beside : column of the metric that a leaderboard shows with it, without which it misleads.
    """

    part: str
    name: str
    column: str
    title: str
    label: str
    words: str
    higher: bool = True
    ranked: bool = True
    tested: bool = False
    headline: bool = False
    beside: str = ""

    @property
    def key(self) -> str:
        """`part.name`, as in `intervals` of `metrics.json`."""
        return f"{self.part}.{self.name}"


SECTIONS = {
    "image": "Ranking, without a threshold",
    "at_threshold": "At the threshold",
    "pixel": "Locating defects",
}
METRICS = (
    Metric(
        "image",
        "auroc",
        "image_auroc",
        "Image AUROC",
        "Image AUROC",
        "The chance that a defective part scores above a good one. 1 is perfect, 0.5 is guessing.",
        tested=True,
        headline=True,
    ),
    Metric(
        "image",
        "average_precision",
        "image_average_precision",
        "Image average precision",
        "Image average precision",
        "The share of alarms that are right, averaged over all thresholds that find one more "
        "defect.",
        tested=True,
    ),
    Metric(
        "image",
        "fpr_at_95_tpr",
        "image_fpr_at_95_tpr",
        "False-alarm rate at 95 % recall",
        "False-alarm rate at 95 % recall",
        "The share of good parts rejected if the threshold were set to find 95 % of the defective "
        "ones. Lower is better.",
        higher=False,
    ),
    Metric(
        "image",
        "tpr_at_5_fpr",
        "image_tpr_at_5_fpr",
        "Recall at 5 % false alarms",
        "Recall at 5 % false alarms",
        "The share of defective parts found if a threshold were set by the good test images to "
        "reject 5 % of good parts on average. It compares detectors; the threshold in use comes "
        "from calibration images.",
    ),
    Metric(
        "image",
        "tpr_at_1_fpr",
        "image_tpr_at_1_fpr",
        "Recall at 1 % false alarms",
        "Recall at 1 % false alarms",
        "The same with 1 % of good parts rejected.",
    ),
    Metric(
        "at_threshold",
        "recall",
        "recall",
        "Recall at the threshold",
        "Recall",
        "The share of defective parts that the threshold in use finds. The rest are misses, also "
        "called escapes.",
        headline=True,
        beside="false_alarm_rate",
    ),
    Metric(
        "at_threshold",
        "false_alarm_rate",
        "false_alarm_rate",
        "False alarms at the threshold",
        "False-alarm rate",
        "The share of good parts that the threshold in use rejects, also called false rejects. "
        "Lower is better.",
        higher=False,
        headline=True,
        beside="recall",
    ),
    Metric(
        "at_threshold",
        "precision",
        "precision",
        "Precision at the threshold",
        "Precision",
        "The share of alarms that are right. It depends on how many test images are defective, "
        "which is far more than on a production line.",
        ranked=False,
    ),
    Metric(
        "at_threshold",
        "f1",
        "f1",
        "F1 at the threshold",
        "F1",
        "The harmonic mean of precision and recall. It grows with the share of defective test "
        "images.",
    ),
    Metric(
        "at_threshold",
        "balanced_accuracy",
        "balanced_accuracy",
        "Balanced accuracy at the threshold",
        "Balanced accuracy",
        "The mean of the shares of good and of defective parts that are called right.",
    ),
    Metric(
        "at_threshold",
        "accuracy",
        "accuracy",
        "Accuracy at the threshold",
        "Accuracy",
        "The share of images that are called right. It depends on how many test images are "
        "defective.",
        ranked=False,
    ),
    Metric(
        "pixel",
        "auroc",
        "pixel_auroc",
        "Pixel AUROC",
        "Pixel AUROC",
        "The chance that a pixel of a defect scores above a flawless one. Large good areas make it "
        "look high.",
        tested=True,
        headline=True,
    ),
    Metric(
        "pixel",
        "average_precision",
        "pixel_average_precision",
        "Pixel average precision",
        "Pixel average precision",
        "Average precision of single pixels.",
    ),
    Metric(
        "pixel",
        "aupro_30",
        "pixel_aupro_30",
        "AUPRO",
        "AUPRO",
        "How well whole defect regions are covered, small ones counting as much as large ones, "
        "while at most 30 % of flawless pixels are flagged.",
        tested=True,
        headline=True,
    ),
    Metric(
        "pixel",
        "aupro_05",
        "pixel_aupro_05",
        "AUPRO to 5 %",
        "AUPRO to 5 %",
        "The same with at most 5 % of flawless pixels flagged.",
    ),
    Metric(
        "pixel",
        "aupimo",
        "pixel_aupimo",
        "AUPIMO",
        "AUPIMO",
        "How much of each defect is found while good images stay almost free of flagged pixels.",
    ),
    Metric(
        "pixel",
        "f1_oracle",
        "pixel_f1_oracle",
        "Best pixel F1 (oracle)",
        "Best pixel F1 (oracle)",
        "The best F1 that any threshold on the maps could reach; chosen with the test masks, so "
        "never a promise.",
    ),
)
BY_COLUMN = {metric.column: metric for metric in METRICS}
AUROC, RECALL, FALSE_ALARMS = (
    BY_COLUMN[column] for column in ("image_auroc", "recall", "false_alarm_rate")
)
