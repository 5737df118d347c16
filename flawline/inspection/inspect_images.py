"""One inspection: a folder of new photographs to a table, a page, overlays and the history."""

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import Any

import torch

from flawline.inspection.batches import compared, recorded
from flawline.inspection.folder import UNREADABLE, Verdict, inspect_folder, write_verdicts
from flawline.inspection.page import describe, render
from flawline.inspection.trained_detector import load_trained

LOG = getLogger(__name__)


def inspect_images(
    folder: Path | str,
    run: Path | str,
    *,
    settings: Mapping[str, Any],
    device: torch.device,
    table: Path | str,
    page: Path | str,
    overlays: Path | str,
    history: Path | str,
    batch: Mapping[str, str],
    about: Mapping[str, str],
    workers: int = 1,
) -> list[Verdict]:
    """Inspect the photographs of a folder, and write table, page, overlays and history.

    Parameters
    ----------
    run : folder of the trained detector.
    settings : how photographs are prepared for it, from `run_settings.settings_of`.
    table, page, overlays : outputs: a CSV file, an HTML file, a folder of pictures.
    history : CSV file with a row for every inspected batch; this batch is added.
    batch : names of this batch and its detector in the history.
    about : texts for the head of the page.

    Returns
    -------
    One verdict per file, in the order of their names.

    Raises
    ------
    FlawlineError
        If the detector is damaged or was trained on other settings.
    """
    trained = load_trained(run, settings, device)
    verdicts = inspect_folder(folder, trained, overlays, workers=workers)
    for verdict in verdicts:
        if verdict.decision == UNREADABLE:
            LOG.info("%r: %s", verdict.file, verdict.reason)
    rows = recorded(history, verdicts, compared(verdicts, trained), dict(batch))
    render(page, describe(verdicts, trained, overlays, rows, **about))
    write_verdicts(table, verdicts)
    return verdicts
