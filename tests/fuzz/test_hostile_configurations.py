"""Configurations around the schema: valid ones load, all others are refused by their key."""

import json
from copy import deepcopy
from datetime import date
from typing import Any

import pytest
import yaml
from fuzzing import cases, try_all, watched
from hypothesis import strategies as st
from project import ROOT

from flawline.config import Config, load_config
from flawline.errors import FlawlineError
from flawline.inspection.run_settings import settings_of

pytestmark = pytest.mark.usefixtures("watchdog")

SCHEMA = Config.model_json_schema()
KEYS = sorted(
    {key for model in [SCHEMA, *SCHEMA["$defs"].values()] for key in model.get("properties", {})}
)
WORDS = st.one_of(
    st.sampled_from(
        [
            *KEYS,
            *("patchcore", "gabor", "line", "maximum", "demo", "mvtec_ad", "folder", "all", "bolt"),
            *(
                "~nobody/x.pth",
                "~no_such_user/x.pth",
                "~/x",
                "../..",
                "/dev/zero",
                "x\0y/z",
                "a" * 5000 + "/b",
                "",
                " ",
            ),
            *("{0}", "%s", "$(touch hacked)", "<script>", "nan", "1e400", "\ud800", "ü"),
        ]
    ),
    st.text(max_size=8),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10),
    st.sampled_from([10**20, -(10**20), 10**400, 0.5, 1e308, float("nan"), float("inf")]),
    st.floats(),
    WORDS,
    st.binary(max_size=4),
    st.just(date(2026, 1, 1)),
)
NAMES = st.one_of(WORDS, st.integers(-1, 3), st.none(), st.booleans())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


def whole() -> list[dict[str, Any]]:
    """Valid configurations that use everything."""
    demo = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    quick = yaml.safe_load((ROOT / "config/quick.yaml").read_text(encoding="utf-8"))
    given = demo | {
        "detectors": quick["detectors"],
        "features": quick["features"],
        "synthetic": quick["synthetic"],
        "overrides": {"bolt": {"prepare": {"size": 64}, "threshold": {"rule": "maximum"}}},
        "inspect": {"folder": "incoming", "category": "bolt", "detector": "featcae_quick"},
    }
    every = json.loads(Config.model_validate(given).model_dump_json())
    return [demo, every]


VALID = whole()


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [*([at] if at else []), *(way for key, one in inner for way in places(one, (*at, key)))]


@st.composite
def around_the_schema(draw: st.DrawFn) -> Any:
    config = deepcopy(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(config)))
        holder = config
        for key in way:
            holder = holder[key]
        change = draw(st.sampled_from(["replace", "drop", "add", "loop"]))
        if change == "replace":
            holder[last] = draw(VALUES)
        elif change == "drop":
            del holder[last]
        elif isinstance(holder, list):
            holder.append(holder if change == "loop" else draw(VALUES))
        else:
            holder[draw(NAMES)] = holder if change == "loop" else draw(VALUES)
        if change == "loop" or not config:
            break
    return config


def loads_or_names_the_key(given: Any) -> None:
    with watched():
        try:
            config = load_config(given, "my.yaml")
        except FlawlineError as error:
            for text in str(error).splitlines():
                assert text.startswith("my.yaml: ")
            str(error).encode()
            said = str(error)
            assert not isinstance(given, dict) or any(
                key in said for key in [*KEYS, *map(repr, given), *map(str, given), "configuration"]
            ), said
            return
    for category in config.category_names:
        for detector in config.detectors:
            json.dumps(settings_of(config, category, detector), allow_nan=False)


def test_the_starting_points_are_valid() -> None:
    for config in VALID:
        load_config(config, "my.yaml")


@cases(150, 4000)
def test_a_changed_configuration_loads_or_is_refused_by_its_key(examples: int) -> None:
    try_all(examples, loads_or_names_the_key, around_the_schema())


NASTY: list[Any] = [
    *(None, True, -1, 0, 1e-9, 10**20, 10**400, float("nan"), float("inf"), b"x", date(2026, 1, 1)),
    *([], {}, [[]], {1: 2}, {None: 3}, {"\ud800": 1}, {"\0": 1}, "", " ", "\ud800", "x\0y/z"),
    *("~no_such_user/x.pth", "a" * 5000, "a" * 5000 + "/b", "../..", "/dev/zero", "x\ny/z.pth"),
]
EVERYWHERE = [(config, way, value) for config in VALID for way in places(config) for value in NASTY]


@cases(150, 4000)
def test_a_nasty_value_anywhere_loads_or_is_refused_by_its_key(examples: int) -> None:
    step = max(len(EVERYWHERE) // examples, 1)
    for valid, way, value in EVERYWHERE[::step]:
        config = deepcopy(valid)
        holder = config
        for key in way[:-1]:
            holder = holder[key]
        holder[way[-1]] = value
        loads_or_names_the_key(config)


@pytest.mark.parametrize("source", ["~no_such_user", "a" * 5000, "/dev/null", "\0"])
def test_a_nasty_folder_is_refused_by_its_key(source: str) -> None:
    for change in (
        {"dataset": {"name": "mine", "source": source}},
        {"inspect": {"folder": source, "category": "bolt", "detector": "nothing"}},
    ):
        with pytest.raises(FlawlineError, match=r"dataset\.source|inspect"):
            load_config(VALID[0] | change, "my.yaml")


@cases(50, 1000)
def test_anything_at_all_loads_or_is_refused(examples: int) -> None:
    def holds(given: Any) -> None:
        try:
            load_config(given, "my.yaml")
        except FlawlineError as error:
            assert str(error).startswith("my.yaml: ")

    try_all(examples, holds, VALUES)


def test_a_number_too_long_to_print_is_refused() -> None:
    for key in ("seeds", "prepare", "categories"):
        with pytest.raises(FlawlineError, match=key):
            load_config(VALID[0] | {key: 16**5000}, "my.yaml")
