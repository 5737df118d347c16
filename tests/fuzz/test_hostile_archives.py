"""Archives that reach outside, that are bombs, and that are damaged."""

import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzzing import cases, damages, try_all, watched
from hypothesis import strategies as st

from flawline.data import archive as archives
from flawline.data.archive import extract
from flawline.errors import FlawlineError

pytestmark = [
    pytest.mark.usefixtures("watchdog"),
    pytest.mark.filterwarnings("ignore:Duplicate name"),
]

LIMIT = 100_000  # bytes that may be unpacked here
PARTS = st.sampled_from(
    [
        "a",
        "b",
        "nut",
        "..",
        ".",
        "",
        "x" * 300,
        "caf\udce9",
        "new\nline",
        "$(touch hacked)",
        "C:",
        "\\",
    ]
)
PATHS = st.one_of(
    st.lists(PARTS, min_size=1, max_size=4).map("/".join),
    st.sampled_from(
        ["/etc/hacked", "/tmp/hacked", "../hacked", "a/../../hacked", "~/hacked", "//x"]
    ),
)
KINDS = st.sampled_from(
    [
        *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.SYMTYPE),
        *(tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.CONTTYPE),
        *(tarfile.GNUTYPE_SPARSE, b"9", b"\0"),
    ]
)
MEMBERS = st.lists(
    st.tuples(PATHS, KINDS, PATHS, st.sampled_from([0, 5, 300, 2 * LIMIT])), min_size=1, max_size=6
)


def tar(members: list[tuple[str, bytes, str, int]], mode: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{mode}") as made:
        for name, kind, target, size in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode = kind, target, 0o7777
            info.size = size if kind == tarfile.REGTYPE else 0
            made.addfile(info, io.BytesIO(bytes(size)))
    return content.getvalue()


def zipped(members: list[tuple[str, bytes, str, int]]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        for name, kind, target, size in members:
            info = zipfile.ZipInfo(name.encode("utf-8", "replace").decode())
            mode = {tarfile.SYMTYPE: 0o120777, tarfile.FIFOTYPE: 0o010777}.get(kind, 0o100644)
            info.external_attr = mode << 16
            made.writestr(info, os.fsencode(target) if kind == tarfile.SYMTYPE else bytes(size))
    return content.getvalue()


def unpack_or_refuse(folder: Path, content: bytes) -> None:
    """Unpack into a new folder below `folder`; check that all is in it, or that nothing is left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    archive, target = folder / "archive.bin", folder / "deep/target"
    archive.write_bytes(content)
    try:
        with watched(folder / "deep"):
            extract(archive, target)
    except FlawlineError as error:
        assert str(archive) in str(error)
        assert not target.exists()
    else:
        for parent, folders, names in os.walk(target):
            for name in (*folders, *names):
                path = Path(parent, name)
                assert path.is_symlink() or path.is_dir() or path.is_file()
                real = Path(os.path.realpath(path))  # a link to itself has no other end
                assert real.is_relative_to(os.path.realpath(target))
        files = [path for path in target.rglob("*") if not path.is_symlink()]
        assert sum(path.stat().st_size for path in files if path.is_file()) <= LIMIT
    assert {path.name for path in folder.iterdir()} <= {"archive.bin", "deep"}
    left = (
        {path.name for path in (folder / "deep").iterdir()} if (folder / "deep").exists() else set()
    )
    assert left <= {"target"}
    assert not Path("hacked").exists()
    assert not Path("/tmp/hacked").exists()


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_EXTRACTED_BYTES", LIMIT)


@cases(80, 2000)
def test_a_hostile_tar_stays_in_its_folder_or_is_refused(tmp_path: Path, examples: int) -> None:
    def holds(members: list[tuple[str, bytes, str, int]], mode: str) -> None:
        unpack_or_refuse(tmp_path / "x", tar(members, mode))

    try_all(examples, holds, MEMBERS, st.sampled_from(["", "gz", "bz2", "xz"]))


@cases(40, 1000)
def test_a_hostile_zip_stays_in_its_folder_or_is_refused(tmp_path: Path, examples: int) -> None:
    def holds(members: list[tuple[str, bytes, str, int]]) -> None:
        unpack_or_refuse(tmp_path / "x", zipped(members))

    try_all(examples, holds, MEMBERS)


HARMLESS = [
    ("nut", tarfile.DIRTYPE, "", 0),
    *((f"nut/{number}.png", tarfile.REGTYPE, "", 700) for number in range(4)),
    ("nut/link", tarfile.SYMTYPE, "1.png", 0),
]


@cases(80, 1500)
def test_a_damaged_archive_stays_in_its_folder_or_is_refused(tmp_path: Path, examples: int) -> None:
    whole = [tar(HARMLESS, mode) for mode in ("", "gz", "bz2", "xz")] + [zipped(HARMLESS)]

    def holds(content: bytes, damage: Callable[[bytes], bytes]) -> None:
        unpack_or_refuse(tmp_path / "x", damage(content))

    try_all(examples, holds, st.sampled_from(whole), damages())


def test_a_zip_member_without_a_name_is_refused(tmp_path: Path) -> None:
    content = zipped([("a", tarfile.REGTYPE, "", 5), ("", tarfile.REGTYPE, "", 5)])
    (tmp_path / "archive.zip").write_bytes(content)
    with pytest.raises(FlawlineError, match="has no name"):
        extract(tmp_path / "archive.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()
