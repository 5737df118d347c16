"""Inspecting photographs that are not square, with pixels that do not count."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from photographs import photograph, save
from PIL import Image

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data, Scores
from flawline.inspection import page
from flawline.inspection.folder import Verdict, inspect_folder
from flawline.inspection.trained_detector import TrainedDetector


class Brightest:
    """A detector whose anomalies are red."""

    options = SimpleNamespace(inputs=lambda *, training: {"images"})
    device = SimpleNamespace(type="cpu")

    def score(self, data: Data) -> Scores:
        assert data.images is not None
        red = data.images[..., 0].astype(np.float32) - data.images[..., 1]
        return Scores(red.max((1, 2)), np.maximum(red, 0))


def trained(shape: tuple[int, int], regions: dict[str, Any]) -> TrainedDetector:
    settings: dict[str, Any] = {
        "detector": {"method": "any"},
        "max_megapixels": 1,
        "prepare": {"resize": "letterbox"},
        "regions": regions,
        "boxes": {"min_area": 4},
        "object_masks": None,
    }
    threshold = {"value": 50.0, "promise": "None."}
    detector: Any = Brightest()
    return TrainedDetector(
        detector=detector,
        settings=settings,
        threshold=threshold,
        calibration=np.zeros(4),
        scale=(0.0, 200.0),
        limit=50.0,
        geometry=Geometry(shape),
    )


def inspected(folder: Path, model: TrainedDetector) -> tuple[list[Verdict], str, tuple[int, int]]:
    """Verdicts, the page's text, and width and height of the first overlay."""
    verdicts = inspect_folder(folder / "new", model, folder / "overlays")
    made = page.describe(verdicts, model, folder / "overlays", folder="new")
    page.render(folder / "inspection.html", made)
    with Image.open(folder / "overlays" / verdicts[0].overlay) as overlay:
        size = overlay.size
    return verdicts, (folder / "inspection.html").read_text(encoding="utf-8"), size


@pytest.mark.parametrize("shape", [(416, 160), (160, 416), (96, 128)])
def test_photographs_of_any_shape_are_boxed_and_shown_in_it(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    height, width = 2 * shape[0], 2 * shape[1]
    pixels = np.full((height, width, 3), 120, np.uint8)
    pixels[20:60, 30:90] = 250, 20, 20
    save(tmp_path / "new/a.png", pixels)
    [verdict], text, size = inspected(tmp_path, trained(shape, {}))
    assert verdict.decision == "defective"
    assert verdict.boxes == [[30, 20, 90, 60]]
    assert size == (2 * shape[1], shape[0])
    assert f'width="{size[0]}" height="{size[1]}"' in text
    assert "Hatched" not in text


def test_what_does_not_count_is_hatched_and_the_page_says_so(tmp_path: Path) -> None:
    save(tmp_path / "new/a.png", photograph(0, 60, 60))
    [verdict], text, _ = inspected(tmp_path, trained((64, 128), {}))
    assert verdict.hatched
    assert "Hatched: not counted." in text
    with Image.open(tmp_path / "overlays" / verdict.overlay) as overlay:
        shown = np.asarray(overlay)
    assert shown[:, :28].mean() < 80 < shown[:, 34:94].mean()
