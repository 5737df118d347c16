"""The report as a reader has it: in a browser. Skipped where there is no Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_runs import HOSTILE, fake_grid, fake_pairs, fake_ranks, fake_run, metrics_of, strip

from flawline.evaluation.intervals import clopper_pearson, decision_intervals
from flawline.report import page as report
from flawline.report.detector_comparison import compare
from flawline.report.model import Origin, assemble
from flawline.report.overview import percent

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])),
    None,
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium found: apt-get install chromium"
)

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("white");
  };
  const low = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.closest("script, option")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgb(element.closest("svg") ? style.fill : style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.add(`${element.tagName}.${element.className.baseVal ?? element.className}: ${ratio.toFixed(2)}`);
  }
  return [...low];
}"""  # noqa: E501


@pytest.fixture(scope="module")
def runs() -> list[Any]:
    rng = np.random.default_rng(0)
    pictures = [strip(rng, 64) for _ in range(3)]
    return [
        fake_run(category, detector, seed, protocol=protocol, apart=apart, cases=pictures)
        for category in ("bolt", HOSTILE)
        for detector, protocol, apart in (
            ("patchcore", "unsupervised", 2.5),
            ("featcae", "unsupervised", 1.5),
            ("autoencoder", "unsupervised", 1.0),
            ("cam", "supervised", 3.0),
        )
        for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def file(runs: list[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    ranks = fake_ranks(["patchcore", "featcae", "autoencoder"])
    tests = [
        {
            "metric": "image_auroc",
            "detector_a": "patchcore",
            "detector_b": "featcae",
            "categories": 2.0,
            "median_difference": 0.1,
            "p": 0.5,
            "p_holm": 0.5,
            "smallest_p": 0.5,
            "needed": 7.0,
        }
    ]
    origin = Origin("demo", "2025-01-31 12:00 UTC", "seeds: [0, 1]\n", {"flawline": "1"})
    comparison = compare(ranks, tests)
    made = assemble(runs, origin, pairs=fake_pairs(runs), comparison=comparison)
    report.render(path, made)
    return path


def small_runs() -> list[Any]:
    """Two products, one detector."""
    pictures = [strip(np.random.default_rng(0), 64) for _ in range(8)]
    return [fake_run(name, cases=pictures) for name in ("bolt", "nut")]


@pytest.fixture
def small(file: Path) -> Path:
    """`small_runs`, and a long line in the configuration."""
    origin = Origin("demo", "", f"detectors: {{patchcore: {'a' * 400}}}\n", {"flawline": "1"})
    report.render(file.parent / "small.html", assemble(small_runs(), origin))
    return file.parent / "small.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        # Chromium's sandbox does not work in a container
        found = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any, file: Path) -> Iterator[Any]:
    """Open a page; nothing may go wrong there and nothing may leave it."""
    wrong: list[str] = []
    contexts = []

    def opened(path: Path = file, width: int = 1280, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: outside(request.url))
        page.goto(path.as_uri())
        return page

    def outside(url: str) -> None:
        if not url.startswith(("data:", file.parent.as_uri())):
            wrong.append(f"request: {url}")

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def first_column(page: Any, board: str = "image-auroc") -> list[str]:
    return page.locator(f"[data-board={board}] >> nth=0").locator("tbody th").all_inner_texts()


def test_tables_sort_by_any_column(visit: Any) -> None:
    page = visit()
    header = page.locator("[data-board=image-auroc] th", has_text="bolt").first
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert first_column(page) == ["patchcore", "featcae", "autoencoder"]
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    assert first_column(page) == ["autoencoder", "featcae", "patchcore"]


def test_another_figure_replaces_the_table(visit: Any) -> None:
    page = visit()
    page.select_option("#metric", "at_threshold-recall")
    assert page.locator("[data-board=at_threshold-recall]").first.is_visible()
    assert not page.locator("[data-board=image-auroc]").first.is_visible()


def test_filters_hide_detectors_and_categories(visit: Any) -> None:
    page = visit()
    page.fill("#detectors", "patch, cam")
    assert page.locator("[data-board=image-auroc] tbody tr:visible").count() == 1
    assert page.locator(".scatter g[data-detector=featcae]").first.is_hidden()
    page.fill("#categories", "bolt")
    assert page.locator("[data-board=image-auroc] >> nth=0").locator("th:visible").count() == 4
    assert page.locator(".category:visible").count() == 1
    assert page.inner_text("#shown") == "2 of 4 detectors, 1 of 2 categories"
    page.fill("#detectors", "")
    page.fill("#categories", "")
    assert page.locator(".category:visible").count() == 2


def test_means_and_marks_of_the_best_follow_the_filter(visit: Any, runs: list[Any]) -> None:
    page = visit()
    table = page.locator("[data-board=image-auroc] table").first
    before = table.inner_text()

    def means() -> list[str]:
        return table.locator("td.mean:visible").all_inner_texts()

    assert table.locator("td.mean .best").count() == 1
    page.fill("#categories", "bolt")
    shown = table.locator("tbody tr:visible td:not(.mean):visible").all_inner_texts()
    assert [one.lstrip("▲")[:5] for one in means()] == [one.lstrip("▲")[:5] for one in shown]
    assert means()[0].startswith("▲")
    page.fill("#detectors", "feat, auto")
    assert len(means()) == 2
    assert means()[0].startswith("▲")  # the best of those that are left
    page.fill("#detectors", "nothing of this name")
    assert page.locator("#none").is_visible()
    assert page.locator(".rankings .scatter:visible").count() == 0
    page.fill("#detectors", "")
    page.fill("#categories", "")
    assert table.inner_text() == before
    assert page.locator("#none").is_hidden()


def test_slider_recomputes_what_python_computes(visit: Any, runs: list[Any]) -> None:
    page = visit()
    place, run = page.locator(".decision").first, runs[0]
    data = page.evaluate("JSON.parse(document.querySelector('.decision script').textContent)")
    assert data["threshold"] == run.threshold
    low, high = data["range"]
    for position in (0, 137, 400, 650, 1000):
        place.locator("input[type=range]").fill(str(position))
        threshold = low + position / 1000 * (high - low)
        _, at = metrics_of(run.scores["good"], run.scores["defective"], threshold)
        for name in ("true_positive", "false_positive", "true_negative", "false_negative"):
            shown = place.locator(f"td[data-live={name}]").inner_text()
            assert int(shown) == at[name], (name, position)
        for name in ("recall", "precision", "false_alarm_rate", "f1"):
            shown = place.locator(f"dd[data-live={name}]").inner_text()
            assert shown == ("–" if at[name] is None else f"{at[name]:.3f}"), (name, position)  # noqa: RUF001
        cost = 1000 * (0.1 * (1 - at["recall"]) + 0.99 * at["false_alarm_rate"])
        assert float(place.locator("[data-live=risk]").inner_text()) == pytest.approx(
            cost, rel=0.01
        )


def test_slider_moves_the_points_on_the_curves_and_can_be_put_back(visit: Any) -> None:
    page = visit()
    mark = page.locator("[data-curve=roc] .mark").first
    before = mark.get_attribute("cx"), mark.get_attribute("cy")
    slider, reset = page.locator("input[type=range]").first, page.locator(".reset").first
    slider.focus()
    page.keyboard.press("Home")
    assert float(mark.get_attribute("cx")) > float(before[0])
    assert "missed" in slider.get_attribute("aria-valuetext")
    line = page.locator(".fixing code").first
    given = yaml.safe_load(line.inner_text())["overrides"]["bolt"]["threshold"]
    data = page.evaluate("JSON.parse(document.querySelector('.decision script').textContent)")
    assert given == {"rule": "fixed", "value": pytest.approx(data["range"][0], rel=1e-5)}
    reset.click()
    assert line.is_hidden()
    assert float(mark.get_attribute("cx")) == pytest.approx(float(before[0]), abs=0.1)
    assert reset.is_hidden()


def test_slider_moves_headline_tables_defect_types_and_gallery(visit: Any, small: Path) -> None:
    page, run = visit(small), fake_run("bolt")
    section = page.locator(".detector").first
    everything = section.inner_text()
    data = page.evaluate("JSON.parse(document.querySelector('.decision script').textContent)")
    low, high = data["range"]
    slider = section.locator("input[type=range]")
    for position in (60, 400, 900):
        slider.fill(str(position))
        threshold = low + position / 1000 * (high - low)
        good, bad = run.scores["good"], run.scores["defective"]
        labels, scores = np.repeat([0, 1], [len(good), len(bad)]), np.concatenate([good, bad])
        _, at = metrics_of(good, bad, threshold)
        ends = decision_intervals(labels, scores, threshold, 0.95)

        headline = section.locator(".headline").inner_text()
        assert f"missed {percent(1 - at['recall'])}" in headline
        for name in (
            "recall",
            "false_alarm_rate",
            "precision",
            "f1",
            "accuracy",
            "balanced_accuracy",
        ):
            cell = section.locator(f".tables td[data-live={name}]")
            assert cell.inner_text() == f"{at[name]:.3f}", (name, position)
            range_ = section.locator(f".tables [data-ends={name}]").inner_text()
            shown = [float(end) for end in range_.split("\N{EN DASH}")]
            assert shown == pytest.approx(ends[f"at_threshold.{name}"], abs=6e-4), (name, position)

        of_type = bad[[kind == "dent" for kind in run.types]]
        missed = int((of_type <= threshold).sum())
        row = section.locator("[data-type=dent] td").nth(1).inner_text()
        assert row.startswith(f"{missed} of {len(of_type)} ")
        highest = clopper_pearson(missed, len(of_type), 0.95)[1]
        assert float(re.findall(r"[\d.]+", row)[-1]) == pytest.approx(100 * highest, abs=0.51)

        cases = {case["name"]: case for case in small_runs()[0].cases["cases"]}
        calls = []
        for item in section.locator(".gallery li p").all_inner_texts():
            kind, name = re.match(r"(Miss|False alarm|Found|Passed) (\S+)", item).groups()
            case = cases[name]
            rejected, truth = case["score"] > threshold, case["defect_type"] != "good"
            assert (
                kind
                == {
                    (True, True): "Found",
                    (True, False): "False alarm",
                    (False, True): "Miss",
                    (False, False): "Passed",
                }[rejected, truth]
            )
            calls.append(kind)
        wrong = [kind in ("Miss", "False alarm") for kind in calls]
        assert wrong == sorted(wrong, reverse=True)
    section.locator(".reset").click()
    assert section.inner_text() == everything


def test_other_costs_change_the_cost(visit: Any) -> None:
    page = visit()
    live = page.locator(".decision [data-live=risk]").first
    before = float(live.inner_text())
    page.locator("[data-cost=false_alarm]").first.fill("100")
    assert float(live.inner_text()) > 50 * before


def test_pictures_enlarge_and_can_be_leafed_through(visit: Any) -> None:
    page = visit()
    page.locator(".gallery .enlarge").first.click()
    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    alt = "document.querySelector('#viewer img').alt"
    first = page.evaluate(alt)
    assert "ground truth" in first
    page.keyboard.press("ArrowRight")
    assert page.evaluate(alt) != first
    viewer.get_by_role("button", name="Previous").click()
    assert page.evaluate(alt) == first
    page.keyboard.press("Escape")
    assert viewer.is_hidden()


def test_seeds_are_tabs(visit: Any) -> None:
    page = visit()
    tabs = page.locator("[role=tablist]").first.locator("[role=tab]")
    panels = page.locator(".detector").first.locator(".panel")
    assert (panels.nth(0).is_visible(), panels.nth(1).is_visible()) == (True, False)
    tabs.first.focus()
    page.keyboard.press("ArrowRight")
    assert tabs.nth(1).get_attribute("aria-selected") == "true"
    assert (panels.nth(0).is_visible(), panels.nth(1).is_visible()) == (False, True)


def test_links_into_closed_sections_open_them(visit: Any) -> None:
    page = visit()
    last = page.locator(".detector").last
    anchor = last.locator("summary").first.get_attribute("id")
    panel = last.locator(".panel").first.get_attribute("id")
    assert last.get_attribute("open") is None
    page.evaluate("(anchor) => { location.hash = anchor; }", panel)
    page.wait_for_function("() => [...document.querySelectorAll('.detector')].at(-1).open")
    assert anchor


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_enough_on_light_and_dark(visit: Any, scheme: str) -> None:
    page = visit(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(CONTRAST) == []


def test_theme_can_be_chosen(visit: Any) -> None:
    page = visit(color_scheme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    button = page.get_by_role("button", name="Dark")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate(background) == "rgb(20, 23, 26)"
    page.reload()
    assert page.evaluate(background) == "rgb(20, 23, 26)"


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_a_small_screen(visit: Any, width: int) -> None:
    page = visit(width=width)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keyboard_begins_at_the_skip_link(visit: Any) -> None:
    page = visit()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    page.wait_for_url("**/report.html#main")


def test_controls_have_names(visit: Any) -> None:
    page = visit()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a")].filter((one) =>
            !(one.textContent.trim() || one.getAttribute("aria-label") || one.labels?.length
              || one.querySelector("img[alt]"))).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_everything_static_shows_without_javascript(visit: Any) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator(".board:visible").count() == page.locator(".board").count() > 10
    assert page.locator(".histogram:visible").count() == 2
    assert page.locator(".panel:visible").count() == 2  # both seeds of the open section
    assert page.locator(".controls:visible, .slider:visible, .theme:visible").count() == 0


def test_prints_the_verdict_and_a_page_for_each_product(visit: Any, small: Path) -> None:
    page = visit(small)
    page.emulate_media(media="print")
    assert page.locator(".slider:visible, nav:visible, .theme:visible").count() == 0
    assert page.locator(".card:visible, .chosen .gallery:visible").count() == 4
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 4  # verdict, two products, provenance


def test_prints_what_the_reader_has_opened(visit: Any, file: Path) -> None:
    page = visit(file)
    other = page.locator(".detector:not(.chosen)").first
    page.emulate_media(media="print")
    assert other.is_hidden()
    other.evaluate("(details) => { details.open = true; }")
    assert other.is_visible()


@pytest.mark.parametrize("which", ["file", "small"])
def test_cuts_nothing_off_on_paper(visit: Any, which: str, request: pytest.FixtureRequest) -> None:
    page = visit(request.getfixturevalue(which), width=688)  # A4 without its margins
    page.emulate_media(media="print")
    beyond = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter((one) =>
            one.checkVisibility() && getComputedStyle(one).clipPath === "none"
            && one.getBoundingClientRect().right > 689).map((one) => one.outerHTML.slice(0, 90))"""
    )
    assert beyond == []


def test_a_phone_shows_each_value_under_its_heading(visit: Any) -> None:
    page = visit(width=390)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    tables = page.evaluate(
        """() => [...document.querySelectorAll("table")].filter((one) =>
            one.checkVisibility() && one.tHead && !one.tHead.classList.contains("unseen")
          ).map((table) => {
            const shown = (row) => [...row.cells].filter((cell) => cell.checkVisibility());
            const place = (cell) => {
              const {left, right} = cell.getBoundingClientRect();
              return [Math.round(left), Math.round(right)];
            };
            const heads = shown(table.tHead.rows[0]);
            const rows = [...table.tBodies[0].rows].filter((row) => row.checkVisibility());
            return {
              heads: heads.map(place),
              rows: rows.map((row) => shown(row).map(place)),
              spans: heads.map((cell) => cell.colSpan),
            };
          })"""
    )
    assert len(tables) > 8
    for table in tables:
        assert set(table["spans"]) == {1}
        for row in table["rows"]:
            assert row == table["heads"]


def test_a_phone_shows_the_panels_of_a_picture_one_below_the_other(visit: Any) -> None:
    for width, across in ((390, 1), (1280, 3)):
        page = visit(width=width)
        page.locator(".gallery .enlarge").first.click()
        page.wait_for_function("document.querySelector('#viewer img').complete")
        places = [part.bounding_box() for part in page.locator("#viewer .part").all()]
        assert len({round(place["x"]) for place in places}) == across
        assert min(place["width"] for place in places) > 300
        ratios = [place["width"] / place["height"] for place in places]
        assert ratios == pytest.approx([ratios[0]] * 3, rel=0.05)


def test_names_are_words_and_nothing_else(visit: Any) -> None:
    page = visit()
    assert HOSTILE in page.locator(".category h2").all_inner_texts()
    assert (
        page.evaluate("document.scripts.length") == 17
    )  # one JSON block a run, and the page's own


@pytest.mark.slow
def test_a_large_report_loads_fast(visit: Any, file: Path) -> None:
    """15 categories x 8 detectors x 3 seeds: the overview, and the page of a category."""
    folder = file.parent / "large"
    report.render(folder / "report.html", fake_grid(seeds=3).page)
    for path in (folder / "report.html", folder / "report/screw.html"):
        page = visit(path)
        took = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        assert took < 2000, path
        assert path.stat().st_size < 25e6
