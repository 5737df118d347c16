"""HTML pages that need neither a network nor other files."""

import base64
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from flawline.files import replacing
from flawline.pictures import coloured
from flawline.report.cases import format_score

TEMPLATES = Path(__file__).parent / "templates"
NARROWEST, WIDEST = 13, 34  # columns of a gallery, rem


def environment(*folders: Path, **names: Any) -> Environment:
    """Return an environment for the templates of this package and of further folders.

    The page contains its script, which its content-security policy allows by hash.

    Parameters
    ----------
    names : further globals of the templates.
    """
    made = Environment(
        loader=FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals |= {
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "colours": colours(),
        "column_width": column_width,
        **names,
    }
    filters: Mapping[str, Any] = {
        "metric": format_metric,
        "score": format_score,
        "amount": format_amount,
        "embedded": embedded,
        "size": picture_size,
        "quoted": quote,
        "download": lambda text: f"data:text/plain;charset=utf-8,{quote(text)}",
    }
    made.filters |= filters
    return made


def write_page(path: Path | str, text: str) -> None:
    """Write a page, completely or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def format_metric(value: float | None) -> str:
    """Format a metric with three decimals; nothing if it was not measured."""
    return "" if value is None else f"{value:.3f}"


def format_amount(value: float | None) -> str:
    """Format an amount with three significant digits, without exponents."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip("0").rstrip(".")


def picture_size(content: bytes) -> tuple[int, int]:
    """Read width and height of a picture from a file's bytes, pixels."""
    with Image.open(io.BytesIO(content)) as opened:
        return opened.size


def column_width(size: tuple[int, int], height: float) -> str:
    """Return the width of a gallery's columns, as CSS, that gives its pictures the height.

    Parameters
    ----------
    size : width and height of a picture.
    height : rem; limits of the width make tall pictures higher and wide ones lower.
    """
    return f"{min(max(height * size[0] / size[1], NARROWEST), WIDEST):.1f}rem"


def colours(count: int = 9) -> str:
    """Return the colours of anomaly maps, from the lowest to the highest value, as CSS."""
    ramp = np.linspace(0, 1, count, dtype=np.float32)[None]
    pixels = coloured(ramp, (0.0, 1.0), ramp.shape)[0]
    return ", ".join(f"rgb({red} {green} {blue})" for red, green, blue in pixels.tolist())


def embedded(content: bytes) -> str:
    """Return a picture as a data URL."""
    kinds = {b"\xff\xd8": "jpeg", b"RI": "webp"}
    kind = kinds.get(content[:2], "png")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
