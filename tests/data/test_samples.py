"""Photographs of every bit depth: they show as what they were made from, or are refused by name."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from photographs import photograph, save
from PIL import Image

from flawline.data.datasets.folder import Folder
from flawline.data.images import decode_image, decode_photograph
from flawline.data.index import Problem, scan
from flawline.data.prepare import category_levels
from flawline.data.samples import Levels, UnfitError
from flawline.errors import FlawlineError

KINDS = {"u": 1, "i": 2, "f": 3}


def surface(seed: int = 0, bands: int = 1) -> np.ndarray:
    """uint8 (30, 40) or (30, 40, bands), from about 10 to 240, with no symmetry."""
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.normal(0, 1, (30, 40, bands)), (0, 0), 2)
    grey = (125 + 115 * smooth / np.abs(smooth).max()).astype(np.uint8)
    return grey.reshape(30, 40, bands) if bands > 1 else grey.reshape(30, 40)


def tiff(
    pixels: np.ndarray, *, order: str = "<", packed: tuple[int, bytes] | None = None, **tags: int
) -> bytes:
    """An uncompressed TIFF of one strip; `tags` by number, as t274=6."""
    height, width = pixels.shape[:2]
    bands = pixels.shape[2] if pixels.ndim == 3 else 1
    bits, data = packed or (
        8 * pixels.dtype.itemsize,
        pixels.astype(pixels.dtype.newbyteorder(order)).tobytes(),
    )
    known = {256: width, 257: height, 258: bits, 259: 1, 262: 1 if bands == 1 else 2, 277: bands}
    known |= {278: height, 279: len(data), 284: 1, 339: KINDS[pixels.dtype.kind]}
    known |= {int(name[1:]): value for name, value in tags.items()}
    start = 8 + 2 + 12 * (len(known) + 1) + 4
    several = b"".join(struct.pack(order + "H", known[tag]) * bands for tag in (258, 339))
    known[273] = start + len(several)
    entries = b""
    for tag in sorted(known):
        if tag in (258, 339) and bands > 2:
            place = start + (2 * bands if tag == 339 else 0)
            entries += struct.pack(order + "HHII", tag, 3, bands, place)
        elif tag in (258, 339) and bands == 2:
            entries += struct.pack(order + "HHIHH", tag, 3, 2, known[tag], known[tag])
        elif known[tag] > 65_535 or tag in (273, 279):
            entries += struct.pack(order + "HHII", tag, 4, 1, known[tag])
        else:
            entries += struct.pack(order + "HHIHH", tag, 3, 1, known[tag], 0)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(order + "IH", 8, len(known))
    return head + entries + struct.pack(order + "I", 0) + several + data


def png(pixels: np.ndarray, kind: int, **chunks: bytes) -> bytes:
    """A PNG of 16 bits with further chunks before its data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    more = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    whole = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + whole + chunk(b"IEND", b"")


def shown(folder: Path, content: bytes, levels: Levels | None = None) -> np.ndarray:
    path = folder / "a.image"
    path.write_bytes(content)
    return decode_photograph(path, 1, levels)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    return found.shape == expected.shape and int(np.abs(found.astype(int) - expected).max()) <= 1


FULL = {
    "uint16": lambda grey: grey.astype(np.uint16) * 257,
    "uint32": lambda grey: grey.astype(np.uint32) * 16_843_009,
    "int16": lambda grey: grey.astype(np.int16) * 128,
    "int32": lambda grey: grey.astype(np.int32) * 8_421_504,
    "float32, 0 to 1": lambda grey: (grey / 255).astype(np.float32),
    "float32, 0 to 255": lambda grey: grey.astype(np.float32),
    "float64": lambda grey: grey / 255,
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("kind", FULL)
def test_every_type_of_a_tiff_shows_what_it_was_made_from(
    tmp_path: Path, kind: str, bands: int, order: str
) -> None:
    grey = surface(bands=bands)
    assert same(shown(tmp_path, tiff(FULL[kind](grey), order=order)), grey)


@pytest.mark.parametrize("kind", ["uint16", "uint32", "float32, 0 to 1"])
def test_where_0_is_white_the_picture_is_not_a_negative(tmp_path: Path, kind: str) -> None:
    assert same(shown(tmp_path, tiff(FULL[kind](255 - surface()), t262=0)), surface())
    assert same(shown(tmp_path, tiff(255 - surface(), t262=0)), surface())


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_show_as_bright_by_the_option_and_by_what_files_note(
    tmp_path: Path, bits: int
) -> None:
    white, grey = 2**bits - 1, surface()
    values = grey.astype(np.uint16) << (bits - 8)
    colours = surface(1, 3).astype(np.uint16) << (bits - 8)
    assert same(shown(tmp_path, tiff(values), Levels(white)), grey)
    assert same(shown(tmp_path, png(values, 0), Levels(white)), grey)
    assert same(shown(tmp_path, png(colours, 2), Levels(white)), surface(1, 3))
    assert same(shown(tmp_path, tiff(colours), Levels(white)), surface(1, 3))
    assert same(shown(tmp_path, tiff(values, t281=white)), grey)
    inverted = (white - values).astype(np.uint16)
    assert same(shown(tmp_path, tiff(inverted, t281=white, t262=0)), grey)
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    packed = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)
    assert same(shown(tmp_path, tiff(values, packed=(bits, packed))), grey)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_sbit_counts_whether_samples_were_scaled_up_or_not(tmp_path: Path, bits: int) -> None:
    values = surface().astype(np.uint16) << (bits - 8)
    values += (np.arange(1200).reshape(30, 40) % 2 ** (bits - 8)).astype(np.uint16)
    noted = {"sBIT": bytes([bits])}
    assert same(shown(tmp_path, png(values, 0, **noted)), surface())
    scaled = (values << (16 - bits)) | (values >> (2 * bits - 16))
    assert same(shown(tmp_path, png(scaled, 0, **noted)), surface())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bands", [1, 3])
