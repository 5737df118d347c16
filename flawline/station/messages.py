"""Messages out: to a web hook, a command, a CSV file or an MQTT broker.

The record keeps a message until it is delivered, also over a restart. It is delivered at least
once: a receiver that must not count a part twice looks at its `id`.
"""

import csv
import io
import json
import shlex
import sqlite3
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self
from urllib.parse import urlsplit

from flawline.errors import FlawlineError
from flawline.station.record import Record

FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds between attempts; doubled each time
ATTEMPT = 30.0  # seconds that an attempt may take
LOOK = 0.1  # seconds between two looks for new messages
LAST = 10.0  # seconds for what is still waiting when the program ends
COLUMNS = (
    *("id", "kind", "time", "category", "name", "decision", "score", "p_value", "boxes"),
    *("reason", "word", "verdict", "version", "sha256"),
)


class UndeliveredError(Exception):
    """A message was not delivered; its message says why."""


class Sink(ABC):
    """Where messages go.

    Attributes
    ----------
    name : by which the record keeps its messages.
    every : whether it gets a message about good parts, too.
    pause : seconds between two messages.
    """

    name: str
    every: bool = False
    pause: float = 0.0

    @abstractmethod
    def send(self, message: Mapping[str, Any]) -> None:
        """Deliver a message, or raise an UndeliveredError."""


class Webhook(Sink):
    """Sends each message as JSON by POST; any answer of 2xx means that it arrived.

    Parameters
    ----------
    rate : messages per second, at most.
    """

    def __init__(self, url: str, *, every: bool = False, rate: float = 10) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise FlawlineError(f"--webhook: must be an http or https address; found {url!r}")
        self.name, self.every, self.pause = f"webhook {url}", every, 1 / rate
        self._url = url

    def send(self, message: Mapping[str, Any]) -> None:
        """POST the message."""
        import requests

        try:
            answer = requests.post(self._url, json=message, timeout=ATTEMPT)
        except requests.RequestException as error:
            raise UndeliveredError(f"no answer ({type(error).__name__})") from error
        if not answer.ok:
            raise UndeliveredError(f"answered {answer.status_code} {answer.reason}")


class Command(Sink):
    """Runs a command for each message, which is its standard input as one line of JSON."""

    def __init__(self, command: str, *, every: bool = False) -> None:
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise FlawlineError(f"--command: {command!r} cannot be read ({error})") from None
        self.name, self.every = f"command {command}", every

    def send(self, message: Mapping[str, Any]) -> None:
        """Run the command; it must end with 0."""
        try:
            done = subprocess.run(
                self._words,
                input=json.dumps(message) + "\n",
                text=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=ATTEMPT,
                check=False,
                start_new_session=True,  # Ctrl-C is for the station alone
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UndeliveredError(str(error)) from error
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [""]
            raise UndeliveredError(f"ended with {done.returncode} {last[0]}".rstrip())


class CsvFile(Sink):
    """Appends a line for every part and alarm to a CSV file."""

    def __init__(self, file: Path | str) -> None:
        self._file = Path(file)
        self.name, self.every = f"csv {self._file.absolute()}", True

    def send(self, message: Mapping[str, Any]) -> None:
        """Append the message, wholly or not at all."""
        row = {key: message.get(key, "") for key in COLUMNS}
        row["boxes"] = json.dumps(row["boxes"]) if row["boxes"] else ""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                before = file.tell()
                if not before:
                    writer.writeheader()
                writer.writerow(row)
                try:
                    file.write(text.getvalue().encode())
                    file.flush()
                except OSError:
                    file.truncate(before)
                    raise
        except OSError as error:
            raise UndeliveredError(str(error)) from error


class Mqtt(Sink):
    """Publishes each message as JSON, with quality of service 1.

    Parameters
    ----------
    address : ``mqtt://[user:password@]host[:port]/topic``.
    """

    def __init__(self, address: str, *, every: bool = False) -> None:
        parts = urlsplit(address)
        self._topic = parts.path.strip("/")
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or not self._topic:
            raise FlawlineError(
                f"--mqtt: must be mqtt://HOST[:PORT]/TOPIC or mqtts://...; found {address!r}"
            )
        try:
            from paho.mqtt.client import Client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise FlawlineError("--mqtt: needs paho-mqtt: pip install 'flawline[mqtt]'") from None
        self.name = f"mqtt {parts.hostname}:{parts.port or ''}/{self._topic}"
        self.every = every
        self._client = Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(parts.username, parts.password)
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._host, self._port = parts.hostname, parts.port or (1883, 8883)[parts.scheme == "mqtts"]
        self._started = False

    def send(self, message: Mapping[str, Any]) -> None:
        """Publish the message, and wait until the broker has it."""
        try:
            if not self._started:
                self._client.connect(self._host, self._port)
                self._client.loop_start()
                self._started = True
            sent = self._client.publish(self._topic, json.dumps(message), qos=1)
            sent.wait_for_publish(ATTEMPT)
            arrived = sent.is_published()
        except (OSError, RuntimeError, ValueError) as error:
            self._again()
            raise UndeliveredError(str(error) or type(error).__name__) from error
        if not arrived:
            self._again()
            raise UndeliveredError("the broker does not confirm it")

    def _again(self) -> None:
        """Begin with a new connection next time, so that the client keeps nothing back."""
        if self._started:
            self._client.disconnect()
            self._client.loop_stop()
        self._started = False


class Delivery:
    """Delivers the messages of a record, each sink's in their order, in threads of their own.

    What a sink does not take is tried again, after a second and then ever more seldom; later
    messages for it wait.
    """

    def __init__(
        self,
        record: Record,
        sinks: Sequence[Sink],
        say: Callable[[str], None] = print,
        *,
        first_wait: float = FIRST_WAIT,
        last: float = LAST,
    ) -> None:
        self._record, self._say = record, say
        self._first_wait, self._last = first_wait, last
        self._stop = Event()
        self._ends = float("inf")
        self._threads = [Thread(target=self._run, args=(sink,), daemon=True) for sink in sinks]

    def __enter__(self) -> Self:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End: what is waiting is tried once more, and kept for the next start if need be."""
        self._ends = time.monotonic() + self._last
        self._stop.set()
        for thread in self._threads:
            thread.join(self._last + ATTEMPT)

    def _run(self, sink: Sink) -> None:
        wait = self._first_wait
        failing = False
        while True:
            stopping = self._stop.is_set()
            try:
                waiting = self._record.undelivered(sink.name, 1)
                for number, message in waiting:
                    sink.send(message)
                    self._record.delivered(number)
            except (UndeliveredError, sqlite3.OperationalError) as error:
                if not failing:
                    self._say(f"{sink.name}: {error}; trying again, messages are kept")
                failing = True
                if stopping:
                    return
                self._stop.wait(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                continue
            if stopping and (not waiting or time.monotonic() > self._ends):
                return
            if waiting and failing:
                self._say(f"{sink.name}: delivered again")
                failing, wait = False, self._first_wait
            pause = sink.pause if waiting else LOOK
            (time.sleep if stopping else self._stop.wait)(pause)
