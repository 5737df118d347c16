import io
import itertools
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import photograph, save
from PIL import Image

from flawline.data import resize
from flawline.data.images import decode_image
from flawline.data.masks import decode_mask
from flawline.data.resize import (
    photograph_area,
    resize_image,
    resize_mask,
    resize_share,
    to_original,
)
from flawline.errors import FlawlineError

MODES = ("stretch", "letterbox", "center_crop")
LOSSY = {"jpg": 12, "jpeg": 12, "webp": 12}


def smooth(height: int = 30, width: int = 40) -> np.ndarray:
    """Slow gradients in every channel, so that lossy formats stay close; no symmetry."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [200 * x / width, 200 * y / height + 30, 120 + 0 * x]
    return np.stack(channels, axis=2).astype(np.uint8)


def close(found: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> bool:
    return (
        found.dtype == np.uint8
        and found.shape == expected.shape
        and int(np.abs(found.astype(int) - expected).max()) <= tolerance
    )


class TestDecoding:
    @pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"])
    @pytest.mark.parametrize("upper", [False, True])
    def test_every_format_in_any_case_gives_the_pixels_that_were_saved(
        self, tmp_path: Path, suffix: str, upper: bool
    ) -> None:
        path = tmp_path / f"Größe 1,5 µm 部品.{suffix.upper() if upper else suffix}"
        options = {"quality": 95} if suffix in LOSSY else {}
        save(path, smooth(), **options)
        assert close(decode_image(path), smooth(), LOSSY.get(suffix, 0))

    def test_grey_becomes_three_equal_channels(self, tmp_path: Path) -> None:
        grey = smooth()[..., 0]
        assert close(decode_image(save(tmp_path / "a.png", grey)), np.stack([grey] * 3, axis=2))

    def test_one_bit_becomes_black_and_white(self, tmp_path: Path) -> None:
        dark = smooth()[..., 0] > 100
        Image.fromarray(dark).save(tmp_path / "a.png")
        expected = np.stack([dark * 255] * 3, axis=2)
        assert close(decode_image(tmp_path / "a.png"), expected)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bit_grey_keeps_its_upper_eight_bits(self, tmp_path: Path, suffix: str) -> None:
        grey = np.arange(0, 65_536, 64, dtype=np.uint16).reshape(32, 32)
        found = decode_image(save(tmp_path / f"a.{suffix}", grey))
        assert close(found, np.stack([grey >> 8] * 3, axis=2))

    def test_big_endian_sixteen_bit_tiff_is_not_read_as_noise(self, tmp_path: Path) -> None:
        grey = np.arange(0, 65_536, 64, dtype=np.uint16).reshape(32, 32)
        image = Image.frombytes("I;16B", (32, 32), grey.astype(">u2").tobytes())
        image.save(tmp_path / "a.tif")
        assert close(decode_image(tmp_path / "a.tif"), np.stack([grey >> 8] * 3, axis=2))

    @pytest.mark.parametrize("alpha", [1, 128, 255])
    def test_transparency_is_laid_over_white(self, tmp_path: Path, alpha: int) -> None:
        layered = np.dstack([smooth(), np.full((30, 40), alpha, np.uint8)])
        expected = 255 + (smooth().astype(float) - 255) * alpha / 255
        assert close(decode_image(save(tmp_path / "a.png", layered)), expected.round(), 1)

    def test_a_grey_image_with_alpha_is_laid_over_white(self, tmp_path: Path) -> None:
        Image.new("LA", (5, 4), (10, 51)).save(tmp_path / "a.png")
        assert close(decode_image(tmp_path / "a.png"), np.full((4, 5, 3), 206))

    def test_a_palette_gives_its_colours(self, tmp_path: Path) -> None:
        image = Image.new("P", (6, 4), 1)
        image.putpalette([0, 0, 0, 10, 200, 30])
        image.save(tmp_path / "a.png")
        assert close(decode_image(tmp_path / "a.png"), np.tile([10, 200, 30], (4, 6, 1)))

    def test_a_transparent_entry_of_a_palette_becomes_white(self, tmp_path: Path) -> None:
        indices = np.zeros((4, 6), np.uint8)
        indices[:, 3:] = 1
        image = Image.fromarray(indices).convert("P")
        image.putpalette([200, 0, 0, 10, 200, 30])
        image.save(tmp_path / "a.png", transparency=0)
        found = decode_image(tmp_path / "a.png")
        assert close(found[:, :3], np.full((4, 3, 3), 255))
        assert close(found[:, 3:], np.tile([10, 200, 30], (4, 3, 1)))

    def test_a_cmyk_jpeg_has_the_colours_that_it_was_made_from(self, tmp_path: Path) -> None:
        Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
        with Image.open(tmp_path / "a.jpg") as image:
            assert image.mode == "CMYK"
        assert close(decode_image(tmp_path / "a.jpg"), smooth(), 12)

    @pytest.mark.parametrize(
        ("orientation", "turn"),
        [
            (2, lambda image: image[:, ::-1]),
            (3, lambda image: np.rot90(image, 2)),
            (6, lambda image: np.rot90(image)),
            (8, lambda image: np.rot90(image, -1)),
        ],
    )
    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
    def test_a_photograph_held_sideways_comes_out_upright(
        self, tmp_path: Path, suffix: str, orientation: int, turn: Any
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = np.ascontiguousarray(turn(smooth()))
        options = {"quality": 95} if suffix in LOSSY else {}
        path = save(tmp_path / f"a.{suffix}", stored, exif=exif, **options)
        assert close(decode_image(path), smooth(), 15)

    def test_a_gif_named_png_is_refused_with_its_path(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        Image.fromarray(smooth()).save(path, format="GIF")
        with pytest.raises(FlawlineError, match=r"a\.png: not an image") as refused:
            decode_image(path)
        assert str(refused.value).count(str(path)) == 1

    @pytest.mark.parametrize("decode", [decode_image, decode_mask])
    def test_a_decompression_bomb_is_refused_without_decoding(
        self, tmp_path: Path, decode: Any
    ) -> None:
        def chunk(kind: bytes, content: bytes) -> bytes:
            checked = kind + content
            return (
                struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))
            )

        header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
        path = tmp_path / "bomb.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(1000)))
            + chunk(b"IEND", b"")
        )
        tracemalloc.start()
        try:
            with pytest.raises(FlawlineError, match=r"50000 x 50000 pixels.*max_megapixels"):
                decode(path)
            assert tracemalloc.get_traced_memory()[1] < 50e6
        finally:
            tracemalloc.stop()

    def test_the_limit_counts_pixels_and_includes_itself(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", photograph(0, 100, 100))
        assert decode_image(path, max_megapixels=0.01).shape == (100, 100, 3)
        with pytest.raises(FlawlineError):
            decode_image(path, max_megapixels=0.0099)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("decode", [decode_image, decode_mask])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
    def test_damage_anywhere_is_a_clear_error_or_harmless(
        self, tmp_path: Path, decode: Any, suffix: str
    ) -> None:
        whole = io.BytesIO()
        kind = {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix)
        Image.fromarray(photograph(0)).save(whole, kind)
        rng = np.random.default_rng(0)
        refused = []
        path = tmp_path / f"a.{suffix}"
        for attempt in range(60):
            content = bytearray(whole.getvalue())
            if attempt % 2:
                content = content[: rng.integers(1, len(content))]
            else:
                for place in rng.integers(0, min(len(content), 150), 4):
                    content[place] = rng.integers(256)
            path.write_bytes(content)
            try:
                assert decode(path).ndim == (3 if decode is decode_image else 2)
            except FlawlineError as error:
                refused.append(str(error))
        assert len(refused) > 10
        assert all(message.startswith(f"{path}: ") for message in refused)

    @pytest.mark.parametrize("decode", [decode_image, decode_mask])
    def test_a_broken_header_that_pillow_does_not_expect_is_a_clear_error(
        self, tmp_path: Path, decode: Any
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 5) + b"IHDR" + bytes(5) + bytes(40)
        )
        with pytest.raises(FlawlineError, match="cannot be opened"):
            decode(path)


class TestMasks:
    def expected(self) -> np.ndarray:
        mask = np.zeros((12, 16), bool)
        mask[3:6, 4:12] = True
        return mask

    @pytest.mark.parametrize("value", [1, 128, 255])
    def test_any_value_but_zero_marks_the_defect(self, tmp_path: Path, value: int) -> None:
        path = save(tmp_path / "a.png", (self.expected() * value).astype(np.uint8))
        found = decode_mask(path)
        assert found.dtype == bool
        assert np.array_equal(found, self.expected())

    @pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
    def test_every_mode_gives_the_same_mask(self, tmp_path: Path, mode: str) -> None:
        grey = Image.fromarray((self.expected() * 255).astype(np.uint8))
        image = (
            Image.fromarray(self.expected().astype(np.uint16) * 40_000)
            if mode == "I;16"
            else grey.convert(mode)
        )
        image.save(tmp_path / "a.png")
        assert np.array_equal(decode_mask(tmp_path / "a.png"), self.expected())

    def test_black_is_not_a_defect_wherever_a_palette_has_it(self, tmp_path: Path) -> None:
        image = Image.fromarray((~self.expected()).astype(np.uint8)).convert("P")
        image.putpalette([255, 255, 255, 0, 0, 0])
        image.save(tmp_path / "a.png")
        assert np.array_equal(decode_mask(tmp_path / "a.png"), self.expected())

    def test_a_blue_mark_counts_as_much_as_a_white_one(self, tmp_path: Path) -> None:
        colours = np.zeros((12, 16, 3), np.uint8)
        colours[self.expected(), 2] = 200
        assert np.array_equal(decode_mask(save(tmp_path / "a.png", colours)), self.expected())


@st.composite
def rectangles(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """A mask with one rectangle, and the size to bring it to."""
    height, width = draw(st.integers(16, 90)), draw(st.integers(16, 90))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask, draw(st.integers(8, 64))


class TestResizing:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("original", [(40, 80), (80, 40), (60, 60), (10, 20), (5, 200)])
    @pytest.mark.parametrize("shape", [(32, 32), (64, 64), (32, 64), (96, 32)])
    def test_image_and_mask_have_the_shape_asked_for(
        self, mode: str, original: tuple[int, int], shape: tuple[int, int]
    ) -> None:
        image = resize_image(np.full((*original, 3), 77, np.uint8), shape, mode)
        mask = resize_mask(np.ones(original, bool), shape, mode)
        assert image.shape == (*shape, 3)
        assert mask.shape == shape
        assert image.dtype == mask.dtype == np.uint8
        assert (image == 77).all(), "bars repeat the photograph's border"
        area = np.zeros(shape, bool)
        area[photograph_area(original, shape, mode)] = True
        assert np.array_equal(area, mask == 1)
        same = original[0] * shape[1] == original[1] * shape[0]
        assert area.all() == (mode != "letterbox" or same)

    @pytest.mark.parametrize("mode", MODES)
    def test_the_right_size_already_is_left_as_it_is(self, mode: str) -> None:
        image = photograph(1, 48, 48)
        assert np.array_equal(resize_image(image, (48, 48), mode), image)

    def test_stretch_shows_every_part_of_the_image(self) -> None:
        image = np.zeros((40, 80, 3), np.uint8)
        image[:, 60:] = 200
        assert np.array_equal(
            resize_image(image, (20, 20), "stretch")[0, :, 0], [0] * 15 + [200] * 5
        )

    @pytest.mark.parametrize("turned", [False, True])
    def test_letterbox_keeps_the_aspect_and_centres(self, turned: bool) -> None:
        mask = np.ones((20, 80), bool)
        found = resize_mask(mask.T if turned else mask, (40, 40), "letterbox")
        found = found.T if turned else found
        assert np.array_equal(found[:, 0], [0] * 15 + [1] * 10 + [0] * 15)

    @pytest.mark.parametrize("turned", [False, True])
    @pytest.mark.parametrize("size", [20, 80])
    def test_center_crop_keeps_the_aspect_and_the_middle(self, turned: bool, size: int) -> None:
        image = np.zeros((40, 80, 3), np.uint8)
        image[:, 20:60] = 90
        image[:, 40:60] = 200
        image = np.ascontiguousarray(image.swapaxes(0, 1)) if turned else image
        found = resize_image(image, (size, size), "center_crop")
        found = found.swapaxes(0, 1) if turned else found
        row = found[size // 2, :, 0].astype(int)
        assert np.abs(row[4 : size // 2 - 4] - 90).max() <= 5
        assert np.abs(row[size // 2 + 4 : -4] - 200).max() <= 5
        assert np.array_equal(row > 145, np.arange(size) >= size // 2)

    def test_shrinking_averages_instead_of_picking(self) -> None:
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, ::2] = 200
        assert close(resize_image(image, (16, 16), "stretch"), np.full((16, 16, 3), 100), 1)

    @settings(max_examples=150, deadline=None)
    @given(rectangles(), st.sampled_from(MODES))
    def test_a_mask_lies_on_its_defect_up_to_a_rim_of_one_pixel(
        self, drawn: tuple[np.ndarray, int], mode: str
    ) -> None:
        mask, size = drawn
        image = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2)
        shown = np.zeros((size, size), np.uint8)
        area = photograph_area(mask.shape, (size, size), mode)
        shown[area] = resize_image(image, (size, size), mode)[area][..., 0]
        marked = resize_mask(mask, (size, size), mode)
        rim = np.ones((3, 3), np.uint8)
        bright = (shown >= 128).astype(np.uint8)
        assert np.all(bright <= cv2.dilate(marked, rim))
        # what is thinner than the pixels of the result is marked although it is not bright
        thick = min(marked.any(0).sum(), marked.any(1).sum()) >= 3
        visible = bright if thick else (shown > 0).astype(np.uint8)
        if shown.any():  # less than 1/255 of a pixel is left of a defect that the crop cuts
            assert np.all(marked <= cv2.dilate(visible, rim))

    @settings(max_examples=150, deadline=None)
    @given(
        st.tuples(st.integers(20, 700), st.integers(20, 700)),
        st.data(),
        st.sampled_from(["stretch", "letterbox"]),
        st.booleans(),
    )
    def test_a_defect_one_pixel_thin_never_vanishes(
        self, shape: tuple[int, int], data: st.DataObject, mode: str, upright: bool
    ) -> None:
        mask = np.zeros(shape, bool)
        if upright:
            mask[:, data.draw(st.integers(0, shape[1] - 1))] = True
        else:
            mask[data.draw(st.integers(0, shape[0] - 1))] = True
        image = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=2)
        marked = resize_mask(mask, (32, 32), mode).astype(bool)
        seen = resize_image(image, (32, 32), mode)[..., 0]
        assert marked.any()
        assert seen[marked].max() > 0

    def test_a_scratch_does_not_vanish_beside_a_hole(self) -> None:
        mask = np.zeros((512, 512), bool)
        mask[100:200, 100:200] = True
        mask[400, 300:500] = True
        found = resize_mask(mask, (64, 64), "stretch")
        assert found[:40].sum() in range(140, 180)
        assert np.array_equal(np.unique(np.nonzero(found[40:])[0]), [10])

    def test_a_line_that_covers_exactly_half_of_its_pixels_is_not_torn(self) -> None:
        mask = np.zeros((28, 72), bool)
        mask[25, :14] = True
        found = resize_mask(mask, (21, 21), "stretch")
        assert np.array_equal(np.argwhere(found), [(19, x) for x in range(4)])

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("shape", [(256, 256), (320, 320), (192, 352)])
    def test_a_scratch_of_any_width_and_angle_stays_in_one_piece(
        self, mode: str, shape: tuple[int, int]
    ) -> None:
        torn = 0
        for width, degrees in itertools.product(range(1, 7), range(0, 180, 20)):
            mask = np.zeros((900, 1000), np.uint8)
            angle = np.deg2rad(degrees + 5 * width)
            reach = 220 * np.array([np.cos(angle), np.sin(angle)])
            middle = np.array([501, 450])
            ends = [tuple(np.rint(middle + side * reach).astype(int).tolist()) for side in (-1, 1)]
            cv2.line(mask, *ends, 1, width)
            found = resize_mask(mask > 0, shape, mode)
            assert cv2.connectedComponents(found)[0] == 2, (width, degrees)
            half = (resize_share(mask > 0, shape, mode) > 0.499).astype(np.uint8)
            torn += cv2.connectedComponents(half)[0] > 2
            assert (found >= half).all()
        assert torn > 0, "none of these would be torn"

    def test_joining_a_thin_tail_adds_nothing_to_a_wide_part(self) -> None:
        mask = np.zeros((400, 400), np.uint8)
        cv2.circle(mask, (100, 100), 41, 1, -1)
        cv2.line(mask, (100, 100), (370, 246), 1, 2)
        shape = (100, 100)
        found = resize_mask(mask > 0, shape, "stretch")
        half = resize_share(mask > 0, shape, "stretch") > 0.499
        assert cv2.connectedComponents(half.astype(np.uint8))[0] > 2
        assert cv2.connectedComponents(found)[0] == 2
        assert np.array_equal(found[:36, :34] > 0, half[:36, :34])
        assert found.sum() <= half.sum() + 20

    def test_separate_defects_stay_separate(self) -> None:
        mask = np.zeros((300, 300), bool)
        mask[100:103, 20:280] = True
        mask[108:111, 20:280] = True
        mask[100:111, 150:153] = False
        found = resize_mask(mask, (100, 100), "stretch")
        assert cv2.connectedComponents(found)[0] - 1 == 4

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**6), st.sampled_from(MODES))
    def test_there_are_never_more_regions_than_before(self, seed: int, mode: str) -> None:
        rng = np.random.default_rng(seed)
        mask = np.zeros((200, 200), np.uint8)
        for _ in range(rng.integers(1, 6)):
            corners = rng.integers(0, 200, (rng.integers(2, 5), 1, 2)).astype(np.int32)
            cv2.polylines(mask, [corners], False, 1, int(rng.integers(1, 7)))
        height, width = (int(side) for side in rng.integers(30, 150, 2))
        found = resize_mask(mask > 0, (height, width), mode)
        if mode == "center_crop":  # what is cut in two counts as two
            (x0, y0, x1, y1), *_ = to_original(
                np.array([[0, 0, width, height]]), (height, width), (200, 200), mode
            )
            mask = mask[y0:y1, x0:x1]
        assert cv2.connectedComponents(found)[0] <= cv2.connectedComponents(mask)[0]

    def test_a_wide_defect_is_not_fattened(self) -> None:
        mask = np.zeros((64, 64), bool)
        mask[8:41, 8:41] = True  # a quarter of one cell more than 8 x 8 cells of 4 pixels
        expected = np.zeros((16, 16), np.uint8)
        expected[2:10, 2:10] = 1
        assert np.array_equal(resize_mask(mask, (16, 16), "stretch"), expected)


@pytest.mark.parametrize("frame", [(32, 32), (32, 64), (96, 32)])
@pytest.mark.parametrize("shape", [(20, 113), (300, 40), (3, 200), (2000, 13)])
def test_a_strip_is_cropped_to_the_same_middle_as_if_it_were_resized_whole(
    shape: tuple[int, int], frame: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    strip = smooth(*shape)
    found = resize_image(strip, frame, "center_crop")
    monkeypatch.setattr(resize, "_shortened", lambda image, shape, mode: image)
    assert close(found, resize_image(strip, frame, "center_crop"), tolerance=2)