def test_deep_photographs_and_plain_tiffs_come_out_upright(
    tmp_path: Path, orientation: int, bands: int
) -> None:
    grey = surface(bands=bands)
    mirrored = grey[:, ::-1] if orientation in (2, 4, 5, 7) else grey
    quarters = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation]
    stored = np.ascontiguousarray(np.rot90(mirrored, quarters))
    deep = stored.astype(np.uint16) * 257
    assert same(shown(tmp_path, tiff(stored, t274=orientation)), grey)
    assert same(shown(tmp_path, tiff(deep, t274=orientation, order=">")), grey)
    exif = Image.Exif()
    exif[0x0112] = orientation
    marked = {"eXIf": exif.tobytes().removeprefix(b"Exif\0\0")}
    assert same(shown(tmp_path, png(deep, 0 if bands == 1 else 2, **marked)), grey)


def alphas() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Alpha, and what a grey photograph of `surface` shows with it."""
    half = np.zeros((30, 40), np.uint8)
    half[:, 20:] = 255
    white = surface().copy()
    white[:, :20] = 255
    return {
        "never written": (np.zeros((30, 40), np.uint8), surface()),
        "opaque": (np.full((30, 40), 255, np.uint8), surface()),
        "half": (half, white),
    }


@pytest.mark.parametrize("kind", ["never written", "opaque", "half"])
def test_alpha_that_nobody_wrote_is_ignored_and_other_laid_over_white(
    tmp_path: Path, kind: str
) -> None:
    alpha, expected = alphas()[kind]
    layered = np.dstack([surface()] * 3 + [alpha])
    deep = layered.astype(np.uint16) * 257
    plain = io.BytesIO()
    Image.fromarray(layered).save(plain, "PNG")
    for content in (plain.getvalue(), png(deep, 6), png(deep[..., 2:], 4), tiff(deep, t338=2)):
        assert same(shown(tmp_path, content), expected)


def test_a_palette_that_is_transparent_altogether_shows_its_colours(tmp_path: Path) -> None:
    indices = Image.fromarray((surface() > 120).astype(np.uint8)).convert("P")
    indices.putpalette([200, 0, 0, 10, 200, 30])
    content = io.BytesIO()
    indices.save(content, "PNG", transparency=b"\0\0", bits=1)
    expected = np.where((surface() > 120)[..., None], [10, 200, 30], [200, 0, 0])
    assert same(shown(tmp_path, content.getvalue()), expected)


with_nan, with_infinity = (surface() / 255).astype(np.float32), (surface() / 255).astype(np.float32)
with_nan[3, 4], with_infinity[5, 6] = np.nan, np.inf
infrared = np.dstack([surface(0, 3), surface(7)])
REFUSED = {
    "NaN": (tiff(with_nan), "not finite: 1 of 1200 values"),
    "infinity": (tiff(with_infinity), "not finite"),
    "floats from -1 to 1": (tiff(surface() / np.float32(127.5) - 1), "out of range.*data.white"),
    "floats to 4095": (tiff(surface() * np.float32(16)), "out of range: floats from .* to 3"),
    "below 0": (tiff(surface().astype(np.int16) * 128 - 20_000), "negative values"),
    "a band of infrared": (tiff(infrared, t338=2), "alpha is a picture"),
    "infrared of 16 bits": (png(infrared.astype(np.uint16) * 257, 6), "alpha is a picture"),
    "planes": (tiff(surface(0, 3).astype(np.uint16), t284=2), "separate planes"),
    "grey with alpha": (tiff(surface(0, 2).astype(np.uint16), t338=2), "grey with alpha"),
    "black": (tiff(np.zeros((30, 40), np.uint16)), "blank: every pixel is 0;"),
    "plain": (tiff(np.full((30, 40, 3), 90, np.uint8)), "blank: every pixel is 90;"),
    "nearly plain": (tiff(surface() % 4), "blank: every pixel lies from 0 to 3, white being 255"),
    "12 of 16 bits": (tiff(surface().astype(np.uint16) * 16), "nearly black: .* is 3.*data.white"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_shown_is_refused_with_what_was_found(tmp_path: Path, kind: str) -> None:
    content, message = REFUSED[kind]
    with pytest.raises(UnfitError, match=f"^{tmp_path}/a.image: .*{message}"):
        shown(tmp_path, content)


def test_a_white_far_below_the_values_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnfitError, match=r"brighter than white: \d+% .* \(now 255\)"):
        shown(tmp_path, tiff(FULL["uint16"](surface())), Levels(255))


def test_the_noise_of_a_plain_surface_is_not_a_blank_image(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(200, 1, (64, 64)).round().astype(np.uint8)
    assert same(shown(tmp_path, tiff(noisy)), noisy)


@pytest.mark.parametrize("suffix", ["JPG", "jfif"])
def test_the_second_picture_of_a_phone_is_ignored(tmp_path: Path, suffix: str) -> None:
    first = Image.fromarray(surface(0, 3))
    path = tmp_path / f"IMG_0001.{suffix}"
    first.save(path, "MPO", save_all=True, append_images=[Image.new("L", (8, 8))], quality=98)
    assert np.abs(decode_image(path).astype(int) - surface(0, 3)).mean() < 6


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP"])
def test_several_frames_are_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    pages = [Image.fromarray(photograph(seed)) for seed in range(3)]
    pages[0].save(tmp_path / "a", kind, save_all=True, append_images=pages[1:])
    with pytest.raises(FlawlineError, match=r"several frames: 3 frames; expected one image per"):
        decode_image(tmp_path / "a")


def write(category: Path, images: list[np.ndarray], suffix: str = "tif") -> None:
    for path in category.glob("train/good/*"):
        path.unlink()
    for number, pixels in enumerate(images):
        content = tiff(pixels) if suffix == "tif" else png(pixels, 0)
        (category / f"train/good/{number:03d}.{suffix}").write_bytes(content)


def look(category: Path, **options: Any) -> tuple[Any, list[Problem]]:
    return scan(
        Folder(name="any", source=str(category.parent)),
        category.name,
        max_megapixels=1,
        min_train_good=2,
        workers=2,
        **options,
    )


class TestCategories:
    @pytest.mark.parametrize("suffix", ["tif", "png"])
    @pytest.mark.parametrize("bits", [8, 10, 12, 14])
    def test_of_fewer_bits_than_their_files_have_name_the_option(
        self, category: Path, bits: int, suffix: str
    ) -> None:
        write(category, [surface(i).astype(np.uint16) << (bits - 8) for i in range(4)], suffix)
        _, problems = look(category)
        assert [(p.problem, p.can_go_on) for p in problems] == [("white is not known", "no")]
        assert f"white: {2**bits - 1}" in problems[0].expected
        assert look(category, white=2**bits - 1)[1] == []
        if bits > 10:  # of fewer, nothing is left to see
            assert look(category, white=65_535)[1] == []

    def test_may_have_dark_photographs_beside_bright_ones(self, category: Path) -> None:
        dark = (surface(1) // 4).astype(np.uint16) * 257
        write(category, [FULL["uint16"](surface(0)), dark, FULL["uint16"](surface(2))])
        assert look(category)[1] == []
        path = category / "train/good/001.tif"
        assert same(decode_image(path), surface(1) // 4)

    def test_of_12_bits_among_16_bits_are_named(self, category: Path) -> None:
        write(
            category,
            [*(FULL["uint16"](surface(i)) for i in range(3)), surface(5).astype(np.uint16)],
        )
        assert [(p.file, p.problem) for p in look(category)[1]] == [("train/good/003.tif", "blank")]

    @pytest.mark.parametrize("most", ["float32, 0 to 1", "float32, 0 to 255"])
    def test_of_floats_take_the_range_that_most_have_and_refuse_the_others(
        self, category: Path, most: str
    ) -> None:
        (other,) = {"float32, 0 to 1", "float32, 0 to 255"} - {most}
        write(category, [*(FULL[most](surface(i)) for i in range(4)), FULL[other](surface(5))])
        table, problems = look(category)
        assert [p.file for p in problems] == ["train/good/004.tif"]
        levels = category_levels(table, None)
        assert levels == Levels(None, 255 if "255" in most else 1)
        dark = tiff((FULL[most](surface()) / 200).astype(np.float32))
        (category / "dark.tif").write_bytes(dark)
        assert decode_image(category / "dark.tif", 1, levels).max() <= 2

    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
    def test_name_blank_photographs(self, category: Path, suffix: str) -> None:
        save(category / f"test/good/lid.{suffix}", np.zeros((64, 64, 3), np.uint8))
        found = [(p.file, p.problem, p.found) for p in look(category)[1]]
        assert found == [(f"test/good/lid.{suffix}", "blank", "every pixel is 0")]
