"""The report: what it shows and how it is written. The page in a browser: test_report_browser."""

import csv
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_runs import (
    CATEGORIES,
    HOSTILE,
    fake_grid,
    fake_pairs,
    fake_ranks,
    fake_run,
    strip,
    write_run,
)

from flawline.evaluation.intervals import clopper_pearson
from flawline.files import read_table, write_table
from flawline.metrics import AUROC
from flawline.options.report import Report
from flawline.report import charts, figures, overview, page
from flawline.report.cases import (
    CALIBRATION,
    Case,
    calibration_cases,
    choose,
    open_cases,
    panels,
    picture_rows,
    read_cases,
    write_cases,
)
from flawline.report.detector_comparison import Comparison, Sheet, compare
from flawline.report.draw_run import name_boxes
from flawline.report.html import picture_size
from flawline.report.leaderboard import rank, summary
from flawline.report.model import Origin, assemble
from flawline.report.overview import attention, best_of_categories, percent
from flawline.report.runs import Run, comparison_rows, read_run
from flawline.report.stage_graph import graph
from flawline.report.verdict import (
    BORDERLINE,
    NOT_YET,
    UNTESTED,
    USABLE,
    Card,
    Count,
    cards,
    in_words,
    judge,
    parts_needed,
    threshold_within,
)

ONE_KIND = "Test images of one kind alone"
ORIGIN = Origin("demo", "2025-01-31 12:00 UTC", "seeds: [0]\n", {"flawline": "0.1.0"})


def picture() -> bytes:
    return strip(np.random.default_rng(0), 64)


def without_defects(category: str = "bolt", **changes: Any) -> Run:
    return fake_run(category, defects=0, **changes)


def with_auroc(auroc: float | None, **place: Any) -> Run:
    return fake_run(**place, image={"auroc": auroc}, intervals={})


def with_threshold(**changes: Any) -> Run:
    return fake_run(threshold=changes)


def with_at(**changes: Any) -> Run:
    return fake_run(at_threshold=changes)


