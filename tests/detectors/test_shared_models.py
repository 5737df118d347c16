"""One model of several categories: it learns from all of them, and each fold leaves out its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.registry import method_class
from flawline.detectors.train_detector import train_detector
from flawline.errors import FlawlineError
from flawline.files import write_array, write_json, write_table

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
SHAPE = (32, 32)


def category(folder: Path, features: np.ndarray, shape: tuple[int, int] = SHAPE) -> dict[str, Any]:
    write_array(folder / "x.npy", features)
    write_json(folder / "geometry.json", Geometry(shape).as_json())
    return {"geometry": str(folder / "geometry.json"), "features": [str(folder / "x.npy")]}


def trained(folder: Path, method: str, files: dict[str, Any], fold: int | None = None) -> Any:
    kind = method_class(method)
    options = kind.Options.model_validate({"features": "x", "calm_border": False, "shared": True})
    implementation = options.implementation
    place: dict[str, Any] = {"seed": 0, "category": "bolt", "device": CPU, "fold": fold}
    train_detector(implementation, options.model_dump(), files, folder, folder / "l.csv", **place)
    return kind.load(folder, CPU)


def joint(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    return first | {
        "others_geometry": [second["geometry"]],
        "others_features": second["features"],
    }


@pytest.mark.parametrize("method", ["patchcore", "subspace", "padim"])
def test_it_is_that_of_all_images_together(method: str, tmp_path: Path) -> None:
    bolts, weaves = (RNG.normal(level, 1, (6, 4, 4, 5)).astype(np.float16) for level in (0, 9))
    one, two = category(tmp_path / "bolt", bolts), category(tmp_path / "weave", weaves)
    both = category(tmp_path / "both", np.concatenate([bolts, weaves]))
    states = [
        trained(tmp_path / name, method, files).state()
        for name, files in (("a", joint(one, two)), ("b", both), ("c", one))
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_a_fold_leaves_out_images_of_its_own_category_alone(tmp_path: Path) -> None:
    bolts, weaves = (np.full((6, 1, 1, 1), level, np.float16) for level in (0, 100))
    bolts += np.arange(6, dtype=np.float16)[:, None, None, None]
    weaves += np.arange(6, dtype=np.float16)[:, None, None, None]
    one, two = category(tmp_path / "bolt", bolts), category(tmp_path / "weave", weaves)
    write_table(tmp_path / "folds.csv", pd.DataFrame({"fold": [0, 0, 0, 1, 1, 1]}))
    files = joint(one, two) | {"folds": str(tmp_path / "folds.csv")}
    moments = trained(tmp_path / "m", "subspace", files, fold=1).distances[0].moments
    assert moments.count == 9
    assert float(moments.mean) == pytest.approx((0 + 1 + 2 + 6 * 102.5) / 9)


def test_images_of_several_shapes_are_refused() -> None:
    features = np.zeros((2, 4, 4, 5), np.float16)
    wide, square = (Data(Geometry(shape), features=(features,)) for shape in ((32, 64), (32, 32)))
    with pytest.raises(FlawlineError, match=r"found 32 x 64, 32 x 32\. Set prepare\.size"):
        wide.joined([square])


def test_masks_and_schedules_are_joined() -> None:
    features, masks = np.zeros((2, 4, 4, 5), np.float16), np.ones((2, 32, 32), np.uint8)
    data = Data(Geometry(SHAPE), features=(features,), object_masks=masks, scheduled=3)
    found = data.joined([data, data])
    assert found.object_masks is not None
    assert (len(found), len(found.object_masks), found.scheduled) == (6, 6, 7)
    assert found.counted is None
