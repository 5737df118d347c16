"""Rules that set the decision threshold."""

from typing import Annotated, Literal

from pydantic import Field

from flawline.options.base import Options, union_by_tag

COSTS = ("miss", "false_alarm", "defect_rate")


class MeanStd(Options):
    """Mean plus k standard deviations of the calibration scores."""

    rule: Literal["mean_std"] = "mean_std"
    k: float = Field(3.0, ge=0)


class Quantile(Options):
    """A quantile of the calibration scores."""

    rule: Literal["quantile"] = "quantile"
    q: float = Field(0.95, gt=0, lt=1)


class Maximum(Options):
    """The largest calibration score."""

    rule: Literal["maximum"] = "maximum"


class Conformal(Options):
    """The calibration score whose rank bounds the expected false-alarm rate by alpha."""

    rule: Literal["conformal"] = "conformal"
    alpha: float = Field(0.05, gt=0, lt=1, description="The false-alarm rate to stay under.")


class GeneralizedPareto(Options):
    """The score that a tail fitted to the largest calibration scores exceeds with a given rate."""

    rule: Literal["generalized_pareto"] = "generalized_pareto"
    false_alarm_rate: float = Field(0.01, gt=0, lt=1, description="The rate to aim at.")
    tail: float = Field(
        0.25, gt=0, le=0.5, description="Part of the calibration scores that is the tail."
    )


class Cost(Options):
    """The least expected cost, with defects assumed a given distance above the good images."""

    rule: Literal["cost"] = "cost"
    miss: float = Field(10.0, gt=0, description="Cost of a defective part that passes.")
    false_alarm: float = Field(1.0, gt=0, description="Cost of a good part called defective.")
    defect_rate: float = Field(0.05, gt=0, lt=1, description="Fraction of parts that is defective.")
    separation: float = Field(
        4.0,
        gt=0,
        description="Assumed distance of defective from good images, in standard deviations of "
        "good images.",
    )


class Fixed(Options):
    """A given value, such as one found with the report's slider."""

    rule: Literal["fixed"] = "fixed"
    value: float


Threshold = Annotated[
    MeanStd | Quantile | Maximum | Conformal | GeneralizedPareto | Cost | Fixed,
    Field(discriminator="rule"),
]
RULES = union_by_tag(Threshold)
