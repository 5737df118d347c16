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
from test_inspection import DETECTORS, SIZE, Line

from flawline.errors import FlawlineError
from flawline.files import read_array
from flawline.inspection import export as exporting
from flawline.inspection.export import TOLERANCE, export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

MORE: dict[str, dict[str, Any]] = {
    "patches": {"method": "patchcore", "features": "gabor", "score_from": "patches"},
    "featcae_wide": {
        "method": "featcae",
        "features": ["gabor", "coarse"],
        "latent": 2,
        "epochs": 1,
        "border": 2,
    },
    "ssim_same": {
        "method": "ssim_autoencoder",
        "network_size": SIZE,
        "width": 4,
        "epochs": 1,
        "largest": 0.1,
    },
    "reweighted": {"method": "patchcore", "features": "gabor", "reweight": True},
}
EXPORTED = ("patchcore", "two_sets", "featcae", "autoencoder", "ssim", *list(MORE)[:3])


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    line = Line(tmp_path_factory.mktemp("line"))
    line.given["detectors"] = DETECTORS | MORE
    for name in (*EXPORTED, "reweighted", "masked", "metric"):
        line.train(name)
    return line


def images_of(line: Line, subset: str) -> np.ndarray:
    return np.asarray(read_array(line.protocol / subset / "images.npy"))


@pytest.mark.parametrize("detector", EXPORTED)
def test_scores_maps_and_decisions_are_those_of_pytorch(
    line: Line, tmp_path: Path, detector: str
) -> None:
    trained, path = line.trained(detector), tmp_path / "x.onnx"
    export(trained, images_of(line, "calibration"), path, category="bolt")
    session = onnxruntime.InferenceSession(path)
    images = images_of(line, "test")
    for count in (1, 5, len(images)):  # any number of images
        scores, maps, defective = session.run(None, {"images": images[:count]})
        expected = trained.score(images[:count])
        np.testing.assert_allclose(
            scores, expected.scores, rtol=0, atol=TOLERANCE * expected.scores.max()
        )
        wanted = expected.anomaly_maps.astype(np.float32)
        np.testing.assert_allclose(maps, wanted, rtol=0, atol=TOLERANCE * np.ptp(wanted))
        assert maps.shape == (count, SIZE, SIZE)
        assert (defective == (scores > np.float32(trained.threshold["value"]))).all()
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_says_what_it_is(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    trained = line.trained("patchcore")
    export(trained, images_of(line, "calibration"), path, category="bolt")
    found = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    assert found["category"] == "bolt"
    assert found["method"] == "patchcore"
    assert float(found["threshold"]) == trained.threshold["value"]
    assert (found["image_size"], found["resize"]) == ("64", "letterbox")
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
    line: Line, tmp_path: Path, detector: str, why: str
) -> None:
    with pytest.raises(FlawlineError, match=why):
        export(line.trained(detector), images_of(line, "calibration"), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_scores_otherwise_is_not_written(
    line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = exporting._smoothing_matrix
    monkeypatch.setattr(exporting, "_smoothing_matrix", lambda *shape: real(*shape) * 1.05)
    with pytest.raises(FlawlineError, match="Nothing was written"):
        export(line.trained("patchcore"), images_of(line, "calibration"), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_writes_a_file_or_says_why_not(line: Line, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(line.given))))
    command = [sys.executable, "-m", "flawline.inspection.export", "--configfile", str(config)]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], cwd=line.root, capture_output=True, text=True, check=False
        )

    done = run("--detector", "autoencoder", str(tmp_path / "x.onnx"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.onnx").is_file()
    refused = run("--detector", "pc", str(tmp_path / "y.onnx"))
    assert refused.returncode == 1
    assert "there is no detector 'pc'; defined: autoencoder," in refused.stderr
    assert not (tmp_path / "y.onnx").exists()


def test_smoothing_as_a_matrix_is_that_of_the_maps() -> None:
    from flawline.detectors.base import smooth_maps

    cells = np.random.default_rng(0).random((3, 7, 7), np.float32)
    for size, sigma in ((32, 4.0), (20, 0.0), (9, 30.0)):
        matrix = exporting._smoothing_matrix(7, size, sigma)
        found = (matrix @ torch.from_numpy(cells) @ matrix.T).numpy()
        np.testing.assert_allclose(found, smooth_maps(cells, size, sigma), atol=1e-5)
