import cv2
import numpy as np
import pytest

from flawline.data.demo import draw as demo
from flawline.errors import FlawlineError

SIZE = 64
DEFECTS = [(category, kind) for category, kinds in demo.CATEGORIES.items() for kind in kinds]


def write(folder, category="tablet", **options):
    counts = {"train_good": 2, "test_good": 2, "test_defective": 6} | options
    demo.write_category(folder, category, size=SIZE, **counts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in pngs(folder)}


def pngs(folder):
    return sorted(folder.rglob("*.png"))


def angle(object_mask):
    moments = cv2.moments(object_mask.astype(np.uint8), binaryImage=True)
    return np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]) / 2


def test_a_category_has_the_layout_of_mvtec_ad(tmp_path):
    files = write(tmp_path / "tablet")
    shares = {"crack": 2, "chip": 2, "contamination": 1, "print": 1}
    expected = [f"{split}/good/{i:03d}.png" for split in ("train", "test") for i in range(2)]
    for kind, share in shares.items():
        expected += [f"test/{kind}/{i:03d}.png" for i in range(share)]
        expected += [f"ground_truth/{kind}/{i:03d}_mask.png" for i in range(share)]
    assert sorted(files) == sorted(expected)


def test_files_hold_what_draw_returns(tmp_path):
    write(tmp_path / "bolt", "bolt", train_good=1, test_good=0, test_defective=1)
    sample = demo.draw("bolt", "test", "scratch", 0, size=SIZE)
    image = cv2.imread(str(tmp_path / "bolt/test/scratch/000.png"))[..., ::-1]
    mask = cv2.imread(str(tmp_path / "bolt/ground_truth/scratch/000_mask.png"), -1)
    assert np.array_equal(image, sample.image)
    assert np.array_equal(mask, sample.defect_mask * 255)


def test_the_same_seed_gives_the_same_bytes_however_many_are_drawn(tmp_path):
    few = write(tmp_path / "few")
    again = write(tmp_path / "again")
    more = write(tmp_path / "more", train_good=3, test_defective=8)
    assert few == again
    assert few.items() < more.items()


def test_every_image_is_another(tmp_path):
    files = write(tmp_path / "tablet")
    images = [content for name, content in files.items() if "mask" not in name]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("category", demo.CATEGORIES)
