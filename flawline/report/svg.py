"""SVG drawings of other programs inside a page: shapes and words, nothing executable."""

import re
from xml.etree import ElementTree

from markupsafe import Markup

from flawline.report.figures import INK

DRAWING_TAGS = frozenset({"clipPath", "defs", "g", "path", "rect", "svg", "text", "tspan", "use"})


def drawing(content: bytes, name: str, alt: str) -> Markup:
    """Return the shapes and words of an SVG, under identifiers that no other drawing has.

    Parameters
    ----------
    name : distinguishes the identifiers of several drawings on a page.
    alt : what the drawing shows, in words.
    """
    root = ElementTree.fromstring(content)
    _keep_drawing(root, name)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-label": alt}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _keep_drawing(element: ElementTree.Element, name: str) -> None:
    element.tag = _local(element.tag)
    attributes = {_local(key): value for key, value in element.attrib.items()}
    element.attrib.clear()
    for key, value in attributes.items():
        if key.startswith("on") or (key == "href" and not value.startswith("#")):
            continue
        value = re.sub(r"url\((?!#)[^)]*\)", "none", value).replace("url(#", f"url(#{name}-")
        value = re.sub(r"^#", f"#{name}-", value) if key == "href" else value
        value = f"{name}-{value}" if key == "id" else value.replace(INK, "currentColor")
        element.set(key, value)
    for child in list(element):
        if isinstance(child.tag, str) and _local(child.tag) in DRAWING_TAGS:
            _keep_drawing(child, name)
        else:
            element.remove(child)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
