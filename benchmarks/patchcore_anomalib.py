"""PatchCore by anomalib, in one process; runs in an environment that has anomalib."""

import json
import sys
import tempfile
import time
import warnings
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import Patchcore


def main() -> None:
    warnings.simplefilter("ignore")
    root, weights, category = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    shape = int(sys.argv[4]), int(sys.argv[5])
    start = time.perf_counter()
    defects = sorted(path.name for path in (root / category / "test").iterdir())
    defects.remove("good")
    masks = (root / category / "ground_truth").is_dir()
    data = Folder(
        name=category,
        root=root / category,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects],
        mask_dir=[f"ground_truth/{name}" for name in defects] if masks else None,
        num_workers=2,
    )
    metrics = [AUROC(fields=["pred_score", "gt_label"], prefix="image_")]
    if masks:
        metrics.append(AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_"))
    model = Patchcore(
        backbone="resnet18",
        layers=["layer2", "layer3"],
        pre_trained=False,
        coreset_sampling_ratio=0.02,
        pre_processor=Patchcore.configure_pre_processor(image_size=shape),
        evaluator=Evaluator(test_metrics=metrics),
        visualizer=False,
    )
    network = model.model.feature_extractor.feature_extractor
    state = torch.load(weights, map_location="cpu", weights_only=True)
    missing, _ = network.load_state_dict(state, strict=False)
    needed = [name for name in missing if not name.startswith("layer4")]
    assert all(name.endswith("num_batches_tracked") for name in needed), needed
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(default_root_dir=folder, logger=False, devices=1)
        engine.fit(model, datamodule=data)
        fitted = time.perf_counter()
        (metrics,) = engine.test(model, datamodule=data, verbose=False)
    done = time.perf_counter()
    costs = {
        "fit_seconds": fitted - start,
        "score_seconds": done - fitted,
        "peak_MiB": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps({key: float(value) for key, value in metrics.items()} | costs))


if __name__ == "__main__":
    main()
