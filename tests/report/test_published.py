"""Published figures beside those of a run: which are shown, where, and what is said of them."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from fake_runs import HOSTILE, fake_run

from flawline.data.datasets.mvtec_ad import CATEGORIES
from flawline.metrics import METRICS
from flawline.report import page
from flawline.report.model import Origin, assemble
from flawline.report.published import FILE, IMAGES, published_tables
from flawline.report.runs import Run

with FILE.open(encoding="utf-8", newline="") as lines:
    ROWS = list(csv.DictReader(lines))


def official(category: str, **changes: Any) -> Run:
    """A run with MVTec AD's numbers of test images."""
    _, good, defects = IMAGES[category]
    return fake_run(category, good=good, defects=defects, **changes)


class TestTheFile:
    def test_knows_every_category_and_names_metrics_and_sources(self) -> None:
        assert tuple(IMAGES) == CATEGORIES
        assert set(CATEGORIES) < ROWS[0].keys()
        for row in ROWS:
            assert row["metric"] in {metric.key for metric in METRICS}
            assert row["source"]
            assert re.match(r"https://(arxiv\.org|github\.com)/\w", row["address"])
            assert row["by"] in ("authors", "anomalib")

    def test_has_means_that_are_those_of_its_categories(self) -> None:
        detailed = [row for row in ROWS if row["bottle"]]
        assert len(detailed) > 10
        for row in detailed:
            mean = sum(float(row[name]) for name in CATEGORIES) / 15
            assert mean == pytest.approx(float(row["mean"]), abs=0.001)

    def test_has_each_setting_once(self) -> None:
        keys = [(row["method"], row["by"], row["setting"], row["metric"]) for row in ROWS]
        assert len(set(keys)) == len(keys)


class TestTables:
    def test_show_the_categories_that_ran_and_nothing_that_has_no_figure_of_them(self) -> None:
        image, pixel = published_tables("mvtec_ad", [official("screw"), official("bottle")])
        assert image.categories == ("screw", "bottle")
        assert (image.metric.key, pixel.metric.key) == ("image.auroc", "pixel.auroc")
        cells = {(row.method, row.by, row.setting[:9]): row.cells for row in image.published}
        assert cells["PatchCore", "anomalib", "ResNet-18"] == (0.943, 1.0)
        assert "Dinomaly" not in {row.method for row in image.published}  # its mean alone is known
        assert image.own[0].mean is None

    def test_have_means_where_all_fifteen_ran(self) -> None:
        image = published_tables("mvtec_ad", map(official, CATEGORIES))[0]
        assert image.complete
        assert "Dinomaly" in {row.method for row in image.published}
        own = image.own[0]
        values = [cell.mean for cell in own.cells if cell.mean is not None]
        assert own.mean == pytest.approx(sum(values) / 15)

    @pytest.mark.parametrize(
        ("kind", "run"),
        [
            ("folder", official("bottle")),
            ("mvtec_ad", fake_run("bolt")),
            ("mvtec_ad", official("bottle", protocol="supervised")),
        ],
    )
    def test_are_absent_for_other_data_and_other_protocols(self, kind: str, run: Run) -> None:
        assert published_tables(kind, [run]) == ()

    def test_say_where_test_images_and_training_differ(self) -> None:
        inputs = {
            "device": "cpu",
            "features": [{"backbone": "resnet18"}],
            "geometry": {"shape": [256, 320]},
        }
        run = official("bottle", counts={"train": 167}, provenance={"inputs": inputs})
        fewer = fake_run("screw", good=41, defects=100)
        image = published_tables("mvtec_ad", [run, fewer])[0]
        seen = "resnet18, 256 x 320 px, learned from 62 to 80 % of the good images"
        assert image.own[0].setting == seen
        assert image.others == (
            "screw has 41 good and 100 defective test images here, 41 and 119 in MVTec AD",
        )


@pytest.mark.parametrize("kind", ["mvtec_ad", "folder"])
def test_the_page_shows_them_escaped_or_not_at_all(kind: str, tmp_path: Path) -> None:
    runs = [official("bottle", detector=HOSTILE)]
    page.render(tmp_path / "a.html", assemble(runs, Origin("mvtec_ad"), kind=kind))
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert ("Published figures" in text) == ("patchcore-inspection" in text) == (kind == "mvtec_ad")
    assert HOSTILE not in text
