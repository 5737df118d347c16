"""Downloads and archives: a correct dataset or a clear error, never half of one."""

import hashlib
import io
import os
import random
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project import ROOT

from flawline.data import archive as archive_module
from flawline.data import download as module
from flawline.data.archive import extract
from flawline.data.download import download
from flawline.errors import FlawlineError

CONTENT = random.Random(0).randbytes(200_000)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server:
    """A local file server that misbehaves on request; `log` holds the headers of each request."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag = '"first"'
        self.ranges = True
        self.longest = len(CONTENT)  # range that is given at once
        self.headers: dict[str, str] = {}  # sent instead of the right ones
        self.status = 200
        self.statuses: list[int] = []  # of the next requests, before `status`
        self.drops: list[int] = []  # bytes after which the next requests are cut off
        self.stalls: list[int] = []  # bytes after which the next requests hang
        self.log: list[dict[str, str]] = []
        self.release = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/set.tar.xz"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.log.append(dict(request.headers))
        status = self.statuses.pop(0) if self.statuses else self.status
        body, headers = self.content if status == 200 else b"sorry", {"ETag": self.etag}
        match = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        same = request.headers.get("If-Range", self.etag) == self.etag
        if status == 200 and match and same and self.ranges:
            start, size = int(match[1]), len(body)
            status = 206 if start < size else 416
            body = body[start:][: self.longest]
            span = f"{start}-{start + len(body) - 1}" if body else "*"
            headers["Content-Range"] = f"bytes {span}/{size}"
        headers |= {"Content-Length": str(len(body))} | self.headers
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        if self.stalls:
            request.wfile.write(body[: self.stalls.pop(0)])
            self.release.wait(30)
        else:
            request.wfile.write(body[: self.drops.pop(0)] if self.drops else body)

    def asked_from(self) -> list[int]:
        """Give the first byte that each request so far asked for."""
        return [int(entry.get("Range", "bytes=0-")[6:-1]) for entry in self.log]

    def close(self) -> None:
        self.release.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "set.tar.xz"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(module, "CHUNK_BYTES", 4096)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetch(server: Server, target: Path, content: bytes = CONTENT) -> None:
    download(server.url, target, sha256=sha256(content), progress=False)


def fail(server: Server, target: Path, content: bytes = CONTENT) -> str:
    with pytest.raises(FlawlineError) as caught:
        fetch(server, target, content)
    assert not target.exists()
    return str(caught.value)


def leave_part(server: Server, target: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what an interrupted call leaves: the first `size` bytes of the present content."""
    server.drops = [size]
    with monkeypatch.context() as patch:
        patch.setattr(module, "ATTEMPTS", 1)
        message = fail(server, target, server.content)
    assert "is kept" in message
    assert part(target).read_bytes() == server.content[:size]
    server.log.clear()


def part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def assert_complete(target: Path, content: bytes = CONTENT) -> None:
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_download_is_complete_and_leaves_nothing_else(server: Server, target: Path) -> None:
    fetch(server, target)
    assert_complete(target)
    assert server.log[0]["Accept-Encoding"] == "identity"


def test_checksums_may_be_written_in_capitals(server: Server, target: Path) -> None:
    download(server.url, target, sha256=sha256(CONTENT).upper(), progress=False)
    assert_complete(target)


def test_a_file_with_the_right_checksum_is_not_downloaded_again(
    server: Server, target: Path
) -> None:
    fetch(server, target)
    server.log.clear()
    fetch(server, target)
    assert server.log == []


def test_a_file_with_another_checksum_is_replaced(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"an older version")
    fetch(server, target)
    assert_complete(target)


def test_a_dropped_connection_is_continued_within_one_call(server: Server, target: Path) -> None:
    server.drops = [50_000, 0, 60_000]
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0, 50_000, 50_000, 110_000]
    assert server.log[1]["If-Range"] == server.etag


def test_any_number_of_drops_is_survived_if_each_brings_new_bytes(
    server: Server, target: Path
) -> None:
    server.drops = [10_000] * 15
    fetch(server, target)
    assert_complete(target)


