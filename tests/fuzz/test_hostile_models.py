"""Models and what lies beside them, damaged or made to run code: refused, and never executed."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzzing import cases, damages, try_all, watched
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from flawline.data.geometry import Geometry
from flawline.detectors.base import Detector
from flawline.detectors.data import Data
from flawline.detectors.registry import method_class
from flawline.errors import FlawlineError
from flawline.features.backbones import build_backbone

pytestmark = pytest.mark.usefixtures("watchdog")

CPU = torch.device("cpu")
OPTIONS: dict[str, dict[str, Any]] = {
    "patchcore": {"features": "f", "coreset_fraction": 0.1},
    "subspace": {"features": "f"},
    "padim": {"features": "f", "channels": 3},
    "featcae": {"features": "f", "latent": 2, "epochs": 1},
    "autoencoder": {"network_size": 32, "width": 4, "latent": 4, "epochs": 1},
    "ssim_autoencoder": {"network_size": 32, "width": 4, "epochs": 1},
}


class Runs:
    """Writes a file, if it is unpickled."""

    def __reduce__(self) -> Any:
        return (exec, ("open('hacked', 'w').write('x')",))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    chance = np.random.default_rng(0)
    data = Data(
        Geometry((32, 32)),
        chance.integers(0, 256, (6, 32, 32, 3), np.uint8),
        (chance.random((6, 4, 4, 5)).astype(np.float16),),
    )
    found = {}
    for method, options in OPTIONS.items():
        kind = method_class(method)
        detector = kind(kind.Options.model_validate(options), 0, CPU)
        detector.fit(data)
        found[method] = tmp_path_factory.mktemp("models") / method
        detector.save(found[method])
    return found


def load_or_refuse(method: str, folder: Path) -> None:
    with watched():
        try:
            found = method_class(method).load(folder, CPU)
        except FlawlineError as error:
            assert str(error).startswith(f"{folder}: ")
            return
    assert isinstance(found, Detector)


METHOD = st.sampled_from(sorted(OPTIONS))
FILE = st.sampled_from(["model.json", "model.safetensors"])
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@cases(100, 2000)
def test_a_damaged_model_loads_or_is_refused_by_name(
    tmp_path: Path, models: dict[str, Path], examples: int
) -> None:
    def holds(method: str, file: str, damage: Callable[[bytes], bytes]) -> None:
        folder = tmp_path / "model"
        shutil.copytree(models[method], folder, dirs_exist_ok=True)
        (folder / file).write_bytes(damage((models[method] / file).read_bytes()))
        load_or_refuse(method, folder)

    try_all(examples, holds, METHOD, FILE, damages())


@cases(60, 1000)
def test_json_junk_in_a_model_is_refused_by_name(
    tmp_path: Path, models: dict[str, Path], examples: int
) -> None:
    def holds(method: str, key: str, junk: Any) -> None:
        folder = tmp_path / "model"
        shutil.copytree(models[method], folder, dirs_exist_ok=True)
        about = json.loads((folder / "model.json").read_text())
        if key == "all":
            about = junk
        elif key in about:
            about[key] = junk
        else:
            about["options"][key] = junk
        (folder / "model.json").write_text(json.dumps(about))
        load_or_refuse(method, folder)

    keys = st.sampled_from(["all", "options", "seed", "provenance", "features", "method", "width"])
    try_all(examples, holds, METHOD, keys, JUNK)


@cases(60, 1000)
def test_tensors_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, models: dict[str, Path], examples: int
) -> None:
    def holds(method: str, number: int, change: str) -> None:
        folder = tmp_path / "model"
        shutil.copytree(models[method], folder, dirs_exist_ok=True)
        tensors = load_file(models[method] / "model.safetensors")
        name = sorted(tensors)[number % len(tensors)]
        changed = {
            "gone": None,
            "scalar": torch.tensor(1.0),
            "empty": torch.zeros(0),
            "other shape": torch.zeros(3, 7, 2),
            "whole numbers": tensors[name].to(torch.int32),
            "renamed": tensors[name],
        }[change]
        del tensors[name]
        if changed is not None:
            tensors[name + "x" * (change == "renamed")] = changed
        save_file(tensors, folder / "model.safetensors")
        load_or_refuse(method, folder)

    changes = st.sampled_from(
        ["gone", "scalar", "empty", "other shape", "whole numbers", "renamed"]
    )
    try_all(examples, holds, METHOD, st.integers(0, 99), changes)


@pytest.mark.parametrize("file", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("method", sorted(OPTIONS))
def test_a_pickle_in_place_of_a_model_is_refused_and_not_run(
    tmp_path: Path, models: dict[str, Path], method: str, file: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models[method], folder)
    for content in (pickle.dumps(Runs()), pickle.dumps({"options": Runs()}, protocol=0)):
        (folder / file).write_bytes(content)
        with watched(), pytest.raises(FlawlineError, match="model"):
            method_class(method).load(folder, CPU)
    assert not Path("hacked").exists()


def weights_that_run(path: Path) -> None:
    torch.save({"conv1.weight": Runs()}, path)


def weights_that_run_in_the_old_format(path: Path) -> None:
    torch.save(Runs(), path, _use_new_zipfile_serialization=False)


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Runs()))


@pytest.mark.parametrize(
    "make", [weights_that_run, weights_that_run_in_the_old_format, bare_pickle]
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_weights_with_code_in_them_are_refused_and_not_run(
    tmp_path: Path, make: Callable[[Path], None], suffix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    make(path)
    with watched(), pytest.raises(FlawlineError, match="weights"):
        build_backbone("squeezenet1_1", str(path), ["features.2"])
    assert not Path("hacked").exists()


@cases(40, 400)
def test_damaged_weights_load_or_are_refused_by_name(tmp_path: Path, examples: int) -> None:
    import torchvision

    network = torchvision.models.squeezenet1_1()
    state = {key: value for key, value in network.state_dict().items() if key < "features.3"}
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"whole{suffix}"
        torch.save(state, path) if suffix == ".pth" else save_file(state, path)

    def holds(suffix: str, damage: Callable[[bytes], bytes]) -> None:
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(damage((tmp_path / f"whole{suffix}").read_bytes()))
        with watched():
            try:
                build_backbone("squeezenet1_1", str(path), ["features.1"])
            except FlawlineError as error:
                assert path.name in str(error)

    try_all(examples, holds, st.sampled_from([".pth", ".safetensors"]), damages())