def with_check(name: str, **changes: Any) -> Run:
    return fake_run(checks={name: changes})


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Write a report of the given runs and return its text."""

    def written(*runs: Run, name: str = "a", **more: Any) -> str:
        path = tmp_path / f"{name}.html"
        page.render(path, assemble(runs, ORIGIN, **more))
        return path.read_text(encoding="utf-8")

    return written


def case(seed: int = 0, height: int = 64, width: int | None = None, **changes: Any) -> Case:
    rng = np.random.default_rng(seed)
    width = width or height
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    content = {
        "row": seed,
        "name": "scratch/1.png",
        "kind": "miss",
        "defect_type": "scratch",
        "score": 0.4,
        "image": rng.integers(0, 255, (height, width, 3)).astype(np.uint8),
        "ground_truth": mask,
        "anomaly_map": rng.random((16, 16)),
        "boxes": np.array([[4, 4, 20, 20]]),
    }
    return Case(**(content | changes))


class Outline(HTMLParser):
    """Collects the identifiers, the references and the elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.scripts: list[str | None] = []
        self.images: list[dict[str, str | None]] = []
        self.headers: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "script":
            self.scripts.append(named.get("type"))
        if tag == "th":
            self.headers.append(named.get("scope"))
        if (tag == "img" and "src" in named) or named.get("role") == "img":
            self.images.append(named)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value or "")
            if key in ("src", "href"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")


class TestThePage:
    def test_needs_no_other_file_and_no_network(self, write: Any) -> None:
        runs = [fake_run(cases=[picture()]), fake_run(detector="featcae"), fake_run("nut")]
        text = write(*runs)
        outline = Outline(text)
        inside = r"#|data:image/(jpeg|webp|png);base64,|data:text/plain"
        assert all(re.match(inside, link) for link in outline.references)
        assert not re.search(r"https?://|@import", text)
        assert "<link" not in text

    def test_has_unique_identifiers_and_a_target_for_every_link(self, write: Any) -> None:
        runs = [fake_run(seed=seed, cases=[picture()]) for seed in (0, 1)]
        more = [fake_run(detector="featcae"), fake_run("nut")]
        comparison = compare(fake_ranks(["a", "b", "c"]), [])
        outline = Outline(
            write(*runs, *more, pairs=fake_pairs([*runs, *more]), comparison=comparison)
        )
        assert len(outline.ids) == len(set(outline.ids))
        targets = {link[1:] for link in outline.references if link.startswith("#")}
        assert targets <= set(outline.ids)

    def test_has_words_for_every_picture_and_a_scope_for_every_header(self, write: Any) -> None:
        outline = Outline(write(fake_run(cases=[picture(), picture()], losses=True)))
        assert (
            len(outline.images) == 8
        )  # histogram, three curves, two cases, one on the card, losses
        assert all(image.get("alt") or image.get("aria-label") for image in outline.images)
        assert set(outline.headers) <= {"col", "row", "colgroup"}

    def test_escapes_names_and_free_text(self, write: Any) -> None:
        hostile = fake_run(
            HOSTILE,
            HOSTILE,
            cases=[picture()],
            method=HOSTILE,
            note=HOSTILE,
            by_defect_type={HOSTILE: fake_run().metrics.by_defect_type["dent"].model_dump()},
            provenance={HOSTILE: HOSTILE, "training": HOSTILE},
            threshold={"rule": HOSTILE, "promise": HOSTILE, HOSTILE: HOSTILE},
            checks={"drift": {"verdict": HOSTILE}},
        )
        shown = [dict(one) | {"name": HOSTILE} for one in hostile.cases["cases"]]
        about = dict(hostile.cases) | {"cases": shown, "unit": HOSTILE}
        run = Run(hostile.metrics, hostile.scores, hostile.training, about)
        ranks = fake_ranks([HOSTILE, "$\\frac{"])
        text = write(
            run,
            failures=overview.failures([HOSTILE], [HOSTILE], [HOSTILE]),
            pairs=fake_pairs([run, fake_run(HOSTILE, "b")]),
            comparison=compare(ranks, []),
            sheets={HOSTILE: [Sheet(picture(), HOSTILE, HOSTILE)]},
        )
        assert Outline(text).scripts == ["application/json", None]
        assert text.lower().count("<script") == 2
        assert "&lt;script&gt;" in text

    def test_runs_no_script_but_its_own(self, write: Any) -> None:
        text = write(fake_run())
        assert re.search(r"script-src 'sha256-[\w+/]+='", text)
        assert not re.search(r"\son\w+=", re.sub(r"<script.*?</script>", "", text, flags=re.S))

    def test_is_equal_for_equal_input(self, write: Any) -> None:
        runs = [fake_run(seed=seed, losses=True) for seed in (0, 1)]
        comparison = [compare(fake_ranks(["a", "b"]), []) for _ in range(2)]
        texts = [write(*runs, name=n, comparison=c) for n, c in zip("ab", comparison, strict=True)]
        assert texts[0] == texts[1]

    def test_shows_no_invented_figures_without_defects(self, write: Any) -> None:
        text = write(without_defects())
        assert "There are no defective test images" in text
        assert "nothing to evaluate but false alarms" in text
        assert "Add defective parts to test/&lt;defect type&gt;" in text
        assert "not measured" in text
        assert "<dt>False-alarm rate" in text
        assert not re.search(r"<dt>(Recall|Precision|F1)</dt><dd data-live", text)
        assert not re.search(r"\b(nan|NaN|None)\b", re.sub(r"<script>.*", "", text, flags=re.S))

    def test_without_test_images_shows_threshold_promise_and_calibration_images(
        self, write: Any
    ) -> None:
        run = fake_run(good=0, defects=0, cases=[picture()])
        shown = dict(run.cases["cases"][0]) | {"name": "train/good/3.png", "kind": CALIBRATION}
        text = write(Run(run.metrics, run.scores, (), dict(run.cases) | {"cases": [shown]}, b"x"))
        assert "There are no test images, so there is nothing to evaluate" in text
        assert "Nothing to evaluate" in text
        assert "of 50 good calibration parts rejected" in text
        assert run.metrics.threshold.promise in text
        assert "Calibration, good: 50" in text
        assert "Calibration images with the highest scores" in text
        assert "train/good/3.png" in text
        for absent in ('<table class="confusion">', "Misses, false alarms", "What the method sees"):
            assert absent not in text
        assert not re.search(r"\b(nan|NaN|None)\b", re.sub(r"<script>.*", "", text, flags=re.S))

    def test_can_be_written_from_the_least_that_a_run_has(self, write: Any) -> None:
        run = fake_run(good=0, defects=0, curves={}, provenance={}, intervals={})
        assert "bolt" in write(Run(run.metrics))

    def test_says_where_it_was_stopped_and_what_the_method_itself_would_decide(
        self, write: Any
    ) -> None:
        own = fake_run().metrics.at_threshold.model_dump() | {"accuracy": 0.123}
        provenance = fake_run().metrics.provenance
        stopped = provenance | {"training": "train: stopped by max_steps = 7"}
        text = write(fake_run(at_boundary=own, provenance=stopped))
        assert "stopped by max_steps = 7" in text
        assert re.search(r"own decision boundary: accuracy\s+0.123", text)

    def test_names_missing_runs_and_failed_jobs_first(self, write: Any) -> None:
        failures = overview.failures(["bolt, featcae, seed 3"], [], ["logs/train/x.log"])
        text = write(fake_run(good=0, defects=0), failures=failures)
        where = [text.index(words) for words in ("seed 3", "logs/train/x.log", "Nothing to eval")]
        assert where == sorted(where)
        assert "Runs without pictures" not in text

    def test_shows_uncertified_thresholds_visibly(self, write: Any) -> None:
        text = write(with_threshold(certified=False, promise="It cannot be certified."))
        assert "<b>Not certified.</b>" in text
        assert "It cannot be certified." in text

    def test_shows_what_other_draws_of_the_calibration_images_gave(self, write: Any) -> None:
        rows = [(1, 0.8, 0.1, None), (2, 0.9, 0.3, None)]
        names = ("seed", "threshold", "false_alarm_rate", "recall")
        text = write(fake_run(draws=[dict(zip(names, row, strict=True)) for row in rows]))
        assert "Other draws of the calibration images (2," in text
        assert "of good test parts were rejected" in text
        assert "of defective ones were found" not in text
        assert "Other draws" not in write(fake_run())

    def test_says_the_size_of_pictures_and_that_some_pixels_do_not_count(self, write: Any) -> None:
        run = fake_run(cases=[picture()], counts={"defects_not_counted": 2})
        text = write(Run(run.metrics, run.scores, (), dict(run.cases) | {"hatched": True}))
        assert 'width="200" height="64"' in text
        assert "Hatched: not counted." in text
        assert "The defects of 2 test images lie wholly where pixels are not counted" in text
        assert "ot counted" not in re.sub("<script>.*", "", write(fake_run(cases=[picture()])))

    def test_has_a_colour_bar_with_the_level_of_boxes(self, write: Any) -> None:
        run = fake_run(cases=[picture()])
        text = write(replace(run, cases=dict(run.cases) | {"boxed": 1.0}))
        assert '<i style="left: 25.0%">' in text
        assert "boxed above 1.000" in text
        assert "linear-gradient(to right, rgb(0 0 4), rgb(" in text

    def test_says_which_defects_are_cut_off(self, write: Any) -> None:
        text = write(fake_run(counts={"defects_cut_off": 4, "masked": 2}))
        assert "4 of 6 marked defects lie outside what <code>center_crop</code> keeps" in text
        assert "marked defects lie" not in write(fake_run())

    @pytest.mark.parametrize("category", ["bolt", "no", "a: b", HOSTILE])
    def test_has_the_line_that_fixes_a_threshold(self, category: str) -> None:
        made = assemble([fake_run(category)], ORIGIN)
        panel = made.categories[0].detectors[0].panels[0]
        before, after = panel.fixing
        given = yaml.safe_load(f"{before}1.5{after}")
        assert given == {"overrides": {category: {"threshold": {"rule": "fixed", "value": 1.5}}}}
        made = assemble([fake_run(category, "both", method="fusion")], ORIGIN)
        assert made.categories[0].detectors[0].panels[0].fixing is None

    def test_says_why_detectors_are_not_ranked(self, write: Any) -> None:
        def words(detectors: int, **known: float) -> str:
            rows = fake_ranks("abcdef"[:detectors])
            made = compare([row | {"critical_difference": None} | known for row in rows], [])
            assert made.diagrams == ()
            return " ".join(made.words)

        assert "at least 3 categories to rank 4" in words(4, categories=2.0)
        assert "no difference between 4 detectors" in words(4, friedman_p=0.3)
        assert words(2) == ""
        text = write(fake_run(), comparison=Comparison(words=("not ranked",)))
        assert "<p>not ranked</p>" in text

    def test_drawings_lose_whatever_is_not_a_drawing(self, write: Any) -> None:
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"><script>x()</script>'
            '<foreignObject/><a href="http://example.com"><path/></a><style>p{color:red}</style>'
            '<rect id="r" onclick="x()" style="fill:url(http://example.com/a)"/></svg>'
        )
        sheet = Sheet(svg.encode(), "", "")
        text = write(fake_run(), comparison=Comparison((sheet,)))
        assert not re.search(r"onload|onclick|x\(\)|foreignObject|example\.com|color:red", text)


