import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photographs import photograph, save
from PIL import Image

from flawline.data.datasets.folder import Folder
from flawline.data.index import scan
from flawline.data.problems import Problem, problem_table, refuse
from flawline.errors import FlawlineError
from flawline.files import read_table, write_table


def look(folder: Path, **options: Any) -> tuple[Any, list[Problem]]:
    dataset = Folder(name="any", source=str(folder.parent))
    return scan(
        dataset, folder.name, **({"max_megapixels": 1, "min_train_good": 2, "workers": 2} | options)
    )


def marked() -> np.ndarray:
    mask = np.zeros((24, 32), np.uint8)
    mask[6:12, 8:20] = 255
    return mask


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def as_text(folder: Path) -> None:
    (folder / "test/crack/000.png").write_text("this is not a photograph")


def as_other_suffix(folder: Path) -> None:
    (folder / "test/crack/notes.txt").write_text("two of these are from the night shift")


def truncated_png(folder: Path) -> None:
    cut(folder / "test/crack/000.png")


def truncated_jpeg(folder: Path) -> None:
    (folder / "test/crack/000.png").unlink()
    cut(save(folder / "test/crack/000.jpg", photograph(7)))


def flipped_bit(folder: Path) -> None:
    path = folder / "test/crack/000.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def dangling_link(folder: Path) -> None:
    path = folder / "test/crack/000.png"
    path.unlink()
    path.symlink_to("nowhere.png")


def no_bytes(folder: Path) -> None:
    (folder / "test/crack/000.png").write_bytes(b"")


def gif(folder: Path) -> None:
    Image.fromarray(photograph(7)).save(folder / "test/crack/000.png", format="GIF")


def frames(folder: Path) -> None:
    (folder / "test/crack/000.png").unlink()
    pages = [Image.fromarray(photograph(i)) for i in range(3)]
    pages[0].save(folder / "test/crack/000.tif", save_all=True, append_images=pages[1:])


def too_large(folder: Path) -> None:
    save(folder / "test/crack/000.png", np.zeros((1001, 1000, 3), np.uint8))


def no_mask(folder: Path) -> None:
    (folder / "ground_truth/crack/000_mask.png").unlink()


def small_mask(folder: Path) -> None:
    save(folder / "ground_truth/crack/000_mask.png", np.full((12, 16), 255, np.uint8))


def turned_mask(folder: Path) -> None:
    save(folder / "ground_truth/crack/000_mask.png", np.full((32, 24), 255, np.uint8))


def black_mask(folder: Path) -> None:
    save(folder / "ground_truth/crack/000_mask.png", np.zeros((24, 32), np.uint8))


def broken_mask(folder: Path) -> None:
    cut(folder / "ground_truth/crack/000_mask.png")


def mask_with_broken_header(folder: Path) -> None:
    path = folder / "ground_truth/crack/000_mask.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\x05IHDR" + bytes(45))


def orphan_mask(folder: Path) -> None:
    save(folder / "ground_truth/crack/007_mask.png", marked())


def twin(folder: Path) -> None:
    shutil.copy(folder / "test/good/000.png", folder / "train/good/copy.png")


IMAGE, MASK = "test/crack/000.png", "ground_truth/crack/000_mask.png"
LEFT_OUT, MASK_IGNORED = "the image is left out", "the image counts, but not for pixel metrics"

