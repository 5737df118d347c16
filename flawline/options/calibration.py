"""Which images thresholds come from, and the split of supervised detectors."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flawline.options.base import Options


class Calibration(Options):
    """The good training images that thresholds come from, each scored by a model of others."""

    mode: Literal["split", "cross", "leave_one_out"] = Field(
        "split",
        description="`split` holds some good images back. `cross` trains on all of them, and once "
        "more without each fold to score it: slower, but no training image is lost. "
        "`leave_one_out`, for patchcore, trains once on all of them and compares each with what "
        "the memory has of the others.",
    )
    fraction: float | None = Field(
        None, gt=0, lt=1, description="Part held back by `split`; 0.2, if not given."
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="How many folds `cross` deals the good images into; 5, if not given.",
    )
    seed: int = Field(0, ge=0)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="Seeds of further draws by `split`: each trains and calibrates every detector "
        "again, to show how far thresholds depend on the draw. No other metric uses them.",
    )

    @model_validator(mode="after")
    def _of_its_mode(self) -> Self:
        if self.mode != "split" and self.seeds:
            raise ValueError(
                f"seeds: `{self.mode}` holds nothing back; leave `seeds` out, or use `mode: split`"
            )
        if len({self.seed, *self.seeds}) < 1 + len(self.seeds):
            raise ValueError(
                f"seeds: {self.seeds} with seed {self.seed} has a draw twice; list each once, "
                "without `seed`"
            )
        if self.mode != "split" and self.fraction is not None:
            raise ValueError(
                f"fraction: `{self.mode}` holds nothing back; leave `fraction` out, or use "
                "`mode: split`"
            )
        if self.mode != "cross" and self.folds is not None:
            raise ValueError(
                f"folds: `{self.mode}` has none; use `mode: cross`, or leave `folds` out"
            )
        if self.mode == "leave_one_out" and self.seed:
            raise ValueError("seed: `leave_one_out` draws nothing at random; leave `seed` out")
        return self

    @property
    def held_back(self) -> float:
        """The fraction that `split` holds back."""
        return 0.2 if self.fraction is None else self.fraction

    @property
    def fold_count(self) -> int:
        """The number of folds that `cross` has."""
        return self.folds or 5


class Supervised(Options):
    """The split of detectors that train on real defects."""

    test_fraction: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Fraction of good images and of each defect type used for testing "
        "(published: 0.2).",
    )
    seed: int = Field(0, ge=0)
