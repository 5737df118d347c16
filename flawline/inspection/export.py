"""Write a trained detector as ONNX: a folder that judges photographs, or the network alone.

``python -m flawline.inspection.export --configfile my.yaml --category screw --detector patchcore
screw``
"""

import argparse
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
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
from flawline.inspection.parity import Comparison, compare, compare_coarse
from flawline.inspection.run_settings import run_folder, settings_of, version_of
from flawline.inspection.trained_detector import (
    TrainedDetector,
    checked_photographs,
    load_trained,
)

OPSET = 20
QUANTIZED_BY = 40  # training images


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
    int8_from: Sequence[Photograph] = (),
    **about: str,
) -> Comparison:
    """Write the network and all else that judging needs into a folder, as `export` a file.

    Parameters
    ----------
    version : of the trained detector.
    int8_from : if given, good training images by which the ranges of 8-bit convolutions are chosen;
        scores may then differ, as `compare_coarse` allows.
    """
    with replacing_folder(Path(folder)) as partial:
        network = partial / NETWORK
        _write_network(trained, photographs, network, about)
        if int8_from:
            quantize(network, [trained.inputs([one]) for one in int8_from])
            version += "-int8"
        write_description(partial, trained, about, version)
        check = compare_coarse if int8_from else compare
        return check(trained, open_exported(partial), photographs)


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


def quantize(network: Path, inputs: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Replace a network by one whose convolutions compute with 8 bits.

    Parameters
    ----------
    inputs : of single good training images, by which the ranges of activations are chosen.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(inputs)

        def get_next(self) -> Any:
            return next(self.left, None)

    simpler = network.with_suffix(".simpler")
    try:
        quant_pre_process(str(network), str(simpler), skip_symbolic_shape=True)
        quantize_static(
            str(simpler),
            str(network),
            Images(),
            per_channel=True,
            # weights of 7 bits: without VNNI, sums of 8-bit products overflow
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv"],
        )
    finally:
        simpler.unlink(missing_ok=True)


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
    parser.add_argument("--int8", action="store_true", help="8-bit convolutions; only in a folder")
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
        if given.int8 and alone:
            raise FlawlineError(f"--int8: only in a folder, and {given.path} is a file's name")
        trained = load_trained(run, settings, torch.device("cpu"), boxes=not alone)
        names["dataset"] = config.dataset.name
        photographs = checked_photographs(run, trained.geometry)
        if alone:
            compared = export(trained, photographs, given.path, **names)
        else:
            training: Sequence[Photograph] = ()
            if given.int8:
                training = checked_photographs(run, trained.geometry, ["train"])[:QUANTIZED_BY]
            compared = export_folder(
                trained,
                photographs,
                given.path,
                version=version_of(run),
                int8_from=training,
                **names,
            )
    except (FlawlineError, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{given.path}: {compared}")


if __name__ == "__main__":
    main()
