"""A trained detector as one graph that can be exported: prepared images to scores and maps."""

from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from flawline.data.geometry import Geometry, Shape, Tiling
from flawline.detectors.base import MapDetector
from flawline.detectors.maps import ring_numbers
from flawline.detectors.masks import HALF
from flawline.errors import FlawlineError
from flawline.features.extraction import PatchFeatures
from flawline.inspection.trained_detector import TrainedDetector

Results = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def graph_of(trained: TrainedDetector) -> "Graph":
    """Return a detector as a graph.

    Raises
    ------
    FlawlineError
        If it cannot be one, with the reason.
    """
    detector = trained.detector
    method = trained.settings["detector"]["method"]
    scoring = detector.graph(trained.geometry)
    if scoring is None:
        raise FlawlineError(
            f"{method}: cannot be exported to ONNX, because {detector.options.why_not_exported}"
        )
    kind = MapGraph if isinstance(detector, MapDetector) else WholeGraph
    return kind(trained, scoring).eval()


class Graph(nn.Module):
    """uint8 (N, H, W, 3), RGB, to scores (N,), maps (N, H, W) and decisions (N,).

    Tiled images are uint8 (N, T, h, w, 3). Further inputs, both uint8 (N, H, W), are there where
    the detector uses them: `counted` is 1 where pixels count, `objects` on the object and around.
    """

    def __init__(self, trained: TrainedDetector, scoring: nn.Module) -> None:
        super().__init__()
        self.scoring = scoring
        self.geometry = trained.geometry
        self.features: nn.Module = nn.Identity()
        if trained.networks:
            self.features = PatchFeatures(trained.networks, self.geometry.seen)
        self.threshold = float(trained.threshold["value"])
        self.on_map = Inside(self.geometry.shape, self.geometry.shape)

    def _probe(self) -> Any:
        """Return what the scoring makes of one black image."""
        with torch.no_grad():
            return self.scoring(
                self.features(torch.zeros(self.geometry.pieces, 3, *self.geometry.seen))
            )

    def _seen(self, images: torch.Tensor) -> Any:
        if self.geometry.tiling is not None:
            images = images.flatten(0, 1)
        return self.features(images.permute(0, 3, 1, 2).float())


