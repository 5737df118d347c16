"""Content digest of a folder; unchanged files are not read again."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flawline.files import replacing
from flawline.provenance import file_hash

IGNORED = ("thumbs.db", "desktop.ini", "@eadir", "__macosx")  # left by file managers
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".bmp", ".tif", ".tiff", ".webp")  # of images


def folder_digest(folder: Path, cache: Path) -> str:
    """Return the digest of the names and contents of all files below `folder`.

    Parameters
    ----------
    folder : searched recursively, through links too; missing or empty gives a digest too.
    """
    return digest_of([path for path in _walk(folder) if path.is_file()], folder, cache)


def digest_of(paths: Iterable[Path], folder: Path, cache: Path) -> str:
    """Return the digest of the names and contents of files.

    Hashes are remembered in `cache` by size, times and inode, so that a file that was only touched
    or copied back is read once more and changes nothing. The time of the last status change is
    one of these: unlike the modification time, programs cannot set it.

    Parameters
    ----------
    folder : names are relative to it.
    cache : JSON file to keep hashes in; not written if its folder cannot be written to.
    """
    known = _read(cache)
    seen: dict[str, list] = {}
    for path in sorted(paths):
        old = known.get(str(path))
        try:
            about = path.stat()
            stamp = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
            seen[str(path)] = old if old and old[:-1] == stamp else [*stamp, file_hash(path)]
        except OSError as error:  # a file may vanish meanwhile, or be unreadable
            seen[str(path)] = [0, 0, 0, 0, type(error).__name__]
    if seen != {name: known.get(name) for name in seen}:
        _write(cache, known | seen)
    digest = hashlib.sha256()
    for name, (*_, content) in seen.items():
        digest.update(os.fsencode(os.path.relpath(name, folder)) + b"\0" + content.encode() + b"\n")
    return digest.hexdigest()[:16]


def files_below(folder: Path) -> list[Path]:
    """List all files below `folder`, sorted, without hidden ones and thumbnails of folders."""
    return sorted(path for path in _walk(folder, hidden=False) if not is_hidden(path.name))


def is_hidden(name: str) -> bool:
    """Check whether a file or folder of this name is hidden or made by a file manager."""
    return name.startswith(".") or name.lower() in IGNORED


def _walk(folder: Path, *, hidden: bool = True) -> Iterator[Path]:
    entered = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if hidden or not is_hidden(name))
        # a link to a parent folder would loop forever
        if (real := os.path.realpath(parent)) in entered:
            folders.clear()
            continue
        entered.add(real)
        yield from (Path(parent, name) for name in names)


def _read(cache: Path) -> dict[str, list]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: old for name, old in entries if isinstance(old, list) and len(old) == 5}


def _write(cache: Path, content: dict[str, list]) -> None:
    try:
        with replacing(cache) as partial:
            partial.write_text(json.dumps(content), encoding="utf-8")
    except OSError:
        return
