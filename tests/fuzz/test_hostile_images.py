"""Malformed image files, absurd sizes, hostile names, links and devices."""

import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fuzzing import cases, damages, try_all, watched
from hypothesis import strategies as st
from PIL import Image

from flawline.data.datasets.folder import Folder
from flawline.data.folder_digest import SUFFIXES, folder_digest
from flawline.data.images import FORMATS, decode_image
from flawline.data.index import scan
from flawline.data.masks import decode_mask
from flawline.data.problems import problem_table
from flawline.data.resize import resize_image, resize_mask
from flawline.errors import FlawlineError
from flawline.files import read_table, write_table

pytestmark = pytest.mark.usefixtures("watchdog")

MEGAPIXELS = 0.5


def pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def photographs() -> dict[str, bytes]:
    """One file of every kind that is read, and of some that are not."""
    colour = Image.fromarray(pixels(20, 30, 3))
    grey = Image.fromarray(pixels(20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    pages = [Image.fromarray(pixels(9, 9, 3)) for _ in range(3)]
    several = {"save_all": True, "append_images": pages[1:]}
    found = {
        "rgb.png": encoded(colour, "PNG"),
        "grey.png": encoded(grey, "PNG"),
        "grey16.png": encoded(Image.fromarray(pixels(20, 30, dtype=np.uint16)), "PNG"),
        "palette.png": encoded(colour.quantize(16), "PNG", transparency=3),
        "rgba.png": encoded(Image.fromarray(pixels(20, 30, 4)), "PNG", exif=exif),
        "bits.png": encoded(grey.convert("1"), "PNG"),
        "animated.png": encoded(pages[0], "PNG", **several),
        "rgb.jpg": encoded(colour, "JPEG", exif=exif),
        "progressive.jpg": encoded(colour, "JPEG", progressive=True),
        "cmyk.jpg": encoded(colour.convert("CMYK"), "JPEG"),
        "rgb.bmp": encoded(colour, "BMP"),
        "palette.bmp": encoded(colour.quantize(16), "BMP"),
        "lossy.webp": encoded(colour, "WEBP", exif=exif),
        "lossless.webp": encoded(colour, "WEBP", lossless=True),
        "animated.webp": encoded(pages[0], "WEBP", **several),
        "several.tif": encoded(pages[0], "TIFF", **several),
        "colour16.png": cv2.imencode(".png", pixels(20, 30, 3, dtype=np.uint16))[1].tobytes(),
        "colour16.tif": cv2.imencode(".tif", pixels(20, 30, 3, dtype=np.uint16))[1].tobytes(),
        "float_rgb.tif": cv2.imencode(".tif", pixels(20, 30, 3).astype(np.float32))[1].tobytes(),
        "float.tif": encoded(Image.fromarray(pixels(20, 30).astype(np.float32)), "TIFF"),
        "frames.gif": encoded(pages[0], "GIF", save_all=True, append_images=pages * 300),
        "other.ppm": encoded(colour, "PPM"),
        "other.ico": encoded(colour, "ICO"),
    }
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        found[f"{compression}.tif"] = encoded(colour, "TIFF", compression=compression)
    return found


FILES = photographs()


@cases(150, 3000)
def test_a_damaged_image_is_decoded_or_refused_by_name(tmp_path: Path, examples: int) -> None:
    def holds(name: str, suffix: str, damage: Callable[[bytes], bytes]) -> None:
        path = tmp_path / f"{name.split('.')[0]}{suffix}"
        path.write_bytes(damage(FILES[name]))
        with watched():
            for read in (decode_image, decode_mask):
                try:
                    found = read(path, MEGAPIXELS)
                except FlawlineError as error:
                    assert str(error).startswith(f"{path}: ")
                    continue
                if read is decode_image:
                    assert found.dtype == np.uint8
                    assert found.ndim == 3
                    assert found.shape[2] == 3
                    assert found.size <= 3 * MEGAPIXELS * 1e6

    try_all(examples, holds, st.sampled_from(sorted(FILES)), st.sampled_from(SUFFIXES), damages())


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    packed = chunk(b"IDAT", zlib.compress(data))
    return b"\x89PNG\r\n\x1a\n" + header + extra + packed + chunk(b"IEND", b"")


def bmp(width: int, height: int, data: bytes) -> bytes:
    about = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(data), 0, 0, 54) + about + data


SIDES = st.one_of(
    st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 1000, 65_535, 1_000_000, 2**31 - 1])
)


@cases(60, 1500)
def test_an_absurd_size_is_refused_before_memory_is_taken(tmp_path: Path, examples: int) -> None:
    def holds(make: Callable[[int, int, bytes], bytes], width: int, height: int) -> None:
        path = tmp_path / "absurd.png"
        path.write_bytes(make(width, height, b"\0" * 1000))
        if width * height > MEGAPIXELS * 1e6:
            with pytest.raises(FlawlineError, match=r"absurd\.png: .*megapixels are decoded"):
                decode_image(path, MEGAPIXELS)
            return
        try:
            assert decode_image(path, MEGAPIXELS).shape == (height, width, 3)
        except FlawlineError as error:
            assert str(error).startswith(f"{path}: ")

    try_all(examples, holds, st.sampled_from([png, bmp]), SIDES, SIDES)


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_in_the_words_of_a_png_is_not_unpacked(tmp_path: Path, kind: bytes) -> None:
    bomb = chunk(kind, b"x\0\0" + zlib.compress(b"\0" * 300_000_000, 9))
    path = tmp_path / "bomb.png"
    path.write_bytes(png(4, 4, b"\0" * 52, bomb))
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        assert decode_image(path).shape == (4, 4, 3)
    except FlawlineError as error:
        assert "bomb.png" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


