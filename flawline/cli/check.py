"""All that can be known to be wrong before a training: the configuration and the photographs."""

import os
from collections.abc import Iterator
from pathlib import Path

from flawline.config import Config, load_config
from flawline.configfile import read_configfile
from flawline.data.index import scan
from flawline.data.problems import refuse, summary
from flawline.errors import FlawlineError
from flawline.options.base import plain
from flawline.workflow.check_backbones import HIDDEN, check_features


def checked_configuration(file: Path) -> Config:
    """Return a configuration as the pipeline would check it; raise a FlawlineError."""
    config = load_config(read_configfile(file), str(file))
    check_features(config, str(file), cache=HIDDEN / "backbones.json")
    return config


def check_photographs(config: Config) -> Iterator[tuple[str, bool]]:
    """Yield a line about every category, and whether the pipeline can go on with it."""
    for folder in config.left_out:
        yield f"Left out: {folder}", True
    if not config.provided:
        yield (
            f"The photographs of {config.dataset.name} are made by the run, and checked then.",
            True,
        )
        return
    for category in config.category_names:
        own = config.of(category)
        options = plain(own.data)
        on_problem = options.pop("on_problem")
        try:
            table, problems = scan(
                config.dataset,
                category,
                workers=os.cpu_count() or 1,
                prepare=plain(own.prepare),
                **options,
            )
            refuse(category, problems, on_problem)
        except FlawlineError as error:
            yield str(error), False
            continue
        good = table[table["label"] == 0]
        yield (
            f"{category}: {len(table)} photographs; {(good['split'] == 'train').sum()} good ones "
            f"to learn from, {(good['split'] == 'test').sum()} to measure with, "
            f"{len(table) - len(good)} defective",
            True,
        )
        for line in summary(problems):
            yield f"  {line}", True
