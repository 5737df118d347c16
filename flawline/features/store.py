"""The feature store: extracted features, found again by what they were made from.

An entry is `<key>.npy` with `<key>.json` beside it. The key is a hash of everything that decides
the features' bits, so entries never go stale, they only become unused. If the file system has hard
links, an entry and the results file that it came from or went to are one file with two names.
"""

import argparse
import logging
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flawline.devices import has_cuda, inference_precision
from flawline.errors import FlawlineError
from flawline.files import read_array, read_json, replacing
from flawline.layout import feature_files
from flawline.options.weights import weights_file
from flawline.provenance import code_fingerprint, digest, file_hash, versions

STORE = Path("results", "feature_store")
LEFT_OVER = 3600.0  # seconds; older incomplete entries belong to no running job

logger = logging.getLogger(__name__)


class _DamagedError(Exception):
    """An entry's array does not match its description."""


def provide(
    images: Path | str, path: Path | str, *, store: Path, gpus: int, threads: int, **options: Any
) -> None:
    """Write the features of all images to `path` (.npy) and their description beside it (.json).

    They are taken from the store if it has them, which needs neither torch nor the network's
    weights; otherwise they are extracted and kept there. Precision `auto` asks torch first.

    Parameters
    ----------
    images : .npy file, uint8 (N, H, W, 3), RGB.
    path : float16 (N, H, W, C).
    store : folder of the entries.
    gpus, threads : what the job may use.
    options : backbone, weights, layers, pool, normalize, precision, scale and batch_size, as in the
        configuration.
    """
    path, images_hash = Path(path), file_hash(images)
    likely = likely_key(images_hash, gpus=gpus, **options)
    if likely and take(store, likely, path):
        return

    # slow to load, and not needed if the store has the features
    from flawline.devices import choose_device
    from flawline.features.extraction import extract

    device = choose_device(gpus, threads)
    options = options | {"precision": inference_precision(device.type, _asked(options))}
    key = address(images_hash, device=device.type, **options)
    if key != likely and take(store, key, path):
        return
    extract(read_array(images), path, device=device, images_hash=images_hash, **options)
    keep(store, key, path)


def likely_key(images_hash: str, *, gpus: int, **options: Any) -> str | None:
    """Return the key if it is known without torch; None for precision `auto` on a GPU."""
    device = "cuda" if gpus and has_cuda() else "cpu"
    precision = _asked(options)
    if precision == "auto" and device == "cuda":
        return None
    precision = inference_precision(device, precision)
    return address(images_hash, device=device, **options | {"precision": precision})


def _asked(options: dict[str, Any]) -> str:
    """Return the precision; the filter bank is always extracted in float32."""
    return "float32" if options["backbone"] == "gabor" else options["precision"]


def address(images_hash: str, *, device: str, **options: Any) -> str:
    """Return the key of features, 64 hexadecimal digits, without importing torch.

    Parameters
    ----------
    images_hash : SHA-256 of the images' file; stands for their number and size too.
    device : ``cpu`` or ``cuda``.
    options : as for `provide`, with the precision that is used.
    """
    weights: Any = None if options["backbone"] == "gabor" else options["weights"]
    if weights is not None and (file := weights_file(weights)):
        weights = [file.name, file_hash(file)]
    source = "timm" if options["backbone"].startswith("timm/") else "torchvision"
    libraries = {name: versions().get(name) for name in ("torch", source)}
    code = code_fingerprint(Path(__file__).with_name("extraction.py"))
    return digest(images_hash, options | {"weights": weights}, device, libraries, code)


def has(store: Path, key: str) -> bool:
    """Check whether the store has an entry, without checking that it is intact."""
    return all(file.is_file() for file in _files(store, key))


def take(store: Path, key: str, path: Path) -> bool:
    """Link an entry to `path`, .json beside it; return False if there is none.

    An entry whose array has changed since it was made is deleted, not used.
    """
    array, about = _files(store, key)
    try:
        expected = read_json(about)["sha256"]
        with replacing(path) as partial:
            _link(array, partial)
            if file_hash(partial) != expected:
                raise _DamagedError
    except FileNotFoundError:
        return False
    except (_DamagedError, FlawlineError, KeyError, TypeError):
        logger.warning("%s: is damaged; the features are extracted again", array)
        array.unlink(missing_ok=True)
        about.unlink(missing_ok=True)
        return False
    _copy(about, path.with_suffix(".json"))
    logger.info("Taken from the feature store: %s", key)
    return True


