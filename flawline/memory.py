"""Words for jobs that ran out of memory, which every library says in its own way."""

from typing import Any

from flawline.options.base import Options

# options that make a detector need more memory
GROW = (
    *("batch_size", "width", "coreset_from", "coreset_fraction", "coreset_size", "image_size"),
    "network_size",
    "channels",
)
FIT_OR_SCORE = (
    *("train", "train_fold", "score", "score_fold", "score_good_test_images", "draws"),
    "learning_curve",
)
# messages of torch on a GPU, torch on a CPU, CUDA and OpenCV, which do not raise MemoryError
WORDS = (
    "out of memory",
    "can't allocate memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error of any library says that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, Exception) and any(word in str(error) for word in WORDS)
    )


def what_to_lower(rule: str, options: Options, detector: str = "", features: str = "") -> str:
    """Name the keys of the configuration that a job's memory grows with.

    Parameters
    ----------
    rule : the job's rule.
    options : the category's configuration (`flawline.config.Config`).
    detector, features : the job's wildcards of these names, if it has them.
    """
    config: Any = options
    keys = []
    if detector and rule in FIT_OR_SCORE:
        chosen = config.detectors.get(detector)  # none: a fusion of several
        keys += [f"detectors.{detector}.{key}" for key in GROW if hasattr(chosen, key)]
    if features and config.features[features].batch_size != 1:
        keys.append(f"features.{features}.batch_size")
    if rule in ("index", "prepare", "tiles", "ground_truth"):
        keys.append("data.max_megapixels")
    else:
        keys.append("prepare.size")
    return " or ".join(keys)
