"""What `from flawline import ...` offers: each name has an example, and each example is true."""

import doctest
import subprocess
import sys

import pytest

import flawline

OPTIONS = doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", flawline.__all__)
def test_its_example_runs(name: str) -> None:
    found = getattr(flawline, name)
    examples = doctest.DocTestParser().get_doctest(found.__doc__, {}, name, None, None)
    assert any(not example.options for example in examples.examples), "there is no example"
    result = doctest.DocTestRunner(optionflags=OPTIONS).run(examples)
    assert result.failed == 0


def test_importing_the_package_imports_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "pandas", "snakemake", "pydantic")
    code = f"import flawline, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Patchcore'"):
        _ = flawline.Patchcore  # type: ignore[attr-defined]
