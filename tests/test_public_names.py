"""What `from flawline import ...` offers: each name has an example, and each example is true."""

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from project import ROOT
from trained_category import NEW, TrainedCategory

import flawline

NEED_A_DETECTOR = {"open_detector", "inspect_folder"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, a trained detector and new photographs."""
    category = TrainedCategory(tmp_path_factory.mktemp("category"))
    category.train("patchcore")
    (category.root / "my.yaml").write_text(yaml.safe_dump(category.given))
    shutil.copytree(category.new, category.root / "incoming")
    return category.root


def run_example(name: str, **known: Any) -> None:
    text = getattr(flawline, name).__doc__
    examples = doctest.DocTestParser().get_doctest(text, known, name, None, None)
    assert any(not example.options for example in examples.examples), "there is no example"
    assert doctest.DocTestRunner().run(examples).failed == 0


@pytest.mark.parametrize("name", sorted({*flawline.__all__} - NEED_A_DETECTOR))
def test_its_example_runs(name: str) -> None:
    run_example(name)


@pytest.mark.parametrize("name", sorted(NEED_A_DETECTOR))
def test_its_example_runs_where_a_detector_was_trained(
    name: str, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained)
    run_example(name, photograph=np.full((80, 80, 3), 200, np.uint8))


def test_the_notebook_of_the_documents_runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs/inspection.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(trained)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["verdicts"]) == NEW
    assert Path("inspection.csv").is_file()


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "pandas", "snakemake", "pydantic")
    code = f"import flawline, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Patchcore'"):
        _ = flawline.Patchcore  # type: ignore[attr-defined]
