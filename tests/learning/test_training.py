"""The training loop: log, budgets, early stopping, NaN, and going on after an interruption."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flawline.data.geometry import Geometry
from flawline.detectors.data import Data
from flawline.detectors.registry import method_class
from flawline.errors import FlawlineError
from flawline.learning.training import Checkpoint, Trainer
from flawline.options.training import Budget

ROWS = 10


class Task:
    """A line fitted to noisy points, with dropout so that steps draw at random."""

    def __init__(self, checkpoint: Checkpoint | None = None, **budget: Any) -> None:
        torch.manual_seed(1)
        self.x = torch.randn(ROWS, 3, 4, 4)
        self.y = self.x.sum((1, 2, 3))[:, None]
        # channels_last and fused, as the detectors train
        self.network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 5, 3),
            torch.nn.Flatten(),
            torch.nn.Linear(20, 1),
            torch.nn.Dropout(0.5),
        ).to(memory_format=torch.channels_last)
        self.adam = torch.optim.Adam(self.network.parameters(), 0.1, fused=True)
        self.trainer = Trainer(
            "task", Budget(**budget), 0, {"net": self.network}, {"adam": self.adam}, checkpoint
        )
        self.seen: list[list[int]] = []

    def step(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        self.seen.append(rows.tolist())
        loss = (self.network(self.x[rows]) - self.y[rows]).square().mean()
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return {"loss": loss.detach()}

    def run(self, **options: Any) -> Any:
        chosen = {"count": ROWS, "batch_size": 4, "epochs": 3} | options
        return self.trainer.run(self.step, **chosen)

    def weights(self) -> torch.Tensor:
        return torch.cat([value.flatten() for value in self.network.state_dict().values()])


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    task = Task()
    task.run()
    epochs = [[row for rows in task.seen[start : start + 3] for row in rows] for start in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(ROWS)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_can_have_more_rows_than_there_are() -> None:
    task = Task()
    task.run(rows_per_epoch=14, epochs=2)
    assert task.trainer.steps == 8
    for start in (0, 4):
        rows = [row for batch in task.seen[start : start + 4] for row in batch]
        assert sorted(rows[:ROWS]) == list(range(ROWS))
        assert len(set(rows[ROWS:])) == 4


SQUEEZE = {"backbone": "squeezenet1_1", "weights": "none"}
TINY: dict[str, dict[str, Any]] = {
    "featcae": {"features": "x", "latent": 2, "epochs": 1},
    "autoencoder": {"network_size": 32, "width": 4, "latent": 4, "epochs": 1},
    "ssim_autoencoder": {"network_size": 32, "width": 4, "epochs": 1},
    "fanogan": {"width": 1, "latent": 4, "gan_steps": 5, "encoder_steps": 2, "batch_size": 4},
    "metric_learning": SQUEEZE | {"network_size": 64, "epochs": 1},
    "cam_classifier": SQUEEZE | {"image_size": 64, "epochs": 1},
}


@pytest.mark.parametrize("method", TINY)
def test_every_trained_method_trains_in_either_precision_and_says_in_which(method: str) -> None:
    rng = np.random.default_rng(0)
    data = Data(
        Geometry((32, 32)),
        images=rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        object_masks=np.ones((8, 32, 32), np.uint8),
        features=(rng.normal(size=(8, 4, 4, 6)).astype(np.float16),),
        labels=np.repeat([0, 1], 4),
    )
    losses = []
    for precision in ("float32", "bfloat16"):
        kind = method_class(method)
        options = kind.Options.model_validate(TINY[method] | {"precision": precision})
        found = kind(options, 0, torch.device("cpu"))
        training = found.fit(data)
        assert training.precision == precision
        assert np.isfinite(found.score(data).scores).all()
        losses.append(without_seconds(training.rows))
    assert losses[0] != losses[1]


VALIDATED = {
    "fanogan": ["validation feature residual", "validation image residual"],
}


@pytest.mark.parametrize("method", TINY)
def test_every_trained_method_has_a_validation_loss_of_images_it_never_trains_on(
    method: str,
) -> None:
    rng = np.random.default_rng(0)
    photographs = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    seen = rng.normal(size=(10, 4, 4, 6)).astype(np.float16)

    def fit(spoiled: int | None, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        images, features = photographs.copy(), seen.copy()
        if spoiled is not None:
            images[spoiled], features[spoiled] = 255 - images[spoiled], 5 + features[spoiled]
        data = Data(
            Geometry((32, 32)),
            images=images,
            object_masks=np.ones((10, 32, 32), np.uint8),
            features=(features,),
            labels=np.tile([0, 1], 5),
        )
        chosen = method_class(method).Options.model_validate(TINY[method] | options)
        found = method_class(method)(chosen, 0, torch.device("cpu"))
        rows = without_seconds(found.fit(data).rows)
        return rows, {name: value.numpy() for name, value in found.state().items()}

    (held,) = Data(Geometry((32, 32)), images=photographs).held_back(0.1, 0)
    plain, weights = fit(None, validation_fraction=0.1)
    other, same_weights = fit(int(held), validation_fraction=0.1)
    losses = [name for name in plain[-1] if name.startswith("validation")]
    assert sorted(losses) == VALIDATED.get(method, ["validation loss"])
    assert all(plain[-1][name] != other[-1][name] for name in losses)
    kept = [name for name in weights if name not in ("memory", "typical")]  # all images' own
    learned = [name for name in kept if "rings" not in name]
    assert all(np.array_equal(weights[name], same_weights[name]) for name in learned)
    without, _ = fit(None, validation_fraction=0)
    assert not any(name.startswith("validation") for name in without[-1])


def test_a_validation_that_leaves_nothing_to_train_on_is_refused() -> None:
    data = Data(Geometry((32, 32)), images=np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(FlawlineError, match="of 2 training images leaves 1 to train on"):
        data.parted(0.05, 0)
    assert data.parted(0, 0) == (data, None)


@pytest.mark.parametrize("fraction", [0, 0.05, 0.3])
def test_models_of_cross_calibration_take_as_many_steps_with_a_validation(fraction: float) -> None:
    whole = Data(Geometry((32, 32)), images=np.zeros((60, 32, 32, 3), np.uint8))
    fold = replace(whole.take(np.arange(48)), scheduled=60)
    (all_left, _), (left, _) = (data.parted(fraction, 0) for data in (whole, fold))
    assert len(left) < len(all_left)
    assert left.rows_per_epoch(len(left)) == all_left.rows_per_epoch(len(all_left)) == len(all_left)
    by_rows = [
        data.rows_per_epoch(len(one), fraction) for data, one in ((whole, all_left), (fold, left))
    ]
    assert by_rows == [len(all_left)] * 2


def test_a_validation_loss_does_not_change_the_training() -> None:
    weights = []
    for validate in (None, lambda: {"loss": torch.rand(())}):
        task = Task()
        training = task.run(validate=validate)
        weights.append(task.weights())
    assert torch.equal(*weights)
    assert len({row["validation loss"] for row in training.rows}) == 1  # the same is drawn


def test_losses_are_means_over_rows_not_over_batches() -> None:
    task = Task()
    task.step = lambda rows: {"loss": torch.tensor(float(len(rows)))}  # type: ignore[method-assign]
    training = task.run(epochs=1)  # batches of 4, 4 and 2
    assert training.rows[0]["loss"] == pytest.approx((16 + 16 + 4) / 10)


def test_the_log_has_a_row_an_epoch() -> None:
    training = Task().run()
    assert [(row["phase"], row["epoch"], row["steps"]) for row in training.rows] == [
        ("train", 1, 3),
        ("train", 2, 6),
        ("train", 3, 9),
    ]
    assert all(row["loss"] > 0 and row["seconds"] >= 0 for row in training.rows)
    assert training.ended == "schedule completed"


def test_a_last_batch_of_one_is_left_out() -> None:
    task = Task()
    task.run(count=9, epochs=1)
    assert [len(rows) for rows in task.seen] == [4, 4]


def test_max_steps_ends_in_the_middle_of_an_epoch_and_says_so() -> None:
    task = Task(max_steps=4)
    training = task.run()
    assert len(task.seen) == 4
    assert [row["steps"] for row in training.rows] == [3, 4]
    assert training.ended == "train: stopped by max_steps = 4"


def test_max_seconds_ends_training() -> None:
    training = Task(max_seconds=1e-9).run()
    assert training.rows[-1]["steps"] == 1
    assert training.ended == "train: stopped by max_seconds = 1e-09"


def test_each_phase_gets_its_share_of_the_budget() -> None:
    task = Task(max_steps=10)
    task.run(phase="first", share=0.5, epochs=100)
    training = task.run(phase="second", epochs=100)
    assert [row["steps"] for row in training.rows if row["phase"] == "first"][-1] == 5
    assert training.rows[-1]["steps"] == 10


def test_early_stopping_gives_its_reason() -> None:
    def enough(row: dict[str, Any]) -> str | None:
        return "good enough" if row["epoch"] == 2 else None

    training = Task().run(stop=enough)
    assert len(training.rows) == 2
    assert training.ended == "train: good enough"


def test_not_a_number_is_refused_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    task = Task(Checkpoint(tmp_path / "c.safetensors", "key", every=0))
    task.run(epochs=1)
    assert (tmp_path / "c.safetensors").exists()
    task.y = task.y * float("nan")
    with pytest.raises(FlawlineError, match="loss 'loss' became nan in epoch 2 of phase 'train'"):
        task.run()
    assert not (tmp_path / "c.safetensors").exists()


def interrupt_after(task: Task, steps: int) -> Callable[[torch.Tensor], dict[str, torch.Tensor]]:
    def step(rows: torch.Tensor) -> dict[str, torch.Tensor]:
        if len(task.seen) == steps:
            raise KeyboardInterrupt
        return Task.step(task, rows)

    return step


@pytest.mark.parametrize("steps", [0, 2, 4, 7, 11, 16])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, steps: int) -> None:
    def both(task: Task) -> Any:
        task.run(phase="first")
        return task.run(phase="second")

    whole = Task()
    expected = both(whole)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0)
    broken = Task(checkpoint)
    broken.step = interrupt_after(broken, steps)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        both(broken)
    resumed = Task(checkpoint)
    found = both(resumed)
    assert torch.equal(resumed.weights(), whole.weights())
    assert without_seconds(found.rows) == without_seconds(expected.rows)
    if steps > 3:
        assert len(resumed.seen) < len(whole.seen)


def test_a_phase_that_stopped_early_is_not_taken_up_again(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0)

    def both(task: Task) -> Any:
        task.run(phase="first", stop=lambda row: "enough")
        return task.run(phase="second")

    whole = Task()
    expected = both(whole)
    broken = Task(checkpoint)
    broken.step = interrupt_after(broken, 7)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        both(broken)
    resumed = Task(checkpoint)
    assert without_seconds(both(resumed).rows) == without_seconds(expected.rows)
    assert torch.equal(resumed.weights(), whole.weights())


@pytest.mark.parametrize("spoil", ["other key", "cut off", "flipped"])
def test_a_checkpoint_that_does_not_fit_is_ignored(tmp_path: Path, spoil: str) -> None:
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "key", every=0)
    Task(checkpoint).run(epochs=2)
    content = bytearray(checkpoint.path.read_bytes())
    if spoil == "cut off":
        checkpoint.path.write_bytes(content[:100])
    elif spoil == "flipped":
        content[-5] ^= 1
        checkpoint.path.write_bytes(content)
    else:
        checkpoint = replace(checkpoint, key="another configuration")
    task = Task(checkpoint)
    task.run()
    assert len(task.seen) == 9