class MapGraph(Graph):
    """The graph of a detector whose scores follow from cells, as `MapDetector.judge`."""

    scales: torch.Tensor

    def __init__(self, trained: TrainedDetector, scoring: nn.Module) -> None:
        super().__init__(trained, scoring)
        detector: Any = trained.detector
        options = detector.options
        self.largest, self.from_map = options.largest, options.score_from == "map"
        self.object_mask = options.object_mask
        self.stitches = nn.ModuleList(
            Stitch(self.geometry, (one.shape[1], one.shape[2])) for one in _listed(self._probe())
        )
        grids: list[Shape] = [one.grid for one in self.stitches]  # type: ignore[misc]
        self.inside = nn.ModuleList(Inside(self.geometry.shape, grid) for grid in grids)
        self.smooth = Smooth(self.geometry, grids[0], options.smoothing)
        scales = torch.ones(grids[0])
        if detector.rings is not None:
            rings = torch.from_numpy(ring_numbers(grids[0], self.geometry))
            scales = detector.rings.cpu().flatten()[rings]
        self.register_buffer("scales", scales)

    def forward(
        self,
        images: torch.Tensor,
        counted: torch.Tensor | None = None,
        objects: torch.Tensor | None = None,
    ) -> Results:
        """Score prepared images."""
        seen = self._seen(images)
        parts = _listed(self.scoring(seen))
        first, *further = (stitch(one) for stitch, one in zip(self.stitches, parts, strict=True))
        learned = self.inside[0](counted, objects if self.object_mask == "memory" else None)
        cells = _quiet(first * self.scales, learned)
        maps = self.smooth(cells)
        on_cells = self.inside[0](counted, objects)
        judged = (maps, self.on_map(counted, objects)) if self.from_map else (cells, on_cells)
        means = [self._mean(*judged)]
        for values, inside in zip(further, list(self.inside)[1:], strict=True):
            means.append(self._mean(values, inside(counted, objects)))
        uncalmed = _quiet(first, learned)
        if on_cells is not None:
            uncalmed = torch.where(on_cells, uncalmed, -1)
        scores = self.scoring.image_scores(means, seen, uncalmed)  # type: ignore[operator]
        return scores, maps, scores > self.threshold

    def _mean(self, values: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
        """Average the largest values, as `masks.image_scores`."""
        flat = values.flatten(1)
        most = max(round(self.largest * flat.shape[1]), 1)
        if inside is None:
            return (flat if most == flat.shape[1] else flat.topk(most).values).mean(1)
        where = inside.flatten(1)
        counts = (self.largest * where.sum(1, keepdim=True)).round().clamp(min=1)
        largest = torch.where(where, flat, -torch.inf).topk(most).values
        first = torch.arange(most)[None] < counts
        return torch.where(first, largest, 0).sum(1) / counts[:, 0]


class WholeGraph(Graph):
    """The graph of a detector that scores whole images, or tiles, and explains them by a map."""

    def __init__(self, trained: TrainedDetector, scoring: nn.Module) -> None:
        super().__init__(trained, scoring)
        _, cells = self._probe()
        self.stitch = Stitch(self.geometry, (cells.shape[2], cells.shape[3]))
        smoothing = getattr(trained.detector.options, "smoothing", 0)
        self.smooth = Smooth(self.geometry, self.stitch.grid, smoothing)

    def forward(self, images: torch.Tensor, counted: torch.Tensor | None = None) -> Results:
        """Score prepared images."""
        scores, cells = self.scoring(self._seen(images))
        scores = scores.reshape(-1, self.geometry.pieces).amax(1)
        kinds = [self.smooth(self.stitch(cells[:, kind])) for kind in range(cells.shape[1])]
        maps = _quiet(torch.stack(kinds, 1).amax(1), self.on_map(counted, None))
        return scores, maps, scores > self.threshold


class Inside(nn.Module):
    """Which cells of a grid count and touch the object, as `masks.object_cells`."""

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, shape: Shape, grid: Shape) -> None:
        super().__init__()
        for name, size, cells in zip(("down", "across"), shape, grid, strict=True):
            self.register_buffer(name, _share_matrix(size, cells))

    def forward(
        self, counted: torch.Tensor | None, objects: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return bool (N, h, w); None if all cells count."""
        cells = None if counted is None else self._share(counted) > HALF
        if objects is None:
            return cells
        touched = self._share(objects) > 0
        touched = touched if cells is None else touched & cells
        # an image without an object counts as a whole
        empty = touched.float().amax((1, 2), keepdim=True) == 0
        return touched | (empty if cells is None else cells & empty)

    def _share(self, masks: torch.Tensor) -> torch.Tensor:
        return self.down @ masks.float() @ self.across.T


class Stitch(nn.Module):
    """Cells of tiles, float32 (N T, h, w), to those of images, as `Tiling.stitch`."""

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, geometry: Geometry, grid: Shape) -> None:
        super().__init__()
        self.grid, self.tiling = grid, geometry.tiling
        if self.tiling is not None:
            step = self.tiling.step(grid)
            self.grid = self.tiling.cells(grid)
            for name, axis in (("down", 0), ("across", 1)):
                self.register_buffer(name, _stitching(self.tiling, axis, step, grid[axis]))
            self.rows = self.down.shape[1] // grid[0]

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Join tiles."""
        if self.tiling is None:
            return cells
        columns, (height, width) = len(self.tiling) // self.rows, cells.shape[1:]
        laid = cells.reshape(-1, self.rows, columns, height, width).transpose(2, 3)
        return self.down @ laid.reshape(-1, self.rows * height, columns * width) @ self.across.T


class Smooth(nn.Module):
    """Cells to the maps of the prepared images, as `maps.smooth_maps`."""

    down: torch.Tensor
    across: torch.Tensor

    def __init__(self, geometry: Geometry, grid: Shape, sigma: float) -> None:
        super().__init__()
        shape = geometry.shape
        seen = geometry.tiling.canvas if geometry.tiling else shape
        finer = grid[0] > shape[0]
        sigma *= (grid[0] if finer else shape[0]) / seen[0]
        for name, cells, size in zip(("down", "across"), grid, shape, strict=True):
            self.register_buffer(name, smoothing_matrix(cells, size, sigma, finer))

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """Smooth float32 (N, h, w) to (N, H, W)."""
        return self.down @ cells @ self.across.T


def smoothing_matrix(cells: int, size: int, sigma: float, finer: bool = False) -> torch.Tensor:
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


def _share_matrix(size: int, cells: int) -> torch.Tensor:
    """Return the shares of `cells_of` of columns as a matrix, float32 (cells, size)."""
    columns: np.ndarray = np.eye(size, dtype=np.float32)
    columns = cv2.resize(columns, (size, min(cells, size)), interpolation=cv2.INTER_AREA)
    columns = cv2.resize(columns, (size, cells), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(np.ascontiguousarray(columns))


def _stitching(tiling: Tiling, axis: int, step: int, cells: int) -> torch.Tensor:
    """Return the joining of tiles along an axis as a matrix, float32 (H, tiles * cells).

    A canvas's weights are products of one for the row and one for the column of tiles.
    """
    starts, weights = tiling.along(axis, step)
    length = len(weights[0])
    tile: np.ndarray = np.eye(cells, dtype=np.float32)
    if length != cells:
        tile = cv2.resize(tile, (cells, length), interpolation=cv2.INTER_LINEAR)
    joined = np.zeros((tiling.canvas[axis] // step, len(starts) * cells), np.float32)
    total = np.zeros(len(joined), np.float32)
    for number, (start, weight) in enumerate(zip(starts, weights, strict=True)):
        rows = slice(start // step, start // step + length)
        joined[rows, number * cells : (number + 1) * cells] += weight[:, None] * tile
        total[rows] += weight
    return torch.from_numpy(joined / total[:, None])


def _listed(found: Any) -> list[torch.Tensor]:
    return [found] if isinstance(found, torch.Tensor) else list(found)


def _quiet(values: torch.Tensor, counts: torch.Tensor | None) -> torch.Tensor:
    """Give what does not count the lowest value of what does, as `masks.quiet`."""
    if counts is None:
        return values
    calmest = torch.where(counts, values, torch.inf).amin((1, 2), keepdim=True)
    return torch.where(counts, values, calmest)
