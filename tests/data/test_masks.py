"""Masks as people store them mark the defect, or are refused by name."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from photographs import photograph, save
from PIL import Image

from flawline.data.datasets.folder import Folder
from flawline.data.index import scan
from flawline.data.masks import check_mask, decode_mask, mask_values
from flawline.data.samples import UnfitError

SIDE = 96


def blob() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, (50, 40), 14, 255, -1)
    return mask


def soft(sigma: float = 2) -> np.ndarray:
    blurred = cv2.GaussianBlur(blob().astype(np.float32), (0, 0), sigma)
    return np.rint(blurred / blurred.max() * 255).astype(np.uint8)


def textured(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(120 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def layers(colour: int, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([np.full_like(alpha, colour)] * 3 + [alpha]))


def as_jpeg(quality: int) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(blob()).save(path, "JPEG", quality=quality)


def was_jpeg(path: Path) -> None:
    as_jpeg(75)(path)
    with Image.open(path) as image:
        image.load()
        image.save(path, "PNG")


HARD: dict[str, Callable[[Path], None]] = {
    "JPEG, quality 95": as_jpeg(95),
    "JPEG, quality 75": as_jpeg(75),
    "JPEG, quality 40": as_jpeg(40),
    "a PNG that was a JPEG": was_jpeg,
    "black with alpha": lambda path: layers(0, blob()).save(path, "PNG"),
    "white with alpha": lambda path: layers(255, blob()).save(path, "PNG"),
    "black on transparent white": lambda path: Image.fromarray(
        np.dstack([255 - blob()] * 3 + [blob()])
    ).save(path, "PNG"),
    "floats": lambda path: Image.fromarray((blob() / 255).astype(np.float32)).save(path, "TIFF"),
    "two bits": lambda path: Image.fromarray(blob() // 128).convert("P").save(path, "PNG", bits=2),
}


@pytest.mark.parametrize("kind", HARD)
def test_a_mask_marks_its_defect_however_it_is_stored(tmp_path: Path, kind: str) -> None:
    HARD[kind](tmp_path / "mask")
    values, lossy = mask_values(tmp_path / "mask")
    check_mask(tmp_path / "mask", values, lossy, textured())
    found = decode_mask(tmp_path / "mask")
    assert np.count_nonzero(found != (blob() > 0)) <= (12 if "JPEG" in kind else 0)
    assert cv2.connectedComponents(found.astype(np.uint8))[0] == 2


@pytest.mark.parametrize("sigma", [1, 2, 8])
def test_soft_edges_count_from_half(tmp_path: Path, sigma: float) -> None:
    expected = soft(sigma) >= 128
    save(tmp_path / "grey.png", soft(sigma))
    save(tmp_path / "deep.png", soft(sigma).astype(np.uint16) * 257)
    layers(255, soft(sigma)).save(tmp_path / "alpha.png")
    for path in tmp_path.iterdir():
        assert np.array_equal(decode_mask(path), expected), path.name


def test_many_labels_are_all_marked(tmp_path: Path) -> None:
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for number in range(24):
        cv2.circle(labels, (8 + number % 6 * 16, 8 + number // 6 * 20), 5, number + 1, -1)
    assert np.array_equal(decode_mask(save(tmp_path / "a.png", labels)), labels > 0)


def painted() -> np.ndarray:
    over = textured()
    over[blob() > 0] = [255, 0, 0]
    return over


WRONG = {
    "inverted": (255 - blob(), "mask of nearly all: 93% of the image marked"),
    "all of it": (np.full((SIDE, SIDE), 255, np.uint8), "mask of nearly all: 100%"),
    "around a large part": (
        np.where(cv2.dilate(blob(), np.ones((40, 40))) > 0, 0, 255).astype(np.uint8),
        "mask of nearly all",
    ),
    "painted on the photograph": (painted(), "mask is a photograph"),
    "painted and dimmed": (painted() // 2, "mask is a photograph"),
    "the photograph": (textured(), "mask is a photograph"),
    "black": (blob() * 0, "empty mask: all zero"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_marks_no_defect_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    pixels, message = WRONG[kind]
    values, lossy = mask_values(save(tmp_path / "a.png", pixels))
    with pytest.raises(UnfitError, match=message):
        check_mask(tmp_path / "a.png", values, lossy, textured())


def test_a_defect_of_most_of_the_part_is_not_a_mistake(tmp_path: Path) -> None:
    large = np.zeros((SIDE, SIDE), np.uint8)
    large[10:90, 5:90] = 255
    check_mask(tmp_path / "a.png", large, False, textured())


def test_the_index_lists_them_and_goes_on_without_pixel_figures(category: Path) -> None:
    mask = category / "ground_truth/crack/000_mask.png"
    save(mask, photograph(20))  # as its image
    table, problems = scan(
        Folder(name="any", source=str(category.parent)),
        category.name,
        max_megapixels=1,
        min_train_good=2,
        workers=1,
    )
    assert [(p.file, p.problem) for p in problems] == [
        ("ground_truth/crack/000_mask.png", "mask is a photograph")
    ]
    assert table.set_index("image_id").loc["test/crack/000.png", "mask_path"] == ""
