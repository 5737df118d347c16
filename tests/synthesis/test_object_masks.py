"""Object masks against the true ones of drawn parts, and what `auto` decides."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from flawline.data.demo.draw import draw
from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.masks import object_cells
from flawline.files import read_array
from flawline.options.object_masks import ObjectMaskOptions
from flawline.options.patchcore import PatchCoreOptions
from flawline.synthesis.object_masks import ObjectModel, fit, mask_all, mask_of

AUTO = ObjectMaskOptions()


def photographs(category: str, count: int = 24, size: int = 128) -> np.ndarray:
    return np.stack([draw(category, "train", "good", i, size=size).image for i in range(count)])


@pytest.fixture(scope="module")
def bolts() -> np.ndarray:
    return photographs("bolt", 30, 256)


def overlap(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    both, either = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2))
    return both / either


def test_auto_masks_agree_with_the_true_ones_of_parts_in_random_pose(bolts: np.ndarray) -> None:
    model = fit(bolts, AUTO)
    assert model.method == "mean_difference"
    types = ("good", "scratch", "stain", "worn_thread", "chipped_head")
    samples = [draw("bolt", "test", kind, i) for kind in types for i in range(3)]
    masks = np.stack([mask_of(sample.image, model, AUTO) for sample in samples]).astype(bool)
    found = overlap(masks, np.stack([sample.object_mask for sample in samples]))
    assert found.mean() >= 0.90
    assert found.min() >= 0.75


def test_auto_masks_agree_with_the_true_ones_of_aligned_parts() -> None:
    model = fit(photographs("tablet"), AUTO)
    assert model.method == "border_color"
    samples = [draw("tablet", "test", "crack", i, size=128) for i in range(5)]
    masks = np.stack([mask_of(sample.image, model, AUTO) for sample in samples]).astype(bool)
    assert overlap(masks, np.stack([sample.object_mask for sample in samples])).mean() > 0.95


def test_auto_takes_a_texture_as_a_whole_and_says_why() -> None:
    images = photographs("weave")
    model = fit(images, AUTO)
    assert model.method == "whole"
    assert "border" in model.reason
    assert mask_of(images[0], model, AUTO).all()


@pytest.mark.parametrize("method", ["mean_difference", "border_color", "whole"])
def test_a_configured_method_is_taken(method: str) -> None:
    model = fit(photographs("bolt", 12, 64), ObjectMaskOptions.model_validate({"method": method}))
    assert (model.method, model.reason) == (method, "configured")


def test_the_model_survives_saving(bolts: np.ndarray, tmp_path: Path) -> None:
    model = fit(bolts[:12], AUTO)
    model.save(tmp_path / "background.npy", tmp_path / "model.json")
    again = ObjectModel.load(tmp_path / "background.npy", tmp_path / "model.json")
    assert np.array_equal(mask_of(bolts[0], again, AUTO), mask_of(bolts[0], model, AUTO))
    mask_all(bolts[:3], tmp_path / "masks.npy", model, AUTO)
    masks = read_array(tmp_path / "masks.npy")
    assert masks.shape == (3, 256, 256)
    assert np.array_equal(masks[2], mask_of(bolts[2], model, AUTO))


def scene(column: int, slope: float, *, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """A dark disc on a light table under light that falls off to one side."""
    light = 200 + slope * (np.arange(size) / size - 0.5)
    image = np.repeat(np.tile(light, (size, 1))[..., None], 3, axis=2)
    truth = np.zeros((size, size), np.uint8)
    cv2.circle(truth, (column, size // 2), 24, 1, -1)
    image[truth > 0] = 60
    noise = np.random.default_rng(column).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8), truth.astype(bool)


@pytest.mark.parametrize("method", ["mean_difference", "border_color"])
@pytest.mark.parametrize("slope", [0, 80])
def test_uneven_light_and_parts_at_the_border_are_masked(method: str, slope: float) -> None:
    options = ObjectMaskOptions.model_validate({"method": method})
    train = np.stack([scene(column, slope)[0] for column in range(4, 124, 6)])
    model = fit(train, options)
    for column in (4, 64, 110):
        image, truth = scene(column, slope)
        found = mask_of(image, model, options).astype(bool)
        assert overlap(found[None], truth[None])[0] > 0.9, column


def test_grey_images_are_masked_like_coloured_ones() -> None:
    grey = np.stack([cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in photographs("bolt", 16)])
    images = np.repeat(grey[..., None], 3, axis=3)
    model = fit(images, AUTO)
    covered = [mask_of(image, model, AUTO).mean() for image in images]
    assert 0.05 < np.mean(covered) < 0.3


def test_an_empty_scene_has_no_object(bolts: np.ndarray) -> None:
    model = fit(bolts, AUTO)
    empty = np.clip(model.background, 0, 255).astype(np.uint8)
    assert not mask_of(empty, model, AUTO).any()


def oblong(shape: tuple[int, int], count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Dark discs anywhere on a light table, in images that are not square, and their masks."""
    rng = np.random.default_rng(3)
    images = np.clip(rng.normal(200, 2, (count, *shape, 3)), 0, 255).astype(np.uint8)
    truth = np.zeros((count, *shape), np.uint8)
    for image, mask in zip(images, truth, strict=True):
        y, x = (int(rng.integers(16, length - 16)) for length in shape)
        cv2.circle(mask, (x, y), 14, 1, -1)
        image[mask > 0] = 60
    return images, truth.astype(bool)


