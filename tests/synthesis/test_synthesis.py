import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from photographs import save
from PIL import Image
from pydantic import ValidationError

from flawline.errors import FlawlineError
from flawline.options.synthetic import (
    RECIPES,
    CutPaste,
    Distortion,
    Line,
    Noise,
    Recipe,
    SyntheticSet,
)
from flawline.synthesis import contact_sheet
from flawline.synthesis.base import Canvas, Sources, changed_mask, dilated, scaled
from flawline.synthesis.contact_sheet import draw_sheet
from flawline.synthesis.line import draw_line
from flawline.synthesis.synthesize import DRAW, synthesize

ONE_OF_EACH = [Line(), Distortion(), CutPaste(), CutPaste(objects="random_objects"), Noise()]
each_recipe = pytest.mark.parametrize(
    "recipe", ONE_OF_EACH, ids=["line", "distortion", "defects", "objects", "noise"]
)


def bars(height: int = 64, width: int = 64, rows: int = 3) -> Sources:
    """Patterned bars that lie in different ways on a plain background, and their masks."""
    rng = np.random.default_rng(7)
    images = np.full((rows, height, width, 3), (200, 205, 210), np.uint8)
    masks = np.zeros((rows, height, width), np.uint8)
    middle, thick = np.array([width / 2, height / 2]), max(min(height, width) // 5, 3)
    for image, mask, turn in zip(images, masks, np.linspace(0.2, 1.4, rows), strict=True):
        offset = 0.76 * middle * np.array([np.cos(turn), np.sin(turn)])
        ends = [(middle + sign * offset).astype(int).tolist() for sign in (-1, 1)]
        cv2.line(mask, *ends, 1, thick)
        grid = rng.integers(40, 190, (9, 9, 3)).astype(np.uint8)
        pattern = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        image[mask > 0] = pattern[mask > 0]
    return Sources(images, masks)


BARS = bars()
IMAGE, MASK = BARS.images[0], BARS.object_masks[0]


def draw(
    recipe: Recipe,
    seed: int,
    image: np.ndarray = IMAGE,
    mask: np.ndarray = MASK,
    sources: Sources = BARS,
) -> tuple[np.ndarray, dict[str, Any]]:
    canvas = Canvas(image, mask, sources, 0, np.random.default_rng(seed))
    result = DRAW[recipe.recipe](recipe, canvas)
    return result.image, result.parameters


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def make(
    folder: Path,
    recipes: list[Recipe] = ONE_OF_EACH,
    count: int | None = None,
    *,
    good_images: Sources = BARS,
    combine: str = "one_of",
    seed: int = 0,
    name: str = "mixed",
    workers: int = 1,
    counted: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    table = synthesize(
        good_images.images,
        good_images.object_masks,
        SyntheticSet(recipes=recipes, images=count, combine=combine),
        seed=seed,
        category="bar",
        name=name,
        images_path=folder / "images.npy",
        masks_path=folder / "masks.npy",
        workers=workers,
        counted=counted,
    )
    return np.load(folder / "images.npy"), np.load(folder / "masks.npy"), table


class TestASyntheticSet:
    def test_is_the_same_for_any_number_of_workers_and_of_images(self, tmp_path: Path) -> None:
        five, five_masks, five_rows = make(tmp_path, count=5, workers=1)
        nine, nine_masks, nine_rows = make(tmp_path, count=9, workers=3)
        assert np.array_equal(five, nine[:5])
        assert np.array_equal(five_masks, nine_masks[:5])
        pd.testing.assert_frame_equal(five_rows, nine_rows[:5])
        assert not np.array_equal(nine[0], nine[3])  # the same training image, drawn on again

    def test_is_another_for_another_seed_and_name(self, tmp_path: Path) -> None:
        first, *_ = make(tmp_path)
        assert not np.array_equal(first, make(tmp_path, seed=1)[0])
        assert not np.array_equal(first, make(tmp_path, name="others")[0])

    def test_has_one_image_per_training_image_unless_told(self, tmp_path: Path) -> None:
        assert list(make(tmp_path)[2]["source"]) == [0, 1, 2]
        assert list(make(tmp_path, count=7)[2]["source"]) == [0, 1, 2, 0, 1, 2, 0]

    def test_describes_each_image(self, tmp_path: Path) -> None:
        made, masks, table = make(tmp_path, count=12)
        columns = "row kind source x0 y0 x1 y1 changed draws seed parameters"
        assert list(table) == columns.split()
        for row in table.itertuples():
            before = BARS.images[row.source]
            assert np.array_equal(masks[row.row], changed_mask(before, made[row.row]))
            # all else is the training image
            assert changed(before, made[row.row]).mean() < 0.5
            y, x = np.nonzero(masks[row.row])
            assert (row.x0, row.y0, row.x1, row.y1) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            assert row.changed == len(x) >= 4
            assert [one["recipe"] for one in json.loads(row.parameters)] == [row.kind]

    def test_can_be_drawn_again_from_the_table_alone(self, tmp_path: Path) -> None:
        made, _, table = make(tmp_path, [Line(opacity=(0.8, 1))], 6)
        for row in table[table["draws"] == 1].itertuples():
            rng = np.random.default_rng(row.seed)
            rng.integers(1)  # which of the recipes
            image, mask = BARS.images[row.source], BARS.object_masks[row.source]
            canvas = Canvas(image, mask, BARS, row.source, rng)
            again = draw_line(Line(opacity=(0.8, 1)), canvas)
            assert np.array_equal(again.image, made[row.row])

    def test_takes_one_of_the_recipes(self, tmp_path: Path) -> None:
        *_, table = make(tmp_path, [Line(), Noise()], 20)
        assert set(table["kind"]) == {"line", "noise"}

    def test_takes_all_recipes_in_their_order(self, tmp_path: Path) -> None:
        *_, table = make(tmp_path, [Noise(), Line()], 4, combine="all")
        assert set(table["kind"]) == {"noise+line"}
        both = json.loads(table["parameters"][0])
        assert [one["recipe"] for one in both] == ["noise", "line"]
        assert {"cover", "width"} <= both[0].keys() | both[1].keys()

    def test_draws_again_what_cannot_be_seen(self, tmp_path: Path) -> None:
        faint = [Line(opacity=(0, 0.25), colours=["darker"])]
        _, masks, table = make(tmp_path, faint, 12)
        assert table["draws"].max() > 1
        assert masks.sum((1, 2)).min() >= 4

    def test_says_what_to_do_if_nothing_can_be_seen(self, tmp_path: Path) -> None:
        with pytest.raises(FlawlineError) as error:
            make(tmp_path, [Noise(), Line(opacity=(0, 0))], combine="all", name="ghosts")
        for told in ("bar", "'ghosts'", "image 0", "'line'", "20 tries", "Raise `width`"):
            assert told in str(error.value)
        assert not list(tmp_path.iterdir())

    def test_can_be_opened_without_reading_it(self, tmp_path: Path) -> None:
        make(tmp_path, count=4)
        for file, shape in [("images", (4, 64, 64, 3)), ("masks", (4, 64, 64))]:
            mapped = np.load(tmp_path / f"{file}.npy", mmap_mode="r")
            assert mapped.shape == shape
            assert mapped.dtype == np.uint8

    def test_reads_memory_maps(self, tmp_path: Path) -> None:
        np.save(tmp_path / "good_images.npy", BARS.images)
        np.save(tmp_path / "objects.npy", BARS.object_masks)
        mapped = [
            np.load(tmp_path / f"{file}.npy", mmap_mode="r") for file in ("good_images", "objects")
        ]
        plain, *_ = make(tmp_path, count=8)
        assert np.array_equal(plain, make(tmp_path, count=8, good_images=Sources(*mapped))[0])

    def test_of_grey_images_is_grey(self, tmp_path: Path) -> None:
        grey = Sources(np.repeat(BARS.images[..., :1], 3, axis=3), BARS.object_masks)
        made, *_ = make(tmp_path, count=10, good_images=grey)
        assert (made == made[..., :1]).all()

    @pytest.mark.parametrize("shape", [(32, 32), (512, 512), (120, 40), (40, 120)])
    def test_may_have_any_shape(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        made, masks, table = make(tmp_path, count=12, good_images=bars(*shape))
        assert made.shape == (12, *shape, 3)
        assert masks.shape == (12, *shape)
        assert table["changed"].min() >= max(4, round(0.0002 * shape[0] * shape[1]))

    def test_changes_and_marks_only_what_counts(self, tmp_path: Path) -> None:
        counted = np.ones_like(BARS.object_masks)
        counted[:, :, :20] = counted[1, 30:40] = 0
        reaching = [
            Line(),
            Distortion(),
            CutPaste(objects="random_objects", place="anywhere", size=(60, 100)),
            Noise(edge=(20, 32)),
        ]
        for good_images in (BARS, Sources(BARS.images, 0 * BARS.object_masks)):
            made, masks, table = make(
                tmp_path, reaching, 24, good_images=good_images, counted=counted
            )
            outside = counted[table["source"]] == 0
            assert not masks[outside].any()
            assert np.array_equal(made[outside], BARS.images[table["source"]][outside])
            assert table["changed"].min() >= 4

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"recipes": []}, "at least 1 item"),
            ({"recipes": [{"recipe": "rust"}]}, "'line', 'distortion', 'cut_paste', 'noise'"),
            ({"recipes": [{"recipe": "line", "widht": [1, 2]}]}, "did you mean 'width'"),
            ({"recipes": [{"recipe": "line", "width": [9, 2]}]}, r"found \[9, 2\]"),
            ({"recipes": [{"recipe": "noise", "opacity": [0, 2]}]}, "between 0 and 1"),
            (
                {"recipes": [{"recipe": "noise", "fills": ["drawn"], "sigma": [1, 2]}]},
                "sigma: only the fill `gaussian`",
            ),
            (
                {
                    "recipes": [
                        {"recipe": "cut_paste", "objects": "random_objects", "defects": ["hole"]}
                    ]
                },
                "`objects: random_objects` none are drawn",
            ),
            (
                {"recipes": [{"recipe": "cut_paste", "place": "anywhere", "dilate": 3}]},
                "dilate: only defects on the object",
            ),
        ],
    )
    def test_refuses_bad_options(self, given: dict[str, Any], told: str) -> None:
        with pytest.raises(ValidationError, match=told):
            SyntheticSet.model_validate(given)

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_knows_each_recipe_by_its_name(self, recipe: str) -> None:
        options = SyntheticSet.model_validate({"recipes": [{"recipe": recipe}]})
        assert type(options.recipes[0]) is RECIPES[recipe]


