from pathlib import Path

import numpy as np
import pytest

from flawline.options.poses import Poses
from flawline.synthesis.poses import pose_images, poses_of

RNG = np.random.default_rng


def bar(height: int = 64, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A bright bar with a dot at one end, on grey; and its mask."""
    image = np.full((height, width, 3), 90, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    middle = height // 2
    mask[middle - 3 : middle + 3, 12:52] = 1
    image[mask > 0] = 220
    image[middle - 2 : middle + 2, 14:18] = 20
    return image, mask


def all_poses(options: Poses, image: np.ndarray, mask: np.ndarray) -> list:
    return list(poses_of(image, mask, np.ones_like(mask), options, RNG(0)))


def test_flips_and_quarter_turns_are_the_other_seven_positions_of_a_square() -> None:
    image, mask = bar()
    image[:20, :30] = 10
    found = [posed.image.tobytes() for posed in all_poses(Poses(), image, mask)]
    assert len(set(found)) == len(found) == Poses().count == 7
    assert image.tobytes() not in found
    assert np.ascontiguousarray(image[:, ::-1]).tobytes() in found
    assert np.ascontiguousarray(np.rot90(image)).tobytes() in found


@pytest.mark.parametrize(
    ("options", "count"),
    [({"flips": False}, 3), ({"quarter_turns": False}, 3), ({"rotations": 5}, 12)],
)
def test_are_those_that_were_asked_for(options: dict, count: int) -> None:
    image, mask = bar()
    assert Poses(**options).count == count
    assert len(all_poses(Poses(**options), image, mask)) == count


def test_a_quarter_turn_of_a_wide_image_counts_where_the_image_is() -> None:
    image, mask = bar(64, 128)
    turned = all_poses(Poses(flips=False), image, mask)[0]
    assert turned.image.shape == (64, 128, 3)
    assert turned.counted.all(0).sum() in (63, 64)
    assert turned.counted[:, :30].sum() == turned.counted[:, -30:].sum() == 0


def test_an_object_is_turned_to_every_direction_and_stays_in_the_picture() -> None:
    image, mask = bar()
    options = Poses(flips=False, quarter_turns=False, rotations=12)
    angles = []
    for posed in all_poses(options, image, mask):
        bright = np.argwhere(posed.image[..., 0] > 160)
        # all of it is there, however it is turned
        assert len(bright) == pytest.approx(int(mask.sum()) - 16, rel=0.15)
        dot = np.argwhere((posed.image[..., 0] < 60) & (posed.counted > 0)).mean(0)
        down, across = dot - bright.mean(0)
        angles.append(np.degrees(np.arctan2(down, across)) % 360)
    gaps = np.diff(np.sort(angles), append=min(angles) + 360)
    assert gaps.max() < 75


def test_an_object_that_fits_in_one_direction_alone_is_never_cut() -> None:
    image, mask = bar(40, 128)
    mask[:], image[:] = 0, 90
    mask[17:23, 10:118], image[17:23, 10:118] = 1, 220
    for posed in all_poses(Poses(quarter_turns=False, flips=False, rotations=6), image, mask):
        shown = (posed.image[..., 0] > 160) & (posed.counted > 0)
        assert shown.sum() == pytest.approx(int(mask.sum()), rel=0.1)


def test_do_not_count_what_was_filled_in(tmp_path: Path) -> None:
    images = RNG(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    whole = np.ones((3, 32, 48), np.uint8)
    options = Poses(flips=False, quarter_turns=False, rotations=2)
    for name in ("once", "again"):
        files = tmp_path / name / "images.npy", tmp_path / name / "counted.npy"
        pose_images(images, whole, *files, options, "weave")
    assert (tmp_path / "once/images.npy").read_bytes() == (
        tmp_path / "again/images.npy"
    ).read_bytes()
    counted = np.load(tmp_path / "once/counted.npy")
    assert counted.shape == (6, 32, 48)
    assert 0.3 < counted.mean() < 1


def test_no_pose_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="has no pose"):
        Poses(flips=False, quarter_turns=False)
