"""Training common to all methods: the loop over epochs, its log, budget and checkpoints."""

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm import tqdm

from flawline.devices import inference_precision
from flawline.errors import FlawlineError
from flawline.files import replacing
from flawline.logs import hide_bar
from flawline.options.training import Budget
from flawline.seeding import derive

Step = Callable[[torch.Tensor], dict[str, torch.Tensor]]


def precision_on(device: torch.device, budget: Budget) -> str:
    """Return the precision of trained networks: ``float32`` or ``bfloat16``."""
    return inference_precision(device.type, budget.precision)


def minimize(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of an optimiser."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@dataclass(frozen=True)
class Checkpoint:
    """The checkpoint that an interrupted training continues from.

    Attributes
    ----------
    path : .safetensors file, written at ends of epochs.
    key : identifies all that the training depends on; a checkpoint with another key is ignored.
    every : least seconds between two checkpoints.
    """

    path: Path
    key: str
    every: float = 60.0


@dataclass
class Training:
    """A record of what `fit` did.

    Attributes
    ----------
    rows : one per epoch: phase, epoch, steps so far, mean losses of the rows seen, seconds so far.
    ended : why it ended.
    precision : of trained networks; None for methods that do not train in steps.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    ended: str = "schedule completed"
    precision: str | None = None


class Trainer:
    """Trains modules in epochs, in one phase or several.

    All randomness derives from the seed and the number of the step, so that a training that
    continues from a checkpoint ends with the same weights as one that was never interrupted.

    Parameters
    ----------
    name : of the method, for messages.
    budget : when to stop.
    seed : seeds the order of images and every random draw in a step.
    modules, optimizers : all that a checkpoint must hold, by name; the modules on their device.
    checkpoint : where to continue from; None for no checkpoints.
    """

    def __init__(
        self,
        name: str,
        budget: Budget,
        seed: int,
        modules: Mapping[str, torch.nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.name, self.budget, self.seed = name, budget, seed
        self.modules, self.optimizers, self.checkpoint = modules, optimizers, checkpoint
        self.training = Training()
        self.steps = 0
        self._seconds = 0.0
        self._ended_phases: list[str] = []
        if checkpoint and checkpoint.path.exists():
            self._resume(checkpoint)
        device = next(weight.device for one in modules.values() for weight in one.parameters())
        self.training.precision = precision_on(device, budget)
        self._saved = time.monotonic()

    def run(
        self,
        step: Step,
        *,
        count: int,
        batch_size: int,
        epochs: int | None = None,
        steps: int | None = None,
        phase: str = "train",
        share: float = 1.0,
        rows_per_epoch: int | None = None,
        stop: Callable[[dict[str, Any]], str | None] | None = None,
        validate: Callable[[], dict[str, torch.Tensor]] | None = None,
    ) -> Training:
        """Run one phase, or what is left of it.

        Parameters
        ----------
        step : takes int64 (B,) rows on the CPU, trains on them, returns detached losses by name.
        count : of rows; each epoch has a random order of them.
        batch_size : rows per step. A last batch of one is left out: batch-norm cannot use it.
        epochs, steps : exactly one of: passes over all rows, optimiser steps.
        share : fraction of the budget used up when this phase ends.
        rows_per_epoch : rows per epoch, if not all; above the number of rows, some are drawn twice.
        stop : takes an epoch's row of the log, returns why to stop early, or None.
        validate : returns losses of rows that are not trained on, after every epoch; its random
            draws are the same each time.

        Raises
        ------
        FlawlineError
            If a loss is not a finite number.
        """
        rows = self.training.rows
        done = sum(row["phase"] == phase for row in rows)
        rows_per_epoch = rows_per_epoch or count
        steps_per_epoch = max(
            math.ceil(rows_per_epoch / batch_size) - (rows_per_epoch % batch_size == 1), 1
        )
        total = steps or (epochs or 0) * steps_per_epoch
        epochs = math.ceil(total / steps_per_epoch)
        if phase in self._ended_phases or done >= epochs:
            return self.training
        started = time.monotonic() - self._seconds
        ended = None
        with tqdm(total=total, desc=f"{self.name} {phase}", unit="step", disable=hide_bar()) as bar:
            bar.update(done * steps_per_epoch)
            for epoch in range(done + 1, epochs + 1):
                order = torch.Generator().manual_seed(derive(self.seed, phase, "order", str(epoch)))
                rounds = [
                    torch.randperm(count, generator=order) for _ in range(0, rows_per_epoch, count)
                ]
                batches = torch.cat(rounds)[:rows_per_epoch].split(batch_size)
                batches = batches[: min(steps_per_epoch, total - (epoch - 1) * steps_per_epoch)]
                sums: dict[str, torch.Tensor] = {}
                taken = 0
                for batch in batches:
                    torch.manual_seed(derive(self.seed, phase, "step", str(self.steps)))
                    for name, loss in step(batch).items():
                        sums[name] = sums.get(name, 0) + loss * len(batch)
                    taken += len(batch)
                    self.steps += 1
                    bar.update()
                    self._seconds = time.monotonic() - started
                    ended = self._spent(share)
                    if ended:
                        break
                losses = {name: float(value) / taken for name, value in sums.items()}
                if validate:
                    torch.manual_seed(derive(self.seed, phase, "validation"))
                    found = validate().items()
                    losses |= {f"validation {name}": float(value) for name, value in found}
                row = {"phase": phase, "epoch": epoch, "steps": self.steps} | losses
                rows.append(row | {"seconds": round(self._seconds, 3)})
                bar.set_postfix({name: f"{value:.4g}" for name, value in losses.items()})
                self._refuse_nan(phase, epoch, losses)
                ended = ended or (stop(rows[-1]) if stop else None)
                if ended:
                    self.training.ended = f"{phase}: {ended}"
                    self._ended_phases.append(phase)
                    break
                self._save()
        return self.training

    def _spent(self, share: float) -> str | None:
        steps, seconds = self.budget.max_steps, self.budget.max_seconds
        if steps is not None and self.steps >= max(round(share * steps), 1):
            return f"stopped by max_steps = {steps}"
        if seconds is not None and self._seconds >= share * seconds:
            return f"stopped by max_seconds = {seconds:g}"
        return None

    def _refuse_nan(self, phase: str, epoch: int, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                if self.checkpoint:
                    self.checkpoint.path.unlink(missing_ok=True)
                raise FlawlineError(
                    f"{self.name}: the loss {name!r} became {value} in epoch {epoch} of phase "
                    f"{phase!r}; expected a finite number. Nothing was saved. Lower the learning "
                    "rate, or change the seed."
                )

    def _save(self) -> None:
        """Write a checkpoint unless one was written less than `every` seconds ago."""
        if not self.checkpoint or time.monotonic() - self._saved < self.checkpoint.every:
            return
        tensors = {
            f"modules/{name}/{key}": value
            for name, module in self.modules.items()
            for key, value in module.state_dict().items()
        } | {
            f"optimizers/{name}/{index}/{key}": value
            for name, optimizer in self.optimizers.items()
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }
        about = {
            "rows": self.training.rows,
            "ended": self.training.ended,
            "ended_phases": self._ended_phases,
            "steps": self.steps,
            "seconds": self._seconds,
        }
        # clone to plain layout: safetensors refuses shared memory and channels_last
        tensors = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        metadata = {
            "key": self.checkpoint.key,
            "about": json.dumps(about),
            "crc32": _checksum(tensors),
        }
        with replacing(self.checkpoint.path) as partial:
            save_file(tensors, partial, metadata)
        self._saved = time.monotonic()

    def _resume(self, checkpoint: Checkpoint) -> None:
        try:
            with safe_open(checkpoint.path, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("key") != checkpoint.key:
                    return
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):  # damaged: train from the start
            return
        if metadata.get("crc32") != _checksum(tensors):
            return
        for name, module in self.modules.items():
            head = f"modules/{name}/"
            module.load_state_dict(
                {key.removeprefix(head): v for key, v in tensors.items() if key.startswith(head)}
            )
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, torch.Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizers/{name}/"):
                    index, field_name = key.split("/")[2:]
                    state.setdefault(int(index), {})[field_name] = value
            groups = optimizer.state_dict()["param_groups"]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            for index, values in state.items():
                # fused optimisers need weight and state in the same memory layout
                for key, value in values.items():
                    if value.shape == weights[index].shape:
                        values[key] = torch.empty_like(weights[index].detach()).copy_(value)
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        about = json.loads(metadata["about"])
        self.training = Training(about["rows"], about["ended"])
        self._ended_phases = about["ended_phases"]
        self.steps, self._seconds = about["steps"], about["seconds"]


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    found = 0
    for _, tensor in sorted(tensors.items()):
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"{found:08x}"