class TestTheChangedMask:
    def test_is_where_any_channel_differs_by_more_than_the_threshold(self) -> None:
        after = IMAGE.astype(int)
        after[10:20, 5:9, 1] += 9
        after[30:40, 5:9, 1] += 8
        expected = np.zeros_like(MASK)
        expected[10:20, 5:9] = 1
        assert np.array_equal(changed_mask(IMAGE, after.astype(np.uint8)), expected)

    def test_has_neither_specks_nor_pinholes(self) -> None:
        after = IMAGE.copy()
        after[10:20, 5:15] += 30
        after[14, 9] = IMAGE[14, 9]
        after[50, 50:53] -= 30
        expected = np.zeros_like(MASK)
        expected[10:20, 5:15] = 1
        assert np.array_equal(changed_mask(IMAGE, after), expected)


class TestEveryRecipe:
    @each_recipe
    def test_leaves_the_good_image_alone(self, recipe: Recipe) -> None:
        before = IMAGE.copy()
        draw(recipe, 0, before)
        assert np.array_equal(before, IMAGE)

    @each_recipe
    def test_takes_an_empty_mask_for_the_whole_image(self, recipe: Recipe) -> None:
        for seed in range(4):
            empty, whole = (draw(recipe, seed, mask=np.full_like(MASK, full)) for full in (0, 1))
            assert np.array_equal(empty[0], whole[0])

    @pytest.mark.parametrize(
        "recipe",
        [
            Line(dilate=2),
            Distortion(dilate=2),
            CutPaste(dilate=2),
            CutPaste(dilate=2, blending="poisson"),
            Noise(),
        ],
    )
    def test_changes_the_object_and_hardly_anything_else_if_told(self, recipe: Recipe) -> None:
        reach = dilated(MASK, scaled(2, MASK.shape)) > 0
        afters = [draw(recipe, seed)[0] for seed in range(60)]
        assert not any(changed(IMAGE, after)[~reach].any() for after in afters)
        # closing its gaps may carry the mask over an edge by a pixel
        masks = np.stack([changed_mask(IMAGE, after) for after in afters])
        assert masks[:, reach].sum() >= 0.99 * masks.sum()

    @pytest.mark.parametrize("kind", [Line, Distortion, CutPaste])
    def test_reaches_as_far_beyond_the_object_as_told(self, kind: type[Recipe]) -> None:
        beyond = {
            dilate: sum(
                (changed(IMAGE, draw(kind(dilate=dilate), seed)[0]) & (MASK == 0)).sum()
                for seed in range(20)
            )
            for dilate in (0, 20, None)
        }
        assert beyond[0] == 0
        assert 50 < beyond[20] <= beyond[None]

    @pytest.mark.parametrize("shape", [(150, 50), (50, 150)])
    @each_recipe
    def test_draws_defects_as_large_as_on_a_square_of_the_same_area(
        self, recipe: Recipe, shape: tuple[int, int]
    ) -> None:
        side = round(scaled(224, shape))
        rng = np.random.default_rng(0)
        areas = []
        for size in (shape, (side, side)):
            noisy = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
            sources = Sources(noisy, np.ones((2, *size), np.uint8))
            afters = (
                draw(recipe, seed, noisy[0], sources.object_masks[0], sources)[0]
                for seed in range(60)
            )
            areas.append(np.mean([changed(noisy[0], after).sum() for after in afters]))
        assert areas[0] == pytest.approx(areas[1], rel=0.35)

    @pytest.mark.parametrize(
        ("less", "more"),
        [
            (Line(width=(1, 1)), Line(width=(9, 9))),
            (Line(length=(10, 10)), Line(length=(45, 45))),
            (Line(opacity=(0.1, 0.1)), Line(opacity=(1, 1))),
            (Line(kinds=["broken"], length=(120, 120)), Line(kinds=["curved"], length=(120, 120))),
            (Distortion(angle=(5, 5), shift=(0, 0)), Distortion(angle=(30, 30), shift=(0, 0))),
            (
                Distortion(angle=(0, 0), shift=(0.02, 0.02)),
                Distortion(angle=(0, 0), shift=(0.2, 0.2)),
            ),
            (Distortion(size=(10, 10)), Distortion(size=(50, 50))),
            (Distortion(edge=(9, 9)), Distortion(edge=(0, 0))),
            (Distortion(overlap=1), Distortion(overlap=0.3)),
            (CutPaste(size=(6, 6)), CutPaste(size=(40, 40))),
            (CutPaste(count=1), CutPaste(count=6)),
            (CutPaste(opacity=(0.1, 0.1)), CutPaste(opacity=(1, 1))),
            (CutPaste(edge=(6, 6)), CutPaste(edge=(0, 0))),
            (CutPaste(defects=["crack"]), CutPaste(defects=["hole"])),
            (CutPaste(), CutPaste(objects="random_objects")),
            (Noise(cover=(0.01, 0.01)), Noise(cover=(0.2, 0.2))),
            (Noise(opacity=(0.1, 0.1)), Noise(opacity=(1, 1))),
            (Noise(fills=["gaussian"], sigma=(1, 1)), Noise(fills=["gaussian"], sigma=(50, 50))),
            (Noise(edge=(0, 0)), Noise(edge=(9, 9))),
        ],
    )
    def test_changes_more_where_its_options_say_so(self, less: Recipe, more: Recipe) -> None:
        pixels = [
            sum(changed_mask(IMAGE, draw(recipe, seed)[0]).sum() for seed in range(25))
            for recipe in (less, more)
        ]
        assert pixels[0] < 0.9 * pixels[1]