@pytest.mark.parametrize("method", ["mean_difference", "border_color"])
@pytest.mark.parametrize("shape", [(180, 60), (60, 180)])
def test_tall_and_wide_images_are_masked(shape: tuple[int, int], method: str) -> None:
    images, truth = oblong(shape)
    model = fit(images, ObjectMaskOptions.model_validate({"method": method}))
    masks = np.stack([mask_of(image, model, AUTO) for image in images]).astype(bool)
    assert overlap(masks, truth).min() > 0.9


class TestPixelsThatDoNotCount:
    images, truth = oblong((60, 180))
    counted = np.ones((60, 180), np.uint8)
    counted[:, :30] = counted[20:30, 100:140] = 0

    @pytest.mark.parametrize("method", ["mean_difference", "border_color", "auto"])
    def test_are_never_object_and_change_no_other_pixel(self, method: str) -> None:
        options = ObjectMaskOptions.model_validate({"method": method})
        seen, odd = self.counted > 0, self.images.copy()
        odd[:, ~seen] = np.random.default_rng(0).integers(0, 256, (20, (~seen).sum(), 3))
        model = fit(odd, options, self.counted)
        assert model.method != "whole"
        masks = np.stack([mask_of(one, model, options, self.counted) for one in odd]).astype(bool)
        assert not masks[:, ~seen].any()
        inside = self.truth & seen
        whole = inside.sum((1, 2)) == self.truth.sum((1, 2))  # the others are cut off
        assert whole.sum() > 5
        assert overlap(masks[whole], inside[whole]).min() > 0.85
        assert overlap(masks, inside).mean() > 0.85

    def test_may_be_others_in_every_image(self, tmp_path: Path) -> None:
        each = np.stack([np.roll(self.counted, 3 * row, axis=1) for row in range(20)])
        model = fit(self.images, AUTO, each)
        mask_all(self.images, tmp_path / "masks.npy", model, AUTO, each)
        masks = read_array(tmp_path / "masks.npy")
        assert not masks[each == 0].any()
        assert np.array_equal(masks[7], mask_of(self.images[7], model, AUTO, each[7]))

    def test_are_not_part_of_the_whole(self) -> None:
        options = ObjectMaskOptions(method="whole")
        model = fit(self.images, options, self.counted)
        assert np.array_equal(mask_of(self.images[0], model, options, self.counted), self.counted)


class TestTheImageScoreOnTheObject:
    masks = np.zeros((2, 32, 32), np.uint8)
    masks[0, 8:16, 8:16] = 1
    data = Data(Geometry((32, 32)), object_masks=masks, images=np.zeros((2, 32, 32, 3), np.uint8))

    def inside(self, **options: object) -> np.ndarray:
        given = {"features": "x", **options}
        return object_cells(PatchCoreOptions.model_validate(given), self.data, (8, 8))

    def test_is_not_restricted_by_default(self) -> None:
        assert self.inside().all()

    def test_counts_cells_that_touch_the_object(self) -> None:
        found = self.inside(object_mask="score", object_dilation=0)
        assert found[0].sum() == 4
        assert found[0, 2:4, 2:4].all()

    def test_counts_more_around_the_object_with_dilation(self) -> None:
        found = self.inside(object_mask="score", object_dilation=32)
        assert found[0].sum() > 4

    def test_counts_the_whole_image_where_no_object_was_found(self) -> None:
        found = self.inside(object_mask="score")
        assert found[1].all()