def test_another_seed_gives_other_images(category):
    first, second = (
        demo.draw(category, "train", "good", 0, size=SIZE, seed=seed).image for seed in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_an_existing_category_is_replaced_and_nothing_else_is_left(tmp_path):
    write(tmp_path / "tablet", train_good=3)
    write(tmp_path / "tablet", train_good=1)
    assert len(pngs(tmp_path / "tablet/train")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tablet"]


def test_a_run_that_dies_leaves_the_old_category_as_it_was(tmp_path, monkeypatch):
    before = write(tmp_path / "tablet")
    monkeypatch.setattr(demo, "photographs", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "tablet")
    assert {p.relative_to(tmp_path / "tablet").as_posix() for p in pngs(tmp_path)} == set(before)
    assert [path.name for path in tmp_path.iterdir()] == ["tablet"]


@pytest.mark.parametrize(("category", "kind"), DEFECTS)
def test_the_mask_is_where_the_defect_changed_the_image(category, kind):
    for number in range(4):
        sample = demo.draw(category, "test", kind, number, size=SIZE)
        clean, image, _ = demo.photographs(category, "test", kind, number, SIZE, 0)
        difference = np.abs(image - clean).max(axis=2)
        assert sample.defect_mask.any()
        assert sample.defect_mask.mean() < 0.3
        assert sample.defect_mask[difference > demo.VISIBLE].all()
        assert difference[sample.defect_mask].mean() > 10 * difference[~sample.defect_mask].mean()


@pytest.mark.parametrize(("category", "kind"), DEFECTS)
def test_every_defect_can_be_seen(category, kind):
    for number in range(4):
        clean, image, _ = demo.photographs(category, "test", kind, number, SIZE, 0)
        assert np.abs(image - clean).max() > demo.VISIBLE


def test_the_mask_of_a_pulled_thread_is_one_place_and_not_dust():
    for number in range(4):
        mask = demo.draw("weave", "test", "pulled_thread", number, size=256).defect_mask
        areas = cv2.connectedComponentsWithStats(mask.astype(np.uint8))[2][1:, cv2.CC_STAT_AREA]
        assert len(areas) <= 4
        assert areas.max() > 0.95 * areas.sum()


@pytest.mark.parametrize("category", demo.CATEGORIES)
def test_good_parts_have_empty_masks(category):
    for split in ("train", "test"):
        assert not demo.draw(category, split, "good", 0, size=SIZE).defect_mask.any()


@pytest.mark.parametrize(("category", "low", "high"), [("bolt", 0.08, 0.2), ("tablet", 0.35, 0.45)])
def test_an_object_covers_a_steady_part_of_the_image(category, low, high):
    for kind in ("good", *demo.CATEGORIES[category]):
        sample = demo.draw(category, "test", kind, 0, size=SIZE)
        assert low < sample.object_mask.mean() < high


@pytest.mark.parametrize("category", ["weave", "mesh"])
def test_a_texture_has_no_background(category):
    for kind in ("good", *demo.CATEGORIES[category]):
        assert demo.draw(category, "test", kind, 0, size=SIZE).object_mask.all()


def test_a_mesh_has_defects_at_its_border_and_in_its_corners():
    masks = [
        demo.draw("mesh", "test", "contamination", i, size=SIZE).defect_mask for i in range(24)
    ]
    sides = [[edge.any() for edge in (m[0], m[-1], m[:, 0], m[:, -1])] for m in masks]
    assert np.all(np.any(sides, axis=0))
    touched = np.sum(sides, axis=1)
    assert 6 <= np.sum(touched > 0) <= 18
    assert np.any(touched == 2)


def test_bolts_lie_in_any_direction_and_tablets_in_one_place():
    bolts, tablets = (
        [demo.draw(category, "train", "good", i, size=SIZE).object_mask for i in range(12)]
        for category in ("bolt", "tablet")
    )
    assert np.ptp([angle(mask) for mask in bolts]) > np.pi / 2
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in tablets])
    assert np.ptp(centres, axis=0).max() < 0.05 * SIZE


@pytest.mark.parametrize("size", [64, 100, 256])
@pytest.mark.parametrize("category", demo.CATEGORIES)
def test_any_size_shows_the_same_part(category, size):
    shape = (size, size)
    if category == "mesh":
        shape = {64: (40, 104), 100: (62, 162), 256: (160, 416)}[size]
    kind = demo.CATEGORIES[category][1]
    small = demo.draw(category, "test", kind, 0, size=128).image
    sample = demo.draw(category, "test", kind, 0, size=size)
    assert sample.image.shape == (*shape, 3)
    assert sample.image.dtype == np.uint8
    assert sample.defect_mask.shape == sample.object_mask.shape == shape
    thumbnails = [
        cv2.resize(im, (16, 16), interpolation=cv2.INTER_AREA).ravel()
        for im in (small, sample.image)
    ]
    assert np.corrcoef(thumbnails)[0, 1] > 0.9
    duller = 15 if category == "mesh" else 8  # the finest wires have no highlights
    assert np.abs(thumbnails[0].astype(int) - thumbnails[1]).mean() < duller


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (("nut", "train", "good"), "bolt, tablet, weave, mesh"),
        (("bolt", "train", "hole"), "good, scratch"),
        (("bolt", "validation", "good"), "train, test"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(arguments, allowed):
    with pytest.raises(FlawlineError, match=allowed):
        demo.draw(*arguments, 0, size=SIZE)


def test_an_unknown_category_writes_nothing(tmp_path):
    with pytest.raises(FlawlineError, match="bolt, tablet, weave, mesh"):
        demo.write_category(tmp_path / "data/nut", "nut")
    assert not any(tmp_path.iterdir())
