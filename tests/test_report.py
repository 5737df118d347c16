"""What a reader of the report may rely on."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flawline.report import figures, page


def metrics(**changes: Any) -> dict[str, Any]:
    """The content of one metrics.json; `changes` replace its keys."""
    content = {
        "category": "bolt",
        "detector": "patchcore",
        "method": "patchcore",
        "seed": 0,
        "protocol": "unsupervised",
        "counts": {"calibration": 40, "test_good": 20, "test_defective": 40},
        "image": {"auroc": 0.97, "average_precision": 0.98},
        "threshold": {"rule": "mean_std", "value": 1.23, "n": 40, "k": 3},
        "at_threshold": {
            "accuracy": 0.9,
            "balanced_accuracy": 0.9,
            "precision": 0.95,
            "recall": 0.9,
            "f1": 0.92,
            "true_positive": 36,
            "false_positive": 2,
            "true_negative": 18,
            "false_negative": 4,
        },
        "pixel": {"auroc": 0.985},
        "by_defect_type": {
            "scratch": {"n": 40, "image_auroc": 0.9, "recall": 0.8, "pixel_auroc": 0.97}
        },
        "note": None,
        "provenance": {"versions": {"flawline": "0.1.0"}, "options": {"k": [1, 2]}, "code": "ab12"},
    }
    return content | changes


def without_defects(**changes: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(["precision", "recall", "f1", "balanced_accuracy"])
    return metrics(
        counts={"calibration": 40, "test_good": 20, "test_defective": 0},
        image={"auroc": None, "average_precision": None},
        at_threshold=metrics()["at_threshold"] | nothing,
        pixel=None,
        by_defect_type={},
        note="no defective test images: nothing to evaluate",
        **changes,
    )


def with_auroc(auroc: float, **changes: Any) -> dict[str, Any]:
    return metrics(image={"auroc": auroc, "average_precision": auroc}, **changes)


@pytest.fixture(scope="module")
def figure_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("figures")
    paths = folder / "histogram.svg", folder / "roc.svg", folder / "gallery.jpg"
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.9])
    figures.histogram(paths[0], {"test good": scores[:2], "test defective": scores[2:]}, 0.5)
    figures.roc(paths[1], labels, scores, 0.5)
    figures.gallery(paths[2], [case()], 0.0, 1.0)
    return paths


@pytest.fixture
def write(tmp_path: Path, figure_files: tuple[Path, Path, Path]) -> Any:
    """Write a report of the given metrics and return its text."""

    def written(*measured: dict[str, Any], titles: tuple[str, ...] = (), name: str = "a") -> str:
        sections = [page.section_from_files(m, *figure_files, titles) for m in measured]
        path = tmp_path / f"{name}.html"
        page.render(path, page.assemble("Report", "demo", [("Date", "2025-01-31")], sections))
        return path.read_text(encoding="utf-8")

    return written


def assembled(*measured: dict[str, Any]) -> page.Page:
    known = page.Section.__dataclass_fields__.keys()
    sections = [page.Section(**{k: v for k, v in m.items() if k in known}) for m in measured]
    return page.assemble("Report", "demo", [], sections)


def case(seed: int = 0, size: int = 64, **changes: Any) -> figures.Case:
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : size // 2, size // 4 : size // 2] = 255
    content = {
        "title": "miss: 1",
        "image": rng.integers(0, 255, (size, size, 3)).astype(np.uint8),
        "ground_truth": mask,
        "anomaly_map": rng.random((16, 16)),
    }
    return figures.Case(**(content | changes))


class Outline(HTMLParser):
    """Collects the identifiers, the references and the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        if tag == "img" or named.get("role") == "img":
            self.images.append(named)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")


def test_page_needs_no_other_file_and_no_network(write: Any) -> None:
    text = write(metrics(), metrics(detector="featcae"), metrics(category="nut"))
    outline = Outline(text)
    assert all(re.match(r"#|data:image/jpeg;base64,", link) for link in outline.references)
    assert not re.search(r"https?://|@import", text)
    assert "script" not in outline.tags
    assert "link" not in outline.tags


def test_identifiers_are_unique_and_every_link_has_a_target(write: Any) -> None:
    outline = Outline(write(metrics(), metrics(detector="featcae"), metrics(category="nut")))
    assert len(outline.ids) == len(set(outline.ids))
    targets = {link[1:] for link in outline.references if link.startswith("#")}
    assert targets <= set(outline.ids)


def test_every_picture_has_words(write: Any) -> None:
    images = Outline(write(metrics())).images
    assert len(images) == 3
    assert all(image.get("alt") or image.get("aria-label") for image in images)


def test_names_and_titles_are_escaped(write: Any) -> None:
    bad = "<script>alert('x')</script>\"&"
    hostile = metrics(category=bad, detector=bad, method=bad, note=bad, protocol=bad)
    hostile["by_defect_type"] = {bad: hostile["by_defect_type"]["scratch"]}
    hostile["provenance"] = {bad: bad}
    hostile["threshold"] = {"rule": bad, "value": 1.0, "n": 40, bad: bad}
    text = write(hostile, titles=(bad,))
    assert "script" not in Outline(text).tags
    assert "<script" not in text.lower()
    assert "&lt;script&gt;" in text


