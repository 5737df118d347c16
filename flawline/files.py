"""Array, table and JSON files.

Every file is written under a temporary name and renamed when it is complete, so a file under its
final name is never half-written. Arrays carry a checksum.
"""

import errno
import glob
import json
import os
import platform
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from flawline.errors import FlawlineError

if TYPE_CHECKING:
    import pandas as pd


# After the data of a .npy file, where readers of the format do not look.
SEAL = re.compile(rb"crc32 ([0-9a-f]{8})\n")
SEAL_LENGTH = 15
BLOCK = 1 << 20


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, delete it on error.

    Leftovers of the same file from killed processes of this machine are deleted.

    Raises
    ------
    FlawlineError
        If the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = f".{path.name}.{platform.node()}."
    partial = path.with_name(f"{ours}{os.getpid()}.part")
    for old in path.parent.glob(f"{glob.escape(ours)}*.part"):
        if not _alive(old.name.removeprefix(ours).removesuffix(".part")):
            old.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(path)
    except Exception as error:
        if _disk_full(error):
            raise FlawlineError(
                f"{path}: there is no space left on the disk, so it was not written. Free some "
                "space (`df` shows how much there is) and run the same command again."
            ) from error
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_array(path: Path | str, shape: tuple[int, ...], dtype: Any) -> Iterator[np.memmap]:
    """Yield a writable C-contiguous memory map of `shape` that becomes the .npy file `path`."""
    with replacing(path) as partial:
        array = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        # on a full disk, writing to a map would kill the process without a message
        _reserve(partial, array.offset + array.nbytes)
        yield array
        array.flush()
        _seal(partial)


def given_path(path: str) -> Path:
    """Return the path that a user wrote: `~` is a home folder, unless there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (pathlib raises for an unknown user)


def is_file(path: Path) -> bool:
    """Check whether a file exists; False for a name that no file can have."""
    return os.path.isfile(path)  # noqa: PTH113 (pathlib raises for a name too long)


def is_folder(path: Path) -> bool:
    """Check whether a folder exists; False for a name that no folder can have."""
    return os.path.isdir(path)  # noqa: PTH112 (pathlib raises for a name too long)


def write_array(path: Path | str, array: np.ndarray) -> None:
    """Write one .npy file."""
    with new_array(path, array.shape, array.dtype) as written:
        written[...] = array


def read_array(path: Path | str) -> np.ndarray:
    """Open a .npy file as a read-only memory map, once its checksum is verified.

    Raises
    ------
    FlawlineError
        If the file is cut off or its content has changed since it was written.
    """
    with Path(path).open("rb") as file:
        content = file.seek(0, os.SEEK_END) - SEAL_LENGTH
        file.seek(max(content, 0))
        seal = SEAL.fullmatch(file.read())
        fault = "" if seal else "is cut off (its checksum at the end is missing)"
        if seal and _checksum(file, content) != int(seal[1], 16):
            fault = "is damaged (its content does not match its checksum)"
    if fault:
        raise FlawlineError(_damaged(path, fault))
    return np.load(path, mmap_mode="r", allow_pickle=False)


def read_if_given(path: Path | str | Sequence[str]) -> np.ndarray | None:
    """Read as `read_array`; None for the empty list that Snakemake passes for a missing input."""
    return read_array(str(path)) if path else None


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _reserve(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)


def _seal(path: Path) -> None:
    with path.open("r+b") as file:
        checksum = _checksum(file, file.seek(0, os.SEEK_END))
        file.write(b"crc32 %08x\n" % checksum)


def _checksum(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of the first `size` bytes; the file's position is then at their end."""
    checksum = 0
    file.seek(0)
    while size:
        block = file.read(min(size, BLOCK))
        if not block:
            break
        checksum = zlib.crc32(block, checksum)
        size -= len(block)
    return checksum


def _disk_full(error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT)
    number = error.errno if isinstance(error, OSError) else None
    # the error class of safetensors has no errno
    return number in full or any(f"os error {known}" in str(error) for known in full)


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises
    ------
    FlawlineError
        If it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise FlawlineError(_damaged(path, f"is cut off or damaged ({error})")) from error


def write_table(path: Path | str, table: "pd.DataFrame") -> None:
    """Write a table as CSV: no row names, floats with nine significant digits."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format="%.9g", lineterminator="\n")


NAMES = (
    *("image_id", "path", "mask_path", "defect_type", "group", "sha256", "split", "subset"),
    *("category", "protocol", "detector", "detector_a", "detector_b", "kind", "file", "reason"),
    *("problem", "found", "expected", "can_go_on", "if_skipped", "metric", "rule", "note"),
)
"""Columns of tables that hold words."""


def read_table(path: Path | str, **options: Any) -> "pd.DataFrame":
    """Read a CSV file written by `write_table`; empty cells of text columns stay empty strings.

    Names are read as text even if they look like numbers: a defect type 01 stays 01.

    Raises
    ------
    FlawlineError
        If the file is cut off or not a table.
    """
    import pandas as pd

    try:
        with Path(path).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            if file.read() != b"\n":
                raise ValueError("its last line has no end")
        return pd.read_csv(
            path,
            keep_default_na=False,
            na_values={},
            dtype=dict.fromkeys(NAMES, str) | options.pop("dtype", {}),
            encoding="utf-8",
            lineterminator="\n",  # a carriage return can be part of a file's name
            **options,
        )
    except ValueError as error:
        raise FlawlineError(_damaged(path, f"is cut off or damaged ({error})")) from error


def _damaged(path: Path | str, fault: str) -> str:
    return f"{path}: the file {fault}. Delete it and run the same command again: rm '{path}'"
