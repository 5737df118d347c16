import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT

from flawline.config import Config, load_config
from flawline.data.datasets import demo, mvtec_ad
from flawline.errors import FlawlineError
from flawline.memory import FIT_OR_SCORE, what_to_lower
from flawline.options.base import plain
from flawline.stages import STAGES

EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))
JARGON = (
    "literal_error", "union_tag", "discriminator", "pydantic", "http", "Input ", "[key]",
    "list[", "Value error", "_kind", "ValidationError", "type=", "instance of", "None",
)  # fmt: skip

Change = Callable[[dict[str, Any]], None]


def put(where: str, value: Any) -> Change:
    """Set a dotted key; sections on the way are made."""

    def change(given: dict[str, Any]) -> None:
        *sections, key = where.split(".")
        for section in sections:
            given = given.setdefault(section, {})
        given[key] = value

    return change


def drop(where: str) -> Change:
    def change(given: dict[str, Any]) -> None:
        *sections, key = where.split(".")
        for section in sections:
            given = given[section]
        del given[key]

    return change


def refused(given: dict[str, Any], *changes: Change) -> str:
    given = copy.deepcopy(given)
    for change in changes:
        change(given)
    with pytest.raises(FlawlineError) as error:
        load_config(given, "config/mine.yaml")
    message = str(error.value)
    for word in JARGON:
        assert word not in message, message
    for line in message.splitlines():
        assert line.startswith("config/mine.yaml: "), message
    return message


