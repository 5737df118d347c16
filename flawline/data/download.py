"""Fetch a dataset archive: either the complete file under the final name, or nothing."""

import hashlib
import re
import shutil
import time
from functools import partial
from pathlib import Path

import requests
import urllib3
from tqdm import tqdm

from flawline.errors import FlawlineError
from flawline.files import read_json, write_json

CHUNK_BYTES = 256 * 1024
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect; between two reads
ATTEMPTS = 5  # in a row without a new byte
BACKOFF_SECONDS = 1.0  # doubled after each failed attempt

_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_RETRIED = (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError)
_OR_FOLDER = "Or give a folder with the images instead, by `dataset.source` in the configuration."

_bar = partial(tqdm, unit="B", unit_scale=True)
_human = partial(tqdm.format_sizeof, suffix="B")


def download(url: str, path: Path, *, sha256: str, progress: bool = True) -> None:
    """Download `url` to `path`, continuing where an earlier call stopped.

    Bytes gather in `<path>.part`, renamed once the checksum is right. Nothing is requested if
    `path` has the right checksum already.

    Parameters
    ----------
    url : str
        HTTP or HTTPS address.
    path : Path
        Target file; its folder is created.
    sha256 : str
        Expected SHA-256 of the whole file, in hexadecimal.
    progress : bool
        Show a progress bar if standard error is a terminal.
    """
    expected = sha256.lower()
    part = _Part(url, path)
    try:
        if path.is_file() and _hash(path).hexdigest() == expected:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part.load()
        # An earlier call may have stopped between the last byte and the renaming.
        if not part.size or part.digest.hexdigest() != expected:
            _fetch(part, progress)
        found, size = part.digest.hexdigest(), part.size
        if found != expected:
            part.delete()
            raise FlawlineError(
                f"{url}: the file that arrived ({_human(size)}) has SHA-256 {found}, expected "
                f"{expected}. It was deleted: download again, or change the `sha256` key if the "
                "source was updated on purpose."
            )
        part.path.replace(path)
        part.note.unlink(missing_ok=True)
    except OSError as error:  # the disk, or an invalid address
        raise FlawlineError(f"Cannot download {url} to {path}: {error}. {part.kept()}") from error


class _Interrupted(Exception):
    """A failed request that may succeed if repeated."""


class _Part:
    """The part of `url` that has arrived: its bytes, their checksum, and their version."""

    def __init__(self, url: str, path: Path) -> None:
        self.url = url
        self.path = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")
        self._forget()

    def _forget(self, validator: str = "") -> None:
        self.digest, self.size, self.validator = hashlib.sha256(), 0, validator

    def load(self) -> None:
        """Continue the part file of an earlier call, if it came from the same address."""
        try:
            note = read_json(self.note)
            if note["url"] == self.url:
                self.digest, self.validator = _hash(self.path), str(note["validator"])
                self.size = self.path.stat().st_size
        except (FileNotFoundError, FlawlineError, KeyError, TypeError):
            self.delete()

    def restart(self, validator: str) -> None:
        # Empty the file before the note changes, so that a note never names another version.
        self.path.write_bytes(b"")
        write_json(self.note, {"url": self.url, "validator": validator})
        self._forget(validator)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self._forget()

    def kept(self) -> str:
        return (
            f"The partial file is kept ({_human(self.size)} in {self.path}): running the same "
            "command again resumes."
        )


def _fetch(part: _Part, progress: bool) -> None:
    """Complete the part file, repeating the request as long as that brings new bytes."""
    failures, furthest = 0, part.size
    while True:
        try:
            return _request(part, progress)
        except (_Interrupted, *_RETRIED) as error:
            # Compare with the largest size so far: a server without ranges starts over each time.
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= ATTEMPTS:
                raise FlawlineError(
                    f"Cannot download {part.url}: {_root(error)} ({failures} attempts in a row). "
                    f"{part.kept()} {_OR_FOLDER}"
                ) from error
        time.sleep(BACKOFF_SECONDS * 2 ** (failures - 1))


def _request(part: _Part, progress: bool) -> None:
    # Identity and no decoding: checksum and ranges are those of the published file.
    headers = {"Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
        if part.validator:
            headers["If-Range"] = part.validator
    with requests.get(part.url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        total = _begin(part, response)
        _require_space(part, (total or 0) - part.size)
        disable = None if progress else True  # None: only on a terminal
        with (
            part.path.open("ab") as file,
            _bar(desc=part.path.name, total=total, initial=part.size, disable=disable) as bar,
        ):
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                file.write(chunk)
                part.digest.update(chunk)
                part.size += len(chunk)
                bar.update(len(chunk))
    if total is not None and part.size != total:
        raise _Interrupted(f"{part.size} of {total} bytes arrived")


def _begin(part: _Part, response: requests.Response) -> int | None:
    """Make the part file ready for the body of `response`; return the size of the whole file."""
    status, validator = response.status_code, _validator(response)
    content_range = response.headers.get("Content-Range", "no Content-Range")
    if status == 200:
        part.restart(validator)
        return response.raw.length_remaining
    if status == 206 and part.size and validator in ("", part.validator):
        match = _CONTENT_RANGE.fullmatch(content_range)
        if match and int(match[1]) == part.size:
            return None if match[2] == "*" else int(match[2])
    answer = f"the server answered {status} {response.reason}"
    if status in (206, 416):
        answer = f"asked for the bytes from {part.size} on, {answer} with {content_range}"
        part.delete()
        raise _Interrupted(answer)
    if status == 429 or status >= 500:
        raise _Interrupted(answer)
    raise FlawlineError(
        f"Cannot download {part.url}: {answer}, expected 200 OK. Check the address. {_OR_FOLDER}"
    )


def _validator(response: requests.Response) -> str:
    """Return a value for If-Range: a strong ETag, else the last modification, else nothing."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _require_space(part: _Part, needed: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if needed > free:
        raise FlawlineError(
            f"Not enough disk for {part.url}: {_human(needed)} needed, {_human(free)} free in "
            f"{part.path.parent}. Free some space or choose another folder. {part.kept()}"
        )


def _hash(path: Path) -> "hashlib._Hash":
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256")


def _root(error: BaseException) -> BaseException:
    """Return the underlying cause below the layers of the HTTP library."""
    while isinstance(error, _RETRIED) and error.__context__:
        error = error.__context__
    return error
