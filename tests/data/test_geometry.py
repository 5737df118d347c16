from itertools import pairwise

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from flawline.data.geometry import Geometry, Tiling, at_area, geometry_of


def photographs(*shapes: tuple[int, int], split: str = "train") -> pd.DataFrame:
    return pd.DataFrame(shapes, columns=["height", "width"]).assign(split=split)


class TestFrame:
    def test_auto_keeps_the_proportions_at_the_area_of_256_px(self) -> None:
        table = photographs((512, 204), (512, 206), (500, 204))
        assert geometry_of(table, "auto").shape == (416, 160)
        assert geometry_of(photographs((900, 900)), "auto").shape == (256, 256)
        assert geometry_of(photographs((40, 4000)), "auto").shape == (32, 2560)

    def test_auto_takes_the_median_of_the_training_photographs_alone(self) -> None:
        test = photographs(*[(100, 900)] * 9, split="test")
        table = pd.concat([photographs((300, 300), (300, 300), (300, 900)), test])
        assert geometry_of(table, "auto").shape == (256, 256)

    def test_a_number_is_a_square_and_two_are_height_and_width(self) -> None:
        table = photographs((512, 204))
        assert geometry_of(table, 320).shape == (320, 320)
        assert geometry_of(table, [512, 208]).shape == (512, 208)

    @given(st.tuples(st.integers(1, 9000), st.integers(1, 9000)))
    def test_sides_are_multiples_of_32(self, shape: tuple[int, int]) -> None:
        assert all(side % 32 == 0 and side > 0 for side in at_area(shape, 256**2))

    def test_tiles_cover_full_resolution_and_the_frame_is_only_shown(self) -> None:
        table = photographs((3000, 4000))
        found = geometry_of(table, "auto", {"size": 512, "overlap": 64})
        assert found.tiling == Tiling((3008, 4000), (512, 512), 64)
        assert found.shape == (896, 1184)
        assert found.seen == (512, 512)

    def test_survives_a_file(self) -> None:
        for found in (Geometry((416, 160)), Geometry((64, 96), Tiling((128, 192), (64, 64), 32))):
            assert Geometry.from_json(found.as_json()) == found


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    canvas = (32 * draw(st.integers(1, 20)), 32 * draw(st.integers(1, 20)))
    size = 32 * draw(st.integers(2, 8))
    return Tiling.of(canvas, size, 32 * draw(st.integers(0, size // 64)))


class TestTiles:
    @settings(deadline=None)
    @given(tilings())
    def test_cover_the_canvas_and_overlap_as_asked(self, tiling: Tiling) -> None:
        seen = np.zeros(tiling.canvas, int)
        for top, left in tiling.corners:
            place = seen[top : top + tiling.tile[0], left : left + tiling.tile[1]]
            assert place.shape == tiling.tile
            place += 1
        assert seen.min() >= 1
        assert len(tiling) == len(tiling.corners)
        for axis in (0, 1):
            starts = tiling._starts(axis)
            shared = [a + tiling.tile[axis] - b for a, b in pairwise(starts)]
            assert all(length >= tiling.overlap for length in shared)

    @settings(deadline=None, max_examples=50)
    @given(tilings(), st.sampled_from([1, 8, 16, 32]))
    def test_are_stitched_to_what_was_cut(self, tiling: Tiling, step: int) -> None:
        grid = (tiling.canvas[0] // step, tiling.canvas[1] // step)
        whole = np.random.default_rng(0).random(grid).astype(np.float32)
        found = tiling.stitch(tiling.cut(whole))
        np.testing.assert_allclose(found, whole, rtol=1e-5)

    def test_of_different_levels_meet_without_a_seam(self) -> None:
        tiling = Tiling.of((64, 160), 64, 32)
        levels = np.repeat(np.arange(len(tiling)), 64).reshape(len(tiling), 8, 8)
        found = tiling.stitch(levels.astype(np.float32))
        assert found.shape == (8, 20)
        assert np.abs(np.diff(found, axis=1)).max() <= 0.26

    def test_with_cells_that_do_not_divide_it_are_resized(self) -> None:
        tiling = Tiling.of((128, 192), 64, 32)
        found = tiling.stitch(np.ones((len(tiling), 7, 7), np.float32))
        assert found.shape == (16, 24)
        np.testing.assert_allclose(found, 1)


def test_a_canvas_smaller_than_a_tile_is_one_tile() -> None:
    tiling = Tiling.of((96, 128), 512, 64)
    assert tiling.tile == (96, 128)
    assert len(tiling) == 1
    assert np.array_equal(tiling.cut(np.ones((96, 128)))[0], np.ones((96, 128)))
