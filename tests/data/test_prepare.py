from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from photographs import photograph, save

from flawline.data.datasets.folder import Folder
from flawline.data.images import decode_image
from flawline.data.index import scan
from flawline.data.masks import decode_mask
from flawline.data.prepare import prepare_images, prepare_masks
from flawline.data.prepare import test_labels as labels_of
from flawline.data.regions import Counting
from flawline.data.resize import resize_image, resize_mask
from flawline.data.split import split_unsupervised
from flawline.errors import FlawlineError
from flawline.options.regions import Regions

SHAPE = (16, 24)
COUNTING = Counting(Regions(), SHAPE, "letterbox")


def table_of(category: Path) -> pd.DataFrame:
    index, _ = scan(
        Folder(name="any", source=str(category.parent)),
        category.name,
        max_megapixels=1,
        min_train_good=2,
        workers=1,
    )
    return split_unsupervised(index, fraction=0.5, seed=0, category="bottle")


def index_of(good: int, tests: int = 3) -> pd.DataFrame:
    rows = [("train", "good", i) for i in range(good)]
    rows += [("test", "crack", i) for i in range(tests)]
    return pd.DataFrame(
        {
            "image_id": [f"{split}/{kind}/{i:03d}.png" for split, kind, i in rows],
            "split": [split for split, _, _ in rows],
            "label": [int(kind != "good") for _, kind, _ in rows],
        }
    )


class TestPreparedImages:
    @pytest.mark.parametrize("workers", [1, 4])
    def test_keep_the_order_of_the_table_for_any_number_of_workers(
        self, category: Path, tmp_path: Path, workers: int
    ) -> None:
        paths = [category.parent / path for path in table_of(category)["path"]]
        for order in (paths, paths[::-1]):
            prepare_images(
                order, tmp_path / "images.npy", COUNTING, max_megapixels=1, workers=workers
            )
            found = np.load(tmp_path / "images.npy")
            one_by_one = [resize_image(decode_image(path), SHAPE, "letterbox") for path in order]
            assert np.array_equal(found, one_by_one)
            assert not np.array_equal(found[0], found[1])

    def test_can_be_opened_without_reading_them(self, category: Path, tmp_path: Path) -> None:
        paths = sorted((category / "train/good").iterdir())
        prepare_images(
            paths, tmp_path / "new" / "images.npy", COUNTING, max_megapixels=1, workers=2
        )
        mapped = np.load(tmp_path / "new" / "images.npy", mmap_mode="r")
        assert isinstance(mapped, np.memmap)
        assert mapped.shape == (4, *SHAPE, 3)
        assert mapped.dtype == np.uint8
        assert mapped.flags.c_contiguous

    def test_may_differ_in_size_and_mode(self, tmp_path: Path) -> None:
        paths = [
            save(tmp_path / "a.png", photograph(0, 10, 90)),
            save(tmp_path / "b.png", photograph(1, 50, 20)[..., 0]),
        ]
        prepare_images(paths, tmp_path / "images.npy", COUNTING, max_megapixels=1, workers=2)
        assert np.load(tmp_path / "images.npy").shape == (2, *SHAPE, 3)

    def test_may_be_none(self, tmp_path: Path) -> None:
        prepare_images([], tmp_path / "images.npy", COUNTING, max_megapixels=1, workers=2)
        assert np.load(tmp_path / "images.npy", mmap_mode="r").shape == (0, *SHAPE, 3)

    @pytest.mark.parametrize("workers", [1, 4])
    def test_one_broken_image_names_itself_and_leaves_no_file(
        self, category: Path, tmp_path: Path, workers: int
    ) -> None:
        broken = category / "train/good/002.png"
        broken.write_bytes(broken.read_bytes()[:500])
        paths = sorted((category / "train/good").iterdir())
        with pytest.raises(FlawlineError, match=r"train/good/002\.png"):
            prepare_images(
                paths, tmp_path / "out" / "images.npy", COUNTING, max_megapixels=1, workers=workers
            )
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_broken_image_does_not_touch_what_was_prepared_before(
        self, category: Path, tmp_path: Path
    ) -> None:
        paths = sorted((category / "train/good").iterdir())
        prepare_images(paths, tmp_path / "images.npy", COUNTING, max_megapixels=1, workers=2)
        before = (tmp_path / "images.npy").read_bytes()
        paths[0].write_bytes(b"")
        with pytest.raises(FlawlineError):
            prepare_images(paths, tmp_path / "images.npy", COUNTING, max_megapixels=1, workers=2)
        assert (tmp_path / "images.npy").read_bytes() == before