class TestALine:
    def test_starts_on_the_object(self) -> None:
        for seed in range(30):
            about = draw(Line(), seed)[1]
            assert MASK[about["y"], about["x"]]

    def test_is_straight_curved_or_broken(self) -> None:
        flat = np.full((224, 224, 3), 128, np.uint8)
        middle = np.zeros((224, 224), np.uint8)
        middle[112, 112] = 1

        def lines(kind: str) -> list[np.ndarray]:
            recipe = Line(
                kinds=[kind],
                width=(3, 3),
                length=(80, 80),
                colours=["darker"],
                opacity=(1, 1),
            )
            masks = [changed_mask(flat, draw(recipe, seed, flat, middle)[0]) for seed in range(12)]
            return [mask for mask in masks if mask.any()]

        def bends(kind: str) -> list[float]:
            return [min(cv2.minAreaRect(np.argwhere(mask))[1]) for mask in lines(kind)]

        def pieces(kind: str) -> list[int]:
            return [cv2.connectedComponents(mask)[0] - 1 for mask in lines(kind)]

        assert max(bends("straight")) < 5 < max(bends("curved"))
        assert max(pieces("straight")) == max(pieces("curved")) == 1
        assert min(pieces("broken")) >= 2

    def test_is_darker_lighter_or_grey(self) -> None:
        for seed in range(20):
            assert (draw(Line(colours=["darker"]), seed)[0] <= IMAGE).all()
            assert (draw(Line(colours=["lighter"]), seed)[0] >= IMAGE).all()
        flat = np.full_like(IMAGE, 128)
        for colour, is_grey in [("grey", True), ("random", False)]:
            drawn = np.stack([draw(Line(colours=[colour]), seed, flat)[0] for seed in range(5)])
            assert (drawn != flat).any()
            assert (drawn == drawn[..., :1]).all() == is_grey


