"""Models of anomalib as detectors. The environment is a small package of that name, or a real one.

FLAWLINE_ANOMALIB=/path/to/python of an environment with anomalib runs the last test with it.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from flawline.data.geometry import Geometry
from flawline.detectors.anomalib import Anomalib
from flawline.detectors.data import Data
from flawline.errors import FlawlineError
from flawline.options.anomalib import AnomalibOptions

CPU = torch.device("cpu")
# The parts of anomalib that are used. Its model remembers the mean of what it was trained on.
PACKAGES = {
    "anomalib/__init__.py": '__version__ = "0.0"',
    "anomalib/models.py": """
import torch
from types import SimpleNamespace
class AnomalibModule: pass
class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
    def forward(self, images):
        maps = (images - self.mean).abs().mean(1, keepdim=True)[..., ::2, ::2]
        return SimpleNamespace(anomaly_map=maps, pred_score=maps.amax((1, 2, 3)))
class Mean(AnomalibModule):
    def __init__(self, pre_processor, post_processor, evaluator, visualizer, sign=1):
        print("anomalib talks")
        self.pre_processor, self.sign, self.model = pre_processor, sign, Network()
    @staticmethod
    def configure_pre_processor(image_size):
        return SimpleNamespace(transform=lambda images: images)
    def eval(self): return self
    def to(self, device): return self
class Broken(Mean):
    def __init__(self, **_): raise RuntimeError("out of luck")
class Dies(Mean):
    def __init__(self, **_): import os; print("killed"); os._exit(3)
""",
    "anomalib/data.py": """
from pathlib import Path
import numpy as np
from PIL import Image
class Folder:
    def __init__(self, name, root, normal_dir, **_): self.files = Path(root, normal_dir)
    def setup(self): pass
    def train_dataloader(self):
        return [np.array(Image.open(one)) / 255 for one in sorted(self.files.iterdir())]
""",
    "anomalib/engine.py": """
import numpy as np, torch
from types import SimpleNamespace
class Engine:
    def __init__(self, max_epochs=1, **_): self.trainer = SimpleNamespace(current_epoch=max_epochs)
    def fit(self, model, train_dataloaders):
        mean = np.mean(train_dataloaders, axis=(0, 1, 2))
        model.model.mean[:] = model.sign * torch.tensor(mean)[:, None, None]
""",
    "lightning/__init__.py": "",
    "lightning/pytorch.py": "import torch\ndef seed_everything(seed): torch.manual_seed(seed)",
}


def images(count: int, defective: int = 0) -> Data:
    pixels = np.random.default_rng(count).integers(90, 110, (count, 32, 48, 3), np.uint8)
    pixels[count - defective :, 8:16, 8:16] = 250
    return Data(Geometry((32, 48)), images=pixels)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python that finds the small package."""
    folder = tmp_path_factory.mktemp("environment")
    for name, text in PACKAGES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    program = folder / "python"
    start = f"import sys; sys.path.insert(0, {str(folder)!r}); sys.argv = sys.argv[1:]"
    run = f"{start}; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{run}" "$@"\n')
    program.chmod(0o700)
    return str(program)


def detector(python: str, **options: Any) -> Anomalib:
    given = {"model": "Mean", "python": python} | options
    return Anomalib(AnomalibOptions.model_validate(given), 0, CPU)


@pytest.fixture(scope="module")
def fitted(python: str) -> Iterator[Anomalib]:
    made = detector(python, max_epochs=7)
    training = made.fit(images(12))
    assert training.rows == [{"step": 1, "images": 12, "epochs": 7, "anomalib": "0.0"}]
    yield made
    worker = made._started
    assert worker is not None
    made.__del__()
    assert worker._process.returncode == 0
    assert not worker.folder.exists()


def test_finds_defects_where_they_are(fitted: Anomalib) -> None:
    scores = fitted.score(images(20, defective=10))
    assert roc_auc_score(np.repeat([0, 1], 10), scores.scores) == 1
    assert scores.anomaly_maps.shape == (20, 32, 48)
    assert scores.anomaly_maps.dtype == np.float16
    defect = scores.anomaly_maps[10:, 10:14, 10:14].mean()
    assert defect > 5 * scores.anomaly_maps[:10].mean()


def test_scores_the_same_after_saving_and_loading(fitted: Anomalib, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    again = Anomalib.load(tmp_path, CPU)
    assert np.array_equal(again.score(images(9)).scores, fitted.score(images(9)).scores)
    assert {path.name for path in tmp_path.iterdir()} == {"model.json", "model.safetensors"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "Madim"}, "has no model 'Madim'"),
        ({"model": "Broken"}, "RuntimeError: out of luck"),
        ({"model": "Dies"}, "killed"),
        ({"arguments": {"colour": 1}}, "unexpected keyword argument 'colour'"),
    ],
)
def test_says_what_anomalib_said(python: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(FlawlineError, match=says):
        detector(python, **options).fit(images(3))


def test_an_environment_without_anomalib_is_named() -> None:
    with pytest.raises(FlawlineError, match="No module named 'anomalib'"):
        detector(sys.executable).fit(images(3))


def test_a_program_that_is_not_there_is_refused_with_advice() -> None:
    with pytest.raises(ValidationError, match=r"no program 'nowhere/python'.*pip install anomalib"):
        AnomalibOptions(model="Padim", python="nowhere/python")


@pytest.mark.skipif("FLAWLINE_ANOMALIB" not in os.environ, reason="names no Python with anomalib")
def test_padim_of_a_real_anomalib_finds_defects() -> None:
    layers = {"backbone": "resnet18", "pre_trained": False, "layers": ["layer1", "layer2"]}
    options = AnomalibOptions(
        model="Padim", python=os.environ["FLAWLINE_ANOMALIB"], arguments=layers
    )
    found = Anomalib(options, 0, CPU)
    found.fit(images(12))
    scores = found.score(images(20, defective=10)).scores
    assert roc_auc_score(np.repeat([0, 1], 10), scores) == 1
