"""An exported detector scores and decides as PyTorch, without torch, or is not written at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from trained_category import DETECTORS, METRIC, SHAPE, TrainedCategory

from flawline.data.geometry import Geometry
from flawline.errors import FlawlineError
from flawline.files import read_array
from flawline.inspection import export as exporting
from flawline.inspection import graph as graphs
from flawline.inspection.export import export, export_folder
from flawline.inspection.exported_detector import DESCRIPTION, open_exported, replacing_folder
from flawline.inspection.judging import Photograph
from flawline.inspection.parity import TOLERANCE
from flawline.inspection.trained_detector import TrainedDetector, checked_photographs

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MORE: dict[str, dict[str, Any]] = {
    "patches": {"method": "patchcore", "features": "gabor", "score_from": "cells"},
    "featcae_wide": {
        "method": "featcae",
        "features": ["gabor", "coarse"],
        "latent": 2,
        "epochs": 1,
        "largest": 0.05,
    },
    "whitened": {
        "method": "patchcore",
        "features": "gabor",
        "whitening": 0.07,
        "distance": "cosine",
    },
    "around": {"method": "patchcore", "features": "gabor", "reach": 0.2},
    "explained": {"method": "subspace", "features": "gabor"},
    "linear": {
        "method": "subspace",
        "features": ["gabor", "coarse"],
        "distance": "mahalanobis",
    },
    "places": {
        "method": "padim",
        "features": ["gabor", "coarse"],
        "channels": 10,
    },
    "ssim_same": {
        "method": "ssim_autoencoder",
        "network_size": 64,
        "width": 4,
        "epochs": 1,
        "largest": 0.1,
    },
    "reweighted": {"method": "patchcore", "features": "gabor", "reweight": True},
    "on_object": {
        "method": "patchcore",
        "features": "gabor",
        "object_mask": "score",
        "score_from": "cells",
        "largest": 0.1,
    },
    "outliers": METRIC
    | {
        "score_by": "local_outlier_factor",
        "classes": "c3",
        "head": "softmax",
        "network_size": 80,  # one side grows, the other shrinks
    },
    "fanogan": {"method": "fanogan", "width": 4, "gan_steps": 5, "encoder_steps": 2},
}
EXPORTED = (*DETECTORS, *MORE)
RUN = ("two_sets", "around", "ssim", "outliers", "fanogan")  # by ONNX Runtime


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> TrainedCategory:
    category = TrainedCategory(tmp_path_factory.mktemp("category"))
    category.given["detectors"] = DETECTORS | MORE
    for name in EXPORTED:
        category.train(name)
    return category


def good_photographs(category: TrainedCategory) -> list[Photograph]:
    return checked_photographs(category.run("patchcore"), category.geometry)


def alike(
    trained: TrainedDetector, photographs: list[Photograph], scores: np.ndarray, maps: np.ndarray
) -> None:
    expected = trained.score(photographs)
    largest = float(np.abs(expected.scores).max())
    np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=TOLERANCE * largest)
    wanted = expected.anomaly_maps.astype(np.float32)
    np.testing.assert_allclose(maps, wanted, rtol=0, atol=TOLERANCE * np.ptp(wanted))


def new_ones(category: TrainedCategory) -> list[Photograph]:
    images, counted = (
        read_array(category.protocol / f"test/{n}.npy") for n in ("images", "counted")
    )
    pairs = zip(images, counted, strict=True)
    return [Photograph(image, (80, 80), None, counts) for image, counts in pairs]


@pytest.mark.parametrize("detector", sorted({*EXPORTED} - {*RUN}))
def test_a_graph_scores_as_the_detector(category: TrainedCategory, detector: str) -> None:
    """Without ONNX, whose export takes several seconds."""
    trained, photographs = category.trained(detector), new_ones(category)
    given = {name: torch.from_numpy(one) for name, one in trained.inputs(photographs).items()}
    with torch.no_grad():
        scores, maps, defective = (one.numpy() for one in graphs.graph_of(trained)(**given))
    alike(trained, photographs, scores, maps)
    assert (defective == (scores > np.float32(trained.threshold["value"]))).all()


@pytest.mark.parametrize("detector", RUN)
def test_scores_maps_and_decisions_are_those_of_pytorch(
    category: TrainedCategory, tmp_path: Path, detector: str
) -> None:
    trained, path = category.trained(detector), tmp_path / "x.onnx"
    export(trained, good_photographs(category), path, category="bolt")
    session = onnxruntime.InferenceSession(path)
    new = new_ones(category)
    for count in (1, 5, len(new)):  # any number of images
        scores, maps, defective = session.run(None, trained.inputs(new[:count]))
        alike(trained, new[:count], scores, maps)
        assert maps.shape == (count, *SHAPE)
        assert (defective == (scores > np.float32(trained.threshold["value"]))).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def network(category: TrainedCategory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of `patchcore`, exported once."""
    path = tmp_path_factory.mktemp("network") / "x.onnx"
    export(category.trained("patchcore"), good_photographs(category), path, category="bolt")
    return path