def test_drawings_lose_whatever_is_not_a_drawing(
    tmp_path: Path, figure_files: tuple[Path, Path, Path]
) -> None:
    svg = tmp_path / "histogram.svg"
    svg.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"><script>x()</script>'
        '<foreignObject/><a href="http://example.com"><path/></a><style>p{color:red}</style>'
        '<rect id="r" onclick="x()" style="fill:url(http://example.com/a)"/></svg>'
    )
    section = page.section_from_files(metrics(), svg, *figure_files[1:])
    page.render(tmp_path / "a.html", page.assemble("Report", "demo", [], [section]))
    text = (tmp_path / "a.html").read_text()
    assert not re.search(r"onload|onclick|x\(\)|foreignObject|example\.com|color:red", text)


def test_equal_input_gives_equal_bytes(write: Any) -> None:
    runs = [metrics(seed=seed) for seed in (0, 1)]
    assert write(*runs, name="a") == write(*runs, name="b")


def test_attention_is_silent_when_nothing_limits_the_figures() -> None:
    assert assembled(metrics()).attention == ()


@pytest.mark.parametrize(
    ("measured", "title", "words"),
    [
        (without_defects(), "Nothing to evaluate", "bolt"),
        (metrics(pixel=None), "No ground-truth masks", "bolt"),
        (
            metrics(counts={"calibration": 29, "test_good": 20, "test_defective": 40}),
            "Small calibration sets",
            "bolt (29)",
        ),
        (
            metrics(at_threshold={"false_positive": 5}),
            "Many false alarms",
            "bolt, patchcore: 25\N{NO-BREAK SPACE}%",
        ),
    ],
)
def test_attention_names_each_limit_once(measured: dict[str, Any], title: str, words: str) -> None:
    found = assembled(measured, measured | {"seed": 1}).attention
    assert [(item.title, item.entries) for item in found] == [(title, (("category-1", words),))]


def test_false_alarm_rate_of_a_fifth_is_tolerated() -> None:
    assert assembled(metrics(at_threshold={"false_positive": 4})).attention == ()


def test_category_without_defects_says_so_and_shows_no_invented_figures(write: Any) -> None:
    text = write(without_defects())
    assert "no defective test images: nothing to evaluate" in text
    assert "The ROC curve needs good and defective test images." in text
    assert "not measured" in text
    assert not re.search(r"\b(nan|None)\b", text)


def test_page_without_test_images_can_be_written(write: Any) -> None:
    empty = without_defects() | {
        "counts": {"calibration": 4, "test_good": 0, "test_defective": 0},
        "at_threshold": None,
    }
    assert "Nothing to evaluate" in write(empty)


def test_supervised_detectors_have_tables_of_their_own(write: Any) -> None:
    runs = [metrics(), with_auroc(0.99, detector="cam", protocol="supervised")]
    rankings = assembled(*runs).rankings
    assert [ranking.protocol for ranking in rankings] == ["unsupervised", "supervised"]
    assert [[row.detector for row in r.boards[0].rows] for r in rankings] == [
        ["patchcore"],
        ["cam"],
    ]
    assert "cannot be compared" in write(*runs)


def test_leaderboard_shows_mean_and_range_of_the_seeds(write: Any) -> None:
    runs = [with_auroc(auroc, seed=seed) for seed, auroc in enumerate([0.9, 0.8, 1.0])]
    row = assembled(*runs).rankings[0].boards[0].rows[0]
    assert row.values[0].mean == pytest.approx(0.9)
    assert (row.values[0].low, row.values[0].high) == (0.8, 1.0)
    assert (row.mean.low, row.mean.high) == (0.8, 1.0)
    assert "0.800–1.000" in write(*runs)  # noqa: RUF001


def test_section_shows_the_first_seed_and_a_table_of_all() -> None:
    runs = [with_auroc(auroc, seed=seed) for seed, auroc in [(2, 0.8), (0, 0.9)]]
    detector = assembled(*runs).categories[0].detectors[0]
    assert detector.first.seed == 0
    assert [section.seed for section in detector.seeds] == [0, 2]


def test_best_of_each_category_is_marked_and_ties_share_the_mark() -> None:
    runs = [
        with_auroc(0.9001),
        with_auroc(0.9004, detector="featcae"),
        with_auroc(0.7, category="nut"),
        with_auroc(0.8, category="nut", detector="featcae"),
    ]
    rows = assembled(*runs).rankings[0].boards[0].rows
    assert [row.detector for row in rows] == ["featcae", "patchcore"]
    assert [[value.best for value in row.values] for row in rows] == [[True, True], [True, False]]


def test_only_detector_is_not_called_the_best() -> None:
    row = assembled(metrics()).rankings[0].boards[0].rows[0]
    assert not row.mean.best
    assert not row.values[0].best


