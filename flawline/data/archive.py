"""Unpack a dataset archive: either a complete folder under the final name, or nothing."""

import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from flawline.errors import FlawlineError
from flawline.logs import hide_bar

CHUNK_BYTES = 256 * 1024
MAX_EXTRACTED_BYTES = 100_000_000_000
MAX_MEMBERS = 1_000_000
MAX_HEADER_BYTES = 1_000_000

_EXTENDED_HEADERS = (b"L", b"K", b"x", b"g", b"X")  # GNU long name and link, pax, Solaris pax
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError)
_NONSENSE = (RuntimeError, ValueError, OverflowError)  # a password, an unknown method, bad numbers

_bar = partial(tqdm, unit="B", unit_scale=True)
_human = partial(tqdm.format_sizeof, suffix="B")


def extract(archive: Path, folder: Path, *, expect: Sequence[str] = ()) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz) or zip archive into a new folder.

    Files gather in `<folder>.unpacking`, renamed when all is well. Owners, modes and times are not
    restored: with the archive's times, files would look older than what they were made from.

    Parameters
    ----------
    archive : Path
        The archive.
    folder : Path
        The folder to make; must be absent or empty.
    expect : sequence of str
        Folders that the result must have, for example its categories.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FlawlineError(
            f"Cannot unpack {archive}: {folder} exists and is not an empty folder. Delete it or "
            "choose another."
        )
    unpacking = folder.with_name(folder.name + ".unpacking")
    try:
        shutil.rmtree(unpacking, ignore_errors=True)
        unpacking.mkdir(parents=True)
        _unpack(archive, unpacking)
        if missing := [name for name in expect if not (unpacking / name).is_dir()]:
            found = ", ".join(sorted(entry.name for entry in unpacking.iterdir())) or "nothing"
            raise FlawlineError(
                f"{archive} lacks the folder {', '.join(missing)}; found at its top: {found}. "
                "Check that archive and configuration belong together. Nothing was kept."
            )
        unpacking.replace(folder)
    except (*_DAMAGE, *_NONSENSE) as error:
        raise FlawlineError(
            f"Cannot unpack {archive} into {folder}: {error}. Expected a complete tar or zip "
            "archive: if it is truncated or damaged, delete it and get it again. Nothing was kept."
        ) from error
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


class _Member(NamedTuple):
    name: str
    kind: str
    size: int
    target: str  # of a link
    write: Callable[[Path], object]


def _unpack(archive: Path, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    kinds: dict[PurePosixPath, str] = {}
    total = 0
    size = archive.stat().st_size
    with archive.open("rb") as file, _bar(desc=archive.name, total=size, disable=hide_bar()) as bar:
        members = _zip_members if file.peek(4)[:4] in (b"PK\3\4", b"PK\5\6") else _tar_members
        for count, member in enumerate(members(file), start=1):
            if problem := _problem(member, kinds):
                raise FlawlineError(
                    f"{archive}: refused, because member {member.name!r} {problem}. Nothing was "
                    "kept. Get the archive from a source you trust."
                )
            total += member.size
            if total > min(MAX_EXTRACTED_BYTES, free) or count > MAX_MEMBERS:
                raise FlawlineError(
                    f"{archive}: {count} members, {_human(total)}, at {member.name!r}; allowed are "
                    f"{MAX_MEMBERS} members, {_human(MAX_EXTRACTED_BYTES)}, and the {_human(free)} "
                    f"free in {folder.parent}. Nothing was kept. Free some space, or check that it "
                    "is the right archive."
                )
            member.write(folder)
            bar.update(file.tell() - bar.n)


def _problem(member: _Member, kinds: dict[PurePosixPath, str]) -> str:
    """Return why `member` may not be written, or nothing; `kinds` are those of earlier members."""
    path, target = PurePosixPath(member.name), PurePosixPath(member.target)
    if not member.name:
        return "has no name"
    if path.is_absolute() or ".." in path.parts:
        return "has a path that leads outside the folder"
    if any(kinds.get(above) == "symbolic link" for above in (path, *path.parents)):
        return "would be written through a symbolic link"
    if member.kind == "symbolic link":
        # Dots only in front: after a name, which may be another link, they could lead anywhere.
        dots = target.parts.count("..")
        inside = not target.is_absolute() and dots <= len(path.parent.parts)
        if not inside or ".." in target.parts[dots:]:
            return f"is a symbolic link that leads outside the folder, to {member.target!r}"
    elif member.kind == "hard link":
        if kinds.get(target) not in ("file", "hard link"):
            return f"is a hard link to {member.target!r}, which is not an earlier member"
    elif member.kind not in ("file", "folder"):
        return f"is a {member.kind}, expected a file, a folder or a link"
    kinds[path] = member.kind
    return ""


class _Header(tarfile.TarInfo):
    """A tar header that raises an error if damaged, which tarfile takes for the end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the real end
            raise tarfile.ReadError(f"{error}, expected the next member") from error
        if header.type in _EXTENDED_HEADERS and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {_human(header.size)}")  # read into memory
        return header


def _tar_members(file: BinaryIO) -> Iterator[_Member]:
    kinds = {
        **dict.fromkeys(tarfile.REGULAR_TYPES, "file"),
        **{tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symbolic link"},
        **{tarfile.LNKTYPE: "hard link", tarfile.FIFOTYPE: "named pipe"},
    }
    with tarfile.open(fileobj=file, mode="r:*", tarinfo=_Header, errorlevel=2) as tar:
        for info in tar:
            kind = kinds.get(info.type, "device or other special file")
            write = partial(tar.extract, info, set_attrs=False, filter="data")
            size = info.size if kind == "file" else 0
            yield _Member(info.name, kind, size, info.linkname, write)
        # Read on, because the checksum of a compressed stream is at its very end.
        while tar.fileobj and (rest := tar.fileobj.read(CHUNK_BYTES)):
            if any(rest):
                raise tarfile.ReadError("data after the end of the archive")


def _zip_members(file: BinaryIO) -> Iterator[_Member]:
    kinds = {0: "file", stat.S_IFREG: "file"}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = (
                "folder"
                if info.filename.endswith("/")
                else kinds.get(mode, "link or special file in a zip")
            )
            yield _Member(info.filename, kind, info.file_size, "", partial(archive.extract, info))