# what is done to the data, the file named, the problem, a word of what was found, if skipped
DAMAGES: list[tuple[Callable[[Path], None], str, str, str, str]] = [
    (as_text, IMAGE, "not an image", "its content is none of PNG, JPEG", LEFT_OUT),
    (as_other_suffix, "test/crack/notes.txt", "not an image", "*.txt", "the file is left out"),
    (truncated_png, IMAGE, "unreadable", "", LEFT_OUT),
    (truncated_jpeg, "test/crack/000.jpg", "unreadable", "truncated", LEFT_OUT),
    (flipped_bit, IMAGE, "unreadable", "checksum", LEFT_OUT),
    (dangling_link, IMAGE, "unreadable", "No such file", LEFT_OUT),
    (no_bytes, IMAGE, "empty file", "zero bytes", LEFT_OUT),
    (gif, IMAGE, "not an image", "its content is none of PNG, JPEG", LEFT_OUT),
    (frames, "test/crack/000.tif", "several frames", "3 frames", LEFT_OUT),
    (too_large, IMAGE, "too large", "1000 x 1001 pixels", LEFT_OUT),
    (no_mask, IMAGE, "mask missing", "none", MASK_IGNORED),
    (small_mask, MASK, "mask of another size", "16 x 12", MASK_IGNORED),
    (turned_mask, MASK, "mask of another size", "24 x 32", MASK_IGNORED),
    (black_mask, MASK, "empty mask", "all zero", MASK_IGNORED),
    (broken_mask, MASK, "mask unreadable", "cannot be decoded", MASK_IGNORED),
    (mask_with_broken_header, MASK, "mask unreadable", "cannot be opened", MASK_IGNORED),
    (
        orphan_mask,
        "ground_truth/crack/007_mask.png",
        "mask without image",
        "no photograph of that name",
        "the mask is ignored",
    ),
    (
        twin,
        "train/good/copy.png",
        "identical image in train and test",
        "same bytes as test/good/000.png",
        "the training copy is left out",
    ),
]
NAMES = [damage[0].__name__ for damage in DAMAGES]


class TestWholeData:
    def test_give_one_row_for_each_image_in_sorted_order(self, category: Path) -> None:
        table, problems = look(category)
        assert problems == []
        assert list(table["image_id"]) == [
            "train/good/000.png",
            "train/good/001.png",
            "train/good/002.png",
            "train/good/003.png",
            "test/crack/000.png",
            "test/crack/001.png",
            "test/good/000.png",
            "test/good/001.png",
            "test/stain/000.png",
        ]
        assert list(table["path"]) == [f"bottle/{name}" for name in table["image_id"]]
        assert list(table["split"]) == [name.split("/")[0] for name in table["image_id"]]
        assert list(table["defect_type"]) == [name.split("/")[1] for name in table["image_id"]]
        assert list(table["label"]) == [int(kind != "good") for kind in table["defect_type"]]
        assert set(table["height"]) == {24}
        assert set(table["width"]) == {32}
        masks = table.set_index("image_id")["mask_path"]
        assert masks["test/crack/001.png"] == "bottle/ground_truth/crack/001_mask.png"
        assert set(masks[table.set_index("image_id")["label"] == 0]) == {""}

    def test_give_a_table_that_survives_its_file(self, category: Path, tmp_path: Path) -> None:
        save(category / 'train/good/Größe "A", 1.png', photograph(40))
        table, _ = look(category)
        write_table(tmp_path / "index.csv", table)
        assert 'train/good/Größe "A", 1.png' in set(table["image_id"])
        assert read_table(tmp_path / "index.csv").to_dict() == table.to_dict()

    def test_give_the_same_table_wherever_they_lie(self, category: Path, tmp_path: Path) -> None:
        elsewhere = tmp_path / "else where" / "bottle"
        shutil.copytree(category, elsewhere)
        assert look(category)[0].to_csv() == look(elsewhere)[0].to_csv()

    def test_give_the_same_table_for_any_number_of_workers(self, category: Path) -> None:
        assert look(category, workers=1)[0].to_csv() == look(category, workers=8)[0].to_csv()

    def test_may_have_no_defects_at_all(self, category: Path) -> None:
        shutil.rmtree(category / "test")
        shutil.rmtree(category / "ground_truth")
        table, problems = look(category)
        assert problems == []
        assert set(table["split"]) == {"train"}

    def test_may_have_no_masks(self, category: Path) -> None:
        shutil.rmtree(category / "ground_truth")
        table, problems = look(category)
        assert problems == []
        assert sum(table["label"]) == 3
        assert set(table["mask_path"]) == {""}

    @pytest.mark.parametrize("mask", ["000_mask.png", "000.png", "000_mask.BMP"])
    def test_may_name_masks_with_or_without_suffix(self, category: Path, mask: str) -> None:
        folder = category / "ground_truth" / "crack"
        (folder / "000_mask.png").unlink()
        save(folder / mask, marked())
        table, problems = look(category)
        assert problems == []
        assert f"bottle/ground_truth/crack/{mask}" in set(table["mask_path"])

    @pytest.mark.parametrize(
        "name",
        [
            "train/good/.DS_Store",
            "train/good/._000.png",
            "train/good/Thumbs.db",
            "test/crack/.hidden.png",
            "test/.ipynb_checkpoints/000.png",
            "ground_truth/crack/.DS_Store",
            "ground_truth/.ipynb_checkpoints/000_mask.png",
        ],
    )
    def test_may_have_hidden_files_and_folders_among_them(self, category: Path, name: str) -> None:
        expected, _ = look(category)
        (category / name).parent.mkdir(exist_ok=True)
        (category / name).write_bytes(b"\x00")
        found, problems = look(category)
        assert problems == []
        assert found.equals(expected)

    def test_may_be_links(self, category: Path, tmp_path: Path) -> None:
        expected, _ = look(category)
        for name in ("train/good/001.png", "ground_truth/crack"):
            (category / name).rename(tmp_path / "moved")
            (tmp_path / "moved").rename(tmp_path / Path(name).name)
            (category / name).symlink_to(tmp_path / Path(name).name)
        found, problems = look(category)
        assert problems == []
        assert found.equals(expected)

    def test_may_have_suffixes_in_capitals(self, category: Path) -> None:
        expected = len(look(category)[0])
        (category / "train/good/000.png").rename(category / "train/good/000.PNG")
        table, problems = look(category)
        assert problems == []
        assert len(table) == expected
        assert "train/good/000.PNG" in set(table["image_id"])

    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_give_the_size_of_the_upright_image(self, category: Path, suffix: str) -> None:
        (category / "test/crack/000.png").unlink()
        exif = Image.Exif()
        exif[0x0112] = 6
        save(category / f"test/crack/000.{suffix}", photograph(7, 32, 24), exif=exif)
        table, problems = look(category)
        assert problems == []
        assert set(table["height"]) == {24}


