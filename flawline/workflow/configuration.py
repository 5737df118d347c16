"""The configuration of a run, checked before Snakemake looks at any rule."""

import sys
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError

from flawline.config import Config, load_config
from flawline.errors import FlawlineError
from flawline.workflow.check_backbones import HIDDEN, check_features


def validated(content: dict[str, Any], workflow: Any, source: Path) -> Config:
    """Return the checked configuration; say on the terminal what it leaves out.

    Parameters
    ----------
    content : the content of the configuration files and of `--config`.
    source : where the workflow lies.

    Raises
    ------
    WorkflowError
        With one line for each mistake.
    """
    if set("{}") & set(str(source)):
        raise WorkflowError(
            f"Move flawline out of {source}: Snakemake takes braces in a path for a placeholder."
        )
    origin = ", ".join(map(str, workflow.configfiles)) or "--config"
    try:
        config = load_config(content, origin)
        check_features(config, origin, cache=HIDDEN / "backbones.json")
    except FlawlineError as error:
        raise WorkflowError(str(error)) from None
    if workflow.is_main_process:
        for folder in config.left_out:
            print(f"Left out: {folder}", file=sys.stderr)
    return config
