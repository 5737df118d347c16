"""The command `flawline`: folders in any usual shape become configurations that hold."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from photographs import photograph, save
from project import ROOT
from typer.testing import CliRunner

from flawline.cli import app as commands
from flawline.config import Config, load_config
from flawline.configfile import read_configfile


def flawline(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands.app, list(map(str, arguments)))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flawline.devices.has_cuda", lambda: False)
    return tmp_path


def fill(folder: Path, number: int, seed: int = 0, **shape: int) -> None:
    for i in range(number):
        save(folder / f"{i:03d}.png", photograph(1000 * seed + i, **shape))


def configured(file: Path | str = "parts.yaml") -> Config:
    return load_config(read_configfile(Path(file)), str(file))


# a shape of a folder `parts`: its folders with numbers of photographs, what is expected of init
SHAPES: list[Any] = [
    pytest.param(
        {"a/train/good": 10, "b/train/good": 9, "b/test/dent": 2},
        ("folder", "parts", ["a", "b"]),
        id="MVTec AD's layout",
    ),
    pytest.param(
        {"train/good": 10, "test/good": 2, "test/dent": 2},
        ("folder", ".", ["parts"]),
        id="one product in MVTec AD's layout",
    ),
    pytest.param({".": 12}, ("good_bad", "parts", ["parts"]), id="all good, in one folder"),
    pytest.param({".": 12, "bad": 2}, ("good_bad", "parts", ["parts"]), id="good, with bad/"),
    pytest.param({"a": 12, "b": 11}, ("good_bad", "parts", ["a", "b"]), id="all good, by product"),
    pytest.param({"OK": 12, "NG": 3}, ("good_bad", "parts", ["parts"]), id="good and bad"),
    pytest.param(
        {"good": 12, "dent": 3, "scratch": 1}, ("good_bad", "parts", ["parts"]), id="by defect"
    ),
    pytest.param(
        {"a/good": 12, "a/bad/dent": 3, "b/ok": 12},
        ("good_bad", "parts", ["a", "b"]),
        id="good and bad, by product",
    ),
    pytest.param(
        {"2024/export/good": 12, "2024/export/bad": 3},
        ("good_bad", "parts/2024", ["export"]),
        id="folders in folders",
    ),
    pytest.param({"a/train/ok": 10, "a/test/ko": 2}, ("btad", "parts", ["a"]), id="BTAD"),
]


@pytest.mark.parametrize(("folders", "expected"), SHAPES)
def test_every_usual_shape_becomes_a_configuration_that_passes_the_check(
    here: Path, folders: dict[str, int], expected: tuple[str, str, list[str]]
) -> None:
    for seed, (folder, number) in enumerate(folders.items()):
        fill(here / "parts" / folder, number, seed)
    done = flawline("init", "parts")
    assert done.exit_code == 0, done.output
    assert "flawline run parts.yaml" in done.output
    config = configured()
    kind, source, categories = expected
    assert config.dataset.kind == kind
    assert config.folder == (here / source).resolve()
    assert config.category_names == categories
    listed = [entry for name in categories for entry in config.dataset.listing(name).entries]
    assert len(listed) == sum(folders.values())
    defective = sum(count for name, count in folders.items() if name.endswith(DEFECTIVE))
    assert sum(entry.label for entry in listed) == defective
    checked = flawline("check", "parts.yaml")
    assert checked.exit_code == 0, checked.output
    assert "Ready" in checked.output


DEFECTIVE = ("bad", "NG", "ko", "dent", "scratch")


def test_a_manifest_is_a_dataset(here: Path) -> None:
    fill(here / "parts", 12)
    rows = [f"parts/{i:03d}.png,good" for i in range(12)]
    (here / "parts.csv").write_text("\n".join(["path,label", *rows]))
    assert flawline("init", "parts.csv").exit_code == 0
    assert configured().dataset.kind == "manifest"


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ({"bad": 3}, "photographs of good parts were not recognized. Found there: bad/"),
        ({"x/y/a/good": 3, "x/z/b/good": 3}, "Give one of: "),
        ({"good": 5}, "At least 8 good photographs of each product"),
        ({}, "there is no such folder"),
    ],
)
def test_what_cannot_be_used_is_told(here: Path, folders: dict[str, int], said: str) -> None:
    for seed, (folder, number) in enumerate(folders.items()):
        fill(here / "parts" / folder, number, seed)
    done = flawline("init", "parts")
    assert (done.exit_code, said in done.output) == (1, True), done.output
    assert not list(here.glob("*.yaml"))


def test_a_configuration_is_replaced_only_by_force(here: Path) -> None:
    fill(here / "parts", 12)
    mine = here / "mine.yaml"
    mine.write_text("mine")
    assert "--force" in flawline("init", "parts", "--out", mine).output
    assert mine.read_text() == "mine"
    assert flawline("init", "parts", "--out", mine, "--force").exit_code == 0
    assert configured(mine).dataset.name == "parts"


def test_thresholds_promise_what_the_number_of_photographs_can_hold(here: Path) -> None:
    expected = {12: ("leave_one_out", "mean_std"), 30: ("leave_one_out", "conformal")}
    expected[125] = ("split", "conformal")
    for number, chosen in expected.items():
        fill(here / "parts", number, height=8, width=8)
        assert flawline("init", "parts", "--force").exit_code == 0
        config = configured()
        assert (config.calibration.mode, config.threshold.rule) == chosen


def test_what_large_photographs_lose_is_told(here: Path) -> None:
    fill(here / "parts", 12, height=32, width=64)
    assert flawline("init", "parts").exit_code == 0
    small = (here / "parts.yaml").read_text()
    assert "# 192 x 352 pixels" in small
    assert "tiles" not in small
    fill(here / "parts", 12, height=600, width=1200)
    assert flawline("init", "parts", "--force").exit_code == 0
    assert "up to 3 times smaller" in (here / "parts.yaml").read_text()


def test_weights_can_be_given(here: Path) -> None:
    fill(here / "parts", 12)
    assert "downloads the weights of resnet18" in flawline("init", "parts").output
    weights = save(here / "resnet18.pth", photograph(0), format="PNG")
    done = flawline("init", "parts", "--force", "--weights", "resnet18.pth")
    assert "downloads" not in done.output
    assert configured().features["balanced"].weights_file == weights
    assert configured().features["balanced"].backbone == "resnet18"


def test_a_gpu_takes_the_accurate_preset(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flawline.devices.has_cuda", lambda: True)
    fill(here / "parts", 12)
    assert flawline("init", "parts").exit_code == 0
    assert configured().detectors["patchcore"].features == "accurate"


def test_the_schema_that_editors_read_is_there(here: Path) -> None:
    fill(here / "parts", 12)
    flawline("init", "parts")
    first = (here / "parts.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={ROOT / 'config/schema.json'}"


def test_check_lists_the_problems_of_all_products_at_once(here: Path) -> None:
    fill(here / "parts/a/train/good", 12)
    fill(here / "parts/b/train/good", 12, seed=1)
    assert flawline("init", "parts").exit_code == 0
    for name in "ab":
        (here / f"parts/{name}/train/good/003.png").write_bytes(b"")
    done = flawline("check", "parts.yaml")
    assert done.exit_code == 1
    assert done.output.count("train/good/003.png") == 2


def test_check_names_every_mistake_of_the_configuration(here: Path) -> None:
    (here / "my.yaml").write_text("detectors: {patchcor: {}}\nseed: 3\n")
    done = flawline("check", "my.yaml")
    assert done.exit_code == 1
    assert "did you mean 'patchcore'?" in done.output
    assert "did you mean 'seeds'?" in done.output


@pytest.fixture
def started(here: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Collects the commands that would be run."""
    (here / "my.yaml").write_text("detectors: {patchcore: {}}\n")
    found: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda program, command: found.append(command))
    return found