class TestProblems:
    @pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
    def test_each_is_named_with_what_was_found_and_what_skipping_means(
        self, category: Path, damage: Any
    ) -> None:
        apply, file, problem, found, if_skipped = damage
        apply(category)
        _, problems = look(category)
        assert [(p.file, p.problem, p.can_go_on, p.if_skipped) for p in problems] == [
            (file, problem, "yes", if_skipped)
        ]
        assert found in problems[0].found
        assert problems[0].found
        assert problems[0].expected

    @pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
    def test_skipping_leaves_out_just_that(self, category: Path, damage: Any) -> None:
        expected = look(category)[0].set_index("image_id")
        apply, file, _, _, if_skipped = damage
        apply(category)
        found = look(category)[0].set_index("image_id")
        if if_skipped == LEFT_OUT:
            expected = expected.drop(IMAGE)
        elif if_skipped == MASK_IGNORED:
            expected.loc[IMAGE, "mask_path"] = ""
        assert found.equals(expected), file

    @pytest.fixture
    def all_damages(self, category: Path) -> Path:
        """Every kind of damage in a separate defect type, and too few good images."""
        crack, masks = category / "test/crack", category / "ground_truth/crack"
        for i, (apply, *_) in enumerate(DAMAGES):
            for folder in (crack, masks):
                shutil.rmtree(folder, ignore_errors=True)
            save(category / IMAGE, photograph(100 + i))
            save(category / MASK, marked())
            apply(category)
            crack.rename(crack.with_name(f"kind{i:02d}"))
            masks.rename(masks.with_name(f"kind{i:02d}"))
        return category

    def test_all_are_found_at_once_sorted_by_file(self, all_damages: Path) -> None:
        _, problems = look(all_damages, min_train_good=50)
        expected = [problem for _, _, problem, _, _ in DAMAGES] + ["too few training images"]
        assert sorted(p.problem for p in problems) == sorted(expected)
        assert [p.file for p in problems] == sorted(p.file for p in problems)

    def test_the_table_of_them_has_only_relative_paths(
        self, all_damages: Path, tmp_path: Path
    ) -> None:
        _, problems = look(all_damages, min_train_good=50)
        table = problem_table(problems)
        assert len(table) == len(problems) == len(DAMAGES) + 1
        assert str(tmp_path) not in table.to_csv()

    def test_the_table_of_none_still_has_its_columns(self) -> None:
        columns = ["file", "problem", "found", "expected", "can_go_on", "if_skipped"]
        assert list(problem_table([]).columns) == columns

    def test_too_few_usable_good_images_end_the_pipeline(self, category: Path) -> None:
        assert look(category, min_train_good=4)[1] == []
        (category / "train/good/000.png").write_bytes(b"")
        problem = next(p for p in look(category, min_train_good=4)[1] if p.can_go_on == "no")
        assert (problem.file, problem.found) == ("train/good", "3 usable")
        assert "at least 4" in problem.expected

    def test_an_image_in_train_and_test_counts_for_the_test_alone(self, category: Path) -> None:
        twin(category)
        table, _ = look(category)
        assert "test/good/000.png" in set(table["image_id"])
        assert "train/good/copy.png" not in set(table["image_id"])

    @pytest.mark.parametrize("missing", ["train/good", "."])
    def test_no_training_folder_is_an_error_that_shows_the_layout(
        self, category: Path, missing: str
    ) -> None:
        shutil.rmtree(category / missing)
        with pytest.raises(FlawlineError, match="no train/good folder") as refused:
            look(category)
        assert str(category) in str(refused.value)
        assert "<category>/train/good" in str(refused.value)

    def test_a_folder_named_megapixels_does_not_make_an_image_large(self, category: Path) -> None:
        folder = category.with_name("megapixels")
        category.rename(folder)
        as_text(folder)
        assert [p.problem for p in look(folder)[1]] == ["not an image"]

    def test_a_file_without_read_permission_is_unreadable(
        self, category: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = Path.read_bytes

        def read_bytes(path: Path) -> bytes:
            if path == category / IMAGE:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path)

        monkeypatch.setattr(Path, "read_bytes", read_bytes)
        problems = look(category)[1]
        assert [(p.problem, p.found) for p in problems] == [("unreadable", "Permission denied")]