def keep(store: Path, key: str, path: Path) -> None:
    """Link the features at `path` into the store; if that fails, log it and go on."""
    array, about = _files(store, key)
    try:
        with replacing(array) as partial:
            _link(path, partial)
        _copy(path.with_suffix(".json"), about)
    except (OSError, FlawlineError) as error:
        logger.warning("%s: the features could not be kept for later (%s)", array, error)


def _files(store: Path, key: str) -> tuple[Path, Path]:
    return store / f"{key}.npy", store / f"{key}.json"


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system has no hard links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as partial:
        shutil.copyfile(source, partial)


@dataclass(frozen=True)
class Entry:
    """A complete entry, and the results files that use it."""

    key: str
    about: dict[str, Any]
    size: int  # bytes
    links: int
    age: float  # seconds
    users: list[Path]

    @property
    def freed(self) -> int:
        """Bytes that deleting the entry frees."""
        return self.size if self.links == 1 else 0


def entries(store: Path) -> list[Entry]:
    """List all complete entries, newest first.

    A results file uses an entry if both are one file. A separate file (a copy, or moved results)
    uses it if their .json are equal, which hold the array's SHA-256.
    """
    linked: dict[tuple[int, int], list[Path]] = {}
    copied: dict[bytes, list[Path]] = {}
    for about in sorted(feature_files(store.parent)):
        array = about.with_suffix(".npy")
        if array.is_file():
            found = array.stat()
            linked.setdefault((found.st_dev, found.st_ino), []).append(array)
            if found.st_nlink == 1:
                copied.setdefault(about.read_bytes(), []).append(array)
    complete = []
    for about in store.glob("*.json"):
        array = about.with_suffix(".npy")
        try:
            described, found, made = read_json(about), array.stat(), about.stat().st_mtime
        except (OSError, FlawlineError):
            continue
        users = [
            *linked.get((found.st_dev, found.st_ino), []),
            *copied.get(about.read_bytes(), []),
        ]
        age = time.time() - made
        complete.append(Entry(about.stem, described, found.st_size, found.st_nlink, age, users))
    return sorted(complete, key=lambda entry: (entry.age, entry.key))


def clean(store: Path, *, dry_run: bool = False) -> list[Entry]:
    """Delete the entries that no results file uses, and leftovers of killed jobs.

    Returns
    -------
    The entries that were deleted, or would be.
    """
    unused = [entry for entry in entries(store) if not entry.users]
    if not dry_run:
        for entry in unused:
            for file in _files(store, entry.key):
                file.unlink(missing_ok=True)
        for file in _left_over(store):
            file.unlink(missing_ok=True)
    return unused


def _left_over(store: Path) -> Iterator[Path]:
    complete = {entry.key for entry in entries(store)}
    for file in list(store.glob("*")):
        if file.stem not in complete and time.time() - file.stat().st_mtime > LEFT_OVER:
            yield file


def table(found: list[Entry]) -> str:
    """Format entries as lines of text for a person."""
    rows = [["key", "backbone", "layers", "size", "age", "used by"]]
    for entry in found:
        users = [str(user) for user in entry.users] or ["nothing"]
        layers = ",".join(entry.about["layers"])
        about = [entry.key[:12], entry.about["backbone"], layers]
        rows.append([*about, _bytes(entry.size), _age(entry.age), users[0]])
        rows += [[""] * 5 + [user] for user in users[1:]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _age(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds // 60:.0f} minutes"


def main() -> None:
    parser = argparse.ArgumentParser(prog="flawline.features.store", description="Feature store")
    parser.add_argument("--store", type=Path, default=STORE, help="folder (default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the entries and the results that use them")
    cleaning = commands.add_parser("clean", help="delete the entries that no results use")
    cleaning.add_argument("--dry-run", action="store_true", help="only list what would be deleted")
    given = parser.parse_args()
    if given.command == "list":
        print(table(entries(given.store)))
        return
    gone = clean(given.store, dry_run=given.dry_run)
    freed = _bytes(sum(entry.freed for entry in gone))
    if gone:
        print(table(gone))
    print(f"entries {'that would be ' if given.dry_run else ''}deleted: {len(gone)}, {freed} freed")


if __name__ == "__main__":
    main()
