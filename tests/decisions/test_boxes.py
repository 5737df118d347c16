"""Boxes around what stands out of anomaly maps."""

import numpy as np
import pandas as pd
import pytest

from flawline.data.resize import resize_image, to_original
from flawline.decisions.boxes import (
    ORIGINAL,
    PREPARED,
    box_table,
    boxed_share,
    find_boxes,
    map_limit,
    map_scale,
)
from flawline.report.cases import open_cases, panels


def corners(anomaly_map: np.ndarray, limit: float = 0.5, min_area: int = 1) -> list[list[int]]:
    return find_boxes(anomaly_map, limit, min_area)[:, :4].astype(int).tolist()


class TestBoxes:
    def test_are_one_for_each_region(self) -> None:
        found = np.zeros((20, 30), np.float16)
        found[2:5, 3:9] = 1
        found[10:18, 20:22] = 2
        assert corners(found) == [[20, 10, 22, 18], [3, 2, 9, 5]]
        boxes = find_boxes(found, 0.5)
        assert boxes[:, 4].tolist() == [16, 18]
        assert boxes[:, 5].tolist() == [2, 1]

    def test_reach_the_first_row_and_column_and_the_last(self) -> None:
        found = np.zeros((6, 8), np.float16)
        found[0, 0] = found[5, 7] = 1
        assert corners(found) == [[0, 0, 1, 1], [7, 5, 8, 6]]
        assert corners(np.ones((6, 8), np.float16)) == [[0, 0, 8, 6]]

    def test_join_regions_that_touch_at_a_corner(self) -> None:
        assert corners(np.eye(5, dtype=np.float16)) == [[0, 0, 5, 5]]

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_of_a_flat_map_of_flat_calibration_maps_are_none(self, value: float) -> None:
        flat = np.full((3, 8, 8), value, np.float16)
        limit = map_limit(flat, quantile=0.95, level=1.0)
        assert limit == value
        assert corners(flat[0], limit) == []

    def test_leave_out_regions_that_are_too_small(self) -> None:
        found = np.zeros((9, 9), np.float16)
        found[1, 1:4] = found[5:7, 5:7] = 1
        assert corners(found, min_area=4) == [[5, 5, 7, 7]]

    def test_of_a_region_measure_its_own_pixels_not_those_of_one_inside_its_box(self) -> None:
        found = np.zeros((9, 9), np.float16)
        found[0, :] = found[:, 0] = 1
        found[4:6, 4:6] = 5
        boxes = find_boxes(found, 0.5)
        assert boxes[:, 4].tolist() == [4, 17]
        assert boxes[:, 5].tolist() == [5, 1]


class TestTheScaleOfTheMaps:
    def test_leaves_good_images_calm_whatever_the_unit(self) -> None:
        rng = np.random.default_rng(0)
        good_images = rng.normal(size=(100, 16, 16))
        for factor, shift in ((1, 0), (0.01, 0), (100, -1000)):
            maps = (good_images * factor + shift).astype(np.float32)
            limit = map_limit(maps, quantile=0.9, level=1.0)
            # rank 91 of 100: 10 of 101 new good images lie above
            assert sum(len(find_boxes(one, limit)) > 0 for one in maps) == 9

    @pytest.mark.parametrize("count", [5, 12, 42])
    def test_boxes_the_part_of_new_good_images_that_it_says(self, count: int) -> None:
        peaks = np.random.default_rng(0).lognormal(size=(4000, count + 1, 1, 1))
        limits = [map_limit(one[:-1], quantile=0.9, level=1.0) for one in peaks]
        boxed = float((peaks[:, -1, 0, 0] > limits).mean())
        share = boxed_share(count, 0.9)
        assert boxed == pytest.approx(share, abs=3 * (share / 4000) ** 0.5)
        assert share <= max(0.1, 1 / (count + 1))

    def test_is_linear_between_the_median_pixel_and_the_peaks(self) -> None:
        maps = np.full((5, 8, 8), 2, np.float16)
        maps[:, 3, 3] = 6
        assert map_limit(maps, quantile=1.0, level=0.5) == 4
        assert map_limit(maps, quantile=1.0, level=1.0) == 6

    def test_boxes_no_pixel_of_a_calibration_good_at_quantile_1(self) -> None:
        maps = np.random.default_rng(1).normal(size=(50, 8, 8)).astype(np.float16)
        limit = map_limit(maps, quantile=1.0, level=1.0)
        assert not any(len(find_boxes(one, limit)) for one in maps)


def mark(height: int, width: int, box: tuple[int, int, int, int]) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


