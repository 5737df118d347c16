from typing import Any

import pytest

from flawline.config import load_config
from flawline.errors import FlawlineError
from flawline.options.base import plain
from flawline.options.features import Features
from flawline.options.presets import PRESETS


def loaded(**content: Any) -> Any:
    return load_config(content, "my.yaml")


@pytest.mark.parametrize("given", [{}, None])
def test_a_detector_named_by_its_method_is_a_whole_configuration(given: Any) -> None:
    config = loaded(detectors={"patchcore": given})
    patchcore = config.detectors["patchcore"]
    assert (patchcore.method, patchcore.features) == ("patchcore", "balanced")
    assert plain(config.features["balanced"]) == plain(
        Features.model_validate(PRESETS["balanced"].features)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_the_coreset_unless_it_is_given(name: str) -> None:
    detectors = {"patchcore": {"features": name}}
    usual = loaded(detectors=detectors).detectors["patchcore"]
    assert usual.coreset_fraction == PRESETS[name].coreset_fraction
    sized = loaded(detectors={"patchcore": {**detectors["patchcore"], "coreset_size": 50}})
    assert sized.detectors["patchcore"].coreset_size == 50
    detectors["patchcore"]["coreset_fraction"] = 0.3
    assert loaded(detectors=detectors).detectors["patchcore"].coreset_fraction == 0.3


def test_only_presets_that_a_detector_names_are_extracted() -> None:
    config = loaded(detectors={"patchcore": {"features": ["fast", "accurate"]}, "autoencoder": {}})
    assert set(config.features) == {"fast", "accurate"}


def test_an_entry_of_a_presets_name_changes_what_it_says_alone() -> None:
    config = loaded(features={"fast": {"pool": 5}}, detectors={"patchcore": {"features": "fast"}})
    expected = Features.model_validate({**PRESETS["fast"].features, "pool": 5})
    assert plain(config.features["fast"]) == plain(expected)


def test_an_entry_with_a_backbone_replaces_the_preset() -> None:
    bank = {"backbone": "gabor", "layers": ["fine"]}
    config = loaded(features={"fast": bank}, detectors={"patchcore": {"features": "fast"}})
    assert plain(config.features["fast"]) == plain(Features.model_validate(bank))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"detectors": {"patchcor": {}}},
            "detectors.patchcor.method: is required; .* (did you mean 'patchcore'?)",
        ),
        (
            {"detectors": {"patchcore": {"features": "acurate"}}},
            "detectors.patchcore.features: 'acurate' .*'accurate'.* presets: fast, balanced",
        ),
        ({"features": {"mine": {}}, "detectors": {"patchcore": {}}}, "features.mine.layers: is"),
        (
            {
                "detectors": {"patchcore": {}},
                "overrides": {"bolt": {"detectors": {"patchcore": {"features": "fast"}}}},
            },
            "overrides.bolt.detectors: the preset 'fast' .* add `features: {fast: {}}`",
        ),
    ],
)
def test_mistakes_are_told(content: dict[str, Any], message: str) -> None:
    pattern = message.replace("(", r"\(").replace(")", r"\)").replace("?", r"\?")
    with pytest.raises(FlawlineError, match=pattern.replace("{", r"\{")):
        load_config(content, "my.yaml")