class TestLinksToFigures:
    def test_lead_to_files_beside_the_page(self, tmp_path: Path) -> None:
        run = replace(fake_run(), figures="bolt/a b/figures")
        for limit, file, up in ((1e9, "report.html", ""), (1, "report/bolt.html", "../")):
            page.render(tmp_path / "report.html", assemble([run], ORIGIN), largest=limit)
            links = Outline((tmp_path / file).read_text()).references
            assert f"{up}bolt/a%20b/figures/roc.pdf" in links


class TestALargeReport:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("large")
        page.render(folder / "report.html", fake_grid(seeds=3).page)
        return folder

    def test_has_a_page_for_each_category_linked_both_ways(self, folder: Path) -> None:
        links = Outline((folder / "report.html").read_text()).references
        for name in CATEGORIES:
            assert f"report/{name}.html" in links
            outline = Outline((folder / f"report/{name}.html").read_text())
            assert "../report.html" in outline.references
            targets = {link[1:] for link in outline.references if link.startswith("#")}
            assert targets <= set(outline.ids)

    def test_stays_under_the_limit(self, folder: Path) -> None:
        sizes = [file.stat().st_size for file in folder.rglob("*.html")]
        assert len(sizes) == 16
        assert max(sizes) < 25e6

    def test_that_shrinks_leaves_no_old_pages(self, folder: Path) -> None:
        page.render(folder / "report.html", assemble([fake_run()], ORIGIN))
        assert list((folder / "report").iterdir()) == []

    def test_escapes_names_of_pages(self, tmp_path: Path) -> None:
        runs = [fake_run("a#b ?", cases=[picture()]), fake_run("c", cases=[picture()])]
        page.render(tmp_path / "report.html", assemble(runs, ORIGIN), largest=1)
        assert (tmp_path / "report/a#b ?.html").exists()
        assert "report/a%23b%20%3F.html" in (tmp_path / "report.html").read_text()


DRIFTED = "Good test parts differ from calibration parts"


class TestAttention:
    def test_is_silent_when_nothing_limits_the_figures(self) -> None:
        assert attention([fake_run()]) == ()

    @pytest.mark.parametrize(
        ("run", "title", "words"),
        [
            (fake_run(good=0, defects=0), "Nothing to evaluate", ""),
            (
                fake_run(good=0, defects=0, counts={"test_left_out": 2}),
                "Nothing to evaluate",
                "(2 test images left out: see problems.csv)",
            ),
            (without_defects(), ONE_KIND, "(no defective test images)"),
            (fake_run(good=0), ONE_KIND, "(no good test images)"),
            (fake_run(pixel=None), "No ground-truth masks", ""),
            (
                fake_run(counts={"calibration": 29, "test_good": 20, "test_defective": 40}),
                "Small calibration sets",
                "(29 images)",
            ),
            (
                with_threshold(certified=False),
                "Thresholds that cannot be certified",
                "(50 images)",
            ),
            (
                with_check("drift", drifted=True),
                DRIFTED,
                "",
            ),
            (
                with_check("contamination", calibration_outliers=[{"image_id": "a", "score": 9.0}]),
                "Odd calibration images",
                "(1 image)",
            ),
            (
                with_check("near_duplicates", count=2),
                "Near-duplicates across subsets",
                "(2 pairs)",
            ),
        ],
    )
    def test_names_each_limit_once_for_all_seeds(self, run: Run, title: str, words: str) -> None:
        again = Run(run.metrics.model_copy(update={"seed": 1}), run.scores)
        found = attention([run, again])
        assert [(item.title, item.entries) for item in found] == [(title, (("bolt", words),))]

    def test_names_the_detectors_where_only_some_are_concerned(self) -> None:
        found = attention([with_check("drift", drifted=True), fake_run(detector="featcae")])
        assert found[0].entries == (("bolt", "patchcore"),)

    def test_of_other_detectors_repeats_nothing(self, write: Any) -> None:
        small = {"calibration": 12}
        best = fake_run(counts=small)
        drifted = {"drift": {"drifted": True}}
        other = fake_run(detector="featcae", counts=small, checks=drifted, image={"auroc": 0.5})
        found = attention([other], beside=[best])
        assert [(item.title, item.entries) for item in found] == [(DRIFTED, (("bolt", "featcae"),))]
        assert "Of detectors that are not the best" in write(best, other)
        assert "Of detectors that are not the best" not in write(best)


class TestTheBestOfEachCategory:
    def test_is_the_highest_mean_over_seeds(self) -> None:
        runs = [with_auroc(auroc, seed=seed) for seed, auroc in enumerate([0.9, 0.8])]
        other = with_auroc(0.88, detector="featcae")
        assert [best.detector for best in best_of_categories([*runs, other])] == ["featcae"]

    def test_says_which_detectors_cannot_be_told_from_it(self) -> None:
        runs = [with_auroc(0.99), with_auroc(0.985, detector="b"), with_auroc(0.5, detector="c")]
        best = best_of_categories(runs, fake_pairs(runs))
        assert (best[0].detector, best[0].alike) == ("patchcore", ("b",))

    def test_is_nobody_where_several_cannot_be_compared(self) -> None:
        runs = [without_defects(), without_defects(detector="featcae")]
        assert [best.detector for best in best_of_categories(runs)] == [""]
        alone = best_of_categories(runs[:1])[0]
        assert alone.detector == "patchcore"

    @pytest.mark.parametrize(
        ("value", "words"),
        [(0.0, "0"), (0.004, "0.4"), (0.123, "12"), (0.996, "99.6"), (1.0, "100")],
    )
    def test_percentages_keep_what_matters(self, value: float, words: str) -> None:
        assert percent(value) == f"{words}\N{NO-BREAK SPACE}%"


def counted(wrong: int, of: int) -> Count:
    return Count(wrong, wrong, of, clopper_pearson(wrong, of, 0.95)[1] if of else None)


def decided(**counts: int) -> Run:
    """A run with these counts at its threshold, and the intervals that they give."""
    names = ("true_positive", "false_negative", "false_positive", "true_negative")
    found, missed, alarms, passed = (counts.get(name, 0) for name in names)
    intervals = {}
    if found + missed:
        intervals["at_threshold.recall"] = clopper_pearson(found, found + missed, 0.95)
    if alarms + passed:
        ends = clopper_pearson(alarms, alarms + passed, 0.95)
        intervals["at_threshold.false_alarm_rate"] = ends
    return fake_run(at_threshold=dict.fromkeys(names, 0) | counts, intervals=intervals)