class TestADistortion:
    def test_turns_and_shifts_but_never_mirrors(self) -> None:
        # red grows to the right and green downwards: the sense in which one turns into the other
        # is lost in a mirror only
        ramp = np.repeat(np.linspace(0, 250, 64, dtype=np.uint8)[None], 64, axis=0)
        image = np.dstack([ramp, ramp.T, 0 * ramp])
        for seed in range(40):
            after, about = draw(Distortion(size=(60, 90), edge=(0, 0)), seed, image, 0 * MASK)
            x, y = about["x"] + about["width"] // 2, about["y"] + about["height"] // 2
            middle = after[y - 4 : y + 5, x - 4 : x + 5].astype(float)
            red_y, red_x = (step.mean() for step in np.gradient(middle[..., 0]))
            green_y, green_x = (step.mean() for step in np.gradient(middle[..., 1]))
            assert red_x * green_y - red_y * green_x > 0
            turn = np.degrees(np.arctan2(red_y, red_x))
            assert abs(turn) <= 32
            assert -turn == pytest.approx(about["angle"], abs=4)

    @pytest.mark.parametrize("overlap", [0.5, 0.9])
    def test_never_lies_on_the_background_alone(self, overlap: float) -> None:
        recipe = Distortion(overlap=overlap, size=(20, 120))
        for seed in range(60):
            about = draw(recipe, seed)[1]
            y, x = about["y"], about["x"]
            inside = MASK[y : y + about["height"], x : x + about["width"]]
            assert inside.shape == (about["height"], about["width"])
            assert inside.mean() >= overlap - 1e-6

    def test_puts_the_whole_turned_rectangle_back(self) -> None:
        for seed in range(20):
            after, about = draw(Distortion(edge=(0, 0)), seed)
            x, y, width, height = (about[key] for key in ("x", "y", "width", "height"))
            there = np.s_[y : y + height, x : x + width]
            warp = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), about["angle"], 1)
            warp[:, 2] += [about["shift_x"] * width, about["shift_y"] * height]
            turned = cv2.warpAffine(
                IMAGE[there], warp, (width, height), borderMode=cv2.BORDER_REPLICATE
            )
            assert np.array_equal(after[there], turned)

    def test_lets_the_part_stand_out_of_its_outline(self) -> None:
        # a dark bar on white: what is dark beside it was turned out of it
        image = np.full((64, 64, 3), 250, np.uint8)
        bar = np.zeros((64, 64), np.uint8)
        bar[28:36, 8:56] = 1
        image[bar > 0] = 20
        beside = dilated(bar, 2) == 0

        def dark_beside(recipe: Distortion) -> int:
            afters = [draw(recipe, seed, image, bar)[0] for seed in range(30)]
            return sum(int((after[beside] < 128).all(axis=1).sum()) for after in afters)

        assert dark_beside(Distortion(size=(60, 120), overlap=0.3, dilate=2)) == 0
        assert dark_beside(Distortion(size=(60, 120), overlap=0.3)) > 100

    def test_adds_nothing_that_is_not_there(self) -> None:
        flat = np.full_like(IMAGE, 90)
        assert np.array_equal(draw(Distortion(), 0, flat)[0], flat)


