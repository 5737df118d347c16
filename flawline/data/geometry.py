"""The common shape of a category's images: the frame that all are resized to, and its tiles.

The prepared image, its masks and its anomaly map have one shape, the frame's. If a category is
tiled, detectors see full resolution instead: overlapping tiles of a canvas as large as the
photographs, whose cells are stitched together before they become the map of the frame.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from flawline.options.sizes import MULTIPLE

if TYPE_CHECKING:
    import pandas as pd

AREA = 256**2  # pixels of an `auto` frame
TILED_AREA = 1024**2  # most pixels of an `auto` frame of tiled images, which is only shown

Shape = tuple[int, int]


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles of a canvas, row by row.

    Attributes
    ----------
    canvas : height and width of the photograph at full resolution, multiples of 32.
    tile : height and width of each tile, multiples of 32.
    overlap : least number of pixels that neighbours share.
    """

    canvas: Shape
    tile: Shape
    overlap: int

    @classmethod
    def of(cls, canvas: Shape, size: int, overlap: int) -> Self:
        """Lay square tiles over a canvas; one that is narrower than a tile has narrower tiles."""
        return cls(canvas, (min(size, canvas[0]), min(size, canvas[1])), overlap)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Top and left of each tile, multiples of 32."""
        return list(product(self._starts(0), self._starts(1)))

    def __len__(self) -> int:
        return len(self._starts(0)) * len(self._starts(1))

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Cut a canvas, or a grid of its cells, into tiles: (h, w, ...) to (T, ...)."""
        step = self.canvas[0] // image.shape[0]
        height, width = (side // step for side in self.tile)
        corners = [(top // step, left // step) for top, left in self.corners]
        return np.stack([image[y : y + height, x : x + width] for y, x in corners])

    def step(self, grid: Shape) -> int:
        """Return the spacing of a tile's stitched cells, pixels: a power of two, at most 32.

        Parameters
        ----------
        grid : cells of one tile.
        """
        between = max(min(side / cells for side, cells in zip(self.tile, grid, strict=True)), 1)
        return min(2 ** math.floor(math.log2(between) + 1e-9), MULTIPLE)

    def cells(self, grid: Shape) -> Shape:
        """Return the grid of the canvas, if each tile has cells `grid`."""
        step = self.step(grid)
        return self.canvas[0] // step, self.canvas[1] // step

    def stitch(self, tiles: np.ndarray) -> np.ndarray:
        """Join cells of tiles to cells of the canvas: float32 (T, h, w) to (H, W).

        Where tiles overlap, their weights fall towards their edges, so that no seam shows.
        """
        import cv2

        step = self.step(tiles.shape[1:])
        height, width = (side // step for side in self.tile)
        total = np.zeros(self.cells(tiles.shape[1:]), np.float32)
        weights = np.zeros_like(total)
        down, across = (self._weights(axis, step) for axis in (0, 1))
        rows = len(across)
        for number, ((top, left), tile) in enumerate(zip(self.corners, tiles, strict=True)):
            if tile.shape != (height, width):
                tile = cv2.resize(tile, (width, height), interpolation=cv2.INTER_LINEAR)
            weight = down[number // rows][:, None] * across[number % rows]
            place = np.s_[top // step : top // step + height, left // step : left // step + width]
            total[place] += weight * tile
            weights[place] += weight
        return total / weights

    def along(self, axis: int, step: int) -> tuple[list[int], list[np.ndarray]]:
        """Return where tiles begin along an axis, pixels, and the weights of their cells.

        Parameters
        ----------
        step : spacing of cells, pixels.
        """
        return self._starts(axis), self._weights(axis, step)

    def _starts(self, axis: int) -> list[int]:
        """Return starts spread evenly from one end of the canvas to the other."""
        length, tile = self.canvas[axis], self.tile[axis]
        count = math.ceil((length - self.overlap) / (tile - self.overlap)) if length > tile else 1
        even = np.linspace(0, (length - tile) / MULTIPLE, max(count, 1))
        return [round(start) * MULTIPLE for start in even.tolist()]

    def _weights(self, axis: int, step: int) -> list[np.ndarray]:
        """Return each tile's weights along an axis: ramps where it overlaps others, else 1."""
        starts, tile = self._starts(axis), self.tile[axis] // step
        found = []
        for number, start in enumerate(starts):
            place = np.arange(tile, dtype=np.float32) + 0.5
            weight = np.ones(tile, np.float32)
            if number > 0:
                shared = (starts[number - 1] + self.tile[axis] - start) // step
                weight = np.minimum(weight, place / max(shared, 1))
            if number + 1 < len(starts):
                shared = (start + self.tile[axis] - starts[number + 1]) // step
                weight = np.minimum(weight, (tile - place) / max(shared, 1))
            found.append(weight)
        return found


@dataclass(frozen=True)
class Geometry:
    """The shape of a category's prepared images and, where it is tiled, the tiles behind them.

    Examples
    --------
    >>> from flawline import Geometry
    >>> Geometry((256, 320)).seen
    (256, 320)
    """

    shape: Shape
    tiling: Tiling | None = None

    @property
    def seen(self) -> Shape:
        """Height and width of what networks see: the prepared image, or a tile."""
        return self.tiling.tile if self.tiling else self.shape

    @property
    def pieces(self) -> int:
        """The number of tiles of a photograph, or 1."""
        return len(self.tiling) if self.tiling else 1

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """Rebuild what `as_json` returned."""
        tiling = given["tiling"]
        if tiling is not None:
            sides = {key: tuple(tiling[key]) for key in ("canvas", "tile")}
            tiling = Tiling(**sides, overlap=tiling["overlap"])
        return cls(tuple(given["shape"]), tiling)


def geometry_of(
    photographs: "pd.DataFrame",
    size: int | Shape | list[int] | Literal["auto"],
    tiles: Mapping[str, int] | None = None,
) -> Geometry:
    """Return the geometry of a category.

    Parameters
    ----------
    photographs : columns split, height and width; only those of training images count.
    size : side of a square, height and width, or `auto`: the training photographs' median shape at
        the area of a 256 px square, in multiples of 32; with tiles at most that of a 1024 px one.
    tiles : size and overlap, pixels.
    """
    median = median_shape(photographs)
    canvas = None if tiles is None else at_area(median, median[0] * median[1])
    if size == "auto":
        most = median[0] * median[1]
        shape = at_area(median, AREA if tiles is None else min(TILED_AREA, most))
    else:
        shape = (size, size) if isinstance(size, int) else (size[0], size[1])
    tiling = None
    if tiles is not None and canvas is not None:
        tiling = Tiling.of(canvas, tiles["size"], tiles["overlap"])
    return Geometry(shape, tiling)


def median_shape(photographs: "pd.DataFrame") -> tuple[float, float]:
    """Return the median height and width of the training photographs."""
    training = photographs[photographs["split"] == "train"]
    return float(training["height"].median()), float(training["width"].median())


def at_area(shape: tuple[float, float], area: float) -> Shape:
    """Return a shape of the same proportions with about `area` pixels, in multiples of 32."""
    factor = math.sqrt(area / (shape[0] * shape[1]))
    height, width = (max(round(side * factor / MULTIPLE), 1) * MULTIPLE for side in shape)
    return height, width


def input_size(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Return the shape of the network's input: the images', or multiples of 32 if scaled."""
    if scale == 1:
        return shape[0], shape[1]
    height, width = (max(round(side * scale / MULTIPLE), 1) * MULTIPLE for side in shape)
    return height, width
