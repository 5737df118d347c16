"""Inputs and params of the rule that inspects new images, and its closing line."""

import csv
from pathlib import Path
from typing import Any

from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import Wildcards

from flawline.config import Config
from flawline.data.folder_digest import folder_digest
from flawline.errors import FlawlineError
from flawline.files import given_path, is_folder
from flawline.inspection.run_settings import FILES, check_files, run_folder, settings_of
from flawline.layout import Layout
from flawline.options.inspect import Inspect
from flawline.provenance import digest
from flawline.workflow.check_backbones import HIDDEN


class Inspection:
    """The inspection of a folder of new images by a trained detector."""

    def __init__(self, config: Config, inspected: Inspect) -> None:
        self._given = inspected
        self.folder = inspected.folder
        self.run = run_folder(config, inspected)
        self.settings = settings_of(config, str(inspected.category), str(inspected.detector))
        options = config.of(str(inspected.category)).detectors[str(inspected.detector)]
        self.module = options.implementation.split(":")[0]
        self.results = f"{Layout(config.dataset.name).inspections}/{inspected.name}"

    @property
    def about(self) -> dict[str, str]:
        """Texts for the head of the page."""
        return {"folder": given_path(self.folder).resolve().name} | self._detector

    @property
    def batch(self) -> dict[str, str]:
        """The names of this batch and its detector in the history."""
        return {"inspection": str(self._given.name)} | self._detector

    def content(self, wildcards: Wildcards) -> str:
        """Return a digest of the images to inspect: new ones rerun the inspection."""
        folder = given_path(self.folder)
        if not is_folder(folder):
            raise WorkflowError(f"inspect.folder: there is no folder {str(folder)!r}")
        return folder_digest(folder, HIDDEN / "inspection.json")

    def trained(self, wildcards: Wildcards) -> str:
        """Return a digest of the trained detector, or raise an error if there is none."""
        try:
            check_files(self.run)
        except FlawlineError as error:
            raise WorkflowError(str(error)) from None
        return digest(files=[self.run / name for name in FILES])

    def closing_line(self) -> str:
        """Say where the page is, and how many images are defective."""
        with Path(self.results, "inspection.csv").open(encoding="utf-8", newline="") as file:
            decisions = [row["decision"] for row in csv.DictReader(file)]
        bad, unreadable = decisions.count("defective"), decisions.count("unreadable")
        return (
            f"Inspection: {self.results}/inspection.html - {bad} of "
            f"{len(decisions) - unreadable} images defective, {unreadable} unreadable"
        )

    @property
    def _detector(self) -> dict[str, str]:
        given = self._given
        names = {"category": str(given.category), "detector": str(given.detector)}
        return names | {"seed": str(given.seed)}


def inspection_table(inspection: Inspection | None) -> Any:
    """Return an input function for the table of an inspection; without one, it raises an error."""

    def table(wildcards: Wildcards) -> str:
        if inspection is None:
            raise WorkflowError(
                "Nothing to inspect: no folder is given. Add for example --config "
                "inspect='{folder: incoming, category: NAME, detector: NAME}'"
            )
        return f"{inspection.results}/inspection.csv"

    return table