class TestCutPaste:
    def test_mirrors_every_other_object_unless_told(self) -> None:
        flips = []
        for seed in range(12):
            mirrored, about = draw(CutPaste(count=1), seed)
            plain, never = draw(CutPaste(count=1, flip=False), seed)
            assert not never["0.flipped"]
            assert np.array_equal(mirrored, plain) == (not about["0.flipped"])
            flips.append(about["0.flipped"])
        assert 0 < sum(flips) < 12

    def test_turns_objects(self) -> None:
        upright, turned = (
            draw(CutPaste(objects="random_objects", angle=(angle, angle)), 0) for angle in (0, 60)
        )
        assert not np.array_equal(upright[0], turned[0])
        assert turned[1]["0.angle"] == 60

    def test_places_objects_on_the_object_unless_told(self) -> None:
        def on_object(place: str) -> list[bool]:
            recipe = CutPaste(objects="random_objects", place=place, count=1)
            about = [draw(recipe, seed)[1] for seed in range(40)]
            return [bool(MASK[one["0.y"], one["0.x"]]) for one in about]

        assert all(on_object("object"))
        assert 0 < sum(on_object("anywhere")) < 40

    def test_pastes_the_files_of_a_folder(self, tmp_path: Path) -> None:
        pixels = np.zeros((40, 60, 4), np.uint8)
        pixels[10:30, 20:50] = 255, 0, 255, 255
        save(tmp_path / "bug.png", pixels)
        recipe = CutPaste(
            objects="folder",
            folder=tmp_path,
            size=(60, 60),
            angle=(0, 0),
            opacity=(1, 1),
            edge=(0, 0),
            count=1,
        )
        after, about = draw(recipe, 1)
        assert about["0.object"] == "bug.png"
        magenta = (after == (255, 0, 255)).all(axis=2)
        assert np.array_equal(magenta, changed(IMAGE, after))
        y, x = np.nonzero(magenta)
        # only what is opaque counts for its size: 60 pixels at 224 are 17 at 64, and 2/3 as high
        assert x.max() - x.min() + 1 == pytest.approx(17, abs=1)
        assert y.max() - y.min() + 1 == pytest.approx(11, abs=1)

    def test_reads_the_folder_once(self, tmp_path: Path) -> None:
        save(tmp_path / "bug.png", np.full((9, 9, 4), 255, np.uint8))
        recipe = CutPaste(objects="folder", folder=tmp_path)
        first = draw(recipe, 0)[0]
        (tmp_path / "bug.png").unlink()
        assert np.array_equal(first, draw(recipe, 0)[0])

    @pytest.mark.parametrize(
        ("file", "told"),
        [
            (np.full((8, 8, 3), 200, np.uint8), r"one\.png: has the mode RGB"),
            (np.zeros((8, 8, 4), np.uint8), r"one\.png: nothing in it is opaque"),
            (b"not a picture", r"one\.png: not an image"),
            (None, "cutouts: no PNG files"),
        ],
    )
    def test_refuses_a_folder_that_it_cannot_use(
        self, tmp_path: Path, file: np.ndarray | bytes | None, told: str
    ) -> None:
        folder = tmp_path / "cutouts"
        folder.mkdir()
        if isinstance(file, bytes):
            (folder / "one.png").write_bytes(file)
        elif file is not None:
            save(folder / "one.png", file)
        with pytest.raises(FlawlineError, match=told):
            make(tmp_path, [CutPaste(objects="folder", folder=folder)])

    @pytest.mark.parametrize("given", [{"objects": "folder"}, {"folder": "cutouts"}])
    def test_wants_a_folder_with_the_files_and_only_then(self, given: dict[str, str]) -> None:
        with pytest.raises(ValidationError, match="must be given with `objects: folder`"):
            CutPaste.model_validate(given)

    @pytest.mark.parametrize("objects", ["defect_like", "random_objects"])
    def test_blends_at_the_borders_of_the_image(self, objects: str) -> None:
        recipe = CutPaste(objects=objects, blending="poisson", size=(5, 150), count=1)
        for corner in [(0, 0), (0, 63), (63, 0), (63, 63), (0, 30), (30, 63)]:
            spot = np.zeros_like(MASK)
            spot[corner] = 1
            afters = [draw(recipe, seed, mask=spot)[0] for seed in range(8)]
            assert any(changed(IMAGE, after)[corner] for after in afters)

    def test_blends_the_surroundings_into_the_object(self) -> None:
        ramp = np.linspace(60, 180, 64).astype(np.uint8)
        image = np.repeat(np.repeat(ramp[None], 64, axis=0)[..., None], 3, axis=2)
        fixed = {"objects": "random_objects", "size": (80, 80), "opacity": (1, 1), "count": 1}
        middle = np.zeros_like(MASK)
        middle[32, 32] = 1

        def slope(blending: str, seed: int) -> float:
            after = draw(CutPaste(blending=blending, **fixed), seed, image, middle)[0]
            return float(np.diff(after[32, 28:37].mean(axis=1)).mean())

        steeper = [slope("poisson", seed) - slope("alpha", seed) for seed in range(12)]
        assert np.mean(steeper) > 0.3


