"""Models of anomalib, trained and run in an environment of their own.

anomalib (https://github.com/open-edge-platform/anomalib) has some thirty models. Here one of them
is a detector like any other: it learns from the same prepared images and is calibrated, tested and
shown like the others, so its figures can be compared. Its post-processing, which chooses a
threshold and scales scores by the labels of a test set, is left out.
"""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from flawline.detectors import anomalib_worker
from flawline.detectors.base import Detector
from flawline.detectors.data import Data, Scores
from flawline.detectors.maps import HALF_MAX
from flawline.errors import FlawlineError
from flawline.learning.training import Checkpoint, Training
from flawline.options.anomalib import AnomalibOptions


class Worker:
    """The program that has anomalib, started once; files pass between it and this process."""

    def __init__(self, python: str) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="flawline-anomalib-")
        self.folder = Path(self._files.name)
        self._python = python
        # away from this package, in whose folder a module is called anomalib as well
        program = shutil.copy(anomalib_worker.__file__, self.folder)
        self._errors = (self.folder / "errors.txt").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [python, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            cwd=self.folder,  # what it writes beside its results goes with the folder
            text=True,
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Have something done.

        Raises
        ------
        FlawlineError
            With what anomalib said, if it cannot be done.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do} | request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._last_words()}
        if "error" in answer:
            raise FlawlineError(
                f"anomalib ({self._python}): {answer['error']}. See `model`, `arguments` and "
                "`python` of the detector in the configuration"
            )
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        return said[-1] if said else f"it ended with status {self._process.returncode}"

    def close(self) -> None:
        """End the program and delete its files."""
        with suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()
        self._files.cleanup()


class Anomalib(Detector):
    """The image score and the anomaly map of a model of anomalib, as the model gives them."""

    Options = AnomalibOptions
    options: AnomalibOptions
    tensors: dict[str, torch.Tensor]

    def fit(self, data: Data, checkpoint: Checkpoint | None = None) -> Training:
        """Train the model on the prepared images."""
        worker = Worker(self.options.program)
        try:
            images, state = worker.folder / "images.npy", worker.folder / "state.safetensors"
            np.save(images, data.require("images"))
            done = worker.ask(
                "fit",
                images=str(images),
                state=str(state),
                seed=self.seed % 2**32,
                device=self.device.type,
                max_epochs=self.options.max_epochs,
                **self._built,
            )
            self.tensors = load_file(state)
        finally:
            worker.close()
        rows = [{"step": 1, "images": len(data)} | done]
        return Training(rows, f"{self.options.model} of anomalib {done['anomalib']} trained")

    def score(self, data: Data) -> Scores:
        """Score images and resize the maps to theirs."""
        images = data.require("images")
        worker = self._worker()
        names = {key: str(worker.folder / f"{key}.npy") for key in ("images", "scores", "maps")}
        np.save(names["images"], images)
        state = str(worker.folder / "state.safetensors")
        worker.ask("score", state=state, device=self.device.type, **names, **self._built)
        size = images.shape[2], images.shape[1]
        maps = [cv2.resize(one, size) for one in np.load(names["maps"])]
        clipped = np.clip(np.stack(maps), -HALF_MAX, HALF_MAX).astype(np.float16)
        return Scores(np.load(names["scores"]).astype(np.float32), clipped)

    @property
    def _built(self) -> dict[str, Any]:
        weights = self.options.local_weights
        return {
            "model": self.options.model,
            "arguments": self.options.arguments,
            "weights": None if weights is None else str(weights.resolve()),
        }

    def _worker(self) -> Worker:
        """Return the program that has this model, started at the first images."""
        if self._started is None:
            self._started = Worker(self.options.program)
            save_file(self.tensors, self._started.folder / "state.safetensors")
        return self._started

    _started: Worker | None = None

    def __del__(self) -> None:
        """End the program with the detector."""
        if self._started is not None:
            self._started.close()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the model's tensors."""
        return self.tensors

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take the model's tensors."""
        self.tensors = {name: one.cpu() for name, one in state.items()}
