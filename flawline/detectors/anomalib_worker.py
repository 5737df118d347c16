"""Trains and runs models of anomalib, in an environment that has it and not flawline.

A program: it reads requests from standard input, one JSON object a line, and answers each with a
line of JSON on what was standard output. Whatever anomalib prints goes to standard error.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 8
OPEN: dict[str, Any] = {}  # the model that scores, by its file


def fit(
    images: str, state: str, seed: int, device: str, max_epochs: int | None, **built: Any
) -> dict[str, Any]:
    """Train on images, uint8 (N, H, W, 3) in a .npy file, and write the tensors to `state`."""
    import anomalib
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from lightning.pytorch import seed_everything
    from PIL import Image
    from safetensors.torch import save_file

    seed_everything(seed)
    pictures = np.load(images, mmap_mode="r")
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder, "good")
        good.mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray(picture).save(good / f"{number:06}.png")
        data = Folder(
            "training",
            root=folder,
            normal_dir="good",
            normal_split_ratio=0,
            test_split_mode="none",
            val_split_mode="none",
            train_batch_size=BATCH,
            num_workers=0,
        )
        model = build(shape=pictures.shape[1:3], **built)
        given = {} if max_epochs is None else {"max_epochs": max_epochs}
        engine = Engine(
            default_root_dir=folder,
            logger=False,
            devices=1,
            accelerator="gpu" if device == "cuda" else device,
            enable_progress_bar=False,
            limit_val_batches=0,  # no image is spared for choosing anything
            **given,
        )
        data.setup()
        engine.fit(model, train_dataloaders=data.train_dataloader())
    tensors = {
        name: one.detach().cpu().contiguous().clone()
        for name, one in model.model.state_dict().items()
    }
    save_file(tensors, state)
    return {"epochs": int(engine.trainer.current_epoch), "anomalib": anomalib.__version__}


def score(
    images: str, state: str, scores: str, maps: str, device: str, **built: Any
) -> dict[str, Any]:
    """Write scores, float32 (N,), and maps, float32 (N, h, w), of images as .npy files."""
    import torch
    from safetensors.torch import load_file

    pictures = np.load(images, mmap_mode="r")
    if OPEN.get("state") != state:
        model = build(shape=pictures.shape[1:3], **built)
        model.model.load_state_dict(load_file(state), strict=True)
        OPEN.update(state=state, model=model.eval().to(device))
    model = OPEN["model"]
    found, drawn = [], []
    with torch.inference_mode():
        for start in range(0, len(pictures), BATCH):
            batch = torch.from_numpy(np.array(pictures[start : start + BATCH])).to(device)
            pixels = model.pre_processor.transform(batch.permute(0, 3, 1, 2).float() / 255)
            answer = model.model(pixels)
            if answer.anomaly_map is None:
                raise RuntimeError("the model draws no anomaly map")
            one_map = answer.anomaly_map.reshape(len(batch), *answer.anomaly_map.shape[-2:])
            values = answer.pred_score
            values = one_map.amax((1, 2)) if values is None else values.reshape(len(batch))
            found.append(values.float().cpu().numpy())
            drawn.append(one_map.float().cpu().numpy())
    np.save(scores, np.concatenate(found))
    np.save(maps, np.concatenate(drawn))
    return {}


def build(
    model: str, arguments: dict[str, Any], weights: str | None, shape: tuple[int, int]
) -> Any:
    """Build a model, with local weights in its feature extractor if there are any."""
    import anomalib.models
    import torch

    kind: Any = getattr(anomalib.models, model, None)
    is_model = isinstance(kind, type) and issubclass(kind, anomalib.models.AnomalibModule)
    if not is_model:
        raise ValueError(f"anomalib {anomalib.__version__} has no model {model!r}")
    size = kind.configure_pre_processor(image_size=(shape[0], shape[1]))
    made = kind(
        pre_processor=size, post_processor=False, evaluator=False, visualizer=False, **arguments
    )
    if weights is not None:
        network = made.model.feature_extractor.feature_extractor
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
        missing, _ = network.load_state_dict(tensors, strict=False)
        if len(missing) == len(network.state_dict()):
            raise ValueError(f"{weights}: has none of the tensors of the feature extractor")
    return made


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        work: Any = {"fit": fit, "score": score}[request.pop("do")]
        try:
            answer = work(**request)
        except Exception as error:  # anomalib, torch and lightning raise all kinds
            answer = {"error": f"{type(error).__name__}: {str(error).strip()}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
