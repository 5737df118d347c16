"""The files that a run makes, and its closing line."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flawline.config import Config
from flawline.layout import SUBSETS, Layout
from flawline.stages import STAGES

if TYPE_CHECKING:
    from flawline.report.verdict import Card

Job = tuple[str, dict[str, str]]


class Targets:
    """The files that a configuration asks for."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.layout = Layout(config.dataset.name)
        self.explaining = [
            name
            for name in config.detectors
            if any(
                config.of(category).detectors[name].explains for category in config.category_names
            )
        ]

    @property
    def shared(self) -> list[str]:
        """Return the detectors that have one model of all categories."""
        return [name for name, options in self.config.detectors.items() if options.is_shared]

    def categories(self, mode: str) -> list[str]:
        """Return the categories whose thresholds are calibrated in a mode."""
        config = self.config
        return [name for name in config.category_names if config.of(name).calibration.mode == mode]

    def runs(self, file: str) -> list[str]:
        """Return a file of every category, detector and seed."""
        return [f"{self.layout.detector}/{file}".format(**names) for names in self._runs()]

    def pictures(self) -> list[str]:
        """Return the picture of what the method sees, for every run whose method can show it."""
        return self._done("pictures")

    def learning_curves(self) -> list[str]:
        """Return the table of every learning curve that is asked for."""
        return self._done("learning_curve")

    def contact_sheets(self) -> list[str]:
        """Return the contact sheet of every set of synthetic anomalies and category."""
        sheets = f"{self.layout.synthetic}/contact_sheet.png"
        jobs = [names for stage, names in self._jobs() if stage == "synthesize"]
        return [sheets.format(**names) for names in jobs]

    def every_stage(self) -> list[str]:
        """Return the small files that show that every job has run."""
        dataset = self.config.dataset.name
        files: set[str] = set()
        for stage, names in self._jobs():
            files.update(STAGES[stage].files(dataset, names))
        return sorted(files)

    def _done(self, wanted: str) -> list[str]:
        dataset = self.config.dataset.name
        jobs = [names for stage, names in self._jobs() if stage == wanted]
        return [file for names in jobs for file in STAGES[wanted].files(dataset, names)]

    def _runs(self) -> Iterator[dict[str, str]]:
        for category in self.config.category_names:
            for detector, protocol in self.config.of(category).protocols.items():
                for seed in self.config.seeds:
                    yield {
                        "category": category,
                        "protocol": protocol,
                        "detector": detector,
                        "seed": str(seed),
                    }

    def _jobs(self) -> Iterator[Job]:
        """Yield each stage with the wildcards of its jobs; a category's once for every run."""
        yield "compare", {}
        for category in self.config.category_names:
            for synthetic in self.config.synthetic:
                names = {"category": category, "protocol": "unsupervised"}
                yield "object_model", names
                yield "synthesize", names | {"synthetic": synthetic}
        for names in self._runs():
            yield from (
                self._of_fusion(names)
                if names["detector"] in self.config.fusion
                else self._of_detector(names)
            )

    def _of_fusion(self, names: dict[str, str]) -> Iterator[Job]:
        for stage in ("fuse", "boxes", "evaluate", "figures"):
            yield stage, names
        for subset in ("calibration", "test"):
            yield "fuse_scores", names | {"subset": subset}
        for fold in self._folds(names["category"]):
            yield "fuse_good_test_images", names | {"fold": fold}

    def _of_detector(self, names: dict[str, str]) -> Iterator[Job]:
        own = self.config.of(names["category"])
        options = own.detectors[names["detector"]]
        mode = own.calibration.mode
        for stage in ("index", "split", "ground_truth", "near_duplicates"):
            yield stage, names
        if not self.config.provided:
            yield "draw_demo" if self.config.dataset.kind == "demo" else "unpack", names
        if "labels" in options.inputs(training=True):
            yield "train_labels", names
        for subset in SUBSETS if mode == "split" else ("train", "test"):
            yield from self._of_subset(names | {"subset": subset})
        if options.uses_object_masks:
            yield "object_model", names
        if options.pose_set:
            yield "pose", names | {"poses": options.pose_set}
            for features in options.feature_sets:
                more = {"poses": options.pose_set, "features": features}
                yield "extract_posed_features", names | more
        for fold in self._folds(names["category"]):
            for stage in ("train_fold", "score_fold", "score_good_test_images"):
                yield stage, names | {"fold": fold}
        if mode != "split":
            yield "gather_folds" if mode == "cross" else "leave_one_out", names
        if own.calibration.seeds:
            yield "draws", names
        few = self.config.learning_curve.train_images and options.protocol == "unsupervised"
        if few and names["seed"] == str(self.config.seeds[0]):
            yield "learning_curve", names
        if names["detector"] in self.explaining:
            yield "pictures", names
        takes_over = options.is_shared and names["category"] != self.config.category_names[0]
        yield "share_model" if takes_over else "train", names
        for stage in ("threshold", "boxes", "evaluate", "figures"):
            yield stage, names

    def _of_subset(self, names: dict[str, str]) -> Iterator[Job]:
        own = self.config.of(names["category"])
        options = own.detectors[names["detector"]]
        yield "prepare", names
        calibrates = own.calibration.mode == "leave_one_out"
        if names["subset"] != "train" or calibrates or own.names_suspects(names["detector"]):
            yield "score", names
        if own.prepare.tiles:
            yield "tiles", names
        if own.restricted:
            yield "counted", names
        if options.uses_object_masks:
            yield "object_masks", names
        for features in options.feature_sets:
            yield "extract_features", names | {"features": features}

    def _folds(self, category: str) -> list[str]:
        calibration = self.config.of(category).calibration
        return [str(fold) for fold in range(calibration.fold_count * (calibration.mode == "cross"))]


def closing_lines(workflow: Any, config: Config) -> str:
    """Say what the best detector of each product misses and rejects, and where the report is."""
    layout = Layout(config.dataset.name)
    if layout.report not in {str(file) for job in workflow.dag.jobs for file in job.output}:
        return "Done: the requested files are there."
    from flawline.evaluation.comparison import CHOSEN
    from flawline.report.overview import best_of_categories
    from flawline.report.runs import comparison_rows, read_run
    from flawline.report.verdict import cards

    files = Targets(config).runs("metrics.json")
    runs = [read_run(file, layout.benchmarks, drawn=False) for file in files if Path(file).exists()]
    pairs = comparison_rows(Path(layout.comparison, "pairwise.csv"))
    made = cards(runs, best_of_categories(runs, pairs), config.report)
    lines = [f"{card.best.category}: {card.verdict}. {_told(card)}" for card in made]
    if any(card.best.rivals for card in made):
        lines.append(f"Each detector was {CHOSEN}.")
    return "\n".join([*lines, f"Report: {Path(layout.report).absolute().as_uri()}"])


def _told(card: "Card") -> str:
    if not card.missed.of or not card.rejected.of:
        return card.reason
    return (
        f"{card.run.detector} misses {card.missed.words} defective parts, rejects "
        f"{card.rejected.words} good ones."
    )