class TestRefusing:
    CAN_GO_ON = Problem("test/a.png", "empty file", "zero bytes", "an image", "yes", LEFT_OUT)
    CANNOT = Problem("train/good", "too few training images", "1 usable", "at least 8", "no", "")

    @pytest.mark.parametrize("on_problem", ["error", "skip"])
    def test_nothing_wrong_passes(self, on_problem: str) -> None:
        refuse("bottle", [], on_problem)

    def test_skip_goes_on_where_one_can(self) -> None:
        refuse("bottle", [self.CAN_GO_ON, self.CAN_GO_ON], "skip")

    def test_error_stops_at_any_problem_and_offers_to_skip(self) -> None:
        with pytest.raises(FlawlineError) as refused:
            refuse("bottle", [self.CAN_GO_ON], "error")
        message = str(refused.value)
        for part in ("bottle", "test/a.png", "empty file", "zero bytes", "an image", LEFT_OUT):
            assert part in message
        assert "on_problem: skip" in message

    @pytest.mark.parametrize("on_problem", ["error", "skip"])
    def test_what_cannot_be_skipped_stops_always_and_skipping_is_not_offered(
        self, on_problem: str
    ) -> None:
        with pytest.raises(FlawlineError) as refused:
            refuse("bottle", [self.CAN_GO_ON, self.CANNOT], on_problem)
        message = str(refused.value)
        assert "2 problems" in message
        assert "train/good: too few training images" in message
        assert "test/a.png" in message
        assert "the pipeline cannot go on" in message
        assert "on_problem" not in message
