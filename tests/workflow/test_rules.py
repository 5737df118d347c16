"""What the rules ask of a configuration: inputs, params, resources, targets; no Snakemake runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import Wildcards

from flawline.config import Config, load_config
from flawline.devices import spin_briefly
from flawline.layout import Layout
from flawline.workflow.inputs import Inputs, one_of
from flawline.workflow.inspection import Inspection, inspection_table
from flawline.workflow.lock import unlock_after_a_kill
from flawline.workflow.params import Code, Params
from flawline.workflow.resources import MachineResources, memory, minutes
from flawline.workflow.targets import Targets

RUN = "results/mine/bolt/unsupervised/detectors/patchcore/seed0"
GIVEN: dict[str, Any] = {
    "dataset": {"kind": "demo", "name": "mine"},
    "categories": ["bolt", "weave"],
    "features": {"gabor": {"backbone": "gabor", "layers": ["fine"], "normalize": False}},
    "detectors": {
        "patchcore": {"method": "patchcore", "features": "gabor"},
        "featcae": {"method": "featcae", "features": "gabor"},
    },
    "fusion": {"both": {"detectors": ["patchcore", "featcae"]}},
}


def config_of(**changes: Any) -> Config:
    return load_config(GIVEN | changes, "test.yaml")


def inputs_of(**changes: Any) -> Inputs:
    return Inputs(config_of(**changes), Layout("mine"))


def names(**changes: str) -> Wildcards:
    run = {"category": "bolt", "protocol": "unsupervised", "detector": "patchcore", "seed": "0"}
    return Wildcards(fromdict=run | changes)


class TestInputs:
    def test_are_just_what_a_detector_sees(self) -> None:
        folder = "results/mine/bolt/unsupervised/test"
        assert inputs_of().detector("test")(names()) == {
            "geometry": f"{folder}/geometry.json",
            "features": [f"{folder}/features/gabor.npy"],
            "features_json": [f"{folder}/features/gabor.json"],
        }

    def test_say_what_counts_in_restricted_categories_alone(self) -> None:
        restricted = {"weave": {"prepare": {"resize": "letterbox"}}}
        counted = inputs_of(overrides=restricted).counted("{subset}")
        assert counted(names(subset="test")) == []
        assert counted(names(category="weave", subset="test")) == (
            "results/mine/weave/unsupervised/test/counted.npy"
        )

    @pytest.mark.parametrize(("mode", "subset"), [("split", "calibration"), ("cross", "train")])
    def test_calibration_images_are_training_images_if_none_are_held_back(
        self, mode: str, subset: str
    ) -> None:
        inputs = inputs_of(calibration={"mode": mode})
        file = f"results/mine/bolt/unsupervised/{subset}/images.npy"
        assert inputs.calibration_images(names()) == file
        assert inputs.held_back(names()) == ([] if mode == "cross" else file)

    def test_of_the_evaluation_have_folds_and_draws_only_if_there_are_any(self) -> None:
        plain, drawn = inputs_of(), inputs_of(calibration={"seeds": [1]})
        cross = inputs_of(calibration={"mode": "cross", "folds": 2})
        assert plain.scored_folds(names()) == plain.draws(names()) == []
        assert cross.scored_folds(names()) == [
            f"{RUN}/folds/{fold}/good_test_scores.csv" for fold in (0, 1)
        ]
        assert drawn.draws(names()) == f"{RUN}/draws.csv"
        assert drawn.draws(names(detector="both")) == []

    @pytest.mark.parametrize(
        ("detector", "more", "ranked", "scored"),
        [
            ("patchcore", {}, True, True),
            ("featcae", {}, False, False),  # it knows its training images
            ("both", {}, False, False),
            ("patchcore", {"evaluation": {"train_suspects": False}}, False, False),
            ("patchcore", {"calibration": {"mode": "cross", "folds": 2}}, False, False),
            # calibration scores are of training images, which are ranked by these
            ("patchcore", {"calibration": {"mode": "leave_one_out"}}, False, True),
        ],
    )
    def test_training_images_are_scored_where_something_reads_it(
        self, detector: str, more: dict[str, Any], ranked: bool, scored: bool
    ) -> None:
        if "leave_one_out" in str(more):
            more = more | {"detectors": {"patchcore": {"features": "gabor"}}}
            more |= {"fusion": {}}
        config = config_of(**more)
        wanted = RUN.replace("patchcore", detector) + "/train/scores.csv"
        inputs = Inputs(config, Layout("mine"))
        assert inputs.ranked(names(detector=detector)) == (wanted if ranked else [])
        assert (wanted in Targets(config).every_stage()) == scored

    def test_of_a_fusion_are_those_of_its_detectors(self) -> None:
        files = inputs_of().members("{subset}/scores.csv")(names(detector="both", subset="test"))
        assert files == [
            RUN.replace("patchcore", name) + "/test/scores.csv" for name in ("patchcore", "featcae")
        ]

    def test_of_a_shared_model_are_training_images_of_all_categories(self) -> None:
        shared = {"patchcore": {"features": "gabor", "shared": True}, "featcae": {}}
        inputs = inputs_of(detectors=shared)
        files = inputs.detector("train", training=True)(names())
        others = "results/mine/weave/unsupervised/train"
        assert files["others_geometry"] == [f"{others}/geometry.json"]
        assert files["others_features"] == [f"{others}/features/gabor.npy"]
        assert files["features"] == [f"{others}/features/gabor.npy".replace("weave", "bolt")]
        assert not any("others" in name for name in inputs.detector("test")(names()))
        leader = inputs.leader("training.csv")(names(category="weave"))
        assert leader == f"{RUN}/training.csv"

    def test_constraints_match_names_as_they_are_or_nothing(self) -> None:
        assert one_of(["a.b", "c"]) == r"a\.b|c"
        assert one_of([]) == "(?!)"


class TestParams:
    def test_are_of_the_category(self) -> None:
        params = Params(config_of(overrides={"weave": {"boxes": {"min_area": 3}}}))
        assert params.section("boxes")(names())["min_area"] == 16
        assert params.value("boxes.min_area")(names(category="weave")) == 3

    def test_name_the_method_or_the_fusion(self) -> None:
        params = Params(config_of())
        method = params.of_detector("method")
        assert (method(names()), method(names(detector="both"))) == ("patchcore", "fusion")
        assert params.implementation(names()) == "flawline.detectors.patchcore:PatchCore"

    def test_have_the_costs_only_if_the_threshold_rule_names_them(self) -> None:
        costs = {"miss": 5, "false_alarm": 1, "defect_rate": 0.1}
        assert Params(config_of()).costs(names()) == {}
        assert Params(config_of(threshold={"rule": "cost"} | costs)).costs(names()) == costs

    def test_do_not_depend_on_the_order_of_keys(self) -> None:
        one, other = Params(config_of()), Params(load_config(dict(reversed(GIVEN.items())), "x"))
        assert one.configuration(names()) == other.configuration(names())

    def test_code_is_that_of_the_script_and_of_the_method(self) -> None:
        code = Code(Path(__file__).parents[2] / "scripts", Params(config_of()))
        hashes = {
            name: code.with_method("train.py")(names(detector=name)) for name in GIVEN["detectors"]
        }
        assert len({code.of("train.py"), *hashes.values()}) == 3


class TestResources:
    def test_grow_with_inputs_and_attempts(self, tmp_path: Path) -> None:
        file = tmp_path / "images.npy"
        file.write_bytes(bytes(3 * 2**20))
        mem_mb = memory(100, 2)
        assert mem_mb(names(), [str(file), str(tmp_path / "later.npy")], 1) == 106
        assert mem_mb(names(), [str(file)], 2) == 212
        assert minutes(10)(names(), 3) == 30

    @pytest.mark.parametrize(
        ("cores", "remote", "threads"), [(1, False, 1), (8, False, 2), (1, True, 4)]
    )
    def test_threads_follow_the_cores_here_and_gpus_are_asked_for_elsewhere(
        self, cores: int, remote: bool, threads: int
    ) -> None:
        settings = SimpleNamespace(cores=cores)
        workflow = SimpleNamespace(
            remote_exec=False, local_exec=not remote, resource_settings=settings
        )
        resources = MachineResources(workflow)
        assert resources.threads_of_many(names()) == threads
        if remote:
            assert resources.gpus(names()) == 1


class TestTargets:
    def test_are_of_every_run(self) -> None:
        targets = Targets(config_of(seeds=[0, 1]))
        assert len(targets.runs("metrics.json")) == 2 * 3 * 2
        assert targets.runs("metrics.json")[0] == f"{RUN}/metrics.json"
        assert f"{RUN}/threshold.json" in targets.every_stage()

    def test_have_no_large_arrays(self) -> None:
        assert not [file for file in Targets(config_of()).every_stage() if file.endswith(".npy")]


class TestTheInspection:
    def test_without_a_folder_says_how_to_give_one(self) -> None:
        with pytest.raises(WorkflowError, match="Nothing to inspect"):
            inspection_table(None)(names())

    def test_says_what_is_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        asked = {"folder": "new", "category": "bolt", "detector": "patchcore"}
        config = config_of(inspect=asked)
        assert config.inspected is not None
        inspection = Inspection(config, config.inspected)
        assert str(inspection.run) == RUN
        assert inspection_table(inspection)(names()) == "results/mine/inspection/new/inspection.csv"
        with pytest.raises(WorkflowError, match="no folder 'new'"):
            inspection.content(names())
        with pytest.raises(WorkflowError, match="no trained detector"):
            inspection.trained(names())


def test_locks_of_a_killed_run_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    unlock_after_a_kill(Path(".snakemake/flawline"))
    assert not locks.exists()


def test_threads_spin_briefly_unless_the_user_says_otherwise() -> None:
    bare: dict[str, str] = {}
    spin_briefly(bare)
    assert bare == {"GOMP_SPINCOUNT": "1000"}
    for own in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}):
        kept = dict(own)
        spin_briefly(kept)
        assert kept == own
