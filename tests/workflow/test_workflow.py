"""The whole pipeline: what runs, what runs again, what may see what, what survives a kill.

A small copy of the project runs once; the tests then ask Snakemake what it would do after a change
of a copy of that.
"""

import re
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import CONFIG, ONE_THREAD, PARTS, Project, append, changed

from flawline.data.demo.draw import write_category
from flawline.files import read_table
from flawline.provenance import file_hash


@pytest.fixture(scope="module")
def finished(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.copied(finished_project, tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture
def project(finished: Project) -> Iterator[Project]:
    """The finished project; configuration and code are put back afterwards."""
    yield finished
    finished.restore()


class TestAFinishedRun:
    def test_has_a_report_with_every_category_and_detector(self, finished: Project) -> None:
        page = (finished.folder / "results/demo/report.html").read_text(encoding="utf-8")
        for name in ("bolt", "weave", "patchcore", "featcae"):
            assert name in page

    def test_ends_with_a_verdict_on_each_product_and_a_link_to_the_report(
        self, finished_project: Path
    ) -> None:
        said = finished_project.with_suffix(".out").read_text()
        lines = [line for line in said.splitlines() if line.startswith("Report: ")]
        page = finished_project / "results/demo/report.html"
        assert lines == [f"Report: {page.as_uri()}"]
        verdicts = said.splitlines()[-4:-2]
        for verdict, name in zip(verdicts, ("bolt", "weave"), strict=True):
            assert re.match(rf"{name}: .* misses \d of 5 defective parts, rejects \d of 4", verdict)

    def test_leaves_a_log_and_a_benchmark_of_every_job(self, finished: Project) -> None:
        results = finished.folder / "results/demo"
        for row in finished.table():
            if row["rule"] == "all":
                continue
            log = finished.folder / row["log-file(s)"]
            assert log.is_file(), row
            tsv = Path(str(log).replace("/logs/", "/benchmarks/")).with_suffix(".tsv")
            assert tsv.is_file(), tsv
        assert not list(results.rglob("*.part"))

    def test_has_nothing_left_to_do(self, finished: Project) -> None:
        assert not finished.pending()

    def test_writes_nothing_outside_results_and_data(self, finished: Project) -> None:
        names = {path.name for path in finished.folder.iterdir()}
        assert names == {*PARTS, "test.yaml", "results", "data", ".snakemake"}


class TestWhatRunsAgain:
    def test_a_changed_option_of_one_detector_reruns_that_detector_alone(
        self, project: Project
    ) -> None:
        project.configure(changed(lambda c: c["detectors"]["featcae"].update(epochs=3)))
        pending = project.pending()
        assert pending
        shared = ("results/demo/comparison/", "results/demo/report")
        for file in pending:
            assert "/detectors/featcae/" in file or file.startswith(shared), file
        assert {"train", "score", "threshold", "evaluate", "figures"} <= set(pending.values())

    def test_a_changed_size_of_one_category_reruns_that_category_alone(
        self, project: Project
    ) -> None:
        project.configure(
            changed(lambda c: c.update(overrides={"bolt": {"prepare": {"size": 48}}}))
        )
        pending = project.pending()
        assert any(file.endswith("bolt/unsupervised/train/images.npy") for file in pending)
        assert not any("/weave/" in file for file in pending)

    def test_a_changed_threshold_rule_retrains_and_rescores_nothing(self, project: Project) -> None:
        project.configure(changed(lambda c: c.update(threshold={"rule": "maximum"})))
        assert project.pending_rules() == {
            "threshold",
            "evaluate",
            "figures",
            "compare",
            "report_page",
        }

    def test_an_added_category_runs_itself_and_the_tables(self, project: Project) -> None:
        project.configure(changed(lambda c: c["categories"].append("tablet")))
        pending = project.pending()
        assert any("/tablet/" in file for file in pending)
        assert not any("/bolt/" in file or "/weave/" in file for file in pending)

    def test_an_added_seed_runs_just_that_seed(self, project: Project) -> None:
        project.configure(changed(lambda c: c.update(seeds=[0, 1])))
        pending = project.pending()
        assert not any("seed0" in file for file in pending)
        assert {"train", "score"} <= set(pending.values())

    @pytest.mark.parametrize(
        ("module", "rules", "spared"),
        [
            (
                "detectors/featcae.py",
                {"train", "score"},
                {"patchcore/seed0/model", "patchcore/seed0/test"},
            ),
            ("decisions/boxes.py", {"boxes", "figures"}, {"/scores.csv", "metrics.json"}),
            ("decisions/thresholds.py", {"threshold"}, {"/model/", "/scores.csv"}),
            ("evaluation/pixel_metrics.py", {"evaluate"}, {"threshold.json", "/model/"}),
            ("features/gabor.py", {"extract_features"}, {"images.npy", "labels.csv"}),
            ("synthesis/line.py", {"synthesize", "report_page"}, {"/model/", "object_masks"}),
            ("report/page.py", {"report_page"}, {"metrics.json", "histogram.svg"}),
            ("report/templates/page.html.j2", {"report_page"}, {"metrics.json"}),
            ("seeding.py", {"index", "split", "train", "synthesize"}, set()),
        ],
    )
    def test_a_changed_library_file_reruns_the_stages_that_use_it(
        self, project: Project, module: str, rules: set[str], spared: set[str]
    ) -> None:
        append(project.folder / "flawline" / module, "\nCHANGED = 1\n")
        pending = project.pending()
        assert rules <= set(pending.values())
        for file in pending:
            assert not any(part in file for part in spared), file

    def test_a_changed_script_reruns_its_rule(self, project: Project) -> None:
        append(project.folder / "scripts" / "compare.py", "\nCHANGED = 1\n")
        assert project.pending_rules() == {"compare", "report_page"}

    def test_a_changed_source_image_reruns_its_category(
        self, finished_project: Path, tmp_path: Path
    ) -> None:
        project = Project(tmp_path / "project", finished_project)
        photographs = tmp_path / "photographs"
        for name in ("bolt", "weave"):
            few = {"train_good": 10, "test_good": 2, "test_defective": 0}
            write_category(photographs / name, name, size=64, **few)
        config = changed(lambda c: c.update(dataset={"name": "mine", "source": str(photographs)}))
        del config["detectors"]["featcae"]
        project.configure(config | {"categories": ["weave"]})
        project.run()
        assert not project.pending()
        project.configure(config)
        targets = [
            f"results/mine/{name}/unsupervised/train/images.npy" for name in ("bolt", "weave")
        ]
        said = project.run(*targets).stdout
        assert "Done: the requested files are there." in said
        assert "report.html" not in said
        image = photographs / "bolt/train/good/000.png"
        image.touch()
        assert not project.pending(*targets)
        shutil.copy(photographs / "bolt/train/good/001.png", image)
        pending = project.pending(*targets)
        assert pending["results/mine/bolt/index.csv"] == "index"
        assert pending[targets[0]] == "prepare"
        assert not any("/weave/" in file for file in pending)

    def test_comments_touched_files_reordered_keys_and_a_branch_switched_back_rerun_nothing(
        self, project: Project
    ) -> None:
        for path in [
            *project.folder.rglob("flawline/**/*.py"),
            *project.folder.glob("scripts/*.py"),
        ]:
            append(path, '\n# A remark.\n"""Another."""\n')
        append(project.folder / "flawline/report/templates/changes.html.j2", "<p>")
        for part in ("flawline", "scripts", "rules", "results"):
            for path in (project.folder / part).rglob("*"):
                if path.is_file():
                    path.touch()
        backwards = {key: CONFIG[key] for key in reversed(CONFIG)}
        patchcore = CONFIG["detectors"]["patchcore"]
        backwards["detectors"] = {
            "featcae": CONFIG["detectors"]["featcae"],
            "patchcore": {key: patchcore[key] for key in reversed(patchcore)},
        }
        project.configure(backwards)
        module = project.folder / "flawline/features/gabor.py"
        text = module.read_text()
        module.write_text("raise RuntimeError\n")
        module.write_text(text)
        assert not project.pending()


class TestThePlanInOneLine:
    def test_says_that_there_is_nothing_to_do(self, project: Project) -> None:
        assert project.plan() == "Nothing to do: all 64 jobs are reused."

    def test_names_the_changed_option_and_counts_what_it_costs(self, project: Project) -> None:
        project.configure(changed(lambda c: c["detectors"]["featcae"].update(epochs=3)))
        line = project.plan()
        assert line.startswith("16 of 64 jobs run: detectors.featcae.epochs (2 -> 3) changed (")
        assert "(train 2, score 4, " in line
        assert line.endswith("; 48 are reused.")

    def test_names_the_category_of_an_override(self, project: Project) -> None:
        project.configure(
            changed(lambda c: c.update(overrides={"bolt": {"boxes": {"min_area": 9}}}))
        )
        line = project.plan()
        assert line.startswith("6 of 64 jobs run: boxes.min_area (16 -> 9) (bolt) changed (")

    def test_names_an_added_category_and_an_added_seed(self, project: Project) -> None:
        project.configure(changed(lambda c: c["categories"].append("tablet")))
        assert " jobs run: category tablet new (" in project.plan()
        project.configure(changed(lambda c: c.update(seeds=[0, 1])))
        assert " jobs run: seed 1 new (" in project.plan()

    def test_names_the_stages_of_a_changed_library_file(self, project: Project) -> None:
        append(project.folder / "flawline/decisions/boxes.py", "\nCHANGED = 1\n")
        assert " jobs run: the code of boxes changed (boxes 4, figures 4, " in project.plan()

    def test_says_what_comes_from_the_feature_store(self, project: Project) -> None:
        project.configure(
            changed(lambda c: c["features"].update(bank=c["features"]["gabor"]))
            | {"detectors": {"p": CONFIG["detectors"]["patchcore"] | {"features": "bank"}}}
        )
        line = project.plan()
        assert "features bank, detector p new (" in line
        assert line.endswith("extract_features: 6 from the feature store.")

    def test_passes_arguments_on_and_says_what_is_wrong_with_them(self, project: Project) -> None:
        assert "asked for by force" in project.plan("--forcerun", "compare")
        project.configure(changed(lambda c: c["prepare"].update(size=-1)))
        assert "prepare.size" in project.plan()


class TestTheFeatureStore:
    def test_gives_the_features_back_when_a_setting_is_switched_back(
        self, finished_project: Path, tmp_path: Path
    ) -> None:
        project = Project(tmp_path / "project", finished_project)
        folder = project.folder / "results/demo/bolt/unsupervised/train/features"
        target = str(folder.relative_to(project.folder) / "gabor.npy")
        log = "results/demo/logs/extract_features/bolt.unsupervised.train.gabor.log"

        def extract(layers: list[str]) -> tuple[bytes, bytes, bool]:
            project.configure(changed(lambda c: c["features"]["gabor"].update(layers=layers)))
            done = project.snakemake("--cores", "2", *ONE_THREAD, "--", target)
            assert done.returncode == 0, done.stderr
            taken = "Taken from the feature store" in (project.folder / log).read_text()
            features, about = folder / "gabor.npy", folder / "gabor.json"
            return features.read_bytes(), about.read_bytes(), taken

        first = extract(["fine"])
        other = extract(["coarse"])
        again = extract(["fine"])
        assert [made[2] for made in (first, other, again)] == [False, False, True]
        assert first[0] != other[0]
        assert first[:2] == again[:2]


LABELS = ("/test/labels.csv", "/test/masks.npy")
DRAWING = {"figures", "pictures", "compare", "report_page", "all"}
MAY_SEE_LABELS = {"score_good_test_images", "fuse_good_test_images", "learning_curve"} | {
    "evaluate",
    *DRAWING,
}
MAY_SEE_SPLIT = {"prepare", "tiles", "counted", "ground_truth", "train_labels"} | MAY_SEE_LABELS
MAY_SEE_MAPS = {"boxes", "fuse_scores"} | MAY_SEE_LABELS  # makes no choice by them


def leaks(jobs: list[dict[str, Any]]) -> set[str]:
    """Rules that see, directly or through another file, what only the evaluation may see."""
    made_from = {file: job["input"] for job in jobs for file in job["output"]}

    def sources(files: list[str]) -> set[str]:
        found, queue = set(files), list(files)
        while queue:
            new = set(made_from.get(queue.pop(), [])) - found
            found |= new
            queue += new
        return found

    wrong = set()
    for job in jobs:
        rule, seen = job["rule"], sources(job["input"])
        test_scores = [s for s in seen if "/detectors/" in s and "/test/" in s]
        if rule not in MAY_SEE_LABELS and any(source.endswith(LABELS) for source in seen):
            wrong.add(f"{rule} sees test labels or masks")
        if rule not in MAY_SEE_MAPS and test_scores:
            wrong.add(f"{rule} sees test scores")
        if rule not in MAY_SEE_SPLIT and any(s.endswith("/split.csv") for s in job["input"]):
            wrong.add(f"{rule} reads split.csv, which has labels")
        if rule in ("train", "train_fold") and any(
            "/test/" in s or "/calibration/" in s for s in seen
        ):
            wrong.add("train sees test or calibration images")
        if rule in ("threshold", "fuse") and any("/test/" in s for s in seen):
            wrong.add(f"{rule} sees the test subset")
    return wrong


@pytest.fixture(scope="module")
def jobs(finished: Project) -> list[dict[str, Any]]:
    return finished.dag()


class TestTheLeakRule:
    def test_holds_for_every_file_of_the_pipeline(self, jobs: list[dict[str, Any]]) -> None:
        assert {"train", "score", "threshold", "evaluate"} <= {job["rule"] for job in jobs}
        assert leaks(jobs) == set()

    def test_holds_for_every_method_and_for_cross_calibration(self, project: Project) -> None:
        quick = yaml.safe_load((project.folder / "config/quick.yaml").read_text())
        untrained = {"metric_learning", "cam_classifier"}
        for options in quick["detectors"].values():
            if options["method"] in untrained:
                options |= {"weights": "none"}
            if "features" in options:
                options |= {"features": "gabor"}
        quick["detectors"]["ensemble_quick"]["shared"] = True
        project.configure(
            changed(
                lambda c: c.update(
                    detectors=quick["detectors"],
                    synthetic=quick["synthetic"],
                    calibration={"mode": "cross", "folds": 3},
                    fusion={"both": {"detectors": ["patchcore_quick", "featcae_quick"]}},
                )
            )
        )
        jobs = project.dag()
        rules = {job["rule"] for job in jobs}
        assert {"train_fold", "score_fold", "gather_folds", "train_labels", "pictures"} <= rules
        assert "share_model" in rules
        assert {"fuse", "fuse_scores", "fuse_good_test_images"} <= rules
        made = {file: job["rule"] for job in jobs for file in job["output"]}
        assert {rule for file, rule in made.items() if "/detectors/both/seed" in file} == {
            *("fuse", "fuse_scores", "fuse_good_test_images", "boxes", "evaluate", "figures")
        }
        assert not any("/calibration/images.npy" in file for job in jobs for file in job["output"])
        assert leaks(jobs) == set()

    def test_holds_where_each_image_is_left_out_in_turn(self, project: Project) -> None:
        project.configure(
            changed(
                lambda c: c.update(
                    detectors={"patchcore": {"method": "patchcore", "features": "gabor"}},
                    calibration={"mode": "leave_one_out"},
                )
            )
        )
        jobs = project.dag()
        assert "leave_one_out" in {job["rule"] for job in jobs}
        assert not {"train_fold", "gather_folds"} & {job["rule"] for job in jobs}
        assert not any("/calibration/images.npy" in file for job in jobs for file in job["output"])
        assert leaks(jobs) == set()

    def test_is_seen_in_models_and_thresholds_that_other_test_images_do_not_change(
        self, finished_project: Path, tmp_path: Path
    ) -> None:
        project = Project.copied(finished_project, tmp_path / "project")
        folder = project.folder / "results/demo/bolt/unsupervised/detectors/patchcore/seed0"
        made = [
            folder / name
            for name in ("model/model.safetensors", "calibration/scores.csv", "threshold.json")
        ]
        scores = folder / "test/scores.csv"
        before, scores_before = [file.read_bytes() for file in made], len(read_table(scores))
        for file in made:
            file.unlink()
        other = {"test_good": 6, "test_defective": 2}
        project.configure(changed(lambda c: c.update(dataset=c["dataset"] | other)))
        project.run(*(str(file.relative_to(project.folder)) for file in (*made, scores)))
        assert [file.read_bytes() for file in made] == before
        assert (len(read_table(scores)), scores_before) == (6 + 2, 4 + 5)

    def test_gives_training_labels_to_supervised_detectors_alone(self, project: Project) -> None:
        cam = {"method": "cam_classifier", "backbone": "squeezenet1_1", "weights": "none"}
        project.configure(changed(lambda c: c["detectors"].update(cam=cam)))
        jobs = project.dag()
        assert leaks(jobs) == set()
        with_labels = {
            file: job["rule"]
            for job in jobs
            for file in job["output"]
            if any(source.endswith("train/labels.csv") for source in job["input"])
        }
        assert set(with_labels.values()) == {"train"}
        assert all("/supervised/detectors/cam/" in file for file in with_labels)
        made = [file for job in jobs for file in job["output"] if file.endswith("labels.csv")]
        assert not any("unsupervised/train" in file for file in made)

    @pytest.mark.parametrize(
        ("old", "new", "complaint"),
        [
            ("/calibration/scores.csv", "/test/scores.csv", "threshold sees test scores"),
            (
                'unpack(INPUTS.detector("train", training=True)),',
                'unpack(INPUTS.detector("train", training=True)),\n'
                '        x=f"{PROTOCOL}/test/labels.csv",',
                "train sees test labels or masks",
            ),
            (
                'unpack(INPUTS.detector("train", training=True)),',
                'unpack(INPUTS.detector("calibration", training=True)),',
                "train sees test or calibration images",
            ),
        ],
    )
    def test_would_notice_a_leak(
        self, project: Project, old: str, new: str, complaint: str
    ) -> None:
        rules = project.folder / "rules/detection.smk"
        text = rules.read_text()
        assert old in text
        rules.write_text(text.replace(old, new))
        assert complaint in leaks(project.dag())


class TestEveryRule:
    def test_says_what_it_does_logs_and_states_what_it_needs(
        self, jobs: list[dict[str, Any]]
    ) -> None:
        jobs = [job for job in jobs if job["rule"] != "all"]
        assert len({job["rule"] for job in jobs}) == 18
        for job in jobs:
            assert job["has"] == ["message", "log", "benchmark", "conda_env", "script"], job
            assert {"_cores", "mem_mb", "runtime"} <= set(job["resources"]), job
        with_gpu = {job["rule"] for job in jobs if "gpu" in job["resources"]}
        assert with_gpu == {"extract_features", "train", "score"}


class TestInspectingNewImages:
    GIVEN = "inspect={folder: incoming, category: bolt, detector: featcae}"

    def test_gives_the_pipelines_scores_runs_again_for_new_images_and_trains_nothing(
        self, project: Project
    ) -> None:
        incoming = project.folder / "incoming"
        shutil.copytree(project.folder / "data/demo/images/bolt/test", incoming)
        try:
            done = project.snakemake("--cores", "1", "--config", self.GIVEN, "--", "inspect")
            assert done.returncode == 0, done.stdout + done.stderr
            results = project.folder / "results/demo"
            table = results / "inspection/incoming/inspection.csv"
            scores = results / "bolt/unsupervised/detectors/featcae/seed0/test/scores.csv"
            assert read_table(table)["score"].tolist() == read_table(scores)["score"].tolist()
            closing = "Inspection: results/demo/inspection/incoming/inspection.html - "
            assert done.stdout.count(closing) == 1
            assert "of 9 images defective, 0 unreadable" in done.stdout
            again = project.snakemake("-n", "--config", self.GIVEN, "--", "inspect")
            assert "Nothing to be done" in again.stdout + again.stderr
            (incoming / "half.png").write_bytes((incoming / "good/000.png").read_bytes()[:300])
            done = project.snakemake("--cores", "1", "--config", self.GIVEN, "--", "inspect")
            assert done.returncode == 0, done.stdout + done.stderr
            assert "of 9 images defective, 1 unreadable" in done.stdout
            project.configure(changed(lambda c: c["detectors"]["featcae"].update(epochs=3)))
            refused = project.snakemake("--cores", "1", "--config", self.GIVEN, "--", "inspect")
            assert refused.returncode == 1
            assert "detector.epochs: trained with 2, the configuration says 3" in (
                refused.stdout + refused.stderr
            )
        finally:
            shutil.rmtree(incoming)
            shutil.rmtree(project.folder / "results/demo/inspection", ignore_errors=True)

    def test_without_a_folder_says_how_to_give_one(self, project: Project) -> None:
        done = project.snakemake("--cores", "1", "--", "inspect")
        assert done.returncode == 1
        assert "Nothing to inspect: no folder is given" in done.stdout + done.stderr


class TestDownloadingMvtecAd:
    def test_gets_unpacks_and_indexes_the_archive_and_names_the_licence_once(
        self, finished_project: Path, tmp_path: Path
    ) -> None:
        project = Project(tmp_path / "project", finished_project)
        served = tmp_path / "served"
        for name in ("bottle", "screw"):
            write_category(
                served / name, "tablet", size=64, train_good=8, test_good=1, test_defective=4
            )
            (served / name / "license.txt").write_text("CC BY-NC-SA 4.0")
        archive = tmp_path / "archive.tar.xz"
        with tarfile.open(archive, "w:xz") as tar:
            for name in ("bottle", "screw"):
                tar.add(served / name, name)
        handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            dataset = {
                "name": "mvtec_ad",
                "url": f"http://127.0.0.1:{server.server_port}/archive.tar.xz",
                "sha256": file_hash(archive),
            }
            categories = ["bottle", "screw"]
            project.configure(changed(lambda c: c.update(dataset=dataset, categories=categories)))
            targets = [f"results/mvtec_ad/{name}/index.csv" for name in categories]
            done = project.snakemake("--cores", "2", *targets)
            server.shutdown()
        assert done.returncode == 0, done.stderr
        for target in targets:
            assert len((project.folder / target).read_text().splitlines()) == 1 + 8 + 1 + 4
        assert (done.stdout + done.stderr).count("CC BY-NC-SA 4.0") == 1


class TestBadConfigurations:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                lambda c: c["detectors"]["patchcore"].update(coreset_fractoin=0.1),
                ["detectors.patchcore", "coreset_fractoin", "did you mean 'coreset_fraction'"],
            ),
            (lambda c: c["prepare"].update(size=-1), ["prepare.size", "-1"]),
            (
                lambda c: c["detectors"]["featcae"].update(features="resnet"),
                ["detectors.featcae.features", "'resnet'", "gabor"],
            ),
            (
                lambda c: c["features"]["gabor"].update(layers=["layer2"]),
                ["features.gabor", "'layer2'", "fine, medium, coarse"],
            ),
            (
                lambda c: c["features"]["gabor"].update(backbone="resnet81", layers=["layer2"]),
                ["features.gabor", "'resnet81'", "resnet18"],
            ),
            (
                lambda c: c["features"]["gabor"].update(backbone="resnet18", layers=["layer7"]),
                ["features.gabor", "'layer7'", "layer3"],
            ),
            (
                lambda c: c.update(dataset={"name": "mine", "source": "no/such/folder"}),
                ["dataset.source", "no/such/folder"],
            ),
            (lambda c: c["categories"].append("scerw"), ["categories", "'scerw'", "bolt"]),
        ],
    )
    def test_get_one_clear_message_before_any_job_starts(
        self, project: Project, change: Callable[[dict[str, Any]], None], words: list[str]
    ) -> None:
        project.configure(changed(change))
        done = project.snakemake("-n")
        assert done.returncode == 1
        message = done.stdout + done.stderr
        for word in ["test.yaml", *words]:
            assert word in message, message
        assert "Traceback" not in message
        assert "Job stats" not in message
