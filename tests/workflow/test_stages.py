"""The table of stages says what the rules do."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked_python
import pytest
import yaml

from flawline.layout import RESERVED, Layout, RunFolder
from flawline.stages import STAGES, before

ROOT = Path(__file__).parents[2]
PATCHCORE = {"method": "patchcore", "features": "gabor", "coreset_fraction": 0.05}
COST = {"rule": "cost", "miss": 5, "false_alarm": 1, "defect_rate": 0.1}
CONFIG: dict[str, Any] = {
    "dataset": {"kind": "demo", "name": "mine"},
    "categories": ["bolt"],
    "features": {"gabor": {"backbone": "gabor", "layers": ["fine"], "normalize": False}},
    "detectors": {"patchcore": PATCHCORE},
}
LINES = {"lines": {"recipes": [{"recipe": "line"}]}}
EVERYTHING: dict[str, Any] = {
    "prepare": {"resize": "letterbox"},
    "poses": {"turned": {}},
    "synthetic": LINES,
    "detectors": {
        "patchcore": PATCHCORE | {"poses": "turned", "object_mask": "memory"},
        "ssim": {"method": "ssim_autoencoder", "synthetic": "lines"},
        "cam": {"method": "cam_classifier"},
    },
    "fusion": {"both": {"detectors": ["patchcore", "ssim"]}},
    "mlflow": {"enabled": True},
}
# Between them, all stages but `inspect_images`.
CONFIGS: dict[str, dict[str, Any]] = {
    "everything": EVERYTHING,
    "cross-calibration": EVERYTHING | {"calibration": {"mode": "cross", "folds": 2}},
    "leave-one-out, with tiles": {
        "calibration": {"mode": "leave_one_out"},
        "prepare": {"tiles": {"size": 64, "overlap": 32}},
        "poses": {"turned": {}},
        "synthetic": LINES,
        "detectors": {"patchcore": PATCHCORE | {"poses": "turned"}, "other": PATCHCORE},
        "fusion": {"both": {"detectors": ["patchcore", "other"]}},
    },
    "one model of two categories": {
        "categories": ["bolt", "weave"],
        "detectors": {"patchcore": PATCHCORE | {"shared": True}},
    },
    "other draws, of MVTec AD": {
        "dataset": {"kind": "mvtec_ad", "name": "mine", "source": "download"},
        "categories": ["bottle"],
        "calibration": {"seeds": [1]},
        "learning_curve": {"train_images": [1, "all"]},
        "threshold": COST,
        "detectors": {
            "patchcore": PATCHCORE | {"object_mask": "memory"},
            "cam": {"method": "cam_classifier"},
        },
    },
}


def jobs_of(folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    (folder / "test.yaml").write_text(yaml.safe_dump(config))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = forked_python.run(
        [str(ROOT / "tests/print_jobs.py"), str(ROOT)], folder=folder, environment=environment
    )
    assert done.returncode == 0, done.stderr
    jobs: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return jobs


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    return [jobs_of(tmp_path_factory.mktemp("plan"), CONFIG | more) for more in CONFIGS.values()]


@pytest.fixture(scope="module")
def jobs(dags: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [job for dag in dags for job in dag if job["rule"] != "all"]


@pytest.fixture(scope="module")
def edges(dags: list[list[dict[str, Any]]]) -> set[tuple[str, str]]:
    def of(dag: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
        maker = {file: job["rule"] for job in dag for file in job["output"]}
        for job in dag:
            if job["rule"] != "all":
                yield from ((maker[file], job["rule"]) for file in job["input"] if file in maker)

    return {edge for dag in dags for edge in of(dag)}


def test_every_rule_is_a_stage(jobs: list[dict[str, Any]]) -> None:
    assert {job["rule"] for job in jobs} == set(STAGES) - {"inspect_images"}


def test_stages_follow_what_they_read(edges: set[tuple[str, str]]) -> None:
    assert {(a, b) for a, b in edges if a not in before(b)} == set()


def test_stages_are_said_to_follow_nothing_else(edges: set[tuple[str, str]]) -> None:
    said = {(a, name) for name, stage in STAGES.items() for a in stage.after}
    assert said - edges == set()


def test_one_job_runs_for_each_value_of_its_wildcards(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        stage = STAGES[job["rule"]]
        assert set(stage.per) == set(job["wildcards"])
        if stage.per:
            log = f"{Layout('mine').logs}/{stage.name}/{stage.job.format(**job['wildcards'])}.log"
            assert job["log"] == [log]


def test_what_shows_that_a_job_ran_is_made_by_it(jobs: list[dict[str, Any]]) -> None:
    for job in jobs:
        if job["rule"] != "unpack":
            files = STAGES[job["rule"]].files("mine", job["wildcards"])
            assert set(files) <= set(job["output"]), job["rule"]
            assert files or job["rule"] == "download"  # an archive of gigabytes


def test_all_asks_for_what_shows_that_its_jobs_ran(dags: list[list[dict[str, Any]]]) -> None:
    for dag in dags:
        asked = {file for job in dag if job["rule"] == "all" for file in job["input"]}
        shown: set[str] = set()
        for job in dag:
            if job["rule"] == "unpack":
                shown.update(job["output"])
            elif job["rule"] != "all":
                shown.update(STAGES[job["rule"]].files("mine", job["wildcards"]))
        assert asked <= shown
        # large, and no detector reads it: synthetic anomalies alone are made with it
        assert all(file.endswith("/train/object_masks.npy") for file in shown - asked), (
            shown - asked
        )


def test_gpus_are_asked_for_by_the_stages_that_say_so(jobs: list[dict[str, Any]]) -> None:
    assert {job["rule"] for job in jobs if "gpu" in job["resources"]} == {
        name for name, stage in STAGES.items() if stage.gpu
    } - {"inspect_images"}


@pytest.mark.parametrize("name", ["slurm", "generic", "kubernetes"])
def test_profiles_group_the_stages_and_send_those_with_a_gpu_there(name: str) -> None:
    profile = yaml.safe_load((ROOT / f"profiles/{name}/profile.yaml").read_text())
    assert profile["groups"] == {s.name: s.group for s in STAGES.values() if s.group}
    assert set(profile["set-resources"]) == {s.name for s in STAGES.values() if s.gpu}
    assert not any(stage.gpu and stage.group for stage in STAGES.values())


def test_files_of_a_run_are_where_the_rules_make_them(jobs: list[dict[str, Any]]) -> None:
    made = {file for job in jobs for file in job["output"]}
    pictures = next(file for file in made if file.endswith("figures/pictures.jpg"))
    patchcore = next(file for file in made if "/bolt/unsupervised/detectors/patchcore/" in file)
    run, masked = RunFolder.of(pictures), RunFolder.of(patchcore)
    one = ("description", "weights", "training", "threshold", "metrics", "predictions")
    assert {str(getattr(run, name)) for name in (*one, "pictures", "cases")} <= made
    of_subset = {str(get("test")) for get in (run.scores, run.maps, run.images, run.sizes)}
    assert of_subset | {str(masked.counted("test"))} <= made
    assert {str(masked.background), str(masked.object_model)} <= made


def test_no_category_can_have_the_name_of_another_folder(jobs: list[dict[str, Any]]) -> None:
    results = Layout("mine").results
    below = {
        Path(file).relative_to(results).parts[0].partition(".")[0]
        for job in jobs
        for file in (*job["output"], *job["log"])
        if file.startswith(results)
    }
    assert below - {"bolt", "weave", "bottle"} <= set(RESERVED)
