"""Messages about mistakes in the configuration: the key, what is wrong, what was found."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from flawline.errors import FlawlineError
from flawline.options.base import NAME, did_you_mean

LONGEST = 300  # characters of what was found that a message repeats
REASONS = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must hold keys with values",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_attributes_type": "must hold keys with values",
    "model_type": "must hold keys with values",
    "string_pattern_mismatch": "must match {pattern}",
    "string_type": "must be text (a number in quotes)",
    "too_short": "must have at least one entry",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "is required; allowed: {allowed}",
}


def explain(item: Any, tags: Mapping[str, Sequence[str]]) -> str:
    """Return one line for one of pydantic's errors: the key, what is wrong, what was found.

    Parameters
    ----------
    item : as pydantic's `ValidationError.errors` has it.
    tags : the values that choose a kind of entry, by their key, such as `method`.
    """
    keys = [_on_one_line(part) for part in item["loc"]]
    kind, found, context = item["type"], item["input"], dict(item.get("ctx") or {})
    # pydantic puts the kind of dataset, rule or method into the location; these are not keys
    tag = (
        {"dataset": 1, "threshold": 1, "detectors": 2, "synthetic": 4}.get(keys[0], 0)
        if keys
        else 0
    )
    if tag and keys[tag : tag + 1] != ["[key]"]:
        del keys[tag : tag + 1]
    if kind.startswith("union_tag"):
        key = re.sub(r"\W", "", context["discriminator"]).removeprefix("_")
        keys.append(key)
        found = context.get("tag", {})
        context["allowed"] = ", ".join(map(repr, tags.get(key, ())))
    message = REASONS[kind].format_map(context) if kind in REASONS else item["msg"]
    if context.get("pattern") == NAME:
        message = "must be of letters, digits, '_', '.' and '-' and start with a letter or digit"
    if keys[-1:] == ["[key]"]:
        keys[-2:], message = [], f"a name {message}"
    if kind in ("value_error", "unknown_key"):
        message = message.removeprefix("Value error, ")
    elif kind == "union_tag_not_found" and keys[0] == "detectors":
        message += f". A detector may be named by its method{did_you_mean(keys[1], tags['method'])}"
    elif not isinstance(found, dict):
        message += f"; found {as_yaml(found)}"
        allowed = context.get("expected_tags") or context.get("expected") or ""
        message += did_you_mean(found, re.findall(r"'([^']*)'", str(allowed)))
    return f"{'.'.join(keys)}: {message}" if keys else message


def unwritable(given: Any, keys: list[str], above: tuple[int, ...] = ()) -> Iterator[str]:
    """Yield values that cannot be written: invalid Unicode, numbers over 300 digits, cycles."""
    place = ".".join(keys) or "configuration"
    if isinstance(given, str) and ("\0" in given or not _is_text(given)):
        yield f"{place}: contains characters that are not valid Unicode: {as_yaml(given)}"
    if isinstance(given, int) and given.bit_length() > 1024:
        yield f"{place}: must be a number of at most 300 digits; found a longer one"
    if id(given) in above:
        yield f"{place}: contains itself; write it out, without YAML's & and *"
        return
    entries = list(given.items()) if isinstance(given, dict) else []
    if isinstance(given, list):
        entries = [(str(number), value) for number, value in enumerate(given)]
    for key, value in entries:
        if isinstance(key, str) and not _is_text(key):
            yield f"{place}: has a key with characters that are not valid Unicode: {as_yaml(key)}"
        else:
            yield from unwritable(value, [*keys, _on_one_line(key)], (*above, id(given)))


@contextmanager
def prefixed(prefix: str) -> Iterator[None]:
    try:
        yield
    except FlawlineError as error:
        lines = str(error).splitlines()
        raise FlawlineError("\n".join(prefix + line for line in lines)) from None


def as_yaml(found: Any) -> str:
    if found is None:
        return "nothing"
    if isinstance(found, bool):
        return str(found).lower()
    try:
        text = repr(found)
    except ValueError:  # Python does not print numbers of more than some thousand digits
        return "a very long number"
    return text if len(text) < LONGEST else text[:LONGEST] + "..."


def _on_one_line(key: Any) -> str:
    text = str(key)
    return text if text.isprintable() else repr(text)


def _is_text(given: str) -> bool:
    return given == given.encode("utf-8", "replace").decode("utf-8")
