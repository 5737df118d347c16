"""The split of detectors that train on real defects."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from photographs import photograph, save

from flawline.config import load_config
from flawline.data.datasets.folder import Folder
from flawline.data.index import scan
from flawline.data.prepare import image_sizes, train_labels
from flawline.data.prepare import test_labels as labels_of
from flawline.data.split import split_supervised
from flawline.errors import FlawlineError

SPLIT: dict[str, Any] = {
    "test_fraction": 0.2,
    "test_seed": 0,
    "mode": "split",
    "fraction": 0.2,
    "folds": 5,
    "seed": 0,
    "category": "bottle",
}


def index_of(train: int = 40, good: int = 10, **defects: int) -> pd.DataFrame:
    rows = [("train", "good", i) for i in range(train)]
    for kind, count in {"good": good, **(defects or {"crack": 20, "stain": 10})}.items():
        rows += [("test", kind, i) for i in range(count)]
    return pd.DataFrame(
        {
            "image_id": [f"{split}/{kind}/{i:03d}.png" for split, kind, i in rows],
            "split": [split for split, _, _ in rows],
            "defect_type": [kind for _, kind, _ in rows],
            "label": [int(kind != "good") for _, kind, _ in rows],
            "mask_path": "",
            "height": range(100, 100 + len(rows)),
            "width": 50,
        }
    )


def counts(table: pd.DataFrame) -> dict[tuple[str, str], int]:
    found = table.groupby(["subset", "defect_type"]).size()
    return {(str(subset), str(kind)): int(n) for (subset, kind), n in found.items()}


class TestTheSupervisedSplit:
    def test_pools_both_official_splits_and_tests_on_a_part_of_every_defect_type(self) -> None:
        table = split_supervised(index_of(), **SPLIT)
        assert counts(table) == {
            ("train", "good"): 32,
            ("train", "crack"): 16,
            ("train", "stain"): 8,
            ("calibration", "good"): 8,
            ("test", "good"): 10,
            ("test", "crack"): 4,
            ("test", "stain"): 2,
        }
        tested = table[(table["subset"] == "test") & (table["label"] == 0)]
        assert set(tested["split"]) == {"train", "test"}

    def test_calibrates_with_good_images_alone_that_nothing_trains_on(self) -> None:
        table = split_supervised(index_of(), **SPLIT)
        assert not table.loc[table["subset"] == "calibration", "label"].any()
        assert set(table["subset"]) == {"train", "calibration", "test"}

    def test_trains_on_the_only_image_of_a_type_and_tests_on_one_of_two(self) -> None:
        table = split_supervised(index_of(crack=2, stain=1), **SPLIT)
        found = counts(table)
        assert found["train", "crack"] == found["test", "crack"] == 1
        assert found["train", "stain"] == 1
        assert ("test", "stain") not in found

    @pytest.mark.parametrize("fraction", [0.001, 0.5, 0.999])
    def test_leaves_nothing_empty_whatever_the_fractions(self, fraction: float) -> None:
        options = SPLIT | {"test_fraction": fraction, "fraction": fraction}
        table = split_supervised(index_of(train=6, good=2, crack=2), **options)
        for subset in ("train", "test"):
            assert set(table.loc[table["subset"] == subset, "label"]) == {0, 1}
        assert (table["subset"] == "calibration").any()

    def test_depends_on_its_seed_and_the_category_alone(self) -> None:
        first = split_supervised(index_of(), **SPLIT)
        assert first.equals(split_supervised(index_of(), **SPLIT))
        for other in ({"test_seed": 1}, {"category": "screw"}):
            again = split_supervised(index_of(), **(SPLIT | other))
            assert not first["subset"].equals(again["subset"])

    def test_another_calibration_seed_leaves_the_test_subset_alone(self) -> None:
        first = split_supervised(index_of(), **SPLIT)["subset"].eq("test")
        again = split_supervised(index_of(), **(SPLIT | {"seed": 1}))["subset"].eq("test")
        assert first.equals(again)

    @pytest.mark.parametrize("defects", [{"crack": 0}, {"crack": 1}, {"crack": 1, "stain": 1}])
    def test_of_too_few_defects_is_refused_with_what_to_do(self, defects: dict[str, int]) -> None:
        words = r"bottle: 50 good images and \d defective ones are too few .* leave the category"
        with pytest.raises(FlawlineError, match=words):
            split_supervised(index_of(**defects), **SPLIT)

    def test_does_not_change_the_table_that_was_given(self) -> None:
        index = index_of()
        split_supervised(index, **SPLIT)
        assert "subset" not in index


class TestTablesOfASupervisedSplit:
    def test_are_in_the_order_of_the_arrays(self) -> None:
        table = split_supervised(index_of(), **SPLIT)
        for subset, labels in (("train", train_labels(table)), ("test", labels_of(table))):
            chosen = table[table["subset"] == subset]
            assert labels["row"].tolist() == list(range(len(chosen)))
            assert labels["label"].tolist() == chosen["label"].tolist()
            sizes = image_sizes(table, subset)
            assert sizes["row"].tolist() == list(range(len(chosen)))
            assert sizes["height"].tolist() == chosen["height"].tolist()

    def test_of_training_labels_and_sizes_say_nothing_else(self) -> None:
        table = split_supervised(index_of(), **SPLIT)
        assert list(train_labels(table)) == ["row", "label"]
        assert list(image_sizes(table, "test")) == ["row", "height", "width"]

    def test_take_what_scan_finds(self, category: Any) -> None:
        for i in range(4, 10):
            save(category / f"train/good/{i:03d}.png", photograph(i))
        index, _ = scan(
            Folder(name="any", source=str(category.parent)),
            category.name,
            max_megapixels=1,
            min_train_good=2,
            workers=1,
        )
        table = split_supervised(index, **SPLIT)
        tested = labels_of(table)
        assert tested["label"].sum() == tested["has_mask"].sum() == 1
        assert np.array_equal(image_sizes(table, "train")["width"].unique(), [32])


def test_the_part_that_is_tested_on_can_differ_between_categories(
    minimal: dict[str, Any],
) -> None:
    minimal["overrides"] = {"bolt": {"supervised": {"test_fraction": 0.4}}}
    config = load_config(minimal, "test.yaml")
    assert config.of("bolt").supervised.test_fraction == 0.4
    assert config.of("weave").supervised.test_fraction == 0.2


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_split_that_leaves_a_subset_empty_is_refused(
    minimal: dict[str, Any], fraction: float
) -> None:
    minimal["supervised"] = {"test_fraction": fraction}
    with pytest.raises(FlawlineError, match=r"supervised\.test_fraction: must be"):
        load_config(minimal, "test.yaml")
