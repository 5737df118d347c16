"""The stages of the pipeline, one for each rule: their order, and the files that show success."""

from collections.abc import Mapping
from dataclasses import dataclass

from flawline.layout import Layout

# A stage's files, in any dataset.
FILES = Layout("{dataset}")
OF_SPLIT = ("category", "protocol")
OF_SUBSET = (*OF_SPLIT, "subset")
OF_RUN = (*OF_SPLIT, "detector", "seed")


@dataclass(frozen=True)
class Stage:
    """The facts about a rule that other code needs.

    Attributes
    ----------
    name : the rule's.
    after : stages that it may follow directly.
    per : wildcards; there is one job for each of their values.
    section : the section of the configuration that has its options.
    gpu : whether it asks for a GPU.
    group : on clusters, short stages of one group share a job.
    done : patterns of the small files that show that a job has run. `all` asks for them: Snakemake
        deletes the output of a failed or killed job, and files made from it earlier would look
        finished. Large arrays are not among them, so they can be deleted to save space.
    """

    name: str
    after: tuple[str, ...] = ()
    per: tuple[str, ...] = ()
    section: str = ""
    gpu: bool = False
    group: str | None = None
    done: tuple[str, ...] = ()

    @property
    def job(self) -> str:
        """The pattern that names its jobs' logs and benchmarks."""
        return ".".join(("seed{seed}" if name == "seed" else f"{{{name}}}") for name in self.per)

    def files(self, dataset: str, wildcards: Mapping[str, str]) -> list[str]:
        """Return the files that show that one job is done."""
        return [file.format(dataset=dataset, **wildcards) for file in self.done]