class TestDefaults:
    def test_the_least_configuration_runs_the_demo_as_documented(
        self, minimal: dict[str, Any]
    ) -> None:
        config = load_config(minimal, "x.yaml")
        assert config.dataset.kind == "demo"
        assert config.category_names == list(demo.CATEGORIES)
        assert config.folder.is_relative_to("data/demo")
        assert not config.provided
        assert config.seeds == [0]
        assert plain(config.prepare) == {
            "resize": "stretch",
            "size": "auto",
            "tiles": None,
        }
        assert plain(config.calibration) == {
            "folds": None,
            "fraction": None,
            "mode": "split",
            "seed": 0,
            "seeds": [],
        }
        assert plain(config.threshold) == {"k": 3.0, "rule": "mean_std"}
        assert plain(config.data) == {
            "groups": None,
            "max_megapixels": 100.0,
            "min_train_good": 8,
            "on_problem": "error",
            "white": None,
        }

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
    def test_every_example_is_valid_without_any_data(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        config = load_config(yaml.safe_load(path.read_text(encoding="utf-8")), path.name)
        assert config.category_names

    def test_there_are_examples(self) -> None:
        assert {"config.yaml", "demo.yaml"} <= {path.name for path in EXAMPLES}

    def test_what_was_validated_validates_again(self, minimal: dict[str, Any]) -> None:
        config = load_config(minimal, "x.yaml")
        again = load_config(json.loads(config.model_dump_json()), "y.yaml")
        assert again.model_dump() == config.model_dump()

    def test_the_schema_is_json(self) -> None:
        schema = json.loads(json.dumps(Config.model_json_schema()))
        assert set(schema["properties"]) == set(Config.model_fields)

    @pytest.mark.parametrize(("given", "read"), [("1e-3", 1e-3), (1, 1.0)])
    def test_numbers_that_yaml_reads_as_text_are_numbers(
        self, minimal: dict[str, Any], given: Any, read: float
    ) -> None:
        # YAML 1.1 takes 1e-3, without a point, for text
        put("detectors.cae", {"method": "featcae", "features": "bank", "learning_rate": given})(
            minimal
        )
        assert load_config(minimal, "x.yaml").detectors["cae"].learning_rate == read


class TestDatasets:
    def test_mvtec_ad_to_download_has_its_fifteen_categories(self, minimal: dict[str, Any]) -> None:
        config = load_config(minimal | {"dataset": {"name": "mvtec_ad"}}, "x.yaml")
        assert config.category_names == list(mvtec_ad.CATEGORIES)
        assert not config.provided
        assert config.folder.is_relative_to("data/mvtec_ad")

    @pytest.mark.parametrize("name", ["mine", "mvtec_ad"])
    def test_a_folder_has_the_categories_found_in_it(
        self, minimal: dict[str, Any], category: Path, name: str
    ) -> None:
        dataset = {"name": name, "source": str(category.parent)}
        config = load_config(minimal | {"dataset": dataset}, "x.yaml")
        assert config.category_names == ["bottle"]
        assert config.provided
        assert config.folder == category.parent

    def test_a_home_folder_may_be_written_with_a_tilde(
        self, minimal: dict[str, Any], category: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(category.parent))
        config = load_config(minimal | {"dataset": {"name": "mine", "source": "~"}}, "x.yaml")
        assert config.folder == category.parent

    def test_categories_keep_the_order_asked_for(self, minimal: dict[str, Any]) -> None:
        config = load_config(minimal | {"categories": ["weave", "bolt"]}, "x.yaml")
        assert config.category_names == ["weave", "bolt"]


UNKNOWN = [
    ("prepar", "prepare", ""),
    ("dataset.sise", "size", "dataset"),
    ("data.on_problems", "on_problem", "data"),
    ("calibration.fractoin", "fraction", "calibration"),
    ("prepare.siz", "size", "prepare"),
    ("features.bank.layer", "layers", "features.bank"),
    ("detectors.pc.coreset_fractoin", "coreset_fraction", "detectors.pc"),
    ("threshold.kk", "k", "threshold"),
    ("report.case", "cases", "report"),
]
# the dotted key, the value, words that the message must have after the key
WRONG = [
    ("prepare.size", -1, ["from 32 to 4096", "found -1"]),
    ("prepare.size", 100_000, ["from 32 to 4096", "found 100000"]),
    ("prepare.size", "big", ["[height, width], or auto", "found 'big'"]),
    ("prepare.size", 2.5, ["a number of pixels", "found 2.5"]),
    ("prepare.size", None, ["[height, width], or auto", "found nothing"]),
    ("prepare.size", [64], ["[height, width], or auto", "found [64]"]),
    ("prepare.size", [64, 20], ["from 32 to 4096", "found [64, 20]"]),
    ("prepare.tiles", {"size": 100}, ["size: must be a multiple of 32", "found 100"]),
    ("prepare.tiles", {"overlap": 320}, ["at most half of size (512)", "found 320"]),
    ("poses.none", {"flips": False, "quarter_turns": False}, ["has no pose"]),
    ("regions.polygons", [[[0, 0], [1, 1]]], ["needs three corners"]),
    ("regions.mask", "/nowhere/mask.png", ["regions.mask: there is no file"]),
    ("detectors.pc.tile_memory", True, ["there are no tiles; set prepare.tiles"]),
    ("detectors.pc.poses", "turned", ["'turned' is not defined; defined under poses: none"]),
    ("prepare.resize", "crop", ["'stretch', 'letterbox' or 'center_crop'", "found 'crop'"]),
    ("prepare", None, ["keys", "found nothing"]),
    ("prepare", [1], ["keys", "found [1]"]),
    ("calibration", {"mode": "cross", "seeds": [1]}, ["seeds: `cross` holds nothing back"]),
    ("calibration", {"seed": 1, "seeds": [1]}, ["has a draw twice"]),
    ("calibration.fraction", 0, ["greater than 0", "found 0"]),
    ("calibration.fraction", 1, ["less than 1", "found 1"]),
    ("calibration.fraction", float("nan"), ["finite number", "found nan"]),
    ("calibration.fraction", "half", ["a number", "found 'half'"]),
    ("calibration", {"mode": "leave_one_out", "seed": 3}, ["seed: `leave_one_out` draws nothing"]),
    ("calibration", {"folds": 5}, ["folds: `split` has none", "mode: cross"]),
    ("calibration", {"mode": "cross", "fraction": 0.2}, ["fraction: `cross` holds nothing back"]),
    (
        "detectors.pc",
        {"method": "patchcore", "features": "bank", "coreset_size": 9, "coreset_fraction": 0.2},
        ["coreset_size: it takes the place of `coreset_fraction`"],
    ),
    (
        "detectors.pc",
        {"method": "patchcore", "features": "bank", "neighbours": 9},
        ["neighbours: only equation 7 has them", "reweight: true"],
    ),
    (
        "detectors.pc",
        {"method": "patchcore", "features": "bank", "object_dilation": 3},
        ["object_dilation: without object masks there is no object", "`object_mask`"],
    ),
    ("object_masks", {"method": "whole", "closing": 7}, ["looks for no object"]),
    ("poses.turned", {"seed": 3}, ["seed: only the angles of `rotations`"]),
    ("dataset", {"name": "x", "kind": "mvtec_ad", "source": ".", "url": "a"}, ["url: nothing is"]),
    (
        "features.bank",
        {"backbone": "gabor", "layers": ["fine"], "precision": "bfloat16"},
        ["precision: gabor is always computed in float32"],
    ),
    ("data.on_problem", "ignore", ["'error' or 'skip'", "found 'ignore'"]),
    ("data.min_train_good", 1, ["at least 2", "found 1"]),
    ("dataset", "demo", ["keys", "found 'demo'"]),
    ("dataset.size", 5, ["at least 64", "found 5"]),
    ("dataset.kind", "foldr", ["'folder', 'mvtec_ad', 'demo'", "found 'foldr'"]),
    ("features.bank.pool", 2, ["odd", "found 2"]),
    ("features.bank.pool", 0, ["at least 1", "found 0"]),
    ("features.bank.layers", [], ["at least one", "found []"]),
    ("features.bank.layers", "fine", ["a list", "found 'fine'"]),
    ("features.bank.layers.0", 3, ["text", "found 3"]),
    ("features.bank.normalize", "maybe", ["true or false", "found 'maybe'"]),
    ("features.bank.precision", "half", ["'auto', 'float32' or 'bfloat16'", "found 'half'"]),
    ("detectors", {}, ["at least one"]),
    ("detectors", None, ["keys", "found nothing"]),
    ("detectors", ["patchcore"], ["keys", "found ['patchcore']"]),
    ("detectors.pc", "patchcore", ["keys", "found 'patchcore'"]),
    ("detectors.pc.method", "patchcor", ["'patchcore', 'subspace', 'featcae'", "found 'patchcor'"]),
    ("detectors.pc.coreset_fraction", 0, ["greater than 0", "found 0"]),
    ("detectors.pc.neighbours", True, ["at least 2", "found true"]),
    ("detectors.pc.features", "resnet", ["'resnet' is not defined", "bank"]),
    ("seeds", [], ["at least one", "found []"]),
    ("seeds", 3, ["a list", "found 3"]),
    ("seeds", [1, 2, 1], ["[1, 2, 1] has a seed twice"]),
    ("seeds.1", -1, ["at least 0", "found -1"]),
    ("seeds.0", "a", ["whole number", "found 'a'"]),
    ("threshold", "median", ["keys", "found 'median'"]),
    ("threshold.rule", "median", ["'mean_std', 'quantile', 'maximum'", "found 'median'"]),
    ("threshold.k", -1, ["at least 0", "found -1"]),
    ("categories", "bolt", ["`all` or a list", "found 'bolt'"]),
    ("categories", [], ["`all` or a list", "found []"]),
    ("categories", {"bolt": 1}, ["`all` or a list", "found {'bolt': 1}"]),
    ("categories", [1], ["`all` or a list", "found [1]; names like 01 or true need quotes"]),
    ("categories", ["bol"], ["'bol' not in dataset 'demo' (did you mean 'bolt'?)"]),
    ("detectors.pc.method", "PachCore", ["found 'PachCore' (did you mean 'patchcore'?)"]),
    ("detectors.pc.features", "bnak", ["'bnak' is not defined (did you mean 'bank'?)"]),
    ("threshold.rule", "conformel", ["found 'conformel' (did you mean 'conformal'?)"]),
    ("prepare.resize", "strech", ["found 'strech' (did you mean 'stretch'?)"]),
    ("categories", ["bolt", "bolt"], ["twice"]),
    ("categories", ["bolt", "scerw"], ["'scerw'", "bolt, tablet, weave, mesh"]),
    ("report.cases", 51, ["at most 50", "found 51"]),
    ("overrides", None, ["keys", "found nothing"]),
    ("overrides.bolt", None, ["keys", "found nothing"]),
]


class TestMistakes:
    @pytest.fixture
    def whole(self, minimal: dict[str, Any]) -> dict[str, Any]:
        more = {"dataset": {"name": "demo"}, "threshold": {"rule": "mean_std"}, "seeds": [0, 1]}
        return minimal | more

    @pytest.mark.parametrize(("key", "near", "section"), UNKNOWN)
    def test_an_unknown_key_is_named_with_its_nearest_match_and_all_allowed(
        self, whole: dict[str, Any], key: str, near: str, section: str
    ) -> None:
        message = refused(whole, put(key, 1))
        prefix = f"config/mine.yaml: {section}: " if section else "config/mine.yaml: "
        wrong = key.split(".")[-1]
        assert message.startswith(f"{prefix}unknown key {wrong!r} (did you mean {near!r}?); ")
        allowed = message.split("allowed keys: ")[1].split(", ")
        assert near in allowed
        assert len(message.splitlines()) == 1

    @pytest.mark.parametrize(("key", "value", "words"), WRONG)
    def test_a_wrong_value_is_named_with_its_key_what_was_found_and_what_is_allowed(
        self, whole: dict[str, Any], key: str, value: Any, words: list[str]
    ) -> None:
        *sections, last = key.split(".")
        if last.isdigit():  # an entry of a list
            whole = copy.deepcopy(whole)
            entries: Any = whole
            for section in sections:
                entries = entries[section]
            entries[int(last)] = value
            message = refused(whole)
        else:
            message = refused(whole, put(key, value))
        assert message.startswith(f"config/mine.yaml: {key}: ")
        for word in words:
            assert word in message
        assert len(message.splitlines()) == 1

    @pytest.mark.parametrize(
        ("key", "words"),
        [
            ("detectors", []),
            ("features.bank.layers", []),
            ("detectors.pc.method", ["'patchcore', 'subspace', 'featcae'"]),
            ("threshold.rule", ["'mean_std', 'quantile', 'maximum'"]),
        ],
    )
    def test_a_missing_key_is_said_to_be_required(
        self, whole: dict[str, Any], key: str, words: list[str]
    ) -> None:
        message = refused(whole, drop(key))
        assert message.startswith(f"config/mine.yaml: {key}: is required")
        for word in words:
            assert word in message

    @pytest.mark.parametrize("key", ["name", "source"])
    def test_a_folder_needs_a_name_and_a_source(self, whole: dict[str, Any], key: str) -> None:
        dataset = {"name": "mine", "source": "photographs"}
        del dataset[key]
        message = refused(whole, put("dataset", dataset))
        assert message == f"config/mine.yaml: dataset.{key}: is required"

    def test_leaving_images_out_of_what_was_trained_is_refused(
        self, minimal: dict[str, Any]
    ) -> None:
        change = put("calibration.mode", "leave_one_out")
        load_config(minimal | {"calibration": {"mode": "leave_one_out"}}, "x.yaml")
        message = refused(minimal, change, put("detectors.ae", {"method": "autoencoder"}))
        for word in ("only remember (patchcore)", "autoencoder (detectors.ae)", "use cross"):
            assert word in message

    def test_a_dataset_name_that_cannot_be_a_folder_is_refused(self, whole: dict[str, Any]) -> None:
        message = refused(whole, put("dataset", {"name": "my/parts", "source": "photographs"}))
        assert message.startswith("config/mine.yaml: dataset.name: must be of letters, digits")
        assert message.endswith("found 'my/parts'")

    @pytest.mark.parametrize("section", ["features", "detectors"])
    @pytest.mark.parametrize("name", ["a/b", "a b", "", "_a", "Ä"])
    def test_a_name_that_cannot_be_a_folder_is_refused(
        self, whole: dict[str, Any], section: str, name: str
    ) -> None:
        whole[section][name] = next(iter(whole[section].values()))
        message = refused(whole)
        assert message.startswith(f"config/mine.yaml: {section}: a name must")
        assert message.endswith(f"found {name!r}")

    @pytest.mark.parametrize(
        ("rule", "option", "allowed"),
        [("mean_std", "q", "rule, k"), ("quantile", "k", "rule, q"), ("maximum", "k", "rule")],
    )
    def test_an_option_of_another_threshold_rule_is_refused(
        self, whole: dict[str, Any], rule: str, option: str, allowed: str
    ) -> None:
        message = refused(whole, put("threshold", {"rule": rule, option: 0.5}))
        expected = f"threshold: unknown key {option!r}; allowed keys: {allowed}"
        assert message == f"config/mine.yaml: {expected}"

    def test_all_mistakes_are_told_at_once(self, whole: dict[str, Any]) -> None:
        message = refused(
            whole,
            put("prepar", 1),
            put("prepare.siz", 1),
            put("prepare.size", -1),
            put("calibration.fraction", 2),
            put("detectors.pc.projection", 0),
            put("detectors.pc.neighbors", 3),
        )
        assert len(message.splitlines()) == 6
        for word in ("'prepar'", "'siz'", "prepare.size", "calibration.fraction", "'neighbors'"):
            assert word in message

    def test_all_references_to_nothing_are_told_at_once(self, whole: dict[str, Any]) -> None:
        message = refused(
            whole,
            put("detectors.pc.features", "resnet"),
            put("features.bank.weights", "no/weights.pth"),
        )
        assert len(message.splitlines()) == 2

    @pytest.mark.parametrize("weights", ["weights.pth", "a/b", "x.safetensors", "~/weights.pt"])
    def test_a_missing_weights_file_is_named(self, whole: dict[str, Any], weights: str) -> None:
        message = refused(whole, put("features.bank.weights", weights))
        assert f"features.bank.weights: there is no file {weights!r}" in message
        assert "torchvision weights name" in message

    def test_a_weights_file_with_braces_in_its_path_is_refused(
        self, whole: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "{a}.pth").write_bytes(b"")
        message = refused(whole, put("features.bank.weights", str(tmp_path / "{a}.pth")))
        assert "features.bank.weights" in message
        assert "braces" in message
        assert "rename" in message

    def test_weights_in_the_home_folder_are_found(
        self, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "weights.pth").write_bytes(b"")
        put("features.bank.weights", "~/weights.pth")(whole)
        config = load_config(whole, "x.yaml")
        assert config.features["bank"].weights_file == tmp_path / "weights.pth"

    @pytest.mark.parametrize("name", ["mine", "mvtec_ad"])
    def test_a_missing_data_folder_is_named(
        self, whole: dict[str, Any], tmp_path: Path, name: str
    ) -> None:
        source = str(tmp_path / "none")
        message = refused(whole, put("dataset", {"name": name, "source": source}))
        assert f"dataset.source: there is no folder {source!r}" in message
        assert "one folder per category" in message

    @pytest.mark.parametrize("inner", ["train/good", "Train/GOOD"])
    def test_a_source_one_level_off_is_recognised(
        self, whole: dict[str, Any], tmp_path: Path, inner: str
    ) -> None:
        (tmp_path / "parts" / "it's 1" / inner).mkdir(parents=True)
        deep = refused(
            whole, put("dataset", {"name": "mine", "source": str(tmp_path / "parts" / "it's 1")})
        )
        assert "is a category itself" in deep
        lines = deep.splitlines()
        fixed = yaml.safe_load("".join(line.partition(": ")[2] + "\n" for line in lines[1:]))
        assert fixed["dataset"]["source"] == str(tmp_path / "parts")
        assert fixed["categories"] == ["it's 1"]
        high = refused(whole, put("dataset", {"name": "mine", "source": str(tmp_path)}))
        assert f"one level further down: give {str(tmp_path / 'parts')!r}" in high

    def test_a_category_with_braces_in_its_name_is_refused(
        self, whole: dict[str, Any], tmp_path: Path
    ) -> None:
        (tmp_path / "M8{x}" / "train" / "good").mkdir(parents=True)
        message = refused(whole, put("dataset", {"name": "mine", "source": str(tmp_path)}))
        assert "M8{x}" in message
        assert "rename the folder" in message

    @pytest.mark.parametrize("given", [None, [], "prepare", 3])
    def test_a_file_that_holds_no_keys_is_refused(self, given: Any) -> None:
        assert "must hold keys" in refused(given)

    def test_a_key_that_is_not_text_is_refused(self, whole: dict[str, Any]) -> None:
        assert "unknown key '1'" in refused({**whole, 1: 2})

    def test_a_key_with_braces_is_shown_as_it_is(self, whole: dict[str, Any]) -> None:
        assert "unknown key '{ge}'" in refused(whole | {"{ge}": 2})


class TestOverrides:
    @pytest.fixture
    def whole(self, minimal: dict[str, Any]) -> dict[str, Any]:
        minimal["detectors"]["pc"] |= {"coreset_fraction": 0.5, "projection": 4}
        return minimal | {"threshold": {"rule": "mean_std", "k": 2}}

    def of_bolt(self, given: dict[str, Any], changes: dict[str, Any]) -> tuple[Config, Config]:
        config = load_config(given | {"overrides": {"bolt": changes}}, "x.yaml")
        return config.of("bolt"), config.of("weave")

    def test_change_what_they_name_for_their_category_alone(self, whole: dict[str, Any]) -> None:
        changes = {
            "prepare": {"size": 64},
            "detectors": {"pc": {"projection": 7}},
            "features": {"bank": {"layers": ["coarse"]}},
        }
        bolt, weave = self.of_bolt(whole, changes)
        assert (bolt.prepare.size, weave.prepare.size) == (64, "auto")
        assert bolt.prepare.resize == weave.prepare.resize
        assert plain(bolt.detectors["pc"]) == plain(weave.detectors["pc"], projection=7)
        assert plain(bolt.features["bank"]) == plain(weave.features["bank"], layers=["coarse"])
        assert bolt.calibration == weave.calibration

    def test_none_give_the_common_configuration(self, whole: dict[str, Any]) -> None:
        bolt, weave = self.of_bolt(whole, {})
        assert bolt is weave

    def test_another_threshold_rule_does_not_inherit_the_options_of_the_old_one(
        self, whole: dict[str, Any]
    ) -> None:
        bolt, weave = self.of_bolt(whole, {"threshold": {"rule": "quantile"}})
        assert plain(bolt.threshold) == {"q": 0.95, "rule": "quantile"}
        assert plain(weave.threshold) == {"k": 2.0, "rule": "mean_std"}

    @pytest.mark.parametrize("changes", [{"k": 5}, {"k": 5, "rule": "mean_std"}])
    def test_the_same_threshold_rule_needs_no_second_naming(
        self, whole: dict[str, Any], changes: dict[str, Any]
    ) -> None:
        assert plain(self.of_bolt(whole, {"threshold": changes})[0].threshold)["k"] == 5

    def test_another_method_does_not_inherit_the_options_of_the_old_one(
        self, whole: dict[str, Any]
    ) -> None:
        changes = {"detectors": {"pc": {"method": "featcae", "features": "bank"}}}
        bolt, weave = self.of_bolt(whole, changes)
        assert bolt.detectors["pc"].method == "featcae"
        assert weave.detectors["pc"].method == "patchcore"

    @pytest.mark.parametrize(
        ("category", "changes", "words"),
        [
            ("scerw", {}, ["overrides: 'scerw'", "bolt, tablet, weave, mesh"]),
            ("bolt", {"seeds": [1]}, ["overrides.bolt: 'seeds' cannot differ", "prepare"]),
            ("bolt", {"prepar": {}}, ["overrides.bolt: unknown key 'prepar' (did you mean"]),
            ("bolt", {"prepare": {"size": 1}}, ["overrides.bolt.prepare.size:", "found 1"]),
            ("bolt", {"prepare": {"siz": 1}}, ["overrides.bolt.prepare: unknown key 'siz'"]),
            ("bolt", {"prepare": None}, ["overrides.bolt.prepare: ", "found nothing"]),
            ("bolt", {"detectors": {"pd": {}}}, ["overrides.bolt.detectors: 'pd'", "pc"]),
            ("bolt", {"features": {"r18": {}}}, ["overrides.bolt.features: 'r18'", "bank"]),
            ("bolt", {"features": 3}, ["overrides.bolt.features: ", "found 3"]),
            ("bolt", {"features": "bank"}, ["overrides.bolt.features: ", "found 'bank'"]),
            (
                "bolt",
                {"detectors": {"pc": {"features": "r18"}}},
                ["overrides.bolt.detectors.pc.features: 'r18' is not defined; "],
            ),
            (
                "bolt",
                {"threshold": {"rule": "quantile", "k": 1}},
                ["overrides.bolt.threshold: unknown key 'k'"],
            ),
        ],
    )
    def test_a_mistake_in_one_is_named_with_its_category(
        self, whole: dict[str, Any], category: str, changes: dict[str, Any], words: list[str]
    ) -> None:
        message = refused(whole, put("overrides", {category: changes}))
        for word in words:
            assert word in message
        assert len(message.splitlines()) == 1

    def test_mistakes_in_several_are_told_at_once(self, whole: dict[str, Any]) -> None:
        wrong = {"prepare": {"size": 1}}
        message = refused(whole, put("overrides", {"bolt": wrong, "weave": wrong}))
        assert re.findall(r"overrides\.(\w+)\.prepare\.size", message) == ["bolt", "weave"]

    def test_one_for_a_category_that_is_not_run_is_checked_too(self, whole: dict[str, Any]) -> None:
        message = refused(
            whole, put("categories", ["weave"]), put("overrides.bolt.prepare.size", 1)
        )
        assert "overrides.bolt.prepare.size" in message


class TestParams:
    def test_are_plain_and_sorted(self, minimal: dict[str, Any]) -> None:
        config = load_config(minimal, "x.yaml")
        found = plain(config.detectors["pc"], device="cpu")
        assert list(found) == sorted(found)
        assert found["device"] == "cpu"
        assert found["features"] == "bank"
        assert json.loads(json.dumps(found)) == found

    def test_do_not_depend_on_the_order_in_the_file(self, minimal: dict[str, Any]) -> None:
        entry = {"projection": 3, "method": "patchcore", "features": "bank"}
        turned = dict(reversed(entry.items()))
        one, two = (
            plain(load_config(minimal | {"detectors": {"pc": given}}, "x").detectors["pc"])
            for given in (entry, turned)
        )
        assert json.dumps(one) == json.dumps(two)

    def test_options_cannot_be_changed_after_the_check(self, minimal: dict[str, Any]) -> None:
        config = load_config(minimal, "x.yaml")
        with pytest.raises(ValueError, match="frozen"):
            config.prepare.size = 3  # type: ignore[misc]


def test_an_override_leaves_all_other_values_as_they_were(minimal: dict[str, Any]) -> None:
    minimal |= {"dataset": {"name": "demo"}, "overrides": {"bolt": {"boxes": {"min_area": 9}}}}
    config = load_config(minimal, "x.yaml")
    for section in set(type(config).model_fields) - {"boxes", "overrides"}:
        assert repr(getattr(config.of("bolt"), section)) == repr(getattr(config, section))


def test_a_dataset_named_like_the_feature_store_is_refused(minimal: dict[str, Any]) -> None:
    minimal["dataset"] = {"name": "feature_store", "kind": "demo"}
    with pytest.raises(
        FlawlineError, match=r"dataset\.name: 'feature_store' cannot name a dataset"
    ):
        load_config(minimal, "x.yaml")


def test_a_category_named_like_a_results_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs" / "train" / "good").mkdir(parents=True)
    config = {
        "dataset": {"name": "mine", "source": str(tmp_path)},
        "features": {"g": {"backbone": "gabor", "layers": ["fine"]}},
        "detectors": {"p": {"method": "patchcore", "features": "g"}},
    }
    with pytest.raises(FlawlineError, match="'logs' cannot name a category"):
        load_config(config, "my.yaml")


def test_the_guide_explains_every_key_and_every_default_file_is_listed() -> None:
    guide = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    schema = Config.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    keys = {key for model in models for key in model.get("properties", {})}
    assert len(keys) > 40
    assert [key for key in sorted(keys) if key not in guide] == []
    assert [path.name for path in (ROOT / "config").glob("*.yaml") if path.name not in guide] == []


def test_the_schema_file_is_up_to_date() -> None:
    written = json.loads((ROOT / "config" / "schema.json").read_text(encoding="utf-8"))
    assert written == Config.model_json_schema(), "run `make schema`"


def test_every_stage_that_fits_or_scores_says_what_to_lower_of_its_detector() -> None:
    wanted = {name for name, stage in STAGES.items() if stage.gpu and "detector" in stage.per}
    assert set(FIT_OR_SCORE) == wanted - {"pictures"}


def test_what_to_lower_if_memory_runs_out_are_keys_that_exist() -> None:
    given = yaml.safe_load((ROOT / "config" / "all_methods.yaml").read_text())
    config = load_config(given | {"dataset": {"name": "demo"}}, "all_methods.yaml")
    for name in config.detectors:
        for key in what_to_lower("train", config, detector=name).split(" or "):
            value: Any = config.model_dump()
            for part in key.split("."):
                assert part in value, key
                value = value[part]
    features = next(iter(config.features))
    told = what_to_lower("extract_features", config, features=features)
    assert told == f"features.{features}.batch_size or prepare.size"
    assert what_to_lower("index", config) == "data.max_megapixels"
    assert what_to_lower("evaluate", config, detector=name) == "prepare.size"


class TestFusion:
    @pytest.mark.parametrize(
        ("name", "detectors", "said"),
        [
            ("both", ["pc", "pd"], "'pd' is not defined"),
            ("both", ["pc", "pc"], "list each once"),
            ("both", ["pc"], "fusion.both.detectors"),
            ("both", ["pc", "cam"], "'cam' is supervised"),
            ("pc", ["pc", "cae"], "a detector has this name"),
        ],
    )
    def test_what_cannot_be_fused_is_refused(
        self, minimal: dict[str, Any], name: str, detectors: list[str], said: str
    ) -> None:
        with pytest.raises(FlawlineError, match=re.escape(said)):
            load_config(self.fused(minimal, name, detectors), "x.yaml")

    def test_a_fusion_is_a_row_like_any_detector_and_does_not_inspect(
        self, minimal: dict[str, Any]
    ) -> None:
        given = self.fused(minimal, "both", ["pc", "cae"])
        found = load_config(given, "x.yaml").protocols
        assert found["both"] == "unsupervised"
        assert found["cam"] == "supervised"
        with pytest.raises(FlawlineError, match=r"is a fusion, which cannot inspect.*pc, cae"):
            load_config(given | {"inspect": {"folder": ".", "detector": "both"}}, "x.yaml")

    @staticmethod
    def fused(minimal: dict[str, Any], name: str, detectors: list[str]) -> dict[str, Any]:
        known = {
            "pc": {"method": "patchcore", "features": "bank"},
            "cae": {"method": "featcae", "features": "bank"},
            "cam": {"method": "cam_classifier"},
        }
        return minimal | {"detectors": known, "fusion": {name: {"detectors": detectors}}}


def test_planning_waits_for_no_large_library() -> None:
    code = "import sys, flawline.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    large = {"torch", "torchvision", "cv2", "pandas", "scipy", "sklearn"}
    assert not large & {*done.stdout.split()}


class TestASharedModel:
    @pytest.fixture
    def shared(self, minimal: dict[str, Any]) -> dict[str, Any]:
        given = copy.deepcopy(minimal)
        given["detectors"]["pc"]["shared"] = True
        return given

    @pytest.mark.parametrize(
        ("key", "value", "said"),
        [
            ("calibration.mode", "leave_one_out", "calibration.mode: leave_one_out: does not go"),
            ("calibration.seeds", [1], "calibration.seeds: does not go with a model of all"),
            ("learning_curve.train_images", [1], "learning_curve: has no number of images"),
            ("overrides.bolt.prepare.size", 64, "overrides.bolt.prepare: cannot differ"),
            ("overrides.bolt.features.bank.pool", 1, "overrides.bolt.features: cannot differ"),
        ],
    )
    def test_refuses_what_is_of_one_category(
        self, shared: dict[str, Any], key: str, value: Any, said: str
    ) -> None:
        assert said in refused(shared, put(key, value))

    def test_does_not_mind_thresholds_of_their_own(self, shared: dict[str, Any]) -> None:
        put("overrides.bolt.threshold", {"rule": "maximum"})(shared)
        config = load_config(shared, "config/mine.yaml")
        assert config.of("bolt").threshold.rule == "maximum"
        assert not config.names_suspects("pc")
