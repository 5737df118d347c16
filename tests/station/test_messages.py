"""Messages reach their receivers, in order, however long these are away."""

import csv
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flawline.errors import FlawlineError
from flawline.station.messages import Command, CsvFile, Delivery, Mqtt, Sink, Webhook
from flawline.station.record import Alarm, Part, Record, now

LIMIT = 300  # seconds; generous


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.01)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "record.sqlite", {"dataset": "mine"})


def add(record: Record, sink: Sink, *names: str, alarm: Alarm | None = None) -> None:
    for name in names:
        part = Part(
            *(now(), name, name, name, "defective", "v1", 2.5, 0.1, [[1, 2, 3, 4]]),
            category="bolt",
        )
        record.add(part, "", [sink.name], alarm, [sink.name])


class Receiver(HTTPServer):
    """Answers with the given statuses, then with 200, and keeps what it accepted."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.accepted = list(statuses), list[dict[str, Any]]()
        super().__init__(("127.0.0.1", 0), Handler)
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/parts"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.accepted.append(message)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(500, 404, 503)
    yield made
    made.shutdown()
    made.server_close()


def test_a_webhook_gets_every_message_in_order_though_it_fails_at_first(
    record: Record, receiver: Receiver
) -> None:
    hook, said = Webhook(receiver.url, rate=1000), list[str]()
    add(record, hook, "a", "b", alarm=Alarm(now(), 0, "v1", "higher", "Drift."))
    with Delivery(record, [hook], said.append, first_wait=0.01):
        until(lambda: record.waiting() == 0)
    kinds = [(one["kind"], one.get("name", one.get("word"))) for one in receiver.accepted]
    assert kinds == [("part", "a"), ("alarm", "higher"), ("part", "b"), ("alarm", "higher")]
    assert receiver.accepted[0]["category"] == "bolt"
    assert receiver.accepted[0]["dataset"] == "mine"
    assert receiver.accepted[0]["boxes"] == [[1, 2, 3, 4]]
    assert len(said) == 2
    assert "answered 500" in said[0]


def test_messages_to_nobody_are_kept_for_the_next_start(record: Record, receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    hook, said = Webhook(f"http://127.0.0.1:{port}"), list[str]()
    add(record, hook, "a")
    with Delivery(record, [hook], said.append, first_wait=1000):
        until(lambda: said)
    assert record.waiting() == 1
    record.close()
    again = Record(record.file)
    receiver.statuses.clear()
    found = Webhook(receiver.url)
    found.name = hook.name  # the same receiver is back
    with Delivery(again, [found], said.append):
        until(lambda: again.waiting() == 0)
    assert [one["name"] for one in receiver.accepted] == ["a"]


def test_one_dead_receiver_holds_up_no_other(record: Record, receiver: Receiver) -> None:
    receiver.statuses += [500] * 100_000
    hook, file = Webhook(receiver.url), CsvFile(record.file.with_name("parts.csv"))
    add(record, hook, "a", "b")
    add(record, file, "c", "d")
    with Delivery(record, [hook, file], lambda line: None, first_wait=1000):
        until(lambda: record.waiting() == 2)
    with record.file.with_name("parts.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["name"], row["score"], row["boxes"]) for row in rows] == [
        ("c", "2.5", "[[1, 2, 3, 4]]"),
        ("d", "2.5", "[[1, 2, 3, 4]]"),
    ]


def test_a_command_reads_each_message_and_is_tried_again_if_it_fails(
    record: Record, tmp_path: Path
) -> None:
    program = tmp_path / "light.py"
    program.write_text(
        "import pathlib, sys\n"
        f"seen = pathlib.Path({str(tmp_path / 'seen')!r})\n"
        "first = not seen.exists()\n"
        "seen.open('a').write('' if first else sys.stdin.read())\n"
        "sys.exit('no lamp' if first else 0)\n"
    )
    command, said = Command(f"{sys.executable} {program}"), list[str]()
    add(record, command, "a", "b")
    with Delivery(record, [command], said.append, first_wait=0.01):
        until(lambda: record.waiting() == 0)
    lines = (tmp_path / "seen").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["a", "b"]
    assert "ended with 1 no lamp" in said[0]


@pytest.mark.skipif(not shutil.which("mosquitto", path="/usr/sbin:/usr/bin"), reason="no broker")
def test_an_mqtt_broker_that_comes_late_gets_every_message(record: Record, tmp_path: Path) -> None:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mqtt, said, got = Mqtt(f"mqtt://127.0.0.1:{port}/parts/bolt"), list[str](), list[str]()
    add(record, mqtt, "a", "b")
    with Delivery(record, [mqtt], said.append, first_wait=0.05):
        until(lambda: said)
        broker = subprocess.Popen(
            [str(shutil.which("mosquitto", path="/usr/sbin:/usr/bin")), "-p", str(port)],
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: record.waiting() == 0)
            reader = Client(CallbackAPIVersion.VERSION2)
            reader.on_message = lambda *given: got.append(json.loads(given[2].payload)["name"])
            ready = list[int]()
            reader.on_subscribe = lambda *given: ready.append(1)
            reader.connect("127.0.0.1", port)
            reader.subscribe("parts/#", qos=1)
            reader.loop_start()
            until(lambda: ready)
            add(record, mqtt, "c", "d")
            until(lambda: len(got) == 2)
            reader.disconnect()
            reader.loop_stop()
        finally:
            broker.terminate()
            broker.wait()
    assert got == ["c", "d"]
    assert record.waiting() == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Webhook("example.org/x"), "--webhook: must be an http"),
        (lambda: Command("a 'b"), "--command: .* cannot be read"),
        (lambda: Mqtt("mqtt://broker"), "--mqtt: must be mqtt://HOST"),
    ],
)
def test_addresses_that_cannot_be_are_refused(make: Callable[[], Sink], words: str) -> None:
    with pytest.raises(FlawlineError, match=words):
        make()