def test_a_server_may_give_the_rest_in_pieces(server: Server, target: Path) -> None:
    server.drops, server.longest = [50_000], 60_000
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0, 50_000, 110_000, 170_000]


def test_a_server_that_falls_silent_is_asked_again(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", (5.0, 0.1))
    server.stalls = [40_960]
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0, 40_960]


def test_a_killed_download_asks_only_for_the_rest_in_the_next_call(
    server: Server, target: Path
) -> None:
    server.stalls = [65_536]
    code = (
        "import sys; from pathlib import Path; from flawline.data import download as module; "
        "module.CHUNK_BYTES = 16384; "
        "module.download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], progress=False)"
    )
    command = [sys.executable, "-c", code, server.url, str(target), sha256(CONTENT)]
    process = subprocess.Popen(command, cwd=ROOT)
    while not (part(target).exists() and part(target).stat().st_size == 65_536):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not target.exists()
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0, 65_536]


def test_a_call_killed_just_before_the_renaming_needs_no_request(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 4096, monkeypatch)
    part(target).write_bytes(CONTENT)
    fetch(server, target)
    assert_complete(target)
    assert server.log == []


def test_the_progress_bar_starts_at_the_resumed_byte(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    seen: list[dict[str, Any]] = []
    bar = module._bar
    monkeypatch.setattr(module, "_bar", lambda **options: seen.append(options) or bar(**options))
    download(server.url, target, sha256=sha256(CONTENT))
    assert (seen[0]["initial"], seen[0]["total"], seen[0]["disable"]) == (50_000, 200_000, None)


def test_a_server_without_ranges_gives_a_correct_file(server: Server, target: Path) -> None:
    server.ranges = False
    server.drops = [50_000]
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0, 50_000]


def test_a_server_without_ranges_that_always_drops_is_given_up(
    server: Server, target: Path
) -> None:
    server.ranges = False
    server.drops = [50_000, 10_000] * 50
    assert server.url in fail(server, target)
    assert len(server.log) == module.ATTEMPTS


