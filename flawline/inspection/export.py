"""Write a trained detector as one ONNX file: prepared images in, scores, maps and decisions out.

``python -m flawline.inspection.export --configfile my.yaml --category screw --detector patchcore
screw.onnx``
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from flawline.configfile import read_configfile
from flawline.detectors.base import MapDetector
from flawline.detectors.maps import ring_numbers
from flawline.detectors.masks import HALF
from flawline.errors import FlawlineError
from flawline.features.extraction import PatchFeatures
from flawline.files import replacing
from flawline.inspection.run_settings import run_folder, settings_of
from flawline.inspection.trained_detector import (
    Photograph,
    TrainedDetector,
    checked_photographs,
    load_trained,
)

TOLERANCE = 5e-3
"""Largest difference from PyTorch: of scores, relative to the largest score; of maps, relative to
their range. Features have half precision, and two runtimes round some of them differently."""
OPSET = 20
BATCH, ALTERED = 8, 8


@dataclass(frozen=True)
class Comparison:
    """The results of an ONNX file and of PyTorch on the same images.

    Attributes
    ----------
    good, altered : numbers of compared images: good ones, and ones with an added defect.
    above : number of images above the threshold, by PyTorch.
    score, pixel : the largest differences of scores and maps, relative to the largest score and to
        the maps' range, for good and for altered images separately.
    close : number of differing decisions on scores within `TOLERANCE` of the threshold.
    """

    good: int
    altered: int
    above: int
    score: float
    pixel: float
    close: int

    def __str__(self) -> str:
        text = (
            f"compared with PyTorch on {self.good} good images and {self.altered} with an added "
            f"defect, {self.above} of them above the threshold: scores differ by at most "
            f"{self.score:.1e} of the largest, maps by {self.pixel:.1e} of their range; "
        )
        if not self.close:
            return text + "all decisions are alike"
        return text + (
            f"decisions differ: {self.close}, of scores within {TOLERANCE:.1%} of the threshold"
        )


class Graph(nn.Module):
    """uint8 (N, H, W, 3), RGB, to scores (N,), maps (N, H, W) and decisions (N,).

    If there are ignored regions or letterbox bars, a second input, uint8 (N, H, W), says which
    pixels count.
    """

    scales: torch.Tensor
    down: torch.Tensor
    across: torch.Tensor
    share_down: torch.Tensor
    share_across: torch.Tensor

    def __init__(self, trained: TrainedDetector) -> None:
        super().__init__()
        detector, self.scoring = _scoring_of(trained)
        self.features: nn.Module = nn.Identity()
        if trained.networks:
            self.features = PatchFeatures(trained.networks, trained.image_shape)
        self.threshold = float(trained.threshold["value"])
        options = detector.options
        self.largest, self.from_map = options.largest, options.score_from == "map"
        shape = trained.image_shape
        with torch.no_grad():
            grid = tuple(self.scoring(self.features(torch.zeros(1, 3, *shape))).shape[1:])
        finer = grid[0] > shape[0]
        sigma = options.smoothing * (grid[0] / shape[0] if finer else 1)
        scales = torch.ones(grid)
        if detector.rings is not None:
            scales = detector.rings.flatten()[
                torch.from_numpy(ring_numbers(grid, trained.geometry))
            ]
        self.register_buffer("scales", scales)
        for name, cells, size in zip(("down", "across"), grid, shape, strict=True):
            self.register_buffer(name, _smoothing_matrix(cells, size, sigma, finer))
            self.register_buffer(f"share_{name}", _area_matrix(size, cells))

    def forward(
        self, images: torch.Tensor, counted: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Score prepared images."""
        seen = self.features(images.permute(0, 3, 1, 2).float())
        cells = self.scoring(seen) * self.scales
        inside = None
        if counted is not None:
            counts = counted.float()
            inside = self.share_down @ counts @ self.share_across.T > HALF
            calmest = torch.where(inside, cells, torch.inf).amin((1, 2), keepdim=True)
            cells = torch.where(inside, cells, calmest)
            inside = counts > HALF if self.from_map else inside
        maps = self.down @ cells @ self.across.T
        scores = self._score(maps if self.from_map else cells, inside)
        return scores, maps, scores > self.threshold

    def _score(self, values: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
        flat = values.flatten(1)
        if inside is None:
            count = max(round(self.largest * flat.shape[1]), 1)
            return (flat if count == flat.shape[1] else flat.topk(count).values).mean(1)
        where = inside.flatten(1)
        counts = (self.largest * where.sum(1, keepdim=True)).round().clamp(min=1)
        order = torch.where(where, flat, -torch.inf).sort(1, descending=True).values
        first = torch.arange(flat.shape[1])[None] < counts
        return torch.where(first, order, 0).sum(1) / counts[:, 0]


def export(
    trained: TrainedDetector, photographs: Sequence[Photograph], path: Path | str, **about: str
) -> Comparison:
    """Write the ONNX file, if it scores and decides as PyTorch does.

    Parameters
    ----------
    photographs : prepared good images to compare on, two or more; some are also compared with an
        added defect, so that there are scores above the threshold.
    path : the file; not written if a score or a map differs by more than `TOLERANCE`, or a
        decision differs and its score is not that close to the threshold.
    about : further metadata, such as the category.

    Raises
    ------
    FlawlineError
        If the method cannot be exported, a package is missing, or scores or decisions differ.
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
    inputs = _inputs(photographs[:2])
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(map(torch.from_numpy, inputs.values())),
            input_names=list(inputs),
            output_names=["scores", "anomaly_maps", "defective"],
            dynamic_shapes={name: {0: torch.export.Dim("N")} for name in inputs},
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
        return _compare(trained, session, photographs)


def metadata(trained: TrainedDetector, **about: str) -> dict[str, str]:
    """Return the metadata of the file."""
    prepare = trained.settings["prepare"]
    height, width = trained.image_shape
    return about | {
        "flawline_version": version("flawline"),
        "method": trained.settings["detector"]["method"],
        "threshold": repr(float(trained.threshold["value"])),
        "image_height": str(height),
        "image_width": str(width),
        "resize": prepare["resize"],
    }


def _inputs(photographs: Sequence[Photograph]) -> dict[str, np.ndarray]:
    inputs = {"images": np.stack([one.image for one in photographs])}
    if photographs[0].counted is not None:
        inputs["counted"] = np.stack([np.asarray(one.counted) for one in photographs])
    return inputs


def _compare(
    trained: TrainedDetector, session: Any, good_images: Sequence[Photograph]
) -> Comparison:
    """Raise a FlawlineError if the session scores or decides differently from `trained`."""
    altered = [_altered(one, part) for part, one in enumerate(good_images[:ALTERED], start=1)]
    found = [_differences(trained, session, group) for group in (good_images, altered)]
    above, close, wrong = (sum(one[i] for one in found) for i in range(3))
    score, pixel = (max(one[i] for one in found) for i in (3, 4))
    method = trained.settings["detector"]["method"]
    if not (score <= TOLERANCE and pixel <= TOLERANCE):
        raise FlawlineError(
            f"{method}: the ONNX graph scores differently from "
            f"PyTorch: scores differ by {score:.2g} of the largest, maps by {pixel:.2g} of their "
            f"range (allowed {TOLERANCE:g}). Nothing was written. "
            "Features in bfloat16 are one reason: train with `precision: float32`."
        )
    if wrong:
        raise FlawlineError(
            f"{method}: the ONNX graph decides differently from PyTorch on {wrong} of "
            f"{len(good_images) + len(altered)} images. Nothing was written."
        )
    return Comparison(len(good_images), len(altered), int(above), score, pixel, int(close))


def _altered(photograph: Photograph, part: int) -> Photograph:
    """Add noise to the middle of a photograph, over `part` eighths of each side."""
    image = photograph.image.copy()
    middle = tuple(
        slice(start := (side - max(side * part // ALTERED, 1)) // 2, side - start)
        for side in image.shape[:2]
    )
    image[middle] = np.random.default_rng(part).integers(0, 256, image[middle].shape)
    return replace(photograph, image=image)


def _differences(
    trained: TrainedDetector, session: Any, photographs: Sequence[Photograph]
) -> tuple[int, int, int, float, float]:
    """Return counts above the threshold, of close and far wrong decisions; largest differences."""
    scores: list[np.ndarray] = []
    decisions: list[np.ndarray] = []
    low, high, pixel = np.inf, -np.inf, 0.0
    for start in range(0, len(photographs), BATCH):
        batch = photographs[start : start + BATCH]
        expected = trained.score(batch)
        found, maps, defective = session.run(None, _inputs(batch))
        scores.append(np.stack([expected.scores, found.astype(float)]))
        decisions.append(np.stack([trained.defective(expected.scores), defective]))
        wanted = expected.anomaly_maps.astype(np.float32)
        low, high = min(low, float(wanted.min())), max(high, float(wanted.max()))
        pixel = max(pixel, float(np.abs(maps - wanted).max()))
    (theirs, ours), (called, found) = np.concatenate(scores, 1), np.concatenate(decisions, 1)
    largest = max(float(np.abs(theirs).max()), 1e-12)
    near = np.abs(theirs - trained.threshold["value"]) <= TOLERANCE * largest
    other = called != found
    return (
        int(called.sum()),
        int((other & near).sum()),
        int((other & ~near).sum()),
        float(np.abs(ours - theirs).max()) / largest,
        pixel / max(high - low, 1e-12),
    )


def _scoring_of(trained: TrainedDetector) -> tuple[MapDetector, nn.Module]:
    """Return the detector and its scoring of cells as a module, or raise a FlawlineError."""
    detector = trained.detector
    method = trained.settings["detector"]["method"]
    module = None
    if isinstance(detector, MapDetector):
        module = detector.graph(trained.image_shape)
    if not isinstance(detector, MapDetector) or module is None:
        raise FlawlineError(
            f"{method}: cannot be exported to ONNX; patchcore, subspace, padim, featcae, "
            "autoencoder and ssim_autoencoder can"
        )
    if trained.geometry.tiling is not None:
        raise FlawlineError(
            f"{method}: cannot be exported to ONNX with `prepare.tiles`; train a detector without"
        )
    if (option := detector.options.not_exported) is not None:
        raise FlawlineError(
            f"{method}: cannot be exported to ONNX with `{option}`; train a detector without it"
        )
    return detector, module


def _smoothing_matrix(cells: int, size: int, sigma: float, finer: bool = False) -> torch.Tensor:
    """Return `smooth_maps` of columns as a matrix, float32 (size, cells).

    Parameters
    ----------
    sigma : pixels of the result or, if cells are `finer` than it, of the cells.
    """
    columns: np.ndarray = np.eye(cells, dtype=np.float32)
    if not finer:
        columns = cv2.resize(columns, (cells, size), interpolation=cv2.INTER_LINEAR)
    if sigma:
        side = round(sigma * 8 + 1) | 1  # as OpenCV chooses it for floats
        kernel = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
        one = np.ones((1, 1), np.float32)
        columns = cv2.sepFilter2D(columns, -1, one, kernel, borderType=cv2.BORDER_REFLECT)
    if finer:
        columns = cv2.resize(columns, (cells, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(columns))


def _area_matrix(size: int, cells: int) -> torch.Tensor:
    """Return `cells_of` of columns as a matrix, float32 (cells, size)."""
    columns = cv2.resize(
        np.eye(size, dtype=np.float32), (size, cells), interpolation=cv2.INTER_AREA
    )
    return torch.from_numpy(np.ascontiguousarray(columns))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
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
        content = read_configfile(given.configfile)
        config = load_config(content | {"inspect": chosen | {"folder": "."}}, str(given.configfile))
        assert config.inspected is not None
        run = run_folder(config, config.inspected)
        names = {key: str(getattr(config.inspected, key)) for key in chosen}
        settings = settings_of(config, names["category"], names["detector"])
        trained = load_trained(run, settings, torch.device("cpu"), boxes=False)
        names["dataset"] = config.dataset.name
        compared = export(trained, checked_photographs(run), given.file, **names)
    except (FlawlineError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{given.file}: {compared}")


if __name__ == "__main__":
    main()
