"""Array, table and JSON files. Every write goes to a temporary neighbour first and is renamed when
it is complete, so a file under its own name is never half-written."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_array(path: Path | str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """Yield a writable C-contiguous memory map of `shape` that becomes the .npy file `path`."""
    with replacing(path) as partial:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        yield array
        array.flush()


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write one .npy file."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def read_array(path: Path | str) -> np.ndarray:
    """Open a .npy file as a read-only memory map."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def write_table(path: Path | str, table: "pd.DataFrame") -> None:
    """Write a table as CSV: no row names, floats with nine significant digits."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.9g", lineterminator="\n")


def read_table(path: Path | str, **options: Any) -> "pd.DataFrame":
    """Read a CSV file written by `write_table`; empty cells of text columns stay empty strings."""
    import pandas as pd

    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values={},
        encoding="utf-8",
        lineterminator="\n",  # a carriage return can be part of a file's name
        **options,
    )