_COMPARISON = ("runs", "over_seeds", "over_categories", "best", "pairwise", "wilcoxon", "ranks")
_LEARNED_FROM = (
    "train_labels",
    "extract_features",
    "extract_posed_features",
    "synthesize",
)
_STAGES = (
    Stage("download"),
    Stage("unpack", after=("download",), done=(f"{FILES.data}/{{category}}.json",)),
    Stage(
        "draw_demo",
        per=("category",),
        section="dataset",
        group="data",
        done=(f"{FILES.data}/{{category}}.json",),
    ),
    Stage(
        "index",
        after=("unpack", "draw_demo"),
        per=("category",),
        section="data",
        group="data",
        done=(f"{FILES.category}/index.csv", f"{FILES.category}/problems.csv"),
    ),
    Stage(
        "split",
        after=("index",),
        per=OF_SPLIT,
        section="calibration",
        group="data",
        done=(f"{FILES.protocol}/split.csv", f"{FILES.protocol}/train/folds.csv"),
    ),
    Stage(
        "prepare",
        after=("split",),
        per=OF_SUBSET,
        section="prepare",
        group="data",
        done=(f"{FILES.subset}/sizes.csv", f"{FILES.subset}/geometry.json"),
    ),
    Stage(
        "tiles",
        after=("split",),
        per=OF_SUBSET,
        section="prepare",
        done=(f"{FILES.subset}/tiles.json",),
    ),
    Stage(
        "counted",
        after=("split",),
        per=OF_SUBSET,
        section="prepare",
        done=(f"{FILES.subset}/counted.npy",),
    ),
    Stage(
        "ground_truth",
        after=("split",),
        per=OF_SPLIT,
        section="prepare",
        group="data",
        done=(f"{FILES.protocol}/test/labels.csv",),
    ),
    Stage(
        "train_labels",
        after=("split",),
        per=("category",),
        group="data",
        done=(f"{FILES.category}/supervised/train/labels.csv",),
    ),
    Stage(
        "near_duplicates",
        after=("prepare",),
        per=OF_SPLIT,
        group="data",
        done=(f"{FILES.protocol}/near_duplicates.csv",),
    ),
    Stage(
        "object_model",
        after=("prepare", "counted"),
        per=OF_SPLIT,
        section="object_masks",
        group="data",
        done=(f"{FILES.protocol}/object_masks/model.json",),
    ),
    Stage(
        "object_masks",
        after=("object_model",),
        per=OF_SUBSET,
        section="object_masks",
        group="data",
        done=(f"{FILES.subset}/object_masks.npy",),
    ),
    Stage(
        "synthesize",
        after=("object_masks", "tiles"),
        per=(*OF_SPLIT, "synthetic"),
        section="synthetic.{synthetic}",
        group="data",
        done=(f"{FILES.synthetic}/index.csv", f"{FILES.synthetic}/contact_sheet.png"),
    ),
    Stage(
        "pose",
        after=("object_masks", "tiles"),
        per=(*OF_SPLIT, "poses"),
        section="poses.{poses}",
        done=(f"{FILES.posed}/counted.npy",),
    ),
    Stage(
        "extract_features",
        after=("prepare", "tiles"),
        per=(*OF_SUBSET, "features"),
        section="features.{features}",
        gpu=True,
        done=(f"{FILES.subset}/features/{{features}}.json",),
    ),
    Stage(
        "extract_posed_features",
        after=("pose",),
        per=(*OF_SPLIT, "poses", "features"),
        section="features.{features}",
        gpu=True,
        done=(f"{FILES.posed}/features/{{features}}.json",),
    ),
    Stage(
        "train",
        after=_LEARNED_FROM,
        per=OF_RUN,
        section="detectors.{detector}",
        gpu=True,
        done=(f"{FILES.detector}/model/model.json", f"{FILES.detector}/training.csv"),
    ),
    Stage(
        "share_model",
        after=("train",),
        per=OF_RUN,
        done=(f"{FILES.detector}/model/model.json", f"{FILES.detector}/training.csv"),
    ),
    Stage(
        "train_fold",
        after=_LEARNED_FROM,
        per=(*OF_RUN, "fold"),
        section="detectors.{detector}",
        gpu=True,
        done=(f"{FILES.fold}/model/model.json",),
    ),
    Stage(
        "score",
        after=("train", "share_model"),
        per=(*OF_RUN, "subset"),
        gpu=True,
        done=(f"{FILES.detector}/{{subset}}/scores.csv",),
    ),
    Stage(
        "score_fold",
        after=("train_fold",),
        per=(*OF_RUN, "fold"),
        gpu=True,
        done=(f"{FILES.fold}/scores.csv",),
    ),
    Stage(
        "score_good_test_images",
        after=("train_fold", "ground_truth"),
        per=(*OF_RUN, "fold"),
        gpu=True,
        done=(f"{FILES.fold}/good_test_scores.csv",),
    ),
    Stage(
        "gather_folds",
        after=("score_fold",),
        per=OF_RUN,
        group="evaluation",
        done=(f"{FILES.detector}/calibration/scores.csv",),
    ),
    Stage(
        "leave_one_out",
        after=("score",),
        per=OF_RUN,
        done=(f"{FILES.detector}/calibration/scores.csv",),
    ),
    Stage(
        "fuse",
        after=("score", "gather_folds", "leave_one_out"),
        per=OF_RUN,
        section="fusion.{detector}",
        group="evaluation",
        done=(
            f"{FILES.detector}/threshold.json",
            f"{FILES.detector}/model/model.json",
            f"{FILES.detector}/training.csv",
        ),
    ),
    Stage(
        "fuse_scores",
        after=("fuse",),
        per=(*OF_RUN, "subset"),
        section="fusion.{detector}",
        group="evaluation",
        done=(f"{FILES.detector}/{{subset}}/scores.csv",),
    ),
    Stage(
        "fuse_good_test_images",
        after=("fuse", "score_good_test_images"),
        per=(*OF_RUN, "fold"),
        section="fusion.{detector}",
        group="evaluation",
        done=(f"{FILES.fold}/good_test_scores.csv",),
    ),
    Stage(
        "threshold",
        after=("score", "gather_folds", "leave_one_out"),
        per=OF_RUN,
        section="threshold",
        group="evaluation",
        done=(f"{FILES.detector}/threshold.json",),
    ),
    Stage(
        "boxes",
        after=("score", "gather_folds", "leave_one_out", "fuse_scores"),
        per=OF_RUN,
        section="boxes",
        group="evaluation",
        done=(f"{FILES.detector}/test/boxes.csv",),
    ),
    Stage(
        "draws",
        after=("train_labels", "extract_features", "object_masks"),
        per=OF_RUN,
        section="detectors.{detector}",
        gpu=True,
        done=(f"{FILES.detector}/draws.csv",),
    ),
    Stage(
        "evaluate",
        after=(
            "threshold",
            "fuse_scores",
            "fuse_good_test_images",
            "score_good_test_images",
            "draws",
            "ground_truth",
            "near_duplicates",
        ),
        per=OF_RUN,
        section="evaluation",
        group="evaluation",
        done=(
            f"{FILES.detector}/metrics.json",
            f"{FILES.detector}/predictions.csv",
            f"{FILES.detector}/image_scores.csv",
        ),
    ),
    Stage(
        "learning_curve",
        after=("extract_features", "object_masks", "ground_truth"),
        per=OF_RUN,
        section="detectors.{detector}",
        gpu=True,
        done=(f"{FILES.detector}/learning_curve.csv",),
    ),
    Stage(
        "compare",
        after=("evaluate",),
        group="report",
        done=(
            *(f"{FILES.comparison}/{table}.csv" for table in _COMPARISON),
            f"{FILES.comparison}/tables.md",
            f"{FILES.comparison}/tables.tex",
            f"{FILES.comparison}/configuration.json",
        ),
    ),
    Stage(
        "figures",
        after=("evaluate", "boxes"),
        per=OF_RUN,
        section="report",
        group="evaluation",
        done=(f"{FILES.detector}/figures/gallery.jpg", f"{FILES.detector}/image_boxes.csv"),
    ),
    Stage(
        "pictures",
        after=("evaluate",),
        per=OF_RUN,
        section="report",
        gpu=True,
        done=(f"{FILES.detector}/figures/pictures.jpg",),
    ),
    Stage(
        "report_page",
        after=("compare", "figures", "pictures", "synthesize", "learning_curve"),
        group="report",
        done=(FILES.report,),
    ),
    Stage("log_to_mlflow", after=("report_page",), group="report", done=(FILES.mlflow,)),
    Stage("inspect_images", gpu=True),
)
STAGES = {stage.name: stage for stage in _STAGES}


def before(name: str) -> set[str]:
    """Return all stages whose files a stage may depend on, directly or not."""
    stages = set(STAGES[name].after)
    return stages.union(*(before(stage) for stage in stages))
