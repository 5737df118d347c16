"""PatchCore: a memory of good patches.

Roth, Pemula, Zepeda, Schoelkopf, Brox, Gehler: Towards Total Recall in Industrial Anomaly
Detection, CVPR 2022. Section and equation numbers below are the paper's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, normalize

from flawline.data.geometry import Geometry, Shape
from flawline.detectors.base import CellGraph, MapDetector
from flawline.detectors.data import Data, Scores
from flawline.detectors.maps import resize_cells
from flawline.detectors.masks import cells_of, mask_scores, object_cells, training_cells
from flawline.devices import has_half_precision_units, readable_tensor, to_tensor
from flawline.learning.coreset import greedy_coreset, project
from flawline.learning.neighbours import (
    Apart,
    Shortening,
    nearest,
    nearest_around,
    nearest_by_bounds,
    nearest_by_candidates,
    within,
)
from flawline.learning.training import Checkpoint, Training
from flawline.learning.whitening import Whitening
from flawline.options.patchcore import PatchCoreOptions
from flawline.seeding import derive

NEIGHBOURS = 9  # b of equation 7, the paper's
TYPICAL_PATCHES = 20_000  # enough for a mean; only ensembles need it
MOST_PATCHES = 4_000_000  # that a memory is chosen from, to bound the job's memory
LEAST_REACH = 1e-4  # parts of an image, narrower than any cell
WHOLE = 0.99  # share of a cell of a turned image that must show the photograph to be learned


@dataclass
class Memory:
    """The memory of one feature set.

    Attributes
    ----------
    bank : float32 (M, C), vectors as they are compared.
    images, places : int64 (M,), the training image of each vector, and its place: the number of
        its cell among those of all tiles.
    scale : typical distance of a training patch, for ensembles.
    """

    cosine: bool
    whitening: Whitening | None = None
    bank: torch.Tensor = field(init=False)
    images: torch.Tensor = field(init=False)
    places: torch.Tensor = field(init=False)
    scale: float = 1.0

    @cached_property
    def shortening(self) -> Shortening | None:
        """What bounds distances from below in fewer dimensions, where that pays."""
        return Shortening.of(self.bank) if self.bank.device.type == "cpu" else None

    def nearest(
        self, queries: torch.Tensor, rows: torch.Tensor | slice, apart: Apart | None, half: bool
    ) -> torch.Tensor:
        """Find distances to the nearest of some vectors: float32 (Q, C) to float32 (Q,).

        Parameters
        ----------
        half : whether to look for them in bfloat16.
        """
        bank = self.bank[rows]
        if half:
            return nearest_by_candidates(queries, bank, apart)[0][:, 0]
        if self.shortening is not None:
            return nearest_by_bounds(queries, bank, self.shortening, apart)
        return nearest(queries, bank, apart=apart)[0][:, 0]

    def compared(self, patches: torch.Tensor) -> torch.Tensor:
        """Return features as they are compared: whitened and of length 1, if configured."""
        if self.whitening is not None:
            patches = self.whitening(patches)
        return normalize(patches.float(), dim=1) if self.cosine else patches

    def state(self) -> dict[str, torch.Tensor]:
        """Return the memory as named tensors."""
        tensors = {"bank": self.bank.half(), "images": self.images, "places": self.places}
        tensors["scale"] = torch.tensor(self.scale, dtype=torch.float64)
        return tensors | (self.whitening.state() if self.whitening else {})

    @classmethod
    def restore(cls, state: dict[str, torch.Tensor], number: int, cosine: bool) -> Self:
        """Rebuild from what `state` returned, under names that end in a number."""
        own = {
            name.removesuffix(f".{number}"): value
            for name, value in state.items()
            if name.endswith(f".{number}")
        }
        memory = cls(cosine, Whitening.restore(own) if "mean" in own else None)
        memory.bank, memory.images = own["bank"].float(), own["images"]
        memory.places = own["places"]
        memory.scale = float(own["scale"])
        return memory


def cell_centres(grid: Shape, geometry: Geometry) -> torch.Tensor:
    """Return where the cells of all tiles are, in parts of height and width: float32 (T h w, 2)."""
    down, across = ((torch.arange(cells) + 0.5) / cells for cells in grid)
    whole = torch.cartesian_prod(down, across)
    if (tiling := geometry.tiling) is None:
        return whole
    tile, canvas = torch.tensor(tiling.tile), torch.tensor(tiling.canvas)
    return torch.cat([(torch.tensor(one) + whole * tile) / canvas for one in tiling.corners])


class PatchCoreGraph(CellGraph):
    """`PatchCore.cells` with an exact search as one module: features to cells."""

    def __init__(
        self, memories: Sequence[Memory], geometry: Geometry, options: PatchCoreOptions
    ) -> None:
        super().__init__()
        self.memories, self.geometry, self.reach = memories, geometry, options.reach
        self.tiles = geometry.pieces if options.tile_memory else 1
        most = len(memories[0].bank)
        self.neighbours = min(options.neighbours or NEIGHBOURS, most) if options.reweight else None
        self.banks = nn.ParameterList([nn.Parameter(one.bank, False) for one in memories])

    def forward(self, sets: list[torch.Tensor]) -> torch.Tensor:
        """Score every position: float32 (N, C, h, w) of each set to float32 (N, h, w)."""
        parts = []
        for features, bank, memory in zip(sets, self.banks, self.memories, strict=True):
            _, channels, height, width = features.shape
            patches = memory.compared(features.permute(0, 2, 3, 1).reshape(-1, channels))
            by_tile = patches.reshape(
                -1, self.tiles, self.geometry.pieces * height * width // self.tiles, channels
            )
            found = [
                self._distances(by_tile[:, tile], bank, memory, (height, width), tile)
                for tile in range(self.tiles)
            ]
            distances = torch.stack(found, 1).reshape(-1, height, width)
            parts.append(distances / (memory.scale * len(self.memories)))
        grid = max((part.shape[1:] for part in parts), key=math.prod)
        parts = [
            part
            if part.shape[1:] == grid
            else interpolate(part[:, None], grid, mode="bilinear")[:, 0]
            for part in parts
        ]
        return sum(parts[1:], parts[0])

    def _distances(
        self, patches: torch.Tensor, bank: torch.Tensor, memory: Memory, grid: Shape, tile: int
    ) -> torch.Tensor:
        """Return the distances of images' patches, float32 (N, P, C), to a tile's memory."""
        rows = patches.reshape(-1, patches.shape[2])
        places = memory.places
        if self.tiles > 1:
            known = places // math.prod(grid) == tile
            bank, places = bank[known], places[known]
        likeness = rows @ bank.T - bank.square().sum(1) / 2
        if self.reach is not None:
            centres = cell_centres(grid, self.geometry)
            own = centres.reshape(self.tiles, -1, 2)[tile]
            near = within(own[:, None], centres[places], self.reach)
            near = near | ~near.any(1, keepdim=True)
            apart = torch.where(near, likeness.reshape(-1, *near.shape), -torch.inf)
            likeness = apart.reshape(likeness.shape)
        # not from the products, whose difference loses digits for near neighbours
        distances = (rows - bank[likeness.argmax(1)]).square().sum(1).sqrt()
        return distances.reshape(-1, patches.shape[1])

    def image_scores(
        self, means: list[torch.Tensor], seen: list[torch.Tensor], cells: torch.Tensor
    ) -> torch.Tensor:
        """Weight scores by equation 7, if so configured."""
        if self.neighbours is None:
            return means[0]
        bank, features = self.banks[0], seen[0].flatten(2).transpose(1, 2)
        where = cells.flatten(1).argmax(1)[:, None, None].expand(-1, 1, features.shape[2])
        strange = self.memories[0].compared(features.gather(1, where)[:, 0])
        half = bank.square().sum(1) / 2
        matched = bank[(strange @ bank.T - half).argmax(1)]
        around = bank[(matched @ bank.T - half).topk(self.neighbours).indices]
        distances = (matched - strange).square().sum(1).sqrt()
        to_around = (around - strange[:, None]).square().sum(2).sqrt()
        return means[0] * (1 - torch.exp(distances - to_around.logsumexp(1)))


class PatchCore(MapDetector):
    """Anomaly score of a patch = distance to the nearest patch in memory.

    With several feature sets there is a memory for each (the paper's ensemble, section 4.4). Their
    distances are averaged after division by the typical distance of a training patch.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from flawline import Data, Geometry, PatchCore
    >>> images = np.random.default_rng(0).integers(0, 255, (8, 32, 32, 3), np.uint8)
    >>> good = Data(Geometry((32, 32)), features=(images[:, ::8, ::8].astype(np.float16),))
    >>> options = PatchCore.Options(features="any", coreset_fraction=0.5)
    >>> detector = PatchCore(options, seed=0, device=torch.device("cpu"))
    >>> training = detector.fit(good)
    >>> found = detector.score(good)
    >>> found.scores.shape, found.anomaly_maps.shape
    ((8,), (8, 32, 32))
    """

    Options = PatchCoreOptions
    options: PatchCoreOptions
    memories: list[Memory]

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Choose the memories: coresets of all training patches (section 3.2)."""
        self.memories, rows = [], []
        for number, features in enumerate(data.features):
            names = [] if number == 0 else [str(number)]
            patches, images, places, unposed_count = self._patches(data, number)
            count = self._size(unposed_count)
            memory = Memory(self.options.distance == "cosine")
            if self.options.whitening is not None:
                memory.whitening = Whitening.of(patches, self.options.whitening)
            regions = self._regions(places, features.shape[1:3], data.geometry)
            coreset = self._coreset(patches, regions, count, memory, names)
            memory.bank = memory.compared(patches[coreset]).float()
            memory.images, memory.places = images[coreset], places[coreset]
            if len(data.features) > 1:
                memory.scale = self._typical(memory, patches)
            self.memories.append(memory)
            rows.append({"step": number + 1, "patches": len(patches), "memory": len(coreset)})
        if self.options.calm_border:
            self.learn_border(data)
        return Training(rows, "memory filled")

    def _patches(
        self, data: Data, number: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        """Return training patches of a feature set, their images and places, and their number.

        Returns
        -------
        float16 (P, C), int64 (P,), int64 (P,), and the number of patches without further poses,
        of which the memory's size is a fraction.
        """
        features = data.features[number]
        height, width, channels = features.shape[1:]
        learned = training_cells(self.options, data, (height, width))
        parts = [(features, learned)]
        if data.posed is not None:
            posed = data.posed.features[number]
            parts.append((posed, cells_of(data.posed.counted, posed.shape[1:3], WHOLE)))
        patch_parts, cell_parts = [], []
        for array, where in parts:
            patches = readable_tensor(array, self.device).reshape(-1, channels)
            cells = torch.arange(len(patches), device=self.device)
            if where is not None:
                inside = to_tensor(where, self.device).reshape(-1)
                patches, cells = patches[inside], cells[inside]
            patch_parts.append(patches)
            cell_parts.append(cells)
        patches, cells = (
            one[0] if len(one) == 1 else torch.cat(one) for one in (patch_parts, cell_parts)
        )
        unposed_count = len(patch_parts[0])
        rows = self._sample(len(patches), unposed_count, number)
        if rows is not None:
            patches, cells = patches[rows], cells[rows]
        per_image = data.geometry.pieces * height * width
        return patches, cells // per_image % len(data), cells % per_image, unposed_count

    def _regions(self, places: torch.Tensor, grid: Shape, geometry: Geometry) -> torch.Tensor:
        """Number the regions that get a share of the memory each: int64, as `places`.

        They are the tiles for `tile_memory`, and blocks of an image no wider than `reach`, so that
        every patch has some patch within reach that is as near as the coreset makes it.
        """
        regions = torch.zeros_like(places)
        if self.options.tile_memory:
            regions = places // math.prod(grid)
        if self.options.reach is not None:
            blocks = math.ceil(1 / max(self.options.reach, LEAST_REACH))
            down, across = (cell_centres(grid, geometry).to(places.device) * blocks).long().T
            regions = (regions * blocks + down[places]) * blocks + across[places]
        return regions

    def _size(self, unposed_count: int) -> int:
        """Return the number of vectors to remember, of patches without further poses."""
        if self.options.coreset_size is not None:
            return min(self.options.coreset_size, unposed_count)
        return max(round(unposed_count * self.options.coreset_fraction), 1)

    def _sample(self, total: int, unposed_count: int, number: int) -> torch.Tensor | None:
        """Draw rows of patches, ascending; None for all."""
        least = self._size(unposed_count)
        count = min(max(round(total * self.options.coreset_from), least), max(MOST_PATCHES, least))
        if count >= total:
            return None
        names = [] if number == 0 else [str(number)]
        order = torch.Generator().manual_seed(derive(self.seed, "coreset_from", *names))
        return torch.randperm(total, generator=order)[:count].sort().values.to(self.device)

    def _coreset(
        self,
        patches: torch.Tensor,
        regions: torch.Tensor,
        count: int,
        memory: Memory,
        names: list[str],
    ) -> torch.Tensor:
        """Choose the rows to remember: `count` of all patches, or a share of each region's."""
        greedy = self.options.coreset == "greedy"
        if greedy:
            seed = derive(self.seed, "projection", *names)
            projected = project(patches, self.options.projection, seed, memory.compared)
        sizes = regions.unique(return_counts=True)[1].tolist()
        parts = []
        for rows in regions.argsort(stable=True).split(sizes):
            share = min(max(round(count * len(rows) / len(regions)), 1), len(rows))
            seed = derive(self.seed, "coreset", *names)
            if greedy:
                picks = greedy_coreset(projected[rows], share, seed)
            else:
                order = torch.Generator().manual_seed(seed)
                picks = torch.randperm(len(rows), generator=order)[:share].to(self.device)
            parts.append(rows[picks])
        return torch.cat(parts)

    def _typical(self, memory: Memory, patches: torch.Tensor) -> float:
        order = torch.Generator().manual_seed(derive(self.seed, "typical"))
        sample = torch.randperm(len(patches), generator=order)[:TYPICAL_PATCHES].to(self.device)
        # the second nearest, because a patch that is itself in memory has the distance 0
        distances, _ = nearest(memory.compared(patches[sample]), memory.bank, 2)
        return max(float(distances[:, -1].mean()), 1e-6)

    def cells(self, data: Data) -> np.ndarray:
        """Return distances to memory (section 3.3)."""
        grid = max((one.shape[1:3] for one in data.features), key=math.prod)
        cells = np.zeros((len(data.features[0]), *grid), np.float32)
        for features, memory in zip(data.features, self.memories, strict=True):
            distances = self._distances(features, memory, data)
            cells += resize_cells(distances, grid) / (memory.scale * len(self.memories))
        return cells

    def graph(self, geometry: Geometry) -> nn.Module:
        """Return `cells` as one exportable module."""
        return PatchCoreGraph(self.memories, geometry, self.options)

    def _distances(self, features: np.ndarray, memory: Memory, data: Data) -> np.ndarray:
        half = self.options.search == "auto" and has_half_precision_units(self.device.type)
        count, height, width, channels = features.shape
        pieces = data.geometry.pieces
        own, images = self._own(data, memory)
        if own is not None:
            own = own.repeat_interleave(pieces * height * width).reshape(count, -1)
        patches = to_tensor(features, self.device).reshape(count, -1, channels)
        cells = torch.empty(count, height * width)
        centres = cell_centres((height, width), data.geometry).to(self.device)
        tiles = range(pieces if self.options.tile_memory else 1)
        for tile in tiles:
            rows = slice(tile, None, len(tiles))
            known = memory.places // (height * width) == tile if len(tiles) > 1 else slice(None)
            apart = None if own is None else Apart(own[rows].reshape(-1), images[known])
            queries = memory.compared(patches[rows].reshape(-1, channels))
            if self.options.reach is None:
                distances = memory.nearest(queries, known, apart, half)
            else:
                distances = nearest_around(
                    queries.reshape(len(data), -1, channels),
                    memory.bank[known],
                    centres.reshape(pieces, -1, 2)[rows].reshape(-1, 2),
                    centres[memory.places[known]],
                    self.options.reach,
                    apart,
                )
            cells[rows] = distances.reshape(-1, height * width).cpu()
        return cells.reshape(count, height, width).numpy()

    def _own(self, data: Data, memory: Memory) -> tuple[torch.Tensor | None, torch.Tensor]:
        """Return numbers of images, int64 (N,), if any, and of remembered vectors, int64 (M,).

        A vector must not vouch for an image of the same number.
        """
        if data.own is None:
            return None, memory.images
        own = to_tensor(data.own, self.device)
        if data.kin is None:
            return own, memory.images
        kin = to_tensor(data.kin, self.device)
        return kin[own], kin[memory.images]

    def judge(self, cells: np.ndarray, data: Data) -> Scores:
        """Compute scores and maps; `reweight` weights scores by the density around the match."""
        scored = super().judge(cells, data)
        if not self.options.reweight:
            return scored
        count, memory = len(cells), self.memories[0]
        inside = object_cells(self.options, data, cells.shape[1:])
        on_object = np.where(inside, mask_scores(self.options, cells, data), -1).reshape(count, -1)
        rows = torch.arange(count, device=self.device)
        where = torch.from_numpy(on_object.argmax(1)).to(self.device)
        patches = to_tensor(data.features[0], self.device)
        strange = memory.compared(patches.reshape(count, -1, patches.shape[3])[rows, where])
        own, images = self._own(data, memory)
        apart = None if own is None else Apart(own, images)
        distances, matches = nearest(strange, memory.bank, apart=apart)
        matched = memory.bank[matches[:, 0]]
        around_match = self.options.neighbours or NEIGHBOURS
        _, around = nearest(matched, memory.bank, around_match, apart)
        to_around = (memory.bank[around] - strange.float()[:, None]).norm(dim=2)
        # equation 7: low if the matched vector's neighbours are as near as the vector itself
        weights = 1 - torch.exp(distances[:, 0] - to_around.logsumexp(1))
        return Scores(scored.scores * weights.cpu().numpy(), scored.anomaly_maps)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the memories, in half precision like the features, and the border's scales."""
        memories = {
            f"{name}.{number}": value
            for number, memory in enumerate(self.memories)
            for name, value in memory.state().items()
        }
        return memories | ({} if self.rings is None else {"rings": self.rings})

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Load the memories."""
        self.rings = state.get("rings")
        cosine = self.options.distance == "cosine"
        self.memories = [
            Memory.restore(state, number, cosine)
            for number in range(len(self.options.feature_sets))
        ]