class TestNoise:
    @pytest.mark.parametrize("fill", ["foreign", "drawn", "gaussian"])
    def test_stays_inside_the_object(self, fill: str) -> None:
        for seed in range(20):
            after, about = draw(Noise(fills=[fill]), seed)
            assert about["fill"] == fill
            assert not changed(IMAGE, after)[MASK == 0].any()

    def test_covers_the_part_of_the_object_that_was_drawn(self) -> None:
        solid = Noise(cover=(0.1, 0.1), fills=["drawn"], opacity=(1, 1), edge=(0, 0))
        for seed in range(10):
            share = changed(IMAGE, draw(solid, seed)[0]).sum() / MASK.sum()
            assert share == pytest.approx(0.1, abs=0.01)

    def test_falls_into_more_pieces_the_more_cells_there_are(self) -> None:
        def pieces(cells: float) -> int:
            recipe = Noise(cells=(cells, cells), cover=(0.1, 0.1), fills=["drawn"], edge=(0, 0))
            masks = [changed(IMAGE, draw(recipe, seed, mask=0 * MASK)[0]) for seed in range(10)]
            return sum(cv2.connectedComponents(mask.astype(np.uint8))[0] - 1 for mask in masks)

        assert pieces(2) < pieces(16)

    def test_takes_foreign_texture_from_another_image(self) -> None:
        black = np.zeros_like(IMAGE)
        sources = Sources(np.stack([black, black + 255]), np.ones((2, 64, 64), np.uint8))
        recipe = Noise(fills=["foreign"], opacity=(1, 1), edge=(0, 0))
        for seed in range(8):
            after = draw(recipe, seed, black, 0 * MASK, sources)[0]
            assert after.max() > 60