@cases(40, 400)
def test_a_strip_of_any_shape_becomes_a_square(examples: int) -> None:
    def holds(long: int, short: int, upright: bool, mode: str) -> None:
        shape = (long, short) if upright else (short, long)
        image = np.full((*shape, 3), 7, np.uint8)
        assert resize_image(image, (64, 64), mode).shape == (64, 64, 3)
        assert resize_mask(image[..., 0] > 0, (64, 64), mode).shape == (64, 64)

    modes = st.sampled_from(["stretch", "letterbox", "center_crop"])
    try_all(examples, holds, st.integers(1, 300_000), st.integers(1, 3), st.booleans(), modes)


NAMES = st.one_of(
    st.sampled_from(
        [
            b"<script>alert(1)<\\script>",
            b"\"'`$(touch hacked)`touch hacked`;touch hacked",
            b"new\nline\r\ttab",
            b"caf\xe9 \xff\xfe",
            b"=cmd|' \\C calc'!A0",
            b"{wildcard}, comma",
            b"-rf",
            b" ",
            b"NA",
        ]
    ),
    st.binary(min_size=1, max_size=40).filter(lambda name: b"/" not in name and b"\0" not in name),
)


@cases(40, 800)
def test_any_file_name_is_indexed_or_named_as_a_problem(tmp_path: Path, examples: int) -> None:
    def holds(names: list[bytes], part: str, suffix: bytes) -> None:
        shutil.rmtree(tmp_path / "parts", ignore_errors=True)
        folder = tmp_path / "parts" / "nut"
        for where in ("train/good", "test/good", "test/bent"):
            (folder / where).mkdir(parents=True)
        for name in names:
            path = os.fsencode(folder / part) + b"/" + name + suffix
            Path(os.fsdecode(path)).write_bytes(FILES["rgb.png"] + name)
        table = tmp_path / "index.csv"
        with watched(tmp_path):
            found, problems = scan(
                Folder(name="any", source=str(folder.parent)),
                folder.name,
                max_megapixels=1,
                min_train_good=2,
                workers=1,
            )
            write_table(table, found)
            write_table(tmp_path / "problems.csv", problem_table(problems))
            folder_digest(folder, tmp_path / "digest.json")
        assert read_table(table)["image_id"].tolist() == found["image_id"].tolist()
        told = set(found["image_id"]) | {problem.file for problem in problems}
        for name in names:
            text = (name + suffix).decode("utf-8", "backslashreplace")
            hidden = name.startswith(b".") or (name + suffix).lower() in (b"thumbs.db",)
            assert hidden or f"{part}/{text}" in told

    parts = st.sampled_from(["train/good", "test/good", "test/bent"])
    suffixes = st.sampled_from([b".png", b".PNG", b".gif", b""])
    names = st.lists(NAMES, min_size=1, max_size=3, unique=True)
    try_all(examples, holds, names, parts, suffixes)


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to a pipe": lambda path: (os.mkfifo(f"{path}.x"), path.symlink_to(f"{path}.x")),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link round the folder": lambda path: path.symlink_to(path.parent),
    "a link to a file outside": lambda path: path.symlink_to("/etc/passwd"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a folder": lambda path: path.mkdir(),
    "zero bytes": lambda path: path.touch(),
    "many frames": lambda path: path.write_bytes(FILES["frames.gif"]),
    "pages": lambda path: path.write_bytes(FILES["several.tif"]),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("part", ["train/good", "test/bent", "ground_truth/bent"])
def test_what_is_not_an_image_file_is_left_out_and_never_waited_for(
    tmp_path: Path, kind: str, part: str
) -> None:
    folder = tmp_path / "nut"
    for where in ("train/good", "test/bent", "ground_truth/bent"):
        (folder / where).mkdir(parents=True)
    for number in range(3):
        (folder / f"train/good/{number}.png").write_bytes(FILES["rgb.png"] + bytes([number]))
    (folder / "test/bent/odd.png").write_bytes(FILES["rgb.png"] + b"test")
    name = "odd_mask.png" if part.startswith("ground") else "strange.png"
    ODD[kind](folder / part / name)
    found, problems = scan(
        Folder(name="any", source=str(folder.parent)),
        folder.name,
        max_megapixels=1,
        min_train_good=2,
        workers=1,
    )
    assert f"{part}/{name}" not in set(found["image_id"])
    if kind not in ("a folder", "a link round the folder"):
        assert any(problem.file == f"{part}/{name}" for problem in problems)
    folder_digest(folder, tmp_path / "digest.json")


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "pages"])
def test_a_file_that_is_not_an_image_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "strange.png"
    ODD[kind](path)
    for read in (decode_image, decode_mask):
        with pytest.raises(FlawlineError, match=r"strange\.png: "):
            read(path)


def test_a_category_whose_name_is_not_text_is_refused(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xfft")) / "train/good").mkdir(parents=True)
    with pytest.raises(FlawlineError, match=r"n\\xfft"):
        Folder(name="any", source=str(tmp_path)).categories()


def test_every_format_that_is_read_is_damaged_here() -> None:
    known = [content for name, content in FILES.items() if name != "float_rgb.tif"]
    read = {Image.open(io.BytesIO(content)).format for content in known}
    assert read >= set(FORMATS)