class TestCoordinatesInTheOriginalImage:
    @pytest.mark.parametrize("mode", ["stretch", "letterbox", "center_crop"])
    @pytest.mark.parametrize("shape", [(120, 200), (200, 120), (31, 64), (20, 30), (64, 64)])
    def test_are_where_the_original_was_before_it_was_resized(
        self, mode: str, shape: tuple[int, int]
    ) -> None:
        height, width = shape
        box = (width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 3 // 5)
        prepared = resize_image(mark(height, width, box), (64, 64), mode)[..., 0]
        found = find_boxes(prepared.astype(np.float32), 127)
        assert len(found) == 1
        original = to_original(found[:, :4], (64, 64), shape, mode)[0]
        side = {"letterbox": max(shape), "center_crop": min(shape)}
        pixel = side.get(mode, max(shape)) / 64
        assert np.abs(original - box).max() <= 1 + pixel

    def test_never_lie_outside_of_it(self) -> None:
        whole = np.array([[0, 0, 64, 64]])
        assert to_original(whole, (64, 64), (120, 200), "letterbox").tolist() == [[0, 0, 200, 120]]
        assert to_original(whole, (64, 64), (120, 200), "stretch").tolist() == [[0, 0, 200, 120]]
        left, top, right, bottom = to_original(whole, (64, 64), (120, 200), "center_crop")[0]
        assert (top, bottom) == (0, 120)
        assert 38 <= left <= 41
        assert 159 <= right <= 162

    def test_of_an_image_that_was_not_resized_are_the_same(self) -> None:
        boxes = [[3, 5, 9, 60], [0, 0, 1, 1]]
        for mode in ("stretch", "letterbox", "center_crop"):
            assert to_original(np.array(boxes), (64, 64), (64, 64), mode).tolist() == boxes


class TestTheScaleOfColours:
    def test_begins_at_good_surfaces_and_has_the_level_of_boxes_inside(self) -> None:
        maps = np.ones((20, 8, 8), np.float16)
        maps[:, 0, 0] = np.linspace(2, 3, 20)
        (low, high), limit = map_scale(maps, quantile=0.95, level=1.0)
        assert (low, high, limit) == (1.0, 5.0, 3.0)
        assert map_scale(maps, quantile=0.95, level=0.5)[1] == 2.0

    def test_is_not_flat_where_the_maps_are(self) -> None:
        (low, high), _ = map_scale(np.zeros((2, 4, 4), np.float16), quantile=0.95, level=1.0)
        assert low < high


class TestTheTable:
    def test_has_a_row_for_each_box_in_both_coordinates(self) -> None:
        maps = np.zeros((3, 32, 32), np.float16)
        maps[0, 4:8, 4:12] = 1
        maps[2, 0:2, 0:2] = 3
        maps[2, 20:24, 30:32] = 2
        sizes = pd.DataFrame({"row": range(3), "height": [64, 64, 32], "width": [32, 64, 96]})
        table = box_table(maps, sizes, limit=0.5, min_area=1, resize="stretch")
        assert list(table) == ["row", *PREPARED, *ORIGINAL, "area", "peak"]
        assert table["row"].tolist() == [0, 2, 2]
        assert table[list(PREPARED)].to_numpy().tolist() == [
            [4, 4, 12, 8],
            [0, 0, 2, 2],
            [30, 20, 32, 24],
        ]
        assert table[list(ORIGINAL)].to_numpy().tolist() == [
            [4, 8, 12, 16],
            [0, 0, 6, 2],
            [90, 20, 96, 24],
        ]
        assert table["peak"].tolist() == [1, 3, 2]

    def test_is_empty_with_its_columns_where_nothing_stands_out(self) -> None:
        sizes = pd.DataFrame({"row": [0], "height": [8], "width": [8]})
        maps = np.zeros((1, 8, 8), np.float16)
        table = box_table(maps, sizes, limit=0.5, min_area=1, resize="stretch")
        assert len(table) == 0
        assert "original_x0" in table


class TestTheGallery:
    def test_draws_each_image_with_its_own_boxes_as_thin_rectangles(self) -> None:
        predictions = pd.DataFrame(
            {
                "image_id": ["a", "b"],
                "label": [1, 0],
                "defect_type": ["crack", "good"],
                "has_mask": [1, 0],
                "score": [2.0, 0.0],
            }
        )
        images, masks = np.full((2, 64, 64, 3), 128, np.uint8), np.zeros((2, 64, 64), np.uint8)
        boxes = pd.DataFrame([(0, 8, 8, 40, 40)], columns=["row", "x0", "y0", "x1", "y1"])
        maps = np.zeros((2, 64, 64), np.float16)
        chosen = [(0, "miss"), (1, "false alarm")]
        with_box, without = open_cases(chosen, predictions, images, masks, maps, boxes)
        changed = (panels(with_box, (0.0, 1.0))[0] != 128).any(2)
        assert changed[8, 8:40].all()
        assert changed[8:40, 39].all()
        assert not changed[12:36, 12:36].any()
        assert not changed[44:].any()
        assert (panels(without, (0.0, 1.0))[0] == 128).all()
        assert (images == 128).all()
