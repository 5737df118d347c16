"""Write a trained detector as ONNX: a folder that judges photographs, or the network alone.

``python -m flawline.inspection.export --configfile my.yaml --category screw --detector patchcore
screw``
"""

import argparse
import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from flawline.configfile import read_configfile
from flawline.errors import FlawlineError
from flawline.files import replacing
from flawline.inspection.exported_detector import (
    NETWORK,
    ExportedDetector,
    onnxruntime,
    open_exported,
    replacing_folder,
    write_description,
)
from flawline.inspection.graph import graph_of
from flawline.inspection.judging import Photograph
from flawline.inspection.parity import Comparison, compare
from flawline.inspection.run_settings import run_folder, settings_of, version_of
from flawline.inspection.trained_detector import (
    TrainedDetector,
    checked_photographs,
    load_trained,
)

OPSET = 20


def export(
    trained: TrainedDetector, photographs: Sequence[Photograph], path: Path | str, **about: str
) -> Comparison:
    """Write the network as an ONNX file, if it scores and decides as PyTorch does.

    Parameters
    ----------
    photographs : prepared good images to compare on, two or more; synthetic defects are drawn on
        them, so that there are scores above the threshold.
    path : the file; not written if `compare` finds a difference.
    about : further metadata, such as the category.

    Raises
    ------
    FlawlineError
        If the detector cannot be exported, a package is missing, or scores or decisions differ.
    """
    with replacing(path) as partial:
        _write_network(trained, photographs, partial, about)
        exported = ExportedDetector.of(trained, onnxruntime(partial))
        return compare(trained, exported, photographs)


def export_folder(
    trained: TrainedDetector,
    photographs: Sequence[Photograph],
    folder: Path | str,
    *,
    version: str,
    **about: str,
) -> Comparison:
    """Write the network and all else that judging needs into a folder, as `export` a file.

    Parameters
    ----------
    version : of the trained detector.
    """
    with replacing_folder(Path(folder)) as partial:
        _write_network(trained, photographs, partial / NETWORK, about)
        write_description(partial, trained, about, version)
        return compare(trained, open_exported(partial), photographs)


def _write_network(
    trained: TrainedDetector, photographs: Sequence[Photograph], path: Path, about: dict[str, str]
) -> None:
    try:
        import onnx
        import onnxruntime  # noqa: F401 (else it is missed only once all is written)
        import onnxscript  # noqa: F401 (torch.onnx needs it and says so less clearly)
    except ImportError as error:
        raise FlawlineError(
            f"ONNX export needs the package {error.name!r}: pip install '.[onnx]'"
        ) from error
    graph = graph_of(trained)
    inputs = trained.inputs(photographs[:2])
    count = torch.export.Dim("N")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name: N")  # inputs share it, as they should
        program = torch.onnx.export(
            graph,
            kwargs={name: torch.from_numpy(one) for name, one in inputs.items()},
            input_names=list(inputs),
            output_names=["scores", "anomaly_maps", "defective"],
            dynamic_shapes={name: {0: count} for name in inputs},
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata(trained, **about))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def metadata(trained: TrainedDetector, **about: str) -> dict[str, str]:
    """Return the metadata of the file."""
    prepare = trained.settings["prepare"]
    height, width = trained.image_shape
    return about | {
        "flawline_version": version("flawline"),
        "method": trained.settings["detector"]["method"],
        "threshold": repr(float(trained.threshold["value"])),
        "image_height": str(height),
        "image_width": str(width),
        "resize": prepare["resize"],
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    from flawline.config import load_config

    parser = argparse.ArgumentParser(
        prog="python -m flawline.inspection.export", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("path", type=Path, help="the folder to write, or a file .onnx")
    parser.add_argument("--configfile", type=Path, required=True, help="of the training")
    for name in ("category", "detector"):
        parser.add_argument(f"--{name}", help="may be left out if there is only one")
    parser.add_argument("--seed", type=int, help="the first of the configuration's, if not given")
    given = parser.parse_args(arguments)
    chosen = {key: getattr(given, key) for key in ("category", "detector", "seed")}
    try:
        content = read_configfile(given.configfile)
        config = load_config(content | {"inspect": chosen | {"folder": "."}}, str(given.configfile))
        assert config.inspected is not None
        run = run_folder(config, config.inspected)
        names = {key: str(getattr(config.inspected, key)) for key in chosen}
        settings = settings_of(config, names["category"], names["detector"])
        alone = given.path.suffix == ".onnx"
        trained = load_trained(run, settings, torch.device("cpu"), boxes=not alone)
        names["dataset"] = config.dataset.name
        photographs = checked_photographs(run, trained.geometry)
        if alone:
            compared = export(trained, photographs, given.path, **names)
        else:
            compared = export_folder(
                trained, photographs, given.path, version=version_of(run), **names
            )
    except (FlawlineError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{given.path}: {compared}")


if __name__ == "__main__":
    main()