def card_of(*runs: Run) -> Card:
    return cards(runs, best_of_categories(runs), Report())[0]


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("missed", "rejected", "verdict", "reason"),
        [
            ((0, 40), (0, 40), USABLE, "enough test parts"),
            ((0, 6), (0, 40), BORDERLINE, "too few defective ones"),
            ((0, 6), (0, 6), BORDERLINE, "too few defective and good ones"),
            ((5, 40), (0, 40), NOT_YET, "Misses more than 10"),
            ((0, 40), (5, 40), NOT_YET, "Rejects more than 10"),
            ((5, 40), (5, 40), NOT_YET, "and rejects more than 10"),
            ((0, 0), (0, 0), UNTESTED, "no test parts"),
            ((0, 0), (0, 40), UNTESTED, "no defective test parts"),
            ((0, 40), (0, 0), UNTESTED, "no good test parts"),
            ((0, 0), (9, 40), NOT_YET, "Rejects more than 10"),
        ],
    )
    def test_needs_few_errors_and_enough_parts(
        self, missed: tuple[int, int], rejected: tuple[int, int], verdict: str, reason: str
    ) -> None:
        found, words = judge(counted(*missed), counted(*rejected), Report())
        assert found == verdict
        assert reason in words

    def test_follows_the_limits_of_the_configuration(self, write: Any) -> None:
        six = counted(0, 6)
        assert judge(six, six, Report(max_missed=0.5, max_rejected=0.5))[0] == USABLE
        text = write(fake_run(), limits=Report(max_missed=0.25))
        assert "report: {max_missed: 0.25, max_rejected: 0.1}" in text

    def test_shows_counts_with_what_they_could_be(self, write: Any) -> None:
        run = decided(true_positive=6, true_negative=6)
        words = '<b>0 of 6</b> <span class="range">could be up to 46\N{NO-BREAK SPACE}%'
        assert words in write(run)
        assert card_of(run).verdict == BORDERLINE

    def test_counts_the_worst_seed(self) -> None:
        names = ("true_positive", "false_negative", "false_positive", "true_negative")
        runs = [
            fake_run(seed=seed, at_threshold=dict(zip(names, counts, strict=True)))
            for seed, counts in enumerate([(40, 0, 0, 40), (30, 10, 0, 40)])
        ]
        card = card_of(*runs)
        assert card.missed.words == "0\N{EN DASH}10 of 40"
        assert card.verdict == NOT_YET
        assert card.steps

    def test_names_the_most_missed_defect_types_first(self) -> None:
        types = {
            name: fake_run().metrics.by_defect_type["dent"].model_dump() for name in ("a", "b")
        }
        for name, missed in (("a", 1), ("b", 7)):
            types[name]["n"] = 8
            types[name]["at_threshold"] |= {"false_negative": missed, "true_positive": 8 - missed}
        card = card_of(fake_run(by_defect_type=types))
        assert [(name, count.words) for name, count in card.types] == [
            ("b", "7 of 8"),
            ("a", "1 of 8"),
        ]

    def test_shows_a_typical_find_and_the_worst_miss(self) -> None:
        shown = fake_run(cases=[picture()] * 5)
        kinds = ["miss", "miss", "false alarm", "closest call: defective", "typical: defective"]
        cases = [
            case | {"kind": kind} for case, kind in zip(shown.cases["cases"], kinds, strict=True)
        ]
        run = Run(shown.metrics, shown.scores, (), dict(shown.cases) | {"cases": cases})
        found = [(words, case["row"]) for words, case in card_of(run).pictures]
        assert found == [("Typical find", 5), ("Worst miss", 1)]

    def test_says_drift_in_words(self, write: Any) -> None:
        run = with_check("drift", drifted=True, verdict="Good test images score higher.")
        card = card_of(run)
        assert (card.drift, card.drifted) == ("Good test images score higher.", True)
        assert "Make light, camera and position the same" in card.steps[0]

    @pytest.mark.parametrize(("wrong", "limit", "needed"), [(0, 0.1, 36), (1, 0.1, 54)])
    def test_knows_how_many_parts_are_enough(self, wrong: int, limit: float, needed: int) -> None:
        assert parts_needed(wrong, limit, 0.95) == needed
        assert clopper_pearson(wrong, needed, 0.95)[1] <= limit
        assert clopper_pearson(wrong, needed - 1, 0.95)[1] > limit

    def test_proposes_a_threshold_that_keeps_both_limits(self) -> None:
        run = fake_run(apart=6.0, good=20, defects=20)
        scores = {"good": np.arange(20) / 20, "defective": 2 + np.arange(20) / 20}
        at = {"true_positive": 10, "false_negative": 10, "false_positive": 0, "true_negative": 20}
        run = fake_run(good=20, defects=20, at_threshold=at, threshold={"value": 2.5})
        run = Run(run.metrics, scores)
        assert threshold_within(run, Report()) == (pytest.approx(1.475), 0, 0)
        assert "Try a lower threshold: at 1.475, 0 would be missed" in card_of(run).steps[0]
        mixed = Run(run.metrics, {"good": scores["good"], "defective": scores["good"]})
        assert threshold_within(mixed, Report()) is None
        assert "No threshold keeps both limits" in card_of(mixed).steps[0]

    def test_proposes_a_detector_that_keeps_both_limits(self) -> None:
        good = decided(true_positive=40, true_negative=40).metrics
        other = good.model_copy(update={"detector": "zebra"})
        bad = decided(true_positive=20, false_negative=20, true_negative=40).metrics
        runs = [Run(bad), Run(other.model_copy(update={"image": bad.image}))]
        assert card_of(*runs).steps[0] == "Use zebra: it keeps both limits on these parts."

    def test_of_all_products_is_one_sentence(self) -> None:
        made = [
            decided(true_positive=40, true_negative=40),
            *(
                Run(
                    decided(true_positive=6, true_negative=6).metrics.model_copy(
                        update={"category": name}
                    )
                )
                for name in ("nut", "washer")
            ),
        ]
        found = cards(made, best_of_categories(made), Report())
        assert in_words(found) == (
            "1 of 3 products is usable: bolt; 2 are borderline: nut, washer."
        )
        assert in_words(found[1:]) == "Both products are borderline: nut, washer."
        assert in_words(found[:1]).startswith("patchcore on bolt is usable. Within both limits")

    @pytest.mark.parametrize("counts", [(0, 0), (0, 20), (20, 0)])
    @pytest.mark.parametrize("names", [("a",), ("a", "b")])
    def test_is_not_given_without_test_parts(
        self, write: Any, counts: tuple[int, int], names: tuple[str, ...]
    ) -> None:
        good, defects = counts
        runs = [fake_run(detector=name, good=good, defects=defects) for name in names]
        runs = [
            Run(
                run.metrics.model_copy(
                    update={
                        "at_threshold": run.metrics.at_threshold.model_copy(
                            update={
                                "false_positive": 0,
                                "true_negative": good,
                                "false_negative": 0,
                                "true_positive": defects,
                            }
                        )
                    }
                ),
                run.scores,
            )
            for run in runs
        ]
        card = card_of(*runs)
        assert card.verdict == UNTESTED
        assert any("Put photographs of" in step for step in card.steps)
        text = write(*runs)
        assert "not tested" in text
        assert "0 of 0" not in text

    def test_of_a_supervised_detector_has_its_own_card(self, write: Any) -> None:
        runs = [fake_run(), fake_run(detector="cam", protocol="supervised")]
        made = assemble(runs, ORIGIN)
        assert [card.run.detector for card in made.cards] == ["patchcore", "cam"]
        assert made.lead.startswith("patchcore on bolt")
        assert "do not compare them" in write(*runs)

    def test_says_that_a_part_of_the_run_failed(self, write: Any) -> None:
        assert "the verdicts are those of the rest" not in write(fake_run())
        failures = overview.failures(["bolt, featcae"])
        assert "the verdicts are those of the rest" in write(fake_run(), failures=failures)


