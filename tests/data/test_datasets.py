"""Every kind of dataset, on a tiny drawn copy of its layout; what is listed; groups."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from photographs import photograph, save
from pydantic import TypeAdapter, ValidationError

from flawline.config import load_config
from flawline.data.datasets import KINDS, AnyDataset, kind_of
from flawline.data.datasets.base import Dataset
from flawline.data.index import scan
from flawline.data.masks import decode_mask
from flawline.data.problems import Problem
from flawline.data.split import deal, split_supervised, split_unsupervised, units_of
from flawline.errors import FlawlineError
from flawline.options.data import Groups

BLACK = np.zeros((24, 32), np.uint8)
MARKED = BLACK.copy()
MARKED[6:12, 8:20] = 255
Table = pd.DataFrame
numbers = iter(range(1_000_000))


def photographs(folder: Path, count: int, suffix: str = "png") -> None:
    for i in range(count):
        save(folder / f"{i:03d}.{suffix}", photograph(next(numbers)))


def dataset(kind: str, source: Path, **options: Any) -> Dataset:
    given = {"kind": kind, "name": "mine", "source": str(source)} | options
    return TypeAdapter[Any](AnyDataset).validate_python(given)


def look(found: Dataset, category: str, **options: Any) -> tuple[Table, list[Problem]]:
    return scan(
        found, category, **({"max_megapixels": 1, "min_train_good": 2, "workers": 1} | options)
    )


def counts(table: Table) -> dict[tuple[str, str], int]:
    return table.groupby(["split", "defect_type"]).size().to_dict()


def draw_btad(root: Path) -> None:
    photographs(root / "01/train/ok", 4, "bmp")
    photographs(root / "01/test/ok", 2, "bmp")
    photographs(root / "01/test/ko", 2, "bmp")
    for i in range(2):
        save(root / f"01/ground_truth/ko/{i:03d}.png", MARKED)


def draw_loco(root: Path) -> None:
    for part, count in [("train/good", 4), ("validation/good", 2), ("test/good", 2)]:
        photographs(root / "box" / part, count)
    for kind in ("logical_anomalies", "structural_anomalies"):
        photographs(root / f"box/test/{kind}", 1)
        save(root / f"box/ground_truth/{kind}/000/000.png", MARKED)
        save(root / f"box/ground_truth/{kind}/000/001.png", MARKED[::-1])
    (root / "box/defects_config.json").write_text("[]")


def draw_ad_2(root: Path) -> None:
    inner = root / "can/can"
    for part, count in [("train/good", 4), ("validation/good", 2), ("test_public/good", 2)]:
        photographs(inner / part, count)
    photographs(inner / "test_public/bad", 2)
    for i in range(2):
        save(inner / f"test_public/ground_truth/bad/{i:03d}_mask.png", MARKED)
    photographs(inner / "test_private", 3)
    photographs(inner / "test_private_mixed", 3)


def draw_visa(root: Path) -> None:
    rows = ["object,split,label,image,mask"]
    for i in range(6):
        image = f"candle/Data/Images/Normal/{i:04d}.JPG"
        save(root / image, photograph(next(numbers)), format="JPEG")
        rows.append(f"candle,{'train' if i < 4 else 'test'},normal,{image},")
    for i in range(2):
        image = f"candle/Data/Images/Anomaly/{i:03d}.JPG"
        mask = f"candle/Data/Masks/Anomaly/{i:03d}.png"
        save(root / image, photograph(next(numbers)), format="JPEG")
        save(root / mask, MARKED // 255 * (i + 1))
        rows.append(f"candle,test,anomaly,{image},{mask}")
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\n".join(rows))


def draw_sdd(root: Path) -> None:
    for item in range(1, 5):
        for part in range(3):
            name = root / f"kos{item:02d}/Part{part}"
            save(name.with_suffix(".jpg"), photograph(next(numbers)))
            save(name.with_name(f"{name.name}_label.bmp"), MARKED if part == 1 else BLACK)


def draw_sdd2(root: Path) -> None:
    for split, good, bads in [("train", 4, 2), ("test", 2, 2)]:
        for i in range(good + bads):
            save(root / f"{split}/{10000 + i}.png", photograph(next(numbers)))
            save(root / f"{split}/{10000 + i}_GT.png", BLACK if i < good else MARKED)


def draw_good_bad(root: Path) -> None:
    photographs(root / "part/good", 10)
    photographs(root / "part/bad/scratch", 2)
    photographs(root / "part/bad/dent", 1)
    save(root / "part/ground_truth/bad/scratch/000.png", MARKED)
    save(root / "part/ground_truth/bad/scratch/001.png", MARKED)
    save(root / "part/ground_truth/bad/dent/000.png", MARKED)


def draw_folder(root: Path) -> None:
    photographs(root / "part/train/good", 4)
    photographs(root / "part/test/good", 2)
    photographs(root / "part/test/scratch", 2)
    for i in range(2):
        save(root / f"part/ground_truth/scratch/{i:03d}_mask.png", MARKED)


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, dict[tuple[str, str], int], int]] = {
    "folder": (
        draw_folder,
        "part",
        {("train", "good"): 4, ("test", "good"): 2, ("test", "scratch"): 2},
        2,
    ),
    "btad": (draw_btad, "01", {("train", "good"): 4, ("test", "good"): 2, ("test", "ko"): 2}, 2),
    "mvtec_loco": (
        draw_loco,
        "box",
        {
            ("train", "good"): 6,
            ("test", "good"): 2,
            ("test", "logical_anomalies"): 1,
            ("test", "structural_anomalies"): 1,
        },
        2,
    ),
    "mvtec_ad_2": (
        draw_ad_2,
        "can",
        {("train", "good"): 6, ("test", "good"): 2, ("test", "bad"): 2},
        2,
    ),
    "visa": (
        draw_visa,
        "candle",
        {("train", "good"): 4, ("test", "good"): 2, ("test", "anomaly"): 2},
        2,
    ),
    "kolektor_sdd": (
        draw_sdd,
        "commutator",
        {("train", "good"): 4, ("train", "crack"): 2, ("test", "good"): 4, ("test", "crack"): 2},
        4,
    ),
    "kolektor_sdd2": (
        draw_sdd2,
        "surface",
        {("train", "good"): 4, ("train", "defect"): 2, ("test", "good"): 2, ("test", "defect"): 2},
        4,
    ),
    "good_bad": (
        draw_good_bad,
        "part",
        {("train", "good"): 8, ("test", "good"): 2, ("test", "scratch"): 2, ("test", "dent"): 1},
        3,
    ),
}


class TestEveryKind:
    @pytest.mark.parametrize("kind", LAYOUTS)
    def test_reads_its_layout_whole(self, kind: str, tmp_path: Path) -> None:
        draw, category, expected, masks = LAYOUTS[kind]
        draw(tmp_path)
        found = dataset(kind, tmp_path)
        assert found.categories() == [category]
        table, problems = look(found, category)
        assert [problem for problem in problems if problem.can_go_on != "as it is"] == []
        assert counts(table) == expected
        assert (table["mask_path"] != "").sum() == masks
        assert set(table["label"]) == {0, 1}
        for path, mask in zip(table["path"], table["mask_path"], strict=True):
            assert (tmp_path / path).is_file()
            assert not mask or decode_mask(tmp_path / mask).any()

    @pytest.mark.parametrize("kind", LAYOUTS)
    def test_goes_from_the_table_to_both_splits(self, kind: str, tmp_path: Path) -> None:
        draw, category, _, _ = LAYOUTS[kind]
        draw(tmp_path)
        table, _ = look(dataset(kind, tmp_path), category)
        split = split_unsupervised(table, fraction=0.3, seed=0, category=category)
        assert not split.loc[split["subset"] != "test", "label"].any()
        assert set(split["subset"]) == {"train", "calibration", "test"}

    @pytest.mark.parametrize("kind", LAYOUTS)
    def test_is_recognized_where_another_was_expected(self, kind: str, tmp_path: Path) -> None:
        if kind == "folder":
            return
        draw, _, _, _ = LAYOUTS[kind]
        draw(tmp_path)
        wrong = "folder" if kind not in ("mvtec_loco", "mvtec_ad_2") else "btad"
        with pytest.raises(FlawlineError, match=f"looks like `kind: {kind}`"):
            dataset(wrong, tmp_path).categories()

    @pytest.mark.parametrize("kind", [kind_of(kind) for kind in KINDS if kind_of(kind) != "demo"])
    def test_a_source_that_is_not_there_is_named(self, kind: str, tmp_path: Path) -> None:
        for source in (tmp_path / "none", Path("x" * 5000), Path("~no_such_user/x")):
            with pytest.raises(FlawlineError, match=r"dataset\.source: "):
                dataset(kind, source).categories()

    @pytest.mark.parametrize("kind", [kind_of(kind) for kind in KINDS if kind_of(kind) != "demo"])
    def test_an_empty_source_is_not_a_dataset(self, kind: str, tmp_path: Path) -> None:
        with pytest.raises(FlawlineError):
            dataset(kind, tmp_path).categories()

    @pytest.mark.parametrize("kind", LAYOUTS)
    def test_a_new_photograph_changes_the_digest(self, kind: str, tmp_path: Path) -> None:
        draw, category, _, _ = LAYOUTS[kind]
        draw(tmp_path / "data")
        found, cache = dataset(kind, tmp_path / "data"), tmp_path / "hashes.json"
        before = found.digest(category, cache)
        assert found.digest(category, cache) == before
        table, _ = look(found, category)
        save(tmp_path / "data" / table["path"].iloc[0], photograph(999_999))
        assert found.digest(category, cache) != before


class TestNothingIsPassedOver:
    @pytest.fixture
    def part(self, tmp_path: Path) -> Path:
        draw_folder(tmp_path)
        return tmp_path / "part"

    def problems(self, part: Path) -> list[tuple[str, str]]:
        _, problems = look(dataset("folder", part.parent), part.name)
        assert all(problem.found and problem.expected for problem in problems)
        return [(problem.file, problem.problem) for problem in problems]

    def test_subfolders_are_read(self, part: Path) -> None:
        photographs(part / "train/good/2024-05/early", 3)
        photographs(part / "test/scratch/deep", 2)
        for i in range(2):
            save(part / f"ground_truth/scratch/deep/{i:03d}_mask.png", MARKED)
        table, problems = look(dataset("folder", part.parent), "part")
        assert problems == []
        assert counts(table) == {
            ("train", "good"): 7,
            ("test", "good"): 2,
            ("test", "scratch"): 4,
        }
        assert (table["mask_path"] != "").sum() == 4

    @pytest.mark.parametrize(
        "folder", ["train/good_2", "train", "validation/good", "val", "extra", "test", "images/a/b"]
    )
    def test_images_elsewhere_are_listed_with_what_to_do(self, part: Path, folder: str) -> None:
        photographs(part / folder, 3)
        expected = "/".join(folder.split("/")[:2])
        assert self.problems(part) == [(expected, "images in a folder that is not read")]

    @pytest.mark.parametrize("name", ["train/Good", "Train/good", "TRAIN/GOOD"])
    def test_good_is_good_in_any_case(self, part: Path, name: str) -> None:
        (part / "train/good").rename(part / "moved")
        (part / "train").rmdir()
        (part / name).parent.mkdir(exist_ok=True)
        (part / "moved").rename(part / name)
        (part / "test/good").rename(part / "test/Good")
        table, problems = look(dataset("folder", part.parent), "part")
        assert problems == []
        assert counts(table)["test", "good"] == 2

    @pytest.mark.parametrize("name", ["OK", "ok", "normal", "Pass", "i.O."])
    def test_what_may_mean_good_is_asked(self, part: Path, name: str) -> None:
        photographs(part / "test" / name, 2)
        assert self.problems(part) == [(f"test/{name}", "good, or a defect type?")]

    @pytest.mark.parametrize("ending", ["_mask", "_label", "_GT", "_seg", "-mask"])
    def test_labels_beside_photographs_are_not_photographs(self, part: Path, ending: str) -> None:
        save(part / f"test/scratch/000{ending}.bmp", MARKED)
        found = [(f"test/scratch/000{ending}.bmp", "label beside its photograph")]
        assert self.problems(part) == found

    def test_a_photograph_may_be_called_mask(self, part: Path) -> None:
        save(part / "test/scratch/face_mask.png", photograph(next(numbers)))
        save(part / "ground_truth/scratch/face_mask.png", MARKED)
        table, problems = look(dataset("folder", part.parent), "part")
        assert problems == []
        masks = table.set_index("image_id")["mask_path"]
        assert masks["test/scratch/face_mask.png"] == "part/ground_truth/scratch/face_mask.png"

    @pytest.mark.parametrize(
        "name",
        [
            "{}.png",
            "{}_mask.png",
            "mask_{}.png",
            "{}_gt.png",
            "{}_label.png",
            "{}_Mask.PNG",
            "{}-mask.bmp",
        ],
    )
    def test_masks_have_any_usual_name(self, part: Path, name: str) -> None:
        (part / "ground_truth/scratch/000_mask.png").unlink()
        save(part / "ground_truth/scratch" / name.format("000"), MARKED)
        assert self.problems(part) == []

    def test_black_masks_of_good_images_are_true(self, part: Path) -> None:
        save(part / "ground_truth/good/000_mask.png", BLACK)
        table, problems = look(dataset("folder", part.parent), "part")
        assert problems == []
        assert set(table.loc[table["label"] == 0, "mask_path"]) == {""}

    def test_marks_on_good_images_are_not(self, part: Path) -> None:
        save(part / "ground_truth/good/000_mask.png", MARKED)
        assert self.problems(part) == [("ground_truth/good/000_mask.png", "mask of a good image")]

    def test_a_mask_of_two_photographs_is_nobodys(self, part: Path) -> None:
        save(part / "test/scratch/000.jpg", photograph(next(numbers)))
        problem = "which mask belongs to which photograph"
        assert self.problems(part) == [("ground_truth/scratch/000_mask.png", problem)]

    def test_two_masks_of_a_photograph_are_not_guessed_between(self, part: Path) -> None:
        save(part / "ground_truth/scratch/000.png", BLACK)
        problem = "which mask belongs to which photograph"
        assert self.problems(part) == [("ground_truth/scratch/000.png", problem)]

    def test_leftovers_of_file_managers_do_not_matter(self, part: Path) -> None:
        for name in ("train/good/@eaDir/000.png", "__MACOSX/train/good/000.png", "test/.x/000.png"):
            save(part / name, photograph(next(numbers)))
        assert self.problems(part) == []

    def test_folders_that_are_not_categories_are_named(
        self, part: Path, minimal: dict[str, Any]
    ) -> None:
        photographs(part.parent / "ok_ng/ok", 2)
        photographs(part.parent / "ok_ng/ng", 2)
        (part.parent / "notes").mkdir()
        whole = minimal | {"dataset": {"name": "mine", "source": str(part.parent)}}
        with pytest.raises(FlawlineError) as caught:
            load_config(whole, "x.yaml")
        said = str(caught.value)
        assert "'ok_ng' has images, but no train/good" in said
        assert "looks like `kind: good_bad`" in said
        assert "notes" not in said
        for change in ({"categories": ["part"]}, {"data": {"on_problem": "skip"}}):
            assert load_config(whole | change, "x.yaml").category_names == ["part"]

    def test_equal_files_count_once(self, part: Path) -> None:
        for copy in ("train/good/copy.png", "test/good/copy.png"):
            source = part / Path(copy).parent / "000.png"
            (part / copy).write_bytes(source.read_bytes())
        assert self.problems(part) == [
            ("test/good/copy.png", "identical images"),
            ("train/good/copy.png", "identical images"),
        ]

    def test_equal_files_of_two_labels_count_as_neither(self, part: Path) -> None:
        (part / "test/good/copy.png").write_bytes((part / "test/scratch/000.png").read_bytes())
        table, problems = look(dataset("folder", part.parent), "part")
        assert {p.problem for p in problems} == {"good and defective at once"}
        assert not {"test/good/copy.png", "test/scratch/000.png"} & set(table["image_id"])


class TestGoodAndBad:
    def test_folders_have_any_names_and_there_may_be_several(self, tmp_path: Path) -> None:
        for name, count in [("OK", 6), ("ok 2024", 4), ("NG", 3), ("scrap", 2)]:
            photographs(tmp_path / "part" / name, count)
        found = dataset("good_bad", tmp_path, good=["OK", "ok 2024"], bad=["NG", "scrap"])
        table, problems = look(found, "part")
        assert problems == []
        assert counts(table) == {
            ("train", "good"): 8,
            ("test", "good"): 2,
            ("test", "NG"): 3,
            ("test", "scrap"): 2,
        }

    def test_a_single_category_may_lie_in_the_source_itself(self, tmp_path: Path) -> None:
        photographs(tmp_path / "hinge/good", 6)
        photographs(tmp_path / "hinge/bad", 2)
        found = dataset("good_bad", tmp_path / "hinge")
        assert found.categories() == ["hinge"]
        assert len(look(found, "hinge")[0]) == 8

    def test_the_seed_chooses_what_is_tested_on(self, tmp_path: Path) -> None:
        draw_good_bad(tmp_path)
        chosen = [
            set(table.loc[table["split"] == "test", "image_id"])
            for seed in (0, 0, 1, 2)
            for table in [look(dataset("good_bad", tmp_path, seed=seed), "part")[0]]
        ]
        assert chosen[0] == chosen[1]
        assert len(set(map(frozenset, chosen))) > 1

    def test_a_folder_that_nobody_named_is_listed(self, tmp_path: Path) -> None:
        draw_good_bad(tmp_path)
        photographs(tmp_path / "part/maybe", 2)
        _, problems = look(dataset("good_bad", tmp_path), "part")
        assert [(p.file, p.found) for p in problems] == [("maybe", "2 images")]


class TestTheManifest:
    def write(self, folder: Path, text: str) -> Dataset:
        (folder / "parts.csv").write_text(text, encoding="utf-8")
        return dataset("manifest", folder / "parts.csv")

    def drawn(self, folder: Path) -> None:
        photographs(folder / "any where", 12)
        save(folder / "masks/a.png", MARKED)

    def test_says_all_of_a_photograph(self, tmp_path: Path) -> None:
        self.drawn(tmp_path)
        rows = ["path,split,label,defect_type,mask,group"]
        rows += [f"any where/{i:03d}.png,train,good,,,lot{i // 2}" for i in range(6)]
        rows += [f"any where/{i:03d}.png,test,0,,," for i in range(6, 8)]
        rows += ["any where/008.png,test,1,scratch,masks/a.png,", "any where/009.png,test,bad,,,"]
        found = self.write(tmp_path, "\n".join(rows))
        assert found.categories() == ["parts"]
        table, problems = look(found, "parts")
        assert problems == []
        assert counts(table) == {
            ("train", "good"): 6,
            ("test", "good"): 2,
            ("test", "scratch"): 1,
            ("test", "bad"): 1,
        }
        assert table["group"].tolist()[:3] == ["lot0", "lot0", "lot1"]
        assert table["mask_path"].tolist()[8] == "masks/a.png"

    @pytest.mark.parametrize("separator", [",", ";", "\t"])
    def test_may_be_as_spreadsheets_write_it(self, tmp_path: Path, separator: str) -> None:
        self.drawn(tmp_path)
        rows = [["path", "category", "label"]]
        rows += [[f"any where/{i:03d}.png", "01", "OK" if i < 9 else "NG"] for i in range(12)]
        text = "\ufeff" + "\r\n".join(separator.join(row) for row in rows)
        found = self.write(tmp_path, text)
        assert found.categories() == ["01"]
        table, problems = look(found, "01")
        assert problems == []
        assert counts(table) == {("train", "good"): 7, ("test", "good"): 2, ("test", "bad"): 3}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "expected `path`"),
            ("file,label\na.png,good", "found the columns file, label"),
            ("path,labl\na.png,good", "labl"),
            ("path,label\na.png,great", "line 2: label 'great'"),
            ("path,split\na.png,valid", "line 2: split 'valid'"),
            ("path\na.png\nb.png\na.png", "line 4: 'a.png' is already in .*line 2"),
            ("path\n../a.png", "line 2: path '../a.png' is outside"),
            ("path,mask\na.png,/etc/b.png", "line 2: mask '/etc/b.png' is outside"),
            ("path,label,defect_type\na.png,good,scratch", "defect_type 'scratch' of a good"),
            ("path,label\na.png", "line 2: has 1 values where the header has 2"),
            ("path,label\na,b.png,good", "line 2: has 3 values where the header has 2"),
            ("path\n", "no rows"),
        ],
    )
    def test_a_mistake_is_named_with_its_line(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(FlawlineError, match=words):
            self.write(tmp_path, text).categories()

    def test_a_photograph_that_is_not_there_is_a_problem(self, tmp_path: Path) -> None:
        self.drawn(tmp_path)
        rows = ["path", *(f"any where/{i:03d}.png" for i in range(13))]
        _, problems = look(self.write(tmp_path, "\n".join(rows)), "parts")
        assert [(p.file, p.problem) for p in problems] == [("any where/012.png", "unreadable")]


class TestGroups:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ({"pattern": r"lot(\d+)"}, "7"),
            ({"pattern": r"good/(\w+)/.*_(\d)"}, "lot7_left/2"),
            ({"pattern": r"day(\d+)"}, ""),
            ({"level": 1}, "lot7_left"),
            ({"level": 2}, "good"),
            ({"level": 4}, ""),
        ],
    )
    def test_are_read_from_names(self, given: dict[str, Any], expected: str) -> None:
        groups = Groups.model_validate(given)
        assert groups.of("train/good/lot7_left/part_2.png") == expected

    @pytest.mark.parametrize(
        "given", [{}, {"pattern": "("}, {"pattern": "lot"}, {"pattern": "(a)", "level": 1}]
    )
    def test_that_cannot_be_are_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Groups.model_validate(given)

    def table(self, sizes: list[int], kinds: list[str]) -> Table:
        rows = [
            (f"{group}/{i}", "train", kind, int(kind != "good"), f"g{group}")
            for group, (size, kind) in enumerate(zip(sizes, kinds, strict=True))
            for i in range(size)
        ]
        return pd.DataFrame(rows, columns=["image_id", "split", "defect_type", "label", "group"])

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("mode", ["split", "cross"])
    def test_stay_on_one_side_of_calibration(self, seed: int, mode: str) -> None:
        table = self.table([1, 2, 3, 4, 5, 6, 7, 8], ["good"] * 8)
        split = split_unsupervised(table, fraction=0.3, seed=seed, category="x", mode=mode, folds=3)
        sides = split.groupby("group")[["subset", "fold"]].nunique()
        assert sides.to_numpy().max() == 1
        if mode == "split":
            assert 0 < (split["subset"] == "calibration").mean() < 0.31
        else:
            assert split.groupby("fold").size().between(9, 15).all()

    def test_of_one_group_nothing_can_be_held_back(self) -> None:
        with pytest.raises(FlawlineError, match="all 9 good training images are of one group"):
            split_unsupervised(self.table([9], ["good"]), fraction=0.3, seed=0, category="x")

    @pytest.mark.parametrize("seed", range(5))
    def test_stay_on_one_side_of_the_supervised_split(self, seed: int) -> None:
        table = self.table([4] * 12, ["good"] * 8 + ["scratch"] * 4)
        split = split_supervised(
            table, test_fraction=0.3, test_seed=seed, fraction=0.3, seed=0, category="x"
        )
        assert split.groupby("group")["subset"].nunique().max() == 1

    @pytest.mark.parametrize("seed", range(5))
    def test_stay_together_when_photographs_are_dealt(self, seed: int) -> None:
        labels = np.array([0, 0, 1, 0, 0, 1] * 6 + [0] * 12)
        units = units_of([f"part{i // 6}" for i in range(36)] + [""] * 12)
        tested = deal(labels, units, 0.5, np.random.default_rng(seed))
        assert all(len(set(tested[units == unit])) == 1 for unit in set(units))
        good_images = labels == 0
        assert tested[~good_images].any()
        assert 0.4 <= tested[good_images].mean() <= 0.6

    def test_with_defects_are_tested_on_where_others_suffice(self) -> None:
        labels = np.array([0, 1] * 3 + [0] * 17)
        units = units_of([f"part{i // 2}" for i in range(6)] + [""] * 17)
        tested = deal(labels, units, 0.25, np.random.default_rng(0))
        assert tested[:6].all()
        assert tested[labels == 0].sum() == 5

    def test_on_both_sides_of_a_given_split_are_said(self, tmp_path: Path) -> None:
        draw_folder(tmp_path)
        _, problems = look(dataset("folder", tmp_path), "part", groups={"pattern": r"(\d+)\.png"})
        assert {(p.file, p.problem, p.can_go_on) for p in problems} == {
            ("000", "group on both sides", "as it is"),
            ("001", "group on both sides", "as it is"),
        }

    def test_nearly_equal_photographs_are_of_one_group(self, tmp_path: Path) -> None:
        draw_folder(tmp_path)
        smooth = np.kron(photograph(5, 6, 8), np.ones((4, 4, 1), np.uint8))
        save(tmp_path / "part/train/good/one.png", smooth)
        smooth[:, 0] ^= 1
        save(tmp_path / "part/train/good/other.png", smooth)
        table, problems = look(dataset("folder", tmp_path), "part")
        assert [(p.file, p.problem, p.can_go_on) for p in problems] == [
            ("train/good/other.png", "nearly equal photographs", "as it is")
        ]
        groups = table.set_index("image_id")["group"]
        assert groups["train/good/one.png"] == groups["train/good/other.png"] != ""
        assert (groups != "").sum() == 2

    def test_photographs_that_are_all_nearly_equal_are_none(self, tmp_path: Path) -> None:
        draw_folder(tmp_path)
        smooth = np.kron(photograph(5, 6, 8), np.ones((4, 4, 1), np.uint8))
        for i in range(20):
            one = smooth.copy()
            one[0, i] ^= 1
            save(tmp_path / f"part/train/good/like{i}.png", one)
        table, problems = look(dataset("folder", tmp_path), "part")
        assert [(p.file, p.found) for p in problems] == [
            (".", "20 of 28 photographs, each like some other")
        ]
        assert set(table["group"]) == {""}
