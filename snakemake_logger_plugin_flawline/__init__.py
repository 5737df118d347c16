"""The plugin of Snakemake's that `--logger flawline` names; it must be a package at the top."""

from flawline.workflow.console import Console as LogHandler

__all__ = ["LogHandler"]