class TestPreparedMasks:
    def test_lie_beside_their_images_and_are_zero_where_none_was_given(
        self, category: Path, tmp_path: Path
    ) -> None:
        mask = category / "ground_truth/crack/000_mask.png"
        prepare_masks(
            [None, mask, None],
            tmp_path / "masks.npy",
            shape=SHAPE,
            resize="letterbox",
            max_megapixels=1,
            workers=2,
        )
        found = np.load(tmp_path / "masks.npy")
        assert found.dtype == np.uint8
        assert not found[[0, 2]].any()
        assert np.array_equal(found[1], resize_mask(decode_mask(mask), SHAPE, "letterbox"))
        assert set(np.unique(found)) == {0, 1}


class TestTestLabels:
    def test_have_one_row_for_each_test_image_in_the_order_of_its_array(
        self, category: Path
    ) -> None:
        (category / "ground_truth/crack/001_mask.png").unlink()
        labels = labels_of(table_of(category))
        assert labels.to_dict("list") == {
            "row": [0, 1, 2, 3, 4],
            "image_id": [
                "test/crack/000.png",
                "test/crack/001.png",
                "test/good/000.png",
                "test/good/001.png",
                "test/stain/000.png",
            ],
            "label": [1, 1, 0, 0, 1],
            "defect_type": ["crack", "crack", "good", "good", "stain"],
            "has_mask": [1, 0, 0, 0, 1],
        }


class TestSplit:
    @pytest.mark.parametrize("good", [2, 3, 10, 57])
    @pytest.mark.parametrize("fraction", [0.001, 0.2, 0.5, 0.999])
    def test_train_and_calibration_share_all_good_images_and_neither_is_empty(
        self, good: int, fraction: float
    ) -> None:
        index = index_of(good)
        table = split_unsupervised(index, fraction=fraction, seed=0, category="bottle")
        assert table.drop(columns=["subset", "fold"]).equals(index)
        subsets = table[table["split"] == "train"]["subset"].value_counts()
        assert set(subsets.index) == {"train", "calibration"}
        assert subsets.sum() == good
        assert subsets["calibration"] == min(max(round(fraction * good), 1), good - 1)

    def test_test_images_stay_test_images(self) -> None:
        table = split_unsupervised(index_of(20), fraction=0.5, seed=0, category="bottle")
        assert table["subset"].eq("test").equals(table["split"].eq("test"))

    def test_the_table_that_was_given_is_not_changed(self) -> None:
        index = index_of(20)
        split_unsupervised(index, fraction=0.5, seed=0, category="bottle")
        assert "subset" not in index

    def test_the_same_seed_and_category_choose_the_same_images(self) -> None:
        first, again = (
            split_unsupervised(index_of(40), fraction=0.3, seed=4, category="bottle")
            for _ in range(2)
        )
        assert first.equals(again)

    @pytest.mark.parametrize("other", [{"seed": 1}, {"category": "screw"}])
    def test_another_seed_or_category_chooses_others(self, other: dict) -> None:
        options = {"fraction": 0.3, "seed": 0, "category": "bottle"}
        one = split_unsupervised(index_of(40), **options)
        two = split_unsupervised(index_of(40), **(options | other))
        assert not one["subset"].equals(two["subset"])

    def test_the_choice_is_not_a_run_of_neighbours(self) -> None:
        table = split_unsupervised(index_of(40, tests=0), fraction=0.5, seed=0, category="bottle")
        chosen = np.flatnonzero(table["subset"] == "calibration")
        assert len(set(np.diff(chosen))) > 1