def test_content_that_changed_meanwhile_is_downloaded_from_its_start(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    server.content, server.etag = CONTENT[::-1], '"second"'
    fetch(server, target, server.content)
    assert_complete(target, CONTENT[::-1])
    assert len(server.log) == 1


def test_versions_are_not_mixed_even_if_the_server_ignores_if_range(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    server.content = CONTENT[::-1]
    server.headers = {"ETag": '"second"'}
    fetch(server, target, server.content)
    assert_complete(target, CONTENT[::-1])


def test_the_date_of_change_serves_where_there_is_no_strong_etag(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    date = "Tue, 15 Nov 1994 12:45:26 GMT"
    server.etag, server.headers = date, {"ETag": 'W/"weak"', "Last-Modified": date}
    leave_part(server, target, 50_000, monkeypatch)
    fetch(server, target)
    assert_complete(target)
    assert server.log[0]["If-Range"] == date
    assert server.asked_from() == [50_000]


def test_the_part_of_another_address_is_not_continued(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    server.url += "?version=2"
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0]


@pytest.mark.parametrize("note", [None, "", "[]", '{"url": 1'])
def test_a_part_with_a_lost_or_broken_note_is_not_continued(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, note: str | None
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    path = target.with_name(target.name + ".part.json")
    path.unlink() if note is None else path.write_text(note)
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [0]


@pytest.mark.parametrize("wrong", ["bytes 0-149999/200000", "bytes 50001-199999/200000", "junk"])
def test_a_wrong_content_range_never_corrupts_the_file(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    server.headers = {"Content-Range": wrong}
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [50_000, 0]


def test_a_part_longer_than_the_file_is_started_over(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    part(target).write_bytes(CONTENT + b"too much")
    fetch(server, target)
    assert_complete(target)
    assert server.asked_from() == [200_008, 0]


def test_bytes_are_kept_as_published_whatever_the_content_encoding(
    server: Server, target: Path
) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    fetch(server, target)
    assert_complete(target)


def test_a_busy_server_is_asked_again(server: Server, target: Path) -> None:
    server.statuses = [503, 429, 500]
    fetch(server, target)
    assert_complete(target)
    assert len(server.log) == 4


def test_a_server_that_stays_busy_is_named_with_its_answer(server: Server, target: Path) -> None:
    server.status = 503
    message = fail(server, target)
    assert server.url in message
    assert "503 Service Unavailable" in message
    assert len(server.log) == module.ATTEMPTS


def test_a_missing_file_is_an_error_at_once(server: Server, target: Path) -> None:
    server.status = 404
    message = fail(server, target)
    assert server.url in message
    assert "404 Not Found" in message
    assert "dataset.source" in message
    assert len(server.log) == 1


def test_no_server_names_the_address_and_what_can_be_done(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 50_000, monkeypatch)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        old, server.url = server.url, f"http://127.0.0.1:{unused.getsockname()[1]}/set.tar.xz"
        note = target.with_name(target.name + ".part.json")
        note.write_text(note.read_text().replace(old, server.url))
        message = fail(server, target)
    assert re.search(rf"{server.url}: \[Errno \d+\] Connection refused \(5 attempts", message)
    assert f"is kept (50.0kB in {part(target)})" in message
    assert "same command again resumes" in message
    assert "`dataset.source`" in message
    assert part(target).read_bytes() == CONTENT[:50_000]


def test_an_address_that_makes_no_sense_is_named(server: Server, target: Path) -> None:
    server.url = "htp:/nowhere"
    assert "htp:/nowhere" in fail(server, target)


def test_a_wrong_checksum_deletes_the_file_and_names_both(server: Server, target: Path) -> None:
    message = fail(server, target, b"something else")
    for words in (server.url, sha256(CONTENT), sha256(b"something else"), "`sha256` key", "again"):
        assert words in message
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_is_found_before_anything_is_written(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    message = fail(server, target)
    for words in ("200kB needed", "1.00kB free", str(target.parent)):
        assert words in message
    assert part(target).stat().st_size == 0


def test_only_the_rest_needs_free_disk(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_part(server, target, 150_000, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=50_000))
    fetch(server, target)
    assert_complete(target)


Entry = tuple[str, bytes, bytes, str]  # name, content, tar type, link target
FILES: list[Entry] = [
    ("bottle/", b"", tarfile.DIRTYPE, ""),
    ("bottle/good.png", CONTENT[:3_000], tarfile.REGTYPE, ""),
    ("./cable/train/good.png", CONTENT[3_000:9_000], tarfile.REGTYPE, ""),
    ("cable/empty.txt", b"", tarfile.REGTYPE, ""),
]
FORMATS = ("tar", "tar.gz", "tar.bz2", "tar.xz", "zip")


def pack(path: Path, entries: list[Entry] = FILES, **fields: Any) -> Path:
    """Write an archive; `fields` are set on all its tar headers."""
    if path.suffix == ".zip":
        return pack_zip(path, entries)
    mode: Any = {".tar": "w", ".gz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content, kind, link in entries:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return path


def pack_zip(path: Path, entries: list[Entry]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, kind, link in entries:
            info = zipfile.ZipInfo(name)
            mode = stat.S_IFLNK if kind == tarfile.SYMTYPE else stat.S_IFREG
            info.external_attr = 0 if name.endswith("/") else (mode | 0o644) << 16
            archive.writestr(info, link or content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refuse(archive: Path, **options: Any) -> str:
    """Unpack, expect an error that leaves nothing behind, and give its message."""
    folder = archive.parent / "inner" / "dataset"
    before = {path for path in archive.parent.rglob("*") if path != folder.parent}
    with pytest.raises(FlawlineError) as caught:
        extract(archive, folder, **options)
    assert {path for path in archive.parent.rglob("*") if path != folder.parent} == before
    assert str(archive) in str(caught.value)
    return str(caught.value)


EXPECTED = {name.removeprefix("./"): data for name, data, _, _ in FILES if name[-1] != "/"}


@pytest.mark.parametrize("ending", FORMATS)
def test_every_kind_of_archive_is_unpacked(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "data" / "dataset"
    extract(pack(tmp_path / f"set.{ending}"), folder, expect=["bottle", "cable"])
    assert contents(folder) == EXPECTED
    assert list(folder.parent.iterdir()) == [folder]


def test_an_empty_folder_may_stand_in_the_way_and_a_full_one_may_not(tmp_path: Path) -> None:
    archive, folder = pack(tmp_path / "set.tar"), tmp_path / "dataset"
    folder.mkdir()
    extract(archive, folder)
    assert contents(folder) == EXPECTED
    with pytest.raises(FlawlineError, match="dataset exists and is not an empty folder"):
        extract(archive, folder)
    assert contents(folder) == EXPECTED


@pytest.mark.parametrize("mode", [0, 0o7777])
def test_odd_modes_owners_and_times_do_no_harm(tmp_path: Path, mode: int) -> None:
    start = time.time()
    odd = {"mode": mode, "uid": 123_456, "gid": 654_321, "mtime": 1e17}
    extract(pack(tmp_path / "set.tar.gz", **odd), tmp_path / "dataset")
    for path in (tmp_path / "dataset").rglob("*"):
        status = path.stat()
        assert status.st_mode & 0o600 == 0o600
        assert not status.st_mode & 0o7000
        assert status.st_uid == os.getuid()
        assert start - 60 < status.st_mtime < start + 3600


def test_links_within_the_archive_are_kept(tmp_path: Path) -> None:
    links: list[Entry] = [
        ("cable/test/copy.png", b"", tarfile.SYMTYPE, "../../bottle/good.png"),
        ("same.png", b"", tarfile.LNKTYPE, "bottle/good.png"),
    ]
    extract(pack(tmp_path / "set.tar", FILES + links), tmp_path / "dataset")
    assert (tmp_path / "dataset/cable/test/copy.png").read_bytes() == CONTENT[:3_000]
    assert (tmp_path / "dataset/same.png").read_bytes() == CONTENT[:3_000]


def test_missing_categories_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    message = refuse(pack(tmp_path / "set.zip"), expect=["bottle", "screw", "zipper"])
    assert "lacks the folder screw, zipper" in message
    assert "found at its top: bottle, cable" in message


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> Entry:
    return name, data, kind, link


ATTACKS = {
    "parent": [member("../../evil")],
    "hidden parent": [member("bottle/../../../evil")],
    "absolute": [member("/tmp/flawline-evil")],
    "absolute folder": [member("/tmp/flawline-evil/", tarfile.DIRTYPE)],
    "link": [member("way", tarfile.SYMTYPE, "../.."), member("way/evil")],
    "absolute link": [member("way", tarfile.SYMTYPE, "/tmp"), member("way/flawline-evil")],
    "link one up": [member("way", tarfile.SYMTYPE, "..")],
    "link through a link": [
        member("p/q/way", tarfile.SYMTYPE, "a/b/../.."),
        member("p/q/a/b", tarfile.SYMTYPE, "../../.."),
    ],
    "member through a link": [member("way", tarfile.SYMTYPE, "."), member("way/evil")],
    "file over a link": [member("way", tarfile.SYMTYPE, "cable"), member("way")],
    "hard link": [member("evil", tarfile.LNKTYPE, "../../outside.txt")],
    "absolute hard link": [member("evil", tarfile.LNKTYPE, "/etc/passwd")],
    "hard link to a link": [
        member("a/b/way", tarfile.SYMTYPE, "../../bottle"),
        member("evil", tarfile.LNKTYPE, "a/b/way"),
    ],
    "device": [member("evil", tarfile.CHRTYPE)],
    "block device": [member("evil", tarfile.BLKTYPE)],
    "named pipe": [member("evil", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_tar_that_reaches_outside_is_refused_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.txt").write_text("private")
    message = refuse(pack(tmp_path / "set.tar.gz", FILES + ATTACKS[name]))
    assert any(f"member {entry[0].rstrip('/')!r}" in message for entry in ATTACKS[name])
    assert not Path("/tmp/flawline-evil").exists()


@pytest.mark.parametrize(
    "name", ["parent", "hidden parent", "absolute", "absolute folder", "link", "absolute link"]
)
def test_a_zip_that_reaches_outside_is_refused_whole(tmp_path: Path, name: str) -> None:
    message = refuse(pack(tmp_path / "set.zip", FILES + ATTACKS[name]))
    assert f"member {ATTACKS[name][0][0]!r}" in message


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(ending=st.sampled_from(FORMATS), kept=st.floats(0, 1, exclude_max=True))
def test_an_archive_cut_anywhere_gives_an_error_or_all_of_it(
    tmp_path: Path, ending: str, kept: float
) -> None:
    whole = tmp_path / f"set.{ending}"
    if not whole.exists():
        pack(whole)
    cut = tmp_path / f"cut.{ending}"
    cut.write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    message = ""
    try:
        extract(cut, tmp_path / "dataset")
    except FlawlineError as error:
        message = str(error)
    if message:
        assert f"Cannot unpack {cut}" in message
        assert "truncated or damaged" in message
        assert not list(tmp_path.glob("dataset*"))
    else:
        assert ending == "tar"  # whose last kilobytes are padding
        assert contents(tmp_path / "dataset") == EXPECTED
        shutil.rmtree(tmp_path / "dataset")


@pytest.mark.parametrize("position", [0.5, 0.99])
@pytest.mark.parametrize("ending", ["tar.gz", "tar.bz2", "tar.xz"])
def test_a_damaged_tar_is_an_error(tmp_path: Path, ending: str, position: float) -> None:
    archive = pack(tmp_path / f"set.{ending}")
    content = bytearray(archive.read_bytes())
    content[int(position * len(content))] ^= 255
    archive.write_bytes(content)
    assert "truncated or damaged" in refuse(archive)


def test_a_damaged_zip_is_an_error(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.zip")
    content = bytearray(archive.read_bytes())
    content[200] ^= 255  # within the first file
    archive.write_bytes(content)
    assert "truncated or damaged" in refuse(archive)


def test_a_damaged_tar_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.tar")
    content = bytearray(archive.read_bytes())
    content[content.index(b"./cable/train")] ^= 255
    archive.write_bytes(content)
    assert "truncated or damaged" in refuse(archive)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"<html>Please log in</html>"])
def test_a_file_that_is_not_an_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.tar.xz").write_bytes(content)
    assert "Expected a complete tar or zip archive" in refuse(tmp_path / "set.tar.xz")


def test_a_missing_archive_is_an_error(tmp_path: Path) -> None:
    assert "No such file" in refuse(tmp_path / "set.tar.xz")


@pytest.mark.parametrize("ending", ["tar.xz", "zip"])
def test_an_archive_that_would_fill_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000))
    message = refuse(pack(tmp_path / f"set.{ending}"))
    assert "5.00kB free" in message
    assert "cable/train/good.png" in message


@pytest.mark.parametrize("ending", ["tar.xz", "zip"])
def test_an_archive_that_grows_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(archive_module, "MAX_EXTRACTED_BYTES", 100_000)
    bomb = [member("zeros.bin", data=bytes(1_000_000))]
    assert "100kB" in refuse(pack(tmp_path / f"set.{ending}", FILES + bomb))


def test_an_archive_of_too_many_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 3)
    assert "allowed are 3 members" in refuse(pack(tmp_path / "set.zip"))


def test_a_tar_header_too_large_for_memory_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.tar.gz", [member("x", tarfile.XHDTYPE, data=bytes(2_000_000))])
    assert "a header of 2.00MB" in refuse(archive)


def test_an_extraction_killed_on_its_way_leaves_nothing_under_the_final_name(
    tmp_path: Path,
) -> None:
    archive, folder = pack(tmp_path / "set.tar.xz"), tmp_path / "dataset"
    code = (
        "import os, sys; from pathlib import Path; from flawline.data import archive as module\n"
        "def problem(member, kinds, inner=module._problem):\n"
        "    if kinds and member.name.startswith('./cable'): os.kill(os.getpid(), 9)\n"
        "    return inner(member, kinds)\n"
        "module._problem = problem; module.extract(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(archive), str(folder)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    unpacking = tmp_path / "dataset.unpacking"
    assert set(contents(unpacking)) == {"bottle/good.png"}
    assert not folder.exists()
    (unpacking / "stale.png").write_bytes(b"of an older version")
    extract(archive, folder, expect=["bottle", "cable"])
    assert contents(folder) == EXPECTED
    assert not unpacking.exists()