def test_mean_over_fewer_categories_says_so_and_does_not_win() -> None:
    runs = [
        with_auroc(0.99),
        with_auroc(0.8, detector="featcae"),
        with_auroc(0.8, category="nut", detector="featcae"),
        with_auroc(0.7, detector="cae"),
        with_auroc(0.7, category="nut", detector="cae"),
        without_defects(category="washer"),
        without_defects(category="washer", detector="featcae"),
    ]
    rows = assembled(*runs).rankings[0].boards[0].rows
    assert [row.detector for row in rows] == ["featcae", "cae", "patchcore"]
    assert [row.mean.best for row in rows] == [True, False, False]
    assert [row.mean.coverage for row in rows] == ["", "", "1 of 2"]


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.9, 0.7, 0.5, 0.2, 0.3, 0.5, 0.8])


def test_most_wrong_shows_misses_then_false_alarms_then_closest_calls() -> None:
    assert figures.most_wrong(LABELS, SCORES, 0.5, 8) == [
        (4, "miss"),
        (5, "miss"),
        (6, "miss"),
        (1, "false alarm"),
        (2, "false alarm"),
        (3, "closest call: good"),
        (7, "closest call: defective"),
        (0, "closest call: good"),
    ]


def test_most_wrong_keeps_room_for_both_kinds() -> None:
    reasons = [reason for _, reason in figures.most_wrong(LABELS, SCORES, 0.5, 3)]
    assert reasons == ["miss", "miss", "false alarm"]


def test_most_wrong_keeps_the_order_of_ties_and_accepts_too_few_images() -> None:
    labels, scores = np.array([1, 1, 0]), np.array([0.1, 0.1, 0.1])
    assert [row for row, _ in figures.most_wrong(labels, scores, 0.5, 9)] == [0, 1, 2]
    assert figures.most_wrong(labels[:0], scores[:0], 0.5, 9) == []


@pytest.mark.parametrize(
    "scores",
    [
        {"calibration (good)": np.full(5, 1.0)},
        {"calibration (good)": np.zeros(1), "test good": np.zeros(1)},
        {"calibration (good)": np.full(3, 1e-9), "test defective": np.array([1e9])},
        {"test good": np.array([1.0]), "test defective": np.array([])},
        {"test good": np.random.default_rng(0).standard_cauchy(200)},
    ],
)
def test_histogram_survives_degenerate_scores(
    tmp_path: Path, scores: dict[str, np.ndarray]
) -> None:
    figures.histogram(tmp_path / "a.svg", scores, 1.0)
    text = (tmp_path / "a.svg").read_text()
    assert "threshold 1.000" in text
    assert "nan" not in text


def test_histogram_counts_the_scores_beyond_its_range(tmp_path: Path) -> None:
    scores = np.append(np.linspace(0, 1, 50), [1e6, 2e6])
    figures.histogram(tmp_path / "a.svg", {"test defective": scores}, 0.5)
    assert "2 higher" in (tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("labels", "words"),
    [([0, 0], "no defective test images:"), ([1], "no good test images:"), ([], "no test images:")],
)
def test_roc_of_one_class_says_why_there_is_none(
    tmp_path: Path, labels: list[int], words: str
) -> None:
    figures.roc(tmp_path / "a.svg", np.array(labels), np.ones(len(labels)), 1.0)
    assert words in (tmp_path / "a.svg").read_text()


def test_roc_shows_area_and_operating_point(tmp_path: Path) -> None:
    figures.roc(tmp_path / "a.svg", LABELS, SCORES, 0.5)
    text = (tmp_path / "a.svg").read_text()
    assert "AUROC 0.406" in text
    assert "recall 0.250" in text
    assert "false alarms 0.500" in text


def test_drawn_files_are_equal_for_equal_input(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figures.histogram(tmp_path / f"{name}.svg", {"test good": SCORES}, 0.5)
        figures.roc(tmp_path / f"{name}2.svg", LABELS, SCORES, 0.5)
        figures.gallery(tmp_path / f"{name}3.jpg", [case()], 0.0, 1.0)
    for end in (".svg", "2.svg", "3.jpg"):
        assert (tmp_path / f"a{end}").read_bytes() == (tmp_path / f"b{end}").read_bytes()


def test_gallery_of_eight_noisy_images_stays_small(tmp_path: Path) -> None:
    figures.gallery(tmp_path / "a.jpg", [case(seed, 256) for seed in range(8)], 0.0, 1.0)
    assert (tmp_path / "a.jpg").stat().st_size < 400_000


def test_gallery_accepts_no_cases_missing_masks_odd_titles_and_a_flat_scale(
    tmp_path: Path,
) -> None:
    figures.gallery(tmp_path / "none.jpg", [], 0.0, 1.0)
    odd = case(title="$\\frac{ <b>" + "long " * 40, ground_truth=None)
    figures.gallery(tmp_path / "odd.png", [odd], 0.5, 0.5)
    assert (tmp_path / "none.jpg").read_bytes().startswith(b"\xff\xd8")
    assert (tmp_path / "odd.png").read_bytes().startswith(b"\x89PNG")
