"""Write a trained detector as one ONNX file: prepared images in, scores, maps and decisions out.

``python -m flawline.inspection.export --configfile my.yaml --category screw --detector patchcore
screw.onnx``
"""

import argparse
import logging
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from torch import nn
from torch.nn import functional

from flawline.detectors.base import Scores
from flawline.detectors.featcae import FeatCAE
from flawline.detectors.patchcore import PatchCore
from flawline.detectors.reconstruction import Reconstruction
from flawline.errors import FlawlineError
from flawline.features.extraction import HALF_MAX, IMAGENET_MEAN, IMAGENET_STD
from flawline.files import read_array, replacing
from flawline.inspection.trained import Trained, load_trained, run_folder, settings_of

TOLERANCE = 2e-2
"""Largest difference from PyTorch: of scores, as a part of the largest score; of maps, as a part of
their range. Features are of half precision, and two runtimes round some of them to either side; on
small drawn images that was seen to move a score by 0.9 %."""
CHECKED = 8  # images
OPSET = 20

Cells = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class Graph(nn.Module):
    """uint8 (N, S, S, 3), RGB, to scores (N,), maps (N, S, S) and decisions (N,)."""

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.parts = _part_of(trained)
        self.threshold = float(trained.threshold["value"])

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score prepared images."""
        scores, maps = self.parts(images.permute(0, 3, 1, 2).float())
        return scores, maps, scores > self.threshold


def export(
    trained: Trained, images: np.ndarray, path: Path | str, **about: str
) -> tuple[float, float]:
    """Write the ONNX file, if it scores as PyTorch does.

    Parameters
    ----------
    images : uint8 (N, S, S, 3), prepared images to compare on; N > 1.
    path : the file; not written where a score or a map differs by more than `TOLERANCE`.
    about : further metadata, such as the category.

    Returns
    -------
    The largest differences of scores and maps from PyTorch's, as parts of the largest score and of
    the maps' range.

    Raises
    ------
    FlawlineError
        If the method cannot be exported, a package is missing, or scores differ.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it and says so less clearly)
    except ImportError as error:
        raise FlawlineError(
            f"ONNX export needs the package {error.name!r}: pip install '.[onnx]'"
        ) from error
    graph = Graph(trained).eval()
    images = np.array(images[:CHECKED])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            (torch.from_numpy(images[:2]),),
            input_names=["images"],
            output_names=["scores", "anomaly_maps", "defective"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    with replacing(path) as partial:
        program.save(partial, external_data=False)
        model = onnx.load(partial)
        onnx.helper.set_model_props(model, metadata(trained, **about))
        onnx.checker.check_model(model)
        onnx.save(model, partial)
        session = onnxruntime.InferenceSession(partial, providers=["CPUExecutionProvider"])
        scores, maps, _ = session.run(None, {"images": images})
        return _refuse_difference(trained, trained.score(images), Scores(scores, maps))


def metadata(trained: Trained, **about: str) -> dict[str, str]:
    """What the file says of itself."""
    prepare = trained.settings["prepare"]
    return about | {
        "flawline_version": version("flawline"),
        "method": trained.settings["detector"]["method"],
        "threshold": repr(float(trained.threshold["value"])),
        "image_size": str(prepare["size"]),
        "resize": prepare["resize"],
    }


def _refuse_difference(trained: Trained, expected: Scores, found: Scores) -> tuple[float, float]:
    largest = float(np.abs(expected.scores).max())
    score = float(np.abs(found.scores - expected.scores).max()) / max(largest, 1e-12)
    maps = expected.anomaly_maps.astype(np.float32)
    span = max(float(maps.max() - maps.min()), 1e-12)
    pixel = float(np.abs(found.anomaly_maps - maps).max()) / span
    if not (score <= TOLERANCE and pixel <= TOLERANCE):
        raise FlawlineError(
            f"{trained.settings['detector']['method']}: the ONNX graph scores otherwise than "
            f"PyTorch: scores differ by {score:.2g} of the largest, maps by {pixel:.2g} of their "
            f"range (allowed {TOLERANCE:g}). Nothing was written. "
            "Features in bfloat16 are one reason: train with `precision: float32`."
        )
    return score, pixel


def _part_of(trained: Trained) -> nn.Module:
    detector = trained.detector
    method = trained.settings["detector"]["method"]
    kinds: dict[type, type[nn.Module]] = {
        PatchCore: _PatchCore,
        FeatCAE: _FeatCAE,
        Reconstruction: _Reconstruction,
    }
    part = next((part for kind, part in kinds.items() if isinstance(detector, kind)), None)
    if part is None:
        raise FlawlineError(
            f"{method}: cannot be exported to ONNX; patchcore, featcae, autoencoder and "
            "ssim_autoencoder can"
        )
    for option, wanted in (("object_mask", "none"), ("reweight", False)):
        if getattr(detector.options, option, wanted) != wanted:
            raise FlawlineError(
                f"{method}: cannot be exported to ONNX with `{option}`; train a detector without it"
            )
    return part(trained)


def _smoothing_matrix(cells: int, size: int, sigma: float) -> torch.Tensor:
    """`smooth_maps` of columns as a matrix, float32 (size, cells): M @ map @ M.T."""
    columns: np.ndarray = np.eye(cells, dtype=np.float32)
    columns = cv2.resize(columns, (cells, size), interpolation=cv2.INTER_LINEAR)
    if sigma:
        side = round(sigma * 8 + 1) | 1  # as OpenCV chooses it for floats
        kernel = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
        one = np.ones((1, 1), np.float32)
        columns = cv2.sepFilter2D(columns, -1, one, kernel, borderType=cv2.BORDER_REFLECT)
    return torch.from_numpy(np.ascontiguousarray(columns))


def _around(maps: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    return matrix @ maps @ matrix.T


class _Features(nn.Module):
    """As `patch_features`, for every set: float32 (N, C, H, W), of half precision."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.networks = nn.ModuleList([network for network, _ in trained.networks])
        self.settings = [(about["pool"], about["normalize"]) for _, about in trained.networks]
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for network, (pool, normalize) in zip(self.networks, self.settings, strict=True):
            pixels = images / 255
            if normalize:
                pixels = (pixels - self.mean) / self.std
            maps = [
                functional.avg_pool2d(one, pool, 1, pool // 2, count_include_pad=False)
                if pool > 1
                else one
                for one in network(pixels).values()
            ]
            size = max((one.shape[2:] for one in maps), key=lambda shape: shape[0])
            maps = [
                one if one.shape[2:] == size else functional.interpolate(one, size, mode="bilinear")
                for one in maps
            ]
            found.append(torch.cat(maps, 1).clamp(-HALF_MAX, HALF_MAX).half().float())
        return found

    def grids(self, size: int) -> list[tuple[int, ...]]:
        """Channels, height and width of each set."""
        with torch.no_grad():
            return [tuple(one.shape[1:]) for one in self(torch.zeros(1, 3, size, size))]


class _PatchCore(nn.Module):
    matrix: torch.Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        detector: Any = trained.detector
        self.features = _Features(trained)
        self.banks = nn.ParameterList([nn.Parameter(bank, False) for bank in detector.banks])
        self.scales = [scale * len(detector.banks) for scale in detector.scales]
        self.from_map = detector.options.score_from == "map"
        grids = [grid[1:] for grid in self.features.grids(trained.image_size)]
        for number, grid in enumerate(grids):
            # grids are squares: their images are
            matrix = torch.eye(grid[0])
            if grid != grids[0]:
                matrix = _smoothing_matrix(grid[0], grids[0][0], 0)
            self.register_buffer(f"matrix_{number}", matrix)
        smoothing = detector.options.smoothing
        self.register_buffer(
            "matrix", _smoothing_matrix(grids[0][0], trained.image_size, smoothing)
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parts = []
        for number, features in enumerate(self.features(images)):
            bank = self.banks[number]
            _, channels, height, width = features.shape
            patches = features.permute(0, 2, 3, 1).reshape(-1, channels)
            nearest = (patches @ bank.T - bank.square().sum(1) / 2).amax(1)
            squared = patches.square().sum(1) - 2 * nearest
            distances = squared.clamp(min=0).sqrt().reshape(-1, height, width)
            parts.append(
                _around(distances, getattr(self, f"matrix_{number}")) / self.scales[number]
            )
        cells = sum(parts[1:], parts[0])
        maps = _around(cells, self.matrix)
        return (maps if self.from_map else cells).amax((1, 2)), maps


class _FeatCAE(nn.Module):
    mean: torch.Tensor
    std: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        detector: Any = trained.detector
        self.features = _Features(trained)
        self.network = detector.network
        self.register_buffer("mean", detector.mean)
        self.register_buffer("std", detector.std)
        side = self.features.grids(trained.image_size)[0][1]
        self.edge = min(detector.options.border, (side - 1) // 2)
        self.count = min(detector.options.largest, (side - 2 * self.edge) ** 2)
        smoothing = detector.options.smoothing
        self.register_buffer("matrix", _smoothing_matrix(side, trained.image_size, smoothing))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sets = self.features(images)
        grid = sets[0].shape[2:]
        sets = [
            one
            if one.shape[2:] == grid
            else functional.interpolate(one, grid, mode="bilinear").half().float()
            for one in sets
        ]
        joined = torch.cat(sets, 1).permute(0, 2, 3, 1)
        target = (joined.reshape(-1, joined.shape[3]) - self.mean) / self.std
        errors = (self.network(target) - target).square().mean(1)
        cells = errors.reshape(-1, grid[0], grid[1])
        edge = self.edge
        inner = cells[:, edge : grid[0] - edge, edge : grid[1] - edge]
        largest = inner.flatten(1).topk(self.count).values.mean(1)
        padded = functional.pad(inner[:, None], (edge, edge, edge, edge), mode="replicate")[:, 0]
        return largest, _around(padded, self.matrix)


class _Reconstruction(nn.Module):
    shrinking: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        detector: Any = trained.detector
        options, size = detector.options, trained.image_size
        self.network, self.errors = detector.network, detector.errors
        side = options.network_size
        shrinking = torch.eye(size)[None, None]
        if side != size:
            shrinking = functional.interpolate(
                shrinking, (side, size), mode="bilinear", antialias=True
            )
        self.same = side == size
        self.register_buffer("shrinking", shrinking[0, 0])
        self.count = max(round(options.largest * size * size), 1)
        self.whole = self.count == size * size
        self.register_buffer("matrix", _smoothing_matrix(side, size, options.smoothing))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.same:
            images = _around(images, self.shrinking).round().clamp(0, 255)
        target = images / 127.5 - 1
        maps = _around(self.errors(target, self.network(target)), self.matrix)
        flat = maps.flatten(1)
        return (flat if self.whole else flat.topk(self.count).values).mean(1), maps


def checked_images(run: Path) -> np.ndarray:
    """Prepared goods of a trained detector: those of its calibration or, without any, its training.

    Returns
    -------
    uint8 (N, S, S, 3).
    """
    for subset in ("calibration", "train"):
        path = run.parents[2] / subset / "images.npy"
        if path.is_file():
            return read_array(path)[:CHECKED]
    raise FlawlineError(
        f"{run.parents[2]}: no prepared images (calibration/images.npy or train/images.npy) to "
        "check the export on; run the line again"
    )


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    from flawline.config import load_config

    parser = argparse.ArgumentParser(
        prog="python -m flawline.inspection.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("file", type=Path, help="the ONNX file to write")
    parser.add_argument("--configfile", type=Path, required=True, help="of the training")
    for name in ("category", "detector"):
        parser.add_argument(f"--{name}", help="may be left out if there is only one")
    parser.add_argument("--seed", type=int, help="the first of the configuration's, if not given")
    given = parser.parse_args(arguments)
    chosen = {key: getattr(given, key) for key in ("category", "detector", "seed")}
    try:
        content = yaml.safe_load(given.configfile.read_text(encoding="utf-8"))
        config = load_config(content | {"inspect": chosen | {"folder": "."}}, str(given.configfile))
        assert config.inspected is not None
        run = run_folder(config, config.inspected)
        names = {key: str(getattr(config.inspected, key)) for key in chosen}
        settings = settings_of(config, names["category"], names["detector"])
        trained = load_trained(run, settings, torch.device("cpu"), boxes=False)
        names["dataset"] = config.dataset.name
        score, pixel = export(trained, checked_images(run), given.file, **names)
    except (FlawlineError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(
        f"{given.file}: on {CHECKED} images scores differ from PyTorch's by at most {score:.1e} of "
        f"the largest, maps by {pixel:.1e} of their range"
    )


if __name__ == "__main__":
    main()
