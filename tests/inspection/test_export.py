"""The ONNX file of a trained detector: scores as PyTorch's, in one file, or none at all."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from trained_category import DETECTORS, SHAPE, TrainedCategory

from flawline.data.geometry import Geometry
from flawline.errors import FlawlineError
from flawline.files import read_array
from flawline.inspection import export as exporting
from flawline.inspection.export import TOLERANCE, export
from flawline.inspection.trained_detector import Photograph, checked_photographs

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
}
EXPORTED = ("patchcore", "two_sets", "featcae", "autoencoder", "ssim", *list(MORE)[:8])


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> TrainedCategory:
    category = TrainedCategory(tmp_path_factory.mktemp("category"))
    category.given["detectors"] = DETECTORS | MORE
    for name in (*EXPORTED, "reweighted", "masked", "metric"):
        category.train(name)
    return category


def good_photographs(category: TrainedCategory) -> list[Photograph]:
    return checked_photographs(category.run("patchcore"))


def new_ones(category: TrainedCategory) -> list[Photograph]:
    images, counted = (
        read_array(category.protocol / f"test/{n}.npy") for n in ("images", "counted")
    )
    pairs = zip(images, counted, strict=True)
    return [Photograph(image, (80, 80), None, counts) for image, counts in pairs]


@pytest.mark.parametrize("detector", EXPORTED)
def test_scores_maps_and_decisions_are_those_of_pytorch(
    category: TrainedCategory, tmp_path: Path, detector: str
) -> None:
    trained, path = category.trained(detector), tmp_path / "x.onnx"
    export(trained, good_photographs(category), path, category="bolt")
    session = onnxruntime.InferenceSession(path)
    new = new_ones(category)
    for count in (1, 5, len(new)):  # any number of images
        given = {
            "images": np.stack([one.image for one in new[:count]]),
            "counted": np.stack([one.counted for one in new[:count]]),
        }
        scores, maps, defective = session.run(None, given)
        expected = trained.score(new[:count])
        np.testing.assert_allclose(
            scores, expected.scores, rtol=0, atol=TOLERANCE * expected.scores.max()
        )
        wanted = expected.anomaly_maps.astype(np.float32)
        np.testing.assert_allclose(maps, wanted, rtol=0, atol=TOLERANCE * np.ptp(wanted))
        assert maps.shape == (count, *SHAPE)
        assert (defective == (scores > np.float32(trained.threshold["value"]))).all()
    assert list(tmp_path.iterdir()) == [path]


def test_all_good_images_are_compared_and_images_above_the_threshold(
    category: TrainedCategory, tmp_path: Path
) -> None:
    good_images = good_photographs(category)
    assert len(good_images) == len(read_array(category.protocol / "calibration/images.npy"))
    trained = category.trained("patchcore")
    trained.threshold["value"] *= 1.2  # between the good images and the altered ones
    found = export(trained, good_images, tmp_path / "x.onnx")
    assert (found.good, found.altered) == (len(good_images), min(8, len(good_images)))
    assert found.above >= 1
    assert "all decisions are alike" in str(found)


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
    graph = exporting.Graph(trained)
    trained.threshold["value"] = top
    monkeypatch.setattr(exporting, "Graph", lambda trained: graph)
    if refused:
        with pytest.raises(FlawlineError, match="decides differently from PyTorch on"):
            export(trained, good_images, tmp_path / "x.onnx")
        assert list(tmp_path.iterdir()) == []
    else:
        assert "decisions differ: 1, of scores within" in str(
            export(trained, good_images, tmp_path / "x")
        )


def test_the_file_says_what_it_is(category: TrainedCategory, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    trained = category.trained("patchcore")
    export(trained, good_photographs(category), path, category="bolt")
    found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert found["category"] == "bolt"
    assert found["method"] == "patchcore"
    assert float(found["threshold"]) == trained.threshold["value"]
    assert (found["image_height"], found["image_width"]) == tuple(map(str, SHAPE))
    assert found["resize"] == "letterbox"
    assert "flawline_version" in found


@pytest.mark.parametrize(
    ("detector", "why"),
    [
        ("masked", "`object_mask`"),
        ("reweighted", "`reweight`"),
        ("metric", "metric_learning: cannot be exported"),
    ],
)
def test_what_cannot_be_exported_says_so_and_leaves_no_file(
    category: TrainedCategory, tmp_path: Path, detector: str, why: str
) -> None:
    with pytest.raises(FlawlineError, match=why):
        export(category.trained(detector), good_photographs(category), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_scores_otherwise_is_not_written(
    category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting._smoothing_matrix
    monkeypatch.setattr(exporting, "_smoothing_matrix", lambda *given: real(*given) * 1.05)
    with pytest.raises(FlawlineError, match="Nothing was written"):
        export(category.trained("patchcore"), good_photographs(category), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


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
    assert "there is no detector 'pc'; defined: autoencoder," in refused.stderr
    assert not (tmp_path / "y.onnx").exists()


def test_smoothing_as_a_matrix_is_that_of_the_maps() -> None:
    from flawline.detectors.maps import smooth_maps

    cells = np.random.default_rng(0).random((3, 7, 7), np.float32)
    for shape, sigma in (((32, 48), 4.0), ((20, 9), 0.0), ((9, 30), 30.0), ((4, 5), 2.0)):
        finer = shape[0] < 7
        down, across = (
            exporting._smoothing_matrix(7, size, sigma * (7 / shape[0] if finer else 1), finer)
            for size in shape
        )
        found = (down @ torch.from_numpy(cells) @ across.T).numpy()
        np.testing.assert_allclose(found, smooth_maps(cells, Geometry(shape), sigma), atol=1e-5)