class TestTheLeaderboard:
    def test_is_only_there_where_there_is_something_to_compare(self, write: Any) -> None:
        alone = write(fake_run(), fake_run("nut"))
        for words in ("Leaderboard", "Comparing detectors", "chosen on the test images"):
            assert words not in alone
        two = write(fake_run(), fake_run(detector="featcae"))
        assert 'id="leaderboard"' in two
        assert "chosen on the test images" in two
        supervised = fake_run(detector="cam", protocol="supervised")
        assert "Leaderboard" not in write(fake_run(), supervised)

    def test_shows_misses_and_false_alarms_together(self) -> None:
        ranking = rank([fake_run(), fake_run(detector="featcae", apart=0.5)])[0]
        boards = {board.metric.column: board for board in ranking.boards}
        for column, other in (("recall", "false_alarm_rate"), ("false_alarm_rate", "recall")):
            for row in boards[column].rows:
                beside = next(r for r in boards[other].rows if r.detector == row.detector)
                for mine, its in zip(
                    (row.mean, *row.cells), (beside.mean, *beside.cells), strict=True
                ):
                    assert mine.beside.endswith(f"{its.mean:.3f}")
        assert boards["image_auroc"].rows[0].mean.beside == ""

    def test_keeps_supervised_detectors_apart(self, write: Any) -> None:
        runs = [fake_run(), with_auroc(0.99, detector="cam", protocol="supervised")]
        rankings = rank(runs)
        assert [ranking.protocol for ranking in rankings] == ["unsupervised", "supervised"]
        assert [[row.detector for row in r.boards[0].rows] for r in rankings] == [
            ["patchcore"],
            ["cam"],
        ]
        others = [
            fake_run(detector="b"),
            fake_run(detector="cam2", protocol="supervised"),
        ]
        assert "cannot be compared" in write(*runs, *others)

    def test_shows_the_widest_interval_of_the_seeds(self) -> None:
        runs = [
            fake_run(seed=seed, image={"auroc": auroc}, intervals={"image.auroc": ends})
            for seed, auroc, ends in [(0, 0.9, [0.85, 0.95]), (1, 0.8, [0.7, 0.9])]
        ]
        value = summary(runs, AUROC)
        assert (value.mean, value.low, value.high) == (pytest.approx(0.85), 0.7, 0.95)

    def test_shows_the_range_of_the_seeds_under_the_mean(self) -> None:
        runs = [with_auroc(auroc, seed=seed) for seed, auroc in enumerate([0.9, 0.8, 1.0])]
        row = rank(runs)[0].boards[0].rows[0]
        assert (row.mean.mean, row.mean.low, row.mean.high) == (pytest.approx(0.9), 0.8, 1.0)

    def test_marks_the_best_of_each_column_and_ties_share_the_mark(self) -> None:
        runs = [
            with_auroc(0.9001),
            with_auroc(0.9004, detector="featcae"),
            with_auroc(0.7, category="nut"),
            with_auroc(0.8, category="nut", detector="featcae"),
        ]
        rows = rank(runs)[0].boards[0].rows
        assert [row.detector for row in rows] == ["featcae", "patchcore"]
        assert [[value.best for value in row.cells] for row in rows] == [
            [True, True],
            [True, False],
        ]

    def test_marks_the_lowest_where_lower_is_better(self) -> None:
        runs = [with_at(false_alarm_rate=0.1), fake_run(detector="b", at_threshold={})]
        runs[1] = fake_run(detector="b", at_threshold={"false_alarm_rate": 0.3, "recall": 0.5})
        board = next(b for b in rank(runs)[0].boards if b.metric.name == "false_alarm_rate")
        assert [(row.detector, row.mean.best) for row in board.rows] == [
            ("patchcore", True),
            ("b", False),
        ]

    def test_does_not_call_the_only_detector_the_best(self) -> None:
        row = rank([fake_run()])[0].boards[0].rows[0]
        assert not row.mean.best
        assert not row.cells[0].best

    def test_says_when_a_mean_is_over_fewer_categories_and_lets_it_not_win(self) -> None:
        runs = [
            with_auroc(0.99),
            with_auroc(0.8, detector="featcae"),
            with_auroc(0.8, category="nut", detector="featcae"),
            with_auroc(0.7, detector="cae"),
            with_auroc(0.7, category="nut", detector="cae"),
            with_auroc(None, category="washer"),
            with_auroc(None, category="washer", detector="featcae"),
        ]
        rows = rank(runs)[0].boards[0].rows
        assert [row.detector for row in rows] == ["featcae", "cae", "patchcore"]
        assert [row.mean.best for row in rows] == [True, False, False]
        assert [row.mean.coverage for row in rows] == ["", "", "1 of 2"]

    def test_says_over_how_many_categories_its_means_are(self, write: Any) -> None:
        runs = [with_auroc(0.9), fake_run("nut", good=0, defects=0), without_defects("washer")]
        text = write(*runs, fake_run(detector="featcae", image={"auroc": 0.5}))
        assert rank(runs)[0].boards[0].rows[0].mean.mean == 0.9
        assert "Means are over 1 of 3 categories" in text
        assert "Means are over" not in write(with_auroc(0.9))

    def test_can_be_taken_away_as_csv(self, write: Any) -> None:
        text = write(fake_run(HOSTILE), fake_run("nut"), fake_run("nut", "featcae"))
        found = re.findall(
            r'download="(\w+)\.csv" href="data:text/plain;charset=utf-8,([^"]*)"', text
        )
        tables = {name: list(csv.DictReader(io.StringIO(unquote(c)))) for name, c in found}
        assert {row["category"] for row in tables["leaderboard"]} == {HOSTILE, "nut"}
        assert float(tables["cost"][0]["train_s"]) > 0

    def test_has_the_tables_for_papers(self, write: Any) -> None:
        runs = [fake_run(), fake_run(detector="featcae")]
        text = write(*runs, tables={"tables.tex": r"\begin{table} & %"})
        found = re.search(
            r'download="tables.tex" href="data:text/plain;charset=utf-8,([^"]*)"', text
        )
        assert unquote(found[1]) == r"\begin{table} & %"

    def test_is_not_upset_by_unknown_costs(self, write: Any) -> None:
        runs = [Run(fake_run(detector=name).metrics, fake_run().scores) for name in "ab"]
        assert "Cost" in write(*runs)


