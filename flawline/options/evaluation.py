"""Options of the intervals and of the checks."""

from pydantic import Field

from flawline.options.base import Options


class Evaluation(Options):
    """How the uncertainty of metrics is measured, and what is checked."""

    resamples: int = Field(1000, ge=100, le=100_000, description="Bootstrap resamples.")
    confidence: float = Field(0.95, ge=0.5, lt=1, description="Of every interval.")
    train_suspects: bool = Field(
        True,
        description="Score the training images too, where a method can leave out what it learned "
        "of an image itself, and name those least like the others: they may be defective. Without "
        "it, a run of `patchcore` takes up to an eighth less CPU time.",
    )