class TestAContactSheet:
    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_has_a_row_for_each_example_and_is_small(self, tmp_path: Path, suffix: str) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
        good_images = Sources(images, np.ones((2, 256, 256), np.uint8))
        made, masks, table = make(tmp_path, [Line(), Distortion()], 8, good_images=good_images)
        heights = []
        for count in (1, 2, 6):
            path = tmp_path / f"sheet.{suffix}"
            draw_sheet(path, images, good_images.object_masks, made, masks, table, count)
            assert path.stat().st_size <= 500_000
            with Image.open(path) as sheet:
                side = (sheet.width - 4) / 5 - 4
                heights.append((sheet.height - 18) / (side + 4 + 18))
        assert heights == [1, 2, 6]

    @pytest.mark.parametrize("shape", [(90, 30), (30, 90), (48, 64)])
    def test_keeps_the_shape_of_images(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        good_images = bars(*shape)
        made, masks, table = make(tmp_path, count=8, good_images=good_images)
        draw_sheet(tmp_path / "a.png", *vars(good_images).values(), made, masks, table, 8)
        example = contact_sheet.Example("", made[0], masks[0], made[0], masks[0])
        size = contact_sheet.panel_shape(shape, 192)
        for panel in contact_sheet._panels(example, size):
            assert panel.shape[0] / panel.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.02)
        with Image.open(tmp_path / "a.png") as sheet:
            assert max(sheet.size) < 2000

    def test_spreads_its_rows_over_the_kinds(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made, masks, table = make(tmp_path, count=20)
        shown: list[contact_sheet.Example] = []
        monkeypatch.setattr(contact_sheet, "contact_sheet", lambda path, rows: shown.extend(rows))
        draw_sheet(tmp_path / "a.png", BARS.images, BARS.object_masks, made, masks, table, 8)
        kinds = [example.title.split(":")[0] for example in shown]
        assert sorted(kinds) == sorted(["line", "distortion", "cut_paste", "noise"] * 2)
        for example in shown:
            assert np.array_equal(changed_mask(example.image, example.synthetic), example.mask)