class TestRuns:
    def test_read_what_the_line_left_on_disk(self, tmp_path: Path) -> None:
        run = fake_run()
        metrics = write_run(run, tmp_path / "bolt")
        write_cases(tmp_path / "bolt/figures/cases", [case()], (0.0, 1.0), unit="distance")
        (tmp_path / "bolt/model").mkdir()
        (tmp_path / "bolt/model/model.safetensors").write_bytes(bytes(2_000_000))
        for rule, name, seconds, memory in (
            ("train", "bolt.unsupervised.patchcore.seed0", 10.0, 500.0),
            ("score", "bolt.unsupervised.patchcore.seed0.test", 2.0, 700.0),
        ):
            file = tmp_path / f"benchmarks/{rule}/{name}.tsv"
            file.parent.mkdir(parents=True)
            file.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:10\t{memory}\n")
        found = read_run(metrics, tmp_path / "benchmarks")
        assert found.metrics == run.metrics
        for name in ("calibration", "good", "defective"):
            assert found.scores[name] == pytest.approx(run.scores[name])
        assert vars(found.cost) == {
            "train_seconds": 10.0,
            "score_seconds": 2.0,
            "peak_memory": 700.0,
            "model_size": 2.0,
        }
        assert found.unit == "distance"
        assert found.cases["cases"][0]["content"][:4] == b"RIFF"

    def test_count_shared_features_in_their_cost(self, tmp_path: Path) -> None:
        provenance = fake_run().metrics.provenance | {"options": {"features": "bank"}}
        metrics = write_run(fake_run(provenance=provenance), tmp_path / "bolt")
        for name, seconds in (
            ("train/bolt.unsupervised.patchcore.seed0", "10"),
            ("extract_features/bolt.unsupervised.train.bank", "5"),
        ):
            file = tmp_path / f"benchmarks/{name}.tsv"
            file.parent.mkdir(parents=True)
            file.write_text(f"s\tmax_rss\n{seconds}\t-\n")
        assert read_run(metrics, tmp_path / "benchmarks").cost.train_seconds == 15

    def test_are_read_without_benchmarks_and_figures(self, tmp_path: Path) -> None:
        found = read_run(write_run(fake_run(), tmp_path), tmp_path / "none")
        assert set(vars(found.cost).values()) == {None}
        assert found.cases["cases"] == []

    def test_comparison_tables_have_numbers_words_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("protocol,detector_a,p,p_holm\nunsupervised,007,0.5,\n")
        assert comparison_rows(tmp_path / "a.csv") == [
            {"protocol": "unsupervised", "detector_a": "007", "p": 0.5, "p_holm": None}
        ]


LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.9, 0.7, 0.5, 0.2, 0.3, 0.5, 0.8])


def test_boxes_have_the_names_of_their_images(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("predictions", "boxes")}
    write_table(files["predictions"], pd.DataFrame({"row": [0, 1], "image_id": ["a", "b"]}))
    write_table(files["boxes"], pd.DataFrame({"row": [1, 1], "x0": [3, 4]}))
    name_boxes(files, tmp_path / "named.csv")
    assert read_table(tmp_path / "named.csv").to_numpy().tolist() == [[1, "b", 3], [1, "b", 4]]


