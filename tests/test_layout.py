"""Where files lie: what a path says of its run."""

from pathlib import Path

import pytest

from flawline.errors import FlawlineError
from flawline.layout import Layout, RunFolder, feature_files, synthetic_set

RUN = "results/demo/bolt/unsupervised/detectors/patchcore/seed3"


@pytest.mark.parametrize("before", ["", "/home/someone/", "renamed/../"])
@pytest.mark.parametrize("below", ["", "/metrics.json", "/folds/2/model/model.json"])
def test_any_file_tells_its_run(before: str, below: str) -> None:
    run = RunFolder.of(f"{before}{RUN}{below}")
    assert run.folder == Path(f"{before}{RUN}")
    assert (run.category, run.protocol, run.detector, run.seed) == (
        "bolt",
        "unsupervised",
        "patchcore",
        3,
    )
    assert str(run) == "bolt, patchcore (unsupervised), seed 3"


def test_names_that_look_like_other_parts_of_the_path_are_understood() -> None:
    layout = Layout("detectors")
    names = {"category": "supervised", "protocol": "supervised", "detector": "seed1", "seed": 0}
    run = RunFolder.of(layout.run(**names).scores("test"))
    assert {name: getattr(run, name) for name in names} == names


@pytest.mark.parametrize("path", ["metrics.json", "results/demo/report.html", RUN[:-1]])
def test_a_path_elsewhere_is_refused_with_what_was_expected(path: str) -> None:
    with pytest.raises(
        FlawlineError, match="<category>/<protocol>/detectors/<detector>/seed<seed>"
    ):
        RunFolder.of(path)


def test_evaluated_runs_are_found_in_any_folder(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = RunFolder(tmp_path / f"bolt/unsupervised/detectors/featcae/seed{seed}")
        run.folder.mkdir(parents=True)
        if seed:
            run.metrics.touch()
    assert [str(run) for run in RunFolder.all_in(tmp_path)] == [
        "bolt, featcae (unsupervised), seed 1"
    ]


def test_a_contact_sheet_tells_its_category_and_set() -> None:
    sheet = "results/demo/bolt/unsupervised/synthetic/mixed/contact_sheet.png"
    assert synthetic_set(sheet) == ("bolt", "mixed")


def test_features_of_all_images_are_found(tmp_path: Path) -> None:
    for folder in ("train", "train/poses/turned"):
        file = tmp_path / f"demo/bolt/unsupervised/{folder}/features/gabor.json"
        file.parent.mkdir(parents=True)
        file.touch()
    assert len(list(feature_files(tmp_path))) == 2
