"""Options of `metric_learning`."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from flawline.options.method import NetworkUse
from flawline.options.synthetic import Distortion, Line
from flawline.options.training import Budget

KINDS = {"c2": ("line",), "c3": ("line", "distortion")}
SCALES = {"l2_softmax": 5.0, "arcface": 30.0, "cosface": 30.0}  # published; CosFace: ArcFace's
MARGINS = {"arcface": 0.05, "cosface": 0.4}  # published; another ArcFace: 0.5
NEIGHBOURS = 5  # published


class MetricLearningOptions(NetworkUse, Budget):
    """Defaults are published ones, unless a description says that they are ours.

    Half of the colours of the drawn lines and the prevalence of small widths are ours: see `Line`.
    """

    implementation: ClassVar[str] = "flawline.detectors.metric_learning:MetricLearning"
    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    unit: ClassVar[str] = "distance to the embeddings of good images"
    explains: ClassVar[bool] = True
    apart: ClassVar[Literal["no", "memory", "wholly"]] = "memory"

    method: Literal["metric_learning"] = "metric_learning"
    backbone: str = Field(
        "mobilenet_v2",
        description="A convolutional classification network of torchvision that ends in global "
        "average pooling: mobilenet_v2, efficientnet_b0 or another.",
    )
    network_size: int = Field(224, ge=32, description="Side of the network's input, pixels.")
    trained_convolutions: int | None = Field(
        None, ge=1, description="Number of last convolutions that train; all, if not given."
    )
    classes: Literal["c2", "c3"] = Field(
        "c2", description="`c2`: normal and line; `c3`: distortion too."
    )
    synthetic: str | None = Field(
        None,
        description="A synthetic set that has these anomalies; if not given, new ones are drawn in "
        "every epoch.",
    )
    line: Line = Field(Line(), description="How lines are drawn during training.")
    distortion: Distortion = Field(Distortion(), description="How distortions are.")
    turn: bool = Field(False, description="Train on mirrored and quarter-turned images (ours).")
    head: Literal["softmax", "l2_softmax", "arcface", "cosface", "adacos"] = "arcface"
    scale: float | Literal["dynamic", "fixed"] | None = Field(
        None,
        description="Factor of the cosines: 5 for l2_softmax, 30 for arcface and cosface, if not "
        "given; `dynamic` (default), `fixed` or a number for adacos.",
    )
    margin: float | None = Field(
        None,
        ge=0,
        le=1.5,
        description="If not given, 0.05 radians for arcface, a cosine of 0.4 for cosface.",
    )
    epochs: int = Field(8, ge=1, description="Ours; more did not help.")
    batch_size: int = Field(
        16, ge=2, description="Good images per step, each with a twin of every class (ours)."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Of Adam (ours).")
    head_learning_rate: float = Field(1e-3, gt=0, description="The head's own (ours).")
    score_by: Literal["nearest", "local_outlier_factor"] = Field(
        "nearest",
        description="Cosine distance to the nearest training embedding, or the local outlier "
        "factor among them.",
    )
    neighbours: int | None = Field(
        None, ge=1, description="Of the local outlier factor; 5, if not given."
    )
    smoothing: float = Field(4.0, ge=0, description="Sigma of the map's Gaussian, pixels (ours).")

    @property
    def synthetic_set(self) -> str | None:
        """Name of the set of synthetic anomalies that it learns from."""
        return self.synthetic

    def inputs(self, *, training: bool) -> frozenset[str]:
        """Return what it must see: object masks too, where it draws anomalies itself."""
        names = super().inputs(training=training)
        return names | {"object_masks"} if training and self.synthetic is None else names

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the anomalous classes."""
        return KINDS[self.classes]

    @model_validator(mode="after")
    def _refuse_undefined(self) -> Self:
        for problem in (self._scale_problem(), self._margin_problem(), self._drawing_problem()):
            if problem:
                raise ValueError(problem)
        if self.neighbours is not None and self.score_by == "nearest":
            raise ValueError(
                "neighbours: only the local outlier factor has them; set `score_by: "
                "local_outlier_factor`, or leave `neighbours` out"
            )
        return self

    def _scale_problem(self) -> str | None:
        if self.head == "softmax" and self.scale is not None:
            return "scale: a softmax head learns the scale of its logits; leave `scale` out"
        if isinstance(self.scale, str) and self.head != "adacos":
            return f"scale: {self.scale!r} is adacos's alone; give {self.head} a number"
        if isinstance(self.scale, float) and self.scale <= 0:
            return "scale: must be above 0, or the loss does not depend on the embeddings"
        if self.scale == "fixed" and self.classes == "c2":
            return (
                "scale: adacos's fixed scale is sqrt(2) ln(C - 1), which is zero for the two "
                "classes of c2, so nothing would be learned; use `dynamic`, a number, or c3"
            )
        return None

    def _margin_problem(self) -> str | None:
        if self.margin is not None and self.head not in MARGINS:
            return f"margin: {self.head} has none, arcface and cosface have; leave `margin` out"
        return None

    def _drawing_problem(self) -> str | None:
        for kind, default in {"line": Line(), "distortion": Distortion()}.items():
            if getattr(self, kind) == default:
                continue
            if self.synthetic:
                return f"{kind}: the set {self.synthetic!r} is drawn already; change its recipes"
            if kind not in self.kinds:
                return f"{kind}: {self.classes} has no such class; use c3, or leave it out"
        return None