@pytest.fixture
def quick(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every export take that network."""
    monkeypatch.setattr(
        exporting, "_write_network", lambda trained, some, path, about: shutil.copy(network, path)
    )


@pytest.mark.usefixtures("quick")
def test_all_good_images_are_compared_and_images_above_the_threshold(
    category: TrainedCategory, tmp_path: Path
) -> None:
    good_images = good_photographs(category)
    assert len(good_images) == len(read_array(category.protocol / "calibration/images.npy"))
    found = export(category.trained("patchcore"), good_images, tmp_path / "x.onnx")
    assert (found.good, found.defective) == (len(good_images), 2 * len(good_images))
    assert found.above >= 1


@pytest.mark.parametrize(("threshold", "refused"), [(0.9, True), (0.999, False)])
def test_other_decisions_are_refused_but_for_scores_at_the_threshold(
    category: TrainedCategory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threshold: float,
    refused: bool,
) -> None:
    """The detector's threshold is the largest score of good images, the graph's a part of it."""
    trained, good_images = category.trained("patchcore"), good_photographs(category)
    top = float(trained.score(good_images).scores.max())
    trained.threshold["value"] = threshold * top
    graph = graphs.graph_of(trained)
    trained.threshold["value"] = top
    monkeypatch.setattr(exporting, "graph_of", lambda trained: graph)
    if refused:
        with pytest.raises(FlawlineError, match="decides differently from PyTorch on"):
            export(trained, good_images, tmp_path / "x.onnx")
        assert list(tmp_path.iterdir()) == []
    else:
        found = export(trained, good_images, tmp_path / "x")
        assert found.close >= 1
        assert f"decisions differ: {found.close}, of scores within" in str(found)


def test_the_file_says_what_it_is(category: TrainedCategory, network: Path) -> None:
    trained = category.trained("patchcore")
    found = onnxruntime.InferenceSession(network).get_modelmeta().custom_metadata_map
    assert found["category"] == "bolt"
    assert found["method"] == "patchcore"
    assert float(found["threshold"]) == trained.threshold["value"]
    assert (found["image_height"], found["image_width"]) == tuple(map(str, SHAPE))
    assert found["resize"] == "letterbox"
    assert "flawline_version" in found


def test_what_cannot_be_exported_says_so_and_leaves_no_file(
    category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = category.trained("patchcore")
    monkeypatch.setattr(type(trained.detector), "graph", lambda *given: None)
    monkeypatch.setattr(type(trained.detector.options), "why_not_exported", "it is too large")
    with pytest.raises(FlawlineError, match="patchcore: cannot be exported to ONNX, because it is"):
        export(trained, good_photographs(category), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_graph_that_scores_otherwise_is_not_written_and_the_earlier_one_stays(
    category: TrainedCategory, tmp_path: Path
) -> None:
    trained, good_images = category.trained("patchcore"), good_photographs(category)
    export_folder(trained, good_images, tmp_path / "before", version="v1", category="bolt")
    detector: Any = trained.detector
    detector.memories[0].bank = detector.memories[0].bank * 1.05
    with pytest.raises(FlawlineError, match="Nothing was written"):
        export(trained, good_images, tmp_path / "x.onnx")
    with pytest.raises(FlawlineError, match="Nothing was written"):
        export_folder(trained, good_images, tmp_path / "before", version="v2", category="bolt")
    assert list(tmp_path.iterdir()) == [tmp_path / "before"]
    assert open_exported(tmp_path / "before").version == "v1"


def test_convolutions_of_eight_bits_run(
    category: TrainedCategory, network: Path, tmp_path: Path
) -> None:
    trained, path = category.trained("patchcore"), tmp_path / "x.onnx"
    shutil.copy(network, path)
    good_images = good_photographs(category)
    exporting.quantize(path, [trained.inputs([one]) for one in good_images])
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "QuantizeLinear" in kinds
    scores = onnxruntime.InferenceSession(path).run(None, trained.inputs(good_images))[0]
    assert np.isfinite(scores).all()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("quick")
def test_eight_bits_may_change_scores_but_no_decision(
    category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "quantize", lambda network, inputs: None)
    trained, good_images = category.trained("patchcore"), good_photographs(category)
    given: Any = {"version": "v1", "int8_from": good_images, "category": "bolt"}
    detector: Any = trained.detector
    bank = detector.memories[0].bank
    detector.memories[0].bank = bank * 1.5
    with pytest.raises(FlawlineError, match=r"with 8 bits it decides .* without --int8"):
        export_folder(trained, good_images, tmp_path / "x", **given)
    assert list(tmp_path.iterdir()) == []
    detector.memories[0].bank = bank
    export_folder(trained, good_images, tmp_path / "x", **given)
    assert open_exported(tmp_path / "x").version == "v1-int8"


@pytest.mark.usefixtures("forked")
def test_the_command_line_writes_a_file_or_says_why_not(
    category: TrainedCategory, tmp_path: Path
) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(category.given))))
    command = [sys.executable, "-m", "flawline.inspection.export", "--configfile", str(config)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=category.root, capture_output=True, text=True, check=False
        )

    done = run("--detector", "autoencoder", str(tmp_path / "x.onnx"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.onnx").is_file()
    refused = run("--detector", "pc", str(tmp_path / "y.onnx"))
    assert refused.returncode == 1
    assert "there is no detector 'pc'" in refused.stderr
    assert not (tmp_path / "y.onnx").exists()


def test_smoothing_as_a_matrix_is_that_of_the_maps() -> None:
    from flawline.detectors.maps import smooth_maps

    cells = np.random.default_rng(0).random((3, 7, 7), np.float32)
    for shape, sigma in (((32, 48), 4.0), ((20, 9), 0.0), ((9, 30), 30.0), ((4, 5), 2.0)):
        finer = shape[0] < 7
        down, across = (
            graphs.smoothing_matrix(7, size, sigma * (7 / shape[0] if finer else 1), finer)
            for size in shape
        )
        found = (down @ torch.from_numpy(cells) @ across.T).numpy()
        np.testing.assert_allclose(found, smooth_maps(cells, Geometry(shape), sigma), atol=1e-5)


def test_an_export_that_was_there_stays_if_its_successor_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "part"
    folder.mkdir()
    (folder / DESCRIPTION).write_text("{}")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name.endswith(".part"):
            raise OSError("no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="no"), replacing_folder(folder) as partial:
        (partial / "new").write_text("")
    assert [path.name for path in tmp_path.iterdir()] == ["part"]
    assert (folder / DESCRIPTION).read_text() == "{}"
