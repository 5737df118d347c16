from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from photographs import save

from flawline.data.prepare import prepared
from flawline.data.regions import Counting, ignored, write_counted
from flawline.errors import FlawlineError
from flawline.options.regions import Regions

SQUARE = [(10, 20), (39, 20), (39, 59), (10, 59)]


class TestIgnoredRegions:
    def test_are_what_a_polygon_encloses_its_corners_included(self) -> None:
        found = ignored(Regions(polygons=[SQUARE]), (100, 80))
        expected = np.zeros((100, 80), bool)
        expected[20:60, 10:40] = True
        assert np.array_equal(found, expected)

    def test_are_what_a_mask_shows_stretched_to_the_photograph(self, tmp_path: Path) -> None:
        mask = np.zeros((50, 40), np.uint8)
        mask[10:20] = 255
        regions = Regions(mask=str(save(tmp_path / "mask.png", mask)))
        found = ignored(regions, (100, 80))
        assert np.array_equal(np.flatnonzero(found.all(1)), np.arange(20, 40))
        assert found.sum() == 20 * 80

    def test_may_be_both(self, tmp_path: Path) -> None:
        mask = np.zeros((100, 80), np.uint8)
        mask[90:] = 1
        path = save(tmp_path / "mask.png", mask)
        found = ignored(Regions(mask=str(path), polygons=[SQUARE]), (100, 80))
        assert found.sum() == 10 * 80 + 40 * 30

    def test_beside_the_photograph_are_refused(self) -> None:
        with pytest.raises(FlawlineError, match=r"polygon 1 lies outside a photograph of 9 x 9"):
            ignored(Regions(polygons=[SQUARE]), (9, 9))

    def test_may_not_cover_all(self) -> None:
        everything = [(0, 0), (100, 0), (100, 100), (0, 100)]
        with pytest.raises(FlawlineError, match="nothing is left to learn from"):
            ignored(Regions(polygons=[everything]), (50, 50))

    @pytest.mark.parametrize(
        ("polygon", "message"), [([(0, 0), (1, 1)], "three corners"), ([(-1, 0)] * 3, "0 or more")]
    )
    def test_need_corners_in_the_photograph(self, polygon: list, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Regions(polygons=[polygon])


class TestCounting:
    def test_leaves_out_letterbox_bars(self) -> None:
        found = Counting(Regions(), (64, 64), "letterbox").of((100, 50))
        assert np.array_equal(np.flatnonzero(found.all(0)), np.arange(16, 48))

    @pytest.mark.parametrize("mode", ["stretch", "letterbox", "center_crop"])
    def test_follows_a_region_wherever_the_photograph_goes(self, mode: str) -> None:
        image = np.full((100, 80, 3), 50, np.uint8)
        image[20:60, 10:40] = 250
        counting = Counting(Regions(polygons=[SQUARE]), (64, 96), mode)
        shown = prepared(image, Counting(Regions(), (64, 96), mode))[..., 0]
        hidden = prepared(image, counting)
        assert (hidden == 50).all(), "an ignored region shows nothing of what is there"
        counts = counting.of((100, 80))
        bright = cv2.erode((shown > 150).astype(np.uint8), np.ones((3, 3)))
        assert not counts[bright > 0].any()
        assert counts.sum() > 0.3 * counts.size

    def test_is_written_for_every_photograph(self, tmp_path: Path) -> None:
        sizes = pd.DataFrame({"row": [0, 1], "height": [50, 100], "width": [100, 50]})
        write_counted(sizes, tmp_path / "counted.npy", Counting(Regions(), (32, 32), "letterbox"))
        found = np.load(tmp_path / "counted.npy")
        assert np.array_equal(found[0], found[1].T)
        assert found[0].sum() == 16 * 32