def test_run_is_snakemake_with_what_the_machine_has(started: list[list[str]]) -> None:
    assert flawline("run", "my.yaml", "-n", "--forcerun", "train").exit_code == 0
    (command,) = started
    assert command[:4] == [sys.executable, "-P", "-m", "snakemake"]
    assert command[command.index("--resources") + 1] == "gpu=0"
    assert command[command.index("--configfile") + 1] == "my.yaml"
    assert command[command.index("--snakefile") + 1] == str(ROOT / "Snakefile")
    assert command[-3:] == ["-n", "--forcerun", "train"]


@pytest.mark.parametrize("more", [["--resources", "gpu=2"], ["--profile=slurm"], ["-e", "slurm"]])
def test_run_leaves_resources_to_who_sets_them(started: list[list[str]], more: list[str]) -> None:
    assert flawline("run", "my.yaml", *more).exit_code == 0
    assert "gpu=0" not in started[0]


def test_inspect_asks_snakemake_for_a_batch(started: list[list[str]]) -> None:
    done = flawline("inspect", "my.yaml", "new parts", "--category", "bolt", "--cores", "1")
    assert done.exit_code == 0, done.output
    (command,) = started
    assert "inspect" in command
    asked = command[command.index("--config") + 1]
    assert yaml.safe_load(asked.removeprefix("inspect=")) == {
        "folder": "new parts",
        "category": "bolt",
    }


def test_an_invalid_configuration_starts_nothing(here: Path, started: list[list[str]]) -> None:
    (here / "my.yaml").write_text("a: [1\n")
    done = flawline("run", "my.yaml")
    assert (done.exit_code, started) == (1, [])
    assert "my.yaml: line 2: is not valid YAML" in done.output


def test_report_says_where_it_is(here: Path) -> None:
    (here / "my.yaml").write_text("detectors: {patchcore: {}}\n")
    assert "flawline run my.yaml" in flawline("report", "my.yaml").output
    page = here / "results/demo/report.html"
    page.parent.mkdir(parents=True)
    page.write_text("")
    assert flawline("report", "my.yaml").output.strip() == page.as_uri()


def test_the_command_starts_without_large_libraries() -> None:
    program = (
        "import sys, flawline.cli.app; print(sorted({'torch', 'cv2', 'pandas', 'snakemake', "
        "'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_three_steps_lead_from_photographs_to_a_report(here: Path) -> None:
    import torch
    from torchvision.models import resnet18

    fill(here / "parts/good", 20, height=64, width=64)
    fill(here / "parts/bad", 3, seed=1, height=64, width=64)
    torch.save(resnet18(weights=None).state_dict(), here / "resnet18.pth")
    done = flawline("init", "parts", "--preset", "fast", "--weights", "resnet18.pth")
    assert done.exit_code == 0, done.output
    assert flawline("check", "parts.yaml").exit_code == 0
    program = [sys.executable, "-c", "from flawline.cli.app import main; main()"]
    ran = subprocess.run(
        [*program, "run", "parts.yaml", "--cores", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    page = here / "results/parts/report.html"
    assert ran.stdout.splitlines()[-1] == f"Report: {page.as_uri()}"
    assert page.is_file()
    assert flawline("report", "parts.yaml").output.strip() == page.as_uri()
    jobs = [line for line in ran.stderr.splitlines() if line.startswith("[")]
    assert max(map(len, jobs)) < 100