class TestTheCasesShown:
    def test_are_misses_then_false_alarms_then_closest_calls(self) -> None:
        assert choose(LABELS, SCORES, 0.5, 8) == [
            (4, "miss"),
            (5, "miss"),
            (6, "miss"),
            (1, "false alarm"),
            (2, "false alarm"),
            (3, "closest call: good"),
            (7, "closest call: defective"),
            (0, "closest call: good"),
        ]

    @pytest.mark.parametrize("subset", ["calibration", "train"])
    def test_are_the_highest_calibration_images_where_there_are_no_good_test_images(
        self, subset: str
    ) -> None:
        split = pd.DataFrame(
            {
                "image_id": ["test/good/9.png", *(f"train/good/{i}.png" for i in range(4))],
                "subset": ["test", *[subset] * 4],
            }
        )
        images = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
        maps = np.zeros((3, 8, 8), np.float16)
        maps[2, 1:3, 1:4] = 9
        # folds need not hold every image
        scores = pd.DataFrame({"row": [0, 1, 3], "score": [0.1, 0.3, 0.2]})
        found = calibration_cases(scores, split, images, maps, 2, limit=1.0, min_area=1)
        assert [(one.name, one.row, one.score) for one in found] == [
            ("train/good/1.png", 1, 0.3),
            ("train/good/3.png", 3, 0.2),
        ]
        assert {one.kind for one in found} == {CALIBRATION}
        assert found[1].image[0, 0, 0] == 3
        assert [one.boxes.tolist() for one in found] == [[], [[1, 1, 4, 3]]]
        assert found[0].title == "train/good/1.png: calibration image, score 0.3000"

    def test_keep_room_for_both_kinds(self) -> None:
        reasons = [reason for _, reason in choose(LABELS, SCORES, 0.5, 3)]
        assert reasons == ["miss", "miss", "false alarm"]

    def test_end_with_typical_right_calls_that_are_not_shown_yet(self) -> None:
        labels, scores = np.repeat([0, 1], 5), np.arange(10) / 10
        assert choose(labels, scores, 0.45, 2, typical=1) == [
            (4, "closest call: good"),
            (5, "closest call: defective"),
            (7, "typical: defective"),
            (2, "typical: good"),
        ]

    def test_keep_the_order_of_ties_and_accept_too_few_images(self) -> None:
        labels, scores = np.array([1, 1, 0]), np.array([0.1, 0.1, 0.1])
        assert [row for row, _ in choose(labels, scores, 0.1, 9)] == [0, 1, 2]
        assert choose(labels[:0], scores[:0], 0.5, 9, 2) == []

    def test_have_masks_only_where_they_are_known(self) -> None:
        table = pd.DataFrame(
            {
                "image_id": ["test/good/1.png", "test/dent/2.png"],
                "label": [0, 1],
                "defect_type": ["good", "dent"],
                "has_mask": [0, 0],
                "score": [0.1, 0.2],
            }
        )
        arrays = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
        found = open_cases([(0, "a"), (1, "b")], table, *arrays, np.zeros((2, 4, 4)))
        assert [one.name for one in found] == ["good/1.png", "dent/2.png"]
        assert found[0].ground_truth is not None
        assert found[1].ground_truth is None
        assert found[0].counted is None
        counted = np.arange(2, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
        again = open_cases([(1, "b")], table, *arrays, np.zeros((2, 4, 4)), counted=counted)
        assert again[0].counted is not None
        assert again[0].counted.all()

    def test_are_files_that_read_back(self, tmp_path: Path) -> None:
        cases = [case(seed, 256) for seed in range(3)]
        write_cases(tmp_path / "cases", cases, (0.0, 1.0), unit="distance")
        found = read_cases(tmp_path / "cases")
        assert [one["name"] for one in found["cases"]] == ["scratch/1.png"] * 3
        assert found["scale"] == [0.0, 1.0]
        assert all(one["content"][:4] == b"RIFF" for one in found["cases"])

    @pytest.mark.parametrize("shape", [(416, 160), (160, 416), (60, 80), (30, 400)])
    def test_keep_the_shape_of_the_photograph(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        assert {panel.shape for panel in panels(case(0, *shape), (0.0, 1.0))} == {(*shape, 3)}
        write_cases(tmp_path / "cases", [case(0, *shape)], (0.0, 1.0))
        width, height = picture_size(read_cases(tmp_path / "cases")["cases"][0]["content"])
        assert (width - 8) / 3 / height == pytest.approx(shape[1] / shape[0], rel=0.02)
        assert width * height <= 3.2 * 256**2
        assert max((width - 8) / 3, height) <= min(max(shape), 512)

    def test_show_what_does_not_count(self, tmp_path: Path) -> None:
        counted = np.ones((64, 96), np.uint8)
        counted[:, 60:] = 0
        plain, marked = (
            panels(case(0, 64, 96, boxes=None, counted=one), (0.0, 1.0)) for one in (None, counted)
        )
        differs = (plain[0] != marked[0]).any(axis=2)
        assert differs[:, 61:].mean() > 0.9
        assert not differs[:, :58].any()
        assert np.array_equal(plain[2], marked[2])
        for some, cases in [(False, [case()]), (True, [case(), case(0, 64, 96, counted=counted)])]:
            write_cases(tmp_path / "cases", cases, (0.0, 1.0))
            assert read_cases(tmp_path / "cases")["hatched"] is some

    def test_are_shared_by_found_and_passed_parts_where_nothing_is_wrong(self) -> None:
        labels = np.repeat([0, 1], 10)
        scores = np.concatenate([np.linspace(0.8, 0.99, 10), np.linspace(2, 3, 10)])
        kinds = [kind for _, kind in choose(labels, scores, 1.0, 6)]
        assert kinds.count("closest call: good") == kinds.count("closest call: defective") == 3
        kinds = [kind for _, kind in choose(labels[:12], scores[:12], 1.0, 6)]
        assert kinds.count("closest call: good") == 4

    def test_show_what_the_method_sees(self) -> None:
        cases = [case(seed) for seed in range(2)]
        pictures = {
            "rebuilt": np.zeros((2, 32, 32, 3), np.uint8),
            "dent": np.arange(32.0).reshape(2, 4, 4),
        }
        rows = picture_rows(cases, pictures, (0.0, 1.0))
        assert [len(row) for _, row in rows] == [4, 4]
        assert all(one.ndim == 3 and one.dtype == np.uint8 for _, row in rows for one in row)

    def test_show_what_a_square_network_sees_in_the_shape_of_the_photograph(self) -> None:
        pictures = {"rebuilt": np.zeros((1, 60, 60, 3), np.uint8), "dent": np.ones((1, 6, 6))}
        [(_, row)] = picture_rows([case(0, 90, 40)], pictures, (0.0, 1.0))
        ratios = [one.shape[0] / one.shape[1] for one in row]
        assert ratios == pytest.approx([90 / 40] * 4, rel=0.05)


class TestCharts:
    @pytest.mark.parametrize(
        "scores",
        [
            {"calibration": np.full(5, 1.0)},
            {"calibration": np.zeros(1), "good": np.zeros(1)},
            {"calibration": np.full(3, 1e-9), "defective": np.array([1e9])},
            {"good": np.array([1.0]), "defective": np.array([])},
            {"good": np.random.default_rng(0).standard_cauchy(200)},
            {},
        ],
    )
    def test_survive_degenerate_scores(self, tmp_path: Path, scores: dict[str, np.ndarray]) -> None:
        chart = charts.histogram(scores, 1.0)
        assert chart["range"][0] < 1.0 < chart["range"][1]
        assert "nan" not in str(chart)
        if scores:
            figures.save(figures.histogram(scores, 1.0), tmp_path / "a.svg")
            assert "threshold 1.000" in (tmp_path / "a.svg").read_text()

    def test_count_the_scores_beyond_their_range(self) -> None:
        scores = np.append(np.linspace(0, 1, 50), [1e6, 2e6])
        row = charts.histogram({"defective": scores}, 0.5)["rows"][0]
        assert (row["n"], row["beyond"]) == (52, "2 further right")

    def test_put_no_scores_of_both_sides_of_the_threshold_into_one_bar(self) -> None:
        edges = charts.bar_edges([SCORES], 0.5)
        counts = charts.bar_counts(SCORES, edges)
        assert np.isclose(edges, 0.5).any()
        assert counts[edges[1:] <= 0.5 + 1e-9].sum() == (SCORES <= 0.5).sum()

    def test_have_no_loss_curve_without_epochs(self) -> None:
        assert charts.loss_series([{"step": 1, "patches": 9, "memory": 3}]) == []
        assert charts.loss_series([]) == []

    def test_separate_phases_and_losses(self) -> None:
        rows = [
            {"phase": "gan", "epoch": 1, "steps": 1, "critic": -1.0, "encoder": "", "seconds": 1},
            {"phase": "encode", "epoch": 1, "steps": 2, "critic": "", "encoder": 2.0, "seconds": 2},
        ]
        found = charts.loss_series(rows)
        assert [one["title"] for one in found] == ["gan: critic", "encode: encoder"]
        assert len(charts.loss_chart(found[0])["lines"]) == 1

    def test_put_the_validation_loss_into_the_frame_of_its_loss(self) -> None:
        rows = [
            {"epoch": epoch, "loss": 1 / epoch, "validation loss": 2.0} for epoch in range(1, 9)
        ]
        (found,) = charts.loss_series(rows)
        assert found["title"] == "loss"
        assert found["validation"] == [2.0] * 8
        first, second = charts.loss_chart(found)["lines"]
        heights = {point.split(",")[1] for point in second.split()}
        assert len(heights) == 1
        assert float(heights.pop()) < min(float(point.split(",")[1]) for point in first.split())

    def test_place_names_beside_their_points_without_collisions(self) -> None:
        points = [(f"detector_{i}", 10.0 + i, 0.99 - i / 1000) for i in range(3)]
        chart = charts.scatter(points)
        places = [(round(at["label_y"]), at["end"]) for at in chart["points"]]
        assert len(set(places)) == 3

    def test_have_plain_ticks_for_costs_that_are_alike(self) -> None:
        rows = [("a", 20.5, 0.9), ("b", 20.75, 0.8)]
        figure = figures.accuracy_cost([("seconds", rows)])
        labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
        assert labels == ["10", "20", "50"]

    def test_join_ranks_within_the_critical_difference(self) -> None:
        assert figures._joined([1.0, 2.0, 2.5, 5.0], 1.6) == [(1.0, 2.5)]
        assert figures._joined([1.0, 2.5, 3.0], 1.5) == [(2.5, 3.0)]

    def test_show_the_stages_that_ran(self, tmp_path: Path) -> None:
        for name in ("index/a", "split/a", "prepare/a", "prepare/b", "train/a", "evaluate/a"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / f"{name}.tsv").write_text("s\tmax_rss\n2.5\t10\n")
        (tmp_path / "compare.tsv").write_text("s\tmax_rss\n2.5\t10\n")
        drawing = graph(tmp_path)
        stages = {stage.name: (stage.jobs, stage.seconds) for stage in drawing["stages"]}
        assert stages["prepare"] == (2, 5.0)
        assert stages["compare"] == (1, 2.5)
        assert "score" not in stages
        assert len(drawing["arrows"]) == 6

    def test_wrap_the_stages_so_that_they_fit_the_page(self, tmp_path: Path) -> None:
        for name in ("train", "figures", "index", "prepare", "score", "split", "extract_features"):
            (tmp_path / name).mkdir()
            (tmp_path / f"{name}/a.tsv").write_text("s\tmax_rss\n2.5\t10\n")
        for name in ("evaluate", "threshold", "compare"):
            (tmp_path / f"{name}.tsv").write_text("s\tmax_rss\n2.5\t10\n")
        drawing = graph(tmp_path)
        assert drawing["width"] < 950
        boxes = [(stage.x, stage.y) for stage in drawing["stages"]]
        assert len(set(boxes)) == len(boxes) == 11
        width, height = drawing["box"]
        for x, y in boxes:
            assert 0 < x < drawing["width"] - width
            assert 0 < y < drawing["height"] - height
        assert len({y for _, y in boxes}) > 1


class TestFigureFiles:
    def draw(self, folder: Path) -> list[Path]:
        folder.mkdir()
        curve, points = charts.CURVES[0], {"fpr": [0, 0.5, 1], "tpr": [0, 0.9, 1]}
        series = charts.loss_series(
            [
                {"epoch": 1, "loss": 0.5, "validation loss": 0.6},
                {"epoch": 2, "loss": 0.2, "validation loss": 0.3},
            ]
        )
        rows = [("patchcore", 3.0, 0.9), ("featcae", 9.0, 0.8)]
        drawn = {
            "histogram": figures.histogram({"good": SCORES}, 0.5),
            "roc": figures.curve(curve, points, 0.9, (0.1, 0.5)),
            "none": figures.curve(curve, None, None),
            "losses": figures.losses(series),
            "no_losses": figures.losses([]),
            "ranks": figures.critical_difference([("a", 1.2), ("b", 1.8), ("c_$x", 3.0)], 1.0),
            "no_ranks": figures.critical_difference([("a", 1.0)], None, "one detector"),
            "cost": figures.accuracy_cost([("seconds", rows), ("memory", [])]),
        }
        for name, figure in drawn.items():
            figures.save(figure, *(folder / f"{name}.{kind}" for kind in ("svg", "png", "pdf")))
        figures.save(figures.gallery([case()], (0.0, 1.0)), folder / "gallery.jpg")
        return sorted(folder.iterdir())

    def test_are_equal_for_equal_input(self, tmp_path: Path) -> None:
        for a, b in zip(self.draw(tmp_path / "a"), self.draw(tmp_path / "b"), strict=True):
            assert a.read_bytes() == b.read_bytes(), a.name

    def test_say_what_they_show_or_why_not(self, tmp_path: Path) -> None:
        files = {path.name: path for path in self.draw(tmp_path / "a")}
        assert "AUROC 0.900" in files["roc.svg"].read_text()
        assert "not measured" in files["none.svg"].read_text()
        assert "one detector" in files["no_ranks.svg"].read_text()
        assert "no losses" in files["no_losses.svg"].read_text()
        assert "c_$x" in files["ranks.svg"].read_text()
        assert files["cost.png"].read_bytes().startswith(b"\x89PNG")

    def test_galleries_of_eight_noisy_images_stay_small(self, tmp_path: Path) -> None:
        cases = [case(seed, 256) for seed in range(8)]
        figures.save(figures.gallery(cases, (0.0, 1.0)), tmp_path / "a.jpg")
        assert (tmp_path / "a.jpg").stat().st_size < 400_000

    @pytest.mark.parametrize("shape", [(416, 160), (160, 416), (100, 1000)])
    def test_galleries_of_any_shape_fit_a_page(self, shape: tuple[int, int]) -> None:
        drawn = figures.gallery([case(seed, *shape) for seed in range(8)], (0.0, 1.0))
        width, height = drawn.get_size_inches()
        assert max(width, height) < 13
        for axes in drawn.axes[:-1]:
            box = axes.get_position()
            seen = box.height * height / (box.width * width)
            assert seen == pytest.approx(shape[0] / shape[1], rel=0.01)

    def test_galleries_accept_no_cases_missing_masks_odd_names_and_a_flat_scale(
        self, tmp_path: Path
    ) -> None:
        figures.save(figures.gallery([], (0.0, 1.0)), tmp_path / "none.jpg")
        odd = case(name="$\\frac{ <b>" + "long " * 40, ground_truth=None, boxes=None)
        for boxed in (0.55, 0.7):
            figures.save(figures.gallery([odd], (0.5, 0.6), boxed), tmp_path / "odd.png")
        assert (tmp_path / "none.jpg").read_bytes().startswith(b"\xff\xd8")
        assert (tmp_path / "odd.png").read_bytes().startswith(b"\x89PNG")
