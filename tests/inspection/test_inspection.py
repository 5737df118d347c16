"""Inspecting new images: the pipeline's own scores, refusals, and files of every kind."""

import csv
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from photographs import photograph, save
from PIL import Image
from trained_category import (
    CPU,
    DETECTORS,
    FEATURES,
    NEW,
    TrainedCategory,
)

from flawline.config import load_config
from flawline.data.samples import Levels
from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, read_table, write_json
from flawline.inspection import folder as inspecting
from flawline.inspection import page
from flawline.inspection.folder import Verdict, inspect_folder, write_verdicts
from flawline.inspection.run_settings import FILES
from flawline.inspection.trained_detector import (
    TrainedDetector,
    checked_photographs,
    load_trained,
)


@pytest.fixture(scope="module")
def category(tmp_path_factory: pytest.TempPathFactory) -> TrainedCategory:
    category = TrainedCategory(tmp_path_factory.mktemp("category"))
    category.train("patchcore")
    return category


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestAnInspection:
    @pytest.mark.parametrize("detector", DETECTORS)
    def test_gives_the_scores_that_the_line_gives(
        self, category: TrainedCategory, tmp_path: Path, detector: str
    ) -> None:
        if not category.run(detector).exists():
            category.train(detector)
        verdicts = inspect_folder(category.new, category.trained(detector), tmp_path / "overlays")
        write_verdicts(tmp_path / "inspection.csv", verdicts)
        rows = rows_of(tmp_path / "inspection.csv")
        expected = rows_of(category.run(detector) / "test/scores.csv")
        assert [row["score"] for row in rows] == [row["score"] for row in expected]
        assert len(rows) == NEW
        threshold = read_json(category.run(detector) / "threshold.json")["value"]
        assert [row["decision"] == "defective" for row in rows] == [
            float(row["score"]) > threshold for row in expected
        ]

    def test_draws_every_image_and_boxes_what_the_line_boxes(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        from flawline.decisions.boxes import ORIGINAL, box_table, map_limit

        run = category.run("patchcore")
        limit = map_limit(
            read_array(run / "calibration/anomaly_maps.npy"), quantile=0.95, level=0.5
        )
        sizes = pd.DataFrame({"height": [80] * NEW, "width": [80] * NEW})
        maps = read_array(run / "test/anomaly_maps.npy")
        expected = box_table(maps, sizes, limit=limit, min_area=1, resize="letterbox")
        verdicts = inspect_folder(category.new, category.trained(), tmp_path / "overlays")
        found = [box for verdict in verdicts for box in verdict.boxes]
        assert found == expected[list(ORIGINAL)].to_numpy().tolist()
        assert len(found) > 0
        assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == [
            verdict.overlay for verdict in verdicts
        ]

    def test_gives_conformal_p_values(self, category: TrainedCategory) -> None:
        trained = category.trained()
        trained = TrainedDetector(
            **(vars(trained) | {"calibration": np.array([1.0, 2.0, 2.0, 3.0])})
        )
        found = trained.p_values(np.array([0.5, 2.0, 2.5, 3.0, 9.0]))
        assert found.tolist() == [1.0, 0.8, 0.4, 0.4, 0.2]

    def test_of_calibration_images_at_the_largest_score_calls_them_good(
        self, category: TrainedCategory
    ) -> None:
        trained = category.trained()
        scores = trained.score(
            checked_photographs(category.run("patchcore"), category.geometry)
        ).scores
        assert scores.max() == trained.threshold["value"]
        assert not trained.defective(scores).any()

    def test_is_the_same_for_any_size_of_its_chunks(
        self, category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = inspect_folder(category.new, category.trained(), tmp_path / "a")
        monkeypatch.setattr(inspecting, "CHUNK_IMAGES", 2)
        parts = inspect_folder(category.new, category.trained(), tmp_path / "b", workers=2)
        assert [(v.file, v.boxes) for v in whole] == [(v.file, v.boxes) for v in parts]
        assert [v.score for v in whole] == pytest.approx([v.score for v in parts], rel=1e-5)

    def test_scores_a_few_images_at_a_time(
        self, category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        trained = category.trained()
        real = TrainedDetector.score
        monkeypatch.setattr(inspecting, "CHUNK_IMAGES", 4)
        monkeypatch.setattr(
            TrainedDetector,
            "score",
            lambda self, images: asked.append(len(images)) or real(self, images),
        )
        inspect_folder(category.new, trained, tmp_path / "overlays")
        assert asked == [4, 4, 1]

    def test_of_no_folder_says_so(self, category: TrainedCategory, tmp_path: Path) -> None:
        with pytest.raises(FlawlineError, match=r"inspect\.folder: there is no folder"):
            inspect_folder(tmp_path / "absent", category.trained(), tmp_path / "overlays")


def half(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])


def frames(path: Path, good: Path) -> None:
    from PIL import Image

    pages = [Image.fromarray(photograph(seed)) for seed in range(3)]
    pages[0].save(path, "TIFF", save_all=True, append_images=pages[1:])


BAD: dict[str, tuple[str, Callable[[Path, Path], object], str]] = {
    "half written": ("a.png", half, "cannot be decoded"),
    "empty": ("a.png", lambda path, good: path.touch(), "empty"),
    "text": ("notes.txt", lambda path, good: path.write_text("hello"), "not an image"),
    "text named as an image": ("a.png", lambda path, good: path.write_text("x"), "not an image"),
    "several frames": ("a.tif", frames, "3 frames"),
    "pipe": ("a.png", lambda path, good: os.mkfifo(path), "a pipe"),
    "broken link": ("a.png", lambda path, good: path.symlink_to("absent"), "No such file"),
    "too large": ("a.png", lambda path, good: save(path, photograph(1, 1100, 1000)), "megapixels"),
}


class TestDeepFiles:
    """Files of more than 8 bits, read by the levels that `index` found for the training."""

    def read(
        self, category: TrainedCategory, folder: Path, pixels: np.ndarray, levels: Levels
    ) -> Verdict:
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / "deep.tif")
        trained = replace(category.trained(), levels=levels)
        (verdict,) = inspect_folder(folder, trained, folder.with_name("overlays"))
        return verdict

    def test_are_scored_as_the_photographs_that_they_were_made_from(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        grey = np.asarray(Image.open(category.new / "good/000.png").convert("L"))
        plain = self.read(category, tmp_path / "new", grey, Levels())
        twelve = self.read(category, tmp_path / "new", grey.astype(np.uint16) * 16, Levels(4095))
        ones = self.read(category, tmp_path / "new", grey / np.float32(255), Levels(None, 1))
        assert plain.score == twelve.score == ones.score is not None

    def test_that_fit_no_level_are_unreadable_with_the_reason(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        grey = np.asarray(Image.open(category.new / "good/000.png").convert("L"))
        reasons = {
            "nearly black|blank": (grey.astype(np.uint16) * 4, Levels()),
            "values out of range": (grey.astype(np.float32), Levels(None, 1)),
            "blank": (grey / np.float32(255), Levels(None, 255)),
            "blank: every pixel is 7": (np.full((40, 40), 7, np.uint8), Levels()),
        }
        for words, (pixels, levels) in reasons.items():
            verdict = self.read(category, tmp_path / "new", pixels, levels)
            assert verdict.decision == "unreadable"
            assert re.match(words, verdict.reason)

    def test_need_the_white_of_the_training(self, category: TrainedCategory) -> None:
        with pytest.raises(FlawlineError, match=r"data.white: trained with None, .* 4095"):
            category.trained(data={"white": 4095})


class TestBadFiles:
    @pytest.mark.parametrize("kind", BAD)
    def test_are_listed_with_the_reason_and_the_rest_goes_on(
        self, category: TrainedCategory, tmp_path: Path, kind: str
    ) -> None:
        name, make, why = BAD[kind]
        folder, good = tmp_path / "incoming", category.new / "good/000.png"
        folder.mkdir()
        shutil.copy(good, folder / "000.png")
        make(folder / name, good)
        shutil.copy(good, folder / "zzz.png")
        verdicts = inspect_folder(
            folder, category.trained(data={"max_megapixels": 1}), tmp_path / "overlays"
        )
        found = {verdict.file: verdict for verdict in verdicts}
        assert found[name].decision == "unreadable"
        assert why in found[name].reason
        assert str(tmp_path) not in found[name].reason
        assert found["000.png"].score == found["zzz.png"].score is not None

    def test_that_arrive_meanwhile_are_left_to_the_next_inspection(
        self, category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "incoming"
        shutil.copytree(category.new, folder)
        real = TrainedDetector.score

        def slow(trained: TrainedDetector, images: np.ndarray) -> Any:
            shutil.copy(category.new / "good/000.png", folder / "late.png")
            return real(trained, images)

        monkeypatch.setattr(TrainedDetector, "score", slow)
        verdicts = inspect_folder(folder, category.trained(), tmp_path / "overlays")
        late = [verdict for verdict in verdicts if verdict.decision == "unreadable"]
        assert [(v.file, v.reason) for v in late] == [("late.png", inspecting.ARRIVED)]

    def test_that_change_or_vanish_while_they_are_read_are_told(
        self, category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "incoming"
        shutil.copytree(category.new / "good", folder)
        real = inspecting.decode_photograph

        def grow(path: Path, *rest: Any) -> np.ndarray:
            image = real(path, *rest)
            if path.name == "000.png":
                path.write_bytes(path.read_bytes() + b"more")
            if path.name == "001.png":
                path.unlink()
            return image

        monkeypatch.setattr(inspecting, "decode_photograph", grow)
        reasons = [v.reason for v in inspect_folder(folder, category.trained(), tmp_path / "o")]
        assert reasons[0] == "changed while it was read; the next inspection takes it"
        assert reasons[1] == "No such file or directory"
        assert reasons[2] == ""

    def test_links_that_go_round_end(self, category: TrainedCategory, tmp_path: Path) -> None:
        folder = tmp_path / "incoming"
        shutil.copytree(category.new / "good", folder)
        (folder / "round").symlink_to(folder)
        (folder / "self.png").symlink_to("self.png")
        verdicts = inspect_folder(folder, category.trained(), tmp_path / "overlays")
        assert [v.decision for v in verdicts].count("unreadable") == 1


class _Read(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


class TestHostileNames:
    NAMES = (
        b"<script>alert(1)<\x5cscript>.png",
        b'"><img src=x onerror=alert(1)>.png',
        b"new\nline, \"quotes\" and 'more'.png",
        b"$(touch hacked) `touch hacked`; touch hacked.png",
        b"caf\xe9 \xff.png",
        "große Schraube 螺丝.png".encode(),
    )

    def test_stay_names_in_the_table_and_on_the_page(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        folder = tmp_path / "incoming"
        folder.mkdir()
        for name in self.NAMES:
            shutil.copy(category.new / "good/000.png", os.fsencode(folder) + b"/" + name)
        verdicts = inspect_folder(folder, category.trained(), tmp_path / "overlays")
        write_verdicts(tmp_path / "inspection.csv", verdicts)
        page.render(
            tmp_path / "inspection.html",
            page.describe(verdicts, category.trained(), tmp_path / "overlays", folder="<b>x</b>"),
        )
        expected = {name.decode("utf-8", "backslashreplace") for name in self.NAMES}
        assert {row["file"] for row in rows_of(tmp_path / "inspection.csv")} == expected
        assert set(read_table(tmp_path / "inspection.csv")["file"]) == expected
        text = (tmp_path / "inspection.html").read_text(encoding="utf-8")
        seen = _Read()
        seen.feed(text)
        assert seen.tags.count("script") == 1
        assert "b" in seen.tags
        assert "<b>x</b>" in seen.text
        for name in expected:
            assert name in seen.text
        assert "alert(1)>" not in text


class TestThePage:
    def test_needs_nothing_else_and_shows_the_highest_scores_first(
        self, category: TrainedCategory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained = category.trained()
        trained = TrainedDetector(
            **(vars(trained) | {"threshold": {"value": 0.0, "promise": "None."}})
        )
        monkeypatch.setattr(page, "PICTURES", 3)
        verdicts = inspect_folder(category.new, trained, tmp_path / "overlays")
        verdicts.append(Verdict("bad.png", "unreadable", reason="not an image"))
        made = page.describe(verdicts, trained, tmp_path / "overlays", category="bolt")
        page.render(tmp_path / "inspection.html", made)
        text = (tmp_path / "inspection.html").read_text(encoding="utf-8")
        assert "http" not in text.replace("http-equiv", "")
        assert text.count("data:image/jpeg;base64,") == 3
        best = sorted(verdicts[:-1], key=lambda v: -(v.score or 0))[:3]
        places = [text.index(f'<b class="wrong">{verdict.file}</b>') for verdict in best]
        assert places == sorted(places)
        assert "9 of 9 images are defective; 1 file could not be read" in text
        assert "camera, the light or the product has changed" in text

    def test_is_the_same_for_the_same_images(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        pages = []
        for name in ("a", "b"):
            overlays = tmp_path / name / "overlays"
            verdicts = inspect_folder(category.new, category.trained(), overlays)
            page.render(
                overlays.parent / "x.html", page.describe(verdicts, category.trained(), overlays)
            )
            pages.append((overlays.parent / "x.html").read_bytes())
        assert pages[0] == pages[1]


class TestATrainedDetector:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            (
                {"prepare": {"size": 32}},
                "prepare.size: trained with [64, 96], the configuration says 32",
            ),
            (
                {"overrides": {"bolt": {"prepare": {"resize": "center_crop"}}}},
                "prepare.resize: trained with 'letterbox', the configuration says 'center_crop'",
            ),
            (
                {"features": {"gabor": FEATURES | {"pool": 3}, "coarse": FEATURES}},
                "features.pool: trained with 1, the configuration says 3",
            ),
            (
                {"features": {"gabor": FEATURES | {"layers": ["fine"]}, "coarse": FEATURES}},
                "features.layers: trained with ['fine', 'medium'], the configuration says ['fine']",
            ),
            (
                {"detectors": DETECTORS | {"patchcore": DETECTORS["patchcore"] | {"smoothing": 1}}},
                "detector.smoothing: trained with 4.0, the configuration says 1.0",
            ),
            ({"threshold": {"rule": "quantile"}}, "threshold.rule: trained with 'maximum'"),
        ],
    )
    def test_is_refused_with_other_settings_than_its_own(
        self, category: TrainedCategory, changes: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(FlawlineError) as error:
            category.trained(**changes)
        assert said in str(error.value)
        assert "patchcore/seed0" in str(error.value)
        assert "train it again" in str(error.value)

    def test_is_refused_with_other_object_masks_only_if_it_uses_them(
        self, category: TrainedCategory
    ) -> None:
        if not category.run("masked").exists():
            category.train("masked")
        changes = {"object_masks": {"method": "whole"}}
        category.trained("patchcore", **changes)
        with pytest.raises(FlawlineError, match=r"object_masks\.method: trained with 'auto'"):
            category.trained("masked", **changes)

    def test_is_refused_with_other_weights(self, category: TrainedCategory, tmp_path: Path) -> None:
        run = tmp_path / "patchcore" / "seed0"
        shutil.copytree(category.run("patchcore"), run)
        about = read_json(run / "model/model.json")
        about["provenance"]["inputs"]["features"][0]["weights_sha256"] = 64 * "0"
        write_json(run / "model/model.json", about)
        with pytest.raises(FlawlineError, match="features from other weights"):
            load_trained(run, category.settings("patchcore"), CPU)

    def test_of_an_older_version_is_refused(
        self, category: TrainedCategory, tmp_path: Path
    ) -> None:
        run = tmp_path / "patchcore" / "seed0"
        shutil.copytree(category.run("patchcore"), run)
        about = read_json(run / "model/model.json")
        del about["provenance"]["inputs"]["prepare"]
        write_json(run / "model/model.json", about)
        with pytest.raises(FlawlineError, match="an older version"):
            load_trained(run, category.settings("patchcore"), CPU)

    @pytest.mark.parametrize("file", FILES)
    def test_with_a_damaged_file_is_refused_by_name(
        self, category: TrainedCategory, tmp_path: Path, file: str
    ) -> None:
        run = tmp_path / "patchcore" / "seed0"
        shutil.copytree(category.run("patchcore"), run)
        (run / file).write_bytes((run / file).read_bytes()[:5])
        with pytest.raises(FlawlineError, match="patchcore/seed0"):
            load_trained(run, category.settings("patchcore"), CPU)

    def test_that_is_not_there_is_named_with_its_missing_files(
        self, category: TrainedCategory
    ) -> None:
        with pytest.raises(FlawlineError, match=r"seed1: no trained detector, because model/model"):
            load_trained(
                category.run("patchcore").with_name("seed1"), category.settings("patchcore"), CPU
            )


class TestTheConfiguration:
    def inspected(self, category: TrainedCategory, /, **given: Any) -> Any:
        config = load_config(
            category.given | {"inspect": {"folder": "/data/in coming"} | given}, "x"
        )
        return config.inspected

    def test_fills_in_what_there_is_one_of(self, category: TrainedCategory) -> None:
        found = self.inspected(category, detector="patchcore")
        assert (found.category, found.seed, found.name) == ("bolt", 0, "in_coming")

    def test_takes_the_strings_of_the_command_line(self, category: TrainedCategory) -> None:
        assert self.inspected(category, detector="patchcore", seed="0").seed == 0

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (
                {"detector": "pc"},
                "inspect.detector: there is no detector 'pc'; defined: patchcore,",
            ),
            ({}, "inspect.detector: is required; defined: patchcore,"),
            ({"category": "nut"}, "inspect.category: there is no category 'nut'; defined: bolt"),
            ({"detector": "patchcore", "seed": 7}, "inspect.seed: there is no seed 7; defined: 0"),
            ({"folders": "x"}, "inspect: unknown key 'folders' (did you mean 'folder'?)"),
            ({"name": "../x"}, "inspect.name: must be of letters"),
        ],
    )
    def test_names_what_is_wrong_and_what_there_is(
        self, category: TrainedCategory, given: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(FlawlineError) as error:
            self.inspected(category, **given)
        assert said in str(error.value)
