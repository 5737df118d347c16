"""The station over HTTP: verdicts, refusals that cost nobody else, a page, and metrics."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient
from trained_category import TrainedCategory

from flawline.errors import FlawlineError
from flawline.files import read_table
from flawline.station import server
from flawline.station.record import Alarm, now
from flawline.station.server import Server, application
from flawline.station.station import Station, StoreError

LIMIT = 300  # seconds; generous
MakeStation = Callable[..., Station]


@pytest.fixture
def station(new_station: MakeStation) -> Station:
    return new_station()


@pytest.fixture
def client(station: Station) -> TestClient:
    return TestClient(application(station, max_megabytes=1))


@pytest.fixture
def photographs(bolts: TrainedCategory) -> list[Path]:
    return sorted(bolts.new.rglob("*.png"))


def post(client: TestClient, photograph: Path, **options: Any) -> Any:
    return client.post(
        "/inspect", params={"name": photograph.name}, content=photograph.read_bytes(), **options
    )


def test_a_photograph_gets_the_verdict_of_the_pipeline(
    client: TestClient, station: Station, bolts: TrainedCategory, photographs: list[Path]
) -> None:
    expected = read_table(bolts.run("patchcore") / "test/scores.csv")["score"].tolist()
    got = [
        client.post("/inspect", params={"name": str(number)}, content=photograph.read_bytes())
        for number, photograph in enumerate(photographs)
    ]
    assert [answer.status_code for answer in got] == [200] * len(photographs)
    assert [one.json()["score"] for one in got] == pytest.approx(expected, rel=1e-3)
    first = got[0].json()
    assert first["decision"] in ("good", "defective")
    assert first["threshold"] == station.products["bolt"].judge.threshold["value"]
    assert client.get(first["picture"]).headers["content-type"] == "image/jpeg"
    assert "path" not in first
    kept = station.record.part(first["id"])
    assert kept is not None
    assert Path(kept.path).read_bytes() == photographs[0].read_bytes()


def test_the_same_photograph_sent_again_is_the_same_part(
    client: TestClient, station: Station, photographs: list[Path]
) -> None:
    first, again = post(client, photographs[0]), post(client, photographs[0])
    assert first.json() == again.json()
    assert len(station.record.parts()) == 1


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "no photograph"),
        (b"no image", 422, "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 422, "not an image"),
        (bytes(1_000_001), 413, "larger than 1 MB"),
    ],
)
def test_what_is_no_photograph_is_refused_with_the_reason(
    client: TestClient, station: Station, content: bytes, status: int, words: str
) -> None:
    answer = client.post("/inspect", content=content)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.text
    pieces = client.post("/inspect", content=iter([content[:50], content[50:]]))
    assert pieces.status_code == status
    assert station.record.parts() == []


def test_too_many_at_once_are_told_to_come_again_and_the_others_answered(
    station: Station, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = threading.Event(), threading.Event()
    look = station.look

    def slow(*arguments: Any) -> Any:
        began.set()
        assert go_on.wait(LIMIT)
        return look(*arguments)

    monkeypatch.setattr(station, "look", slow)
    answers: list[int] = []
    with TestClient(application(station, at_once=1)) as client:
        thread = threading.Thread(
            target=lambda: answers.append(post(client, photographs[0]).status_code)
        )
        thread.start()
        assert began.wait(LIMIT)
        refused = post(client, photographs[1])
        assert client.get("/health").status_code == 200
        go_on.set()
        thread.join()
        assert answers == [200]
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert post(client, photographs[1]).status_code == 200


def test_a_full_disk_is_told_and_the_photograph_can_be_sent_again(
    client: TestClient, station: Station, photographs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise StoreError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(station, "take", full)
        answer = post(client, photographs[0])
    assert (answer.status_code, "no space left" in answer.json()["detail"]) == (507, True)
    assert post(client, photographs[0]).status_code == 200


class TestWithAToken:
    @pytest.fixture
    def client(self, station: Station) -> TestClient:
        return TestClient(application(station, token="secret"))

    @pytest.mark.parametrize("given", ["", "Bearer wrong", "Basic secret", "Bearer s\u00e9cret"])
    def test_requests_without_it_are_refused(self, client: TestClient, given: str) -> None:
        for path in ("/", "/parts", "/metrics", "/events", "/pictures/1-a.jpg"):
            answer = client.get(path, headers={"Authorization": given.encode()})
            assert (answer.status_code, "token" in answer.json()["detail"]) == (401, True)
        assert client.post("/inspect", content=b"x").status_code == 401
        assert client.get("/health").status_code == 200

    def test_programs_send_it_and_the_page_keeps_it(self, client: TestClient) -> None:
        told = {"Authorization": "Bearer secret"}
        assert client.get("/parts", headers=told).status_code == 200
        assert client.get("/?token=wrong").status_code == 401
        answer = client.get("/?token=secret")
        assert (answer.status_code, str(answer.url)) == (200, "http://testserver/")
        assert client.get("/parts").status_code == 200


def test_pages_of_other_sites_are_refused(client: TestClient) -> None:
    for headers in ({"Origin": "http://elsewhere.example"}, {"Host": "elsewhere.example"}):
        assert client.get("/parts", headers=headers).status_code == 403
    assert client.get("/parts", headers={"Origin": "http://testserver"}).status_code == 200


def test_parts_are_searched_by_time_and_decision(
    client: TestClient, photographs: list[Path]
) -> None:
    for photograph in photographs[:3]:
        post(client, photograph)
    found = client.get("/parts", params={"since": "2000-01-01", "limit": 2}).json()
    assert [part["id"] for part in found["parts"]] == sorted(
        (part["id"] for part in found["parts"]), reverse=True
    )
    older = client.get("/parts", params={"before": found["parts"][-1]["id"]}).json()["parts"]
    assert len(found["parts"]) + len(older) == len(client.get("/parts").json()["parts"])
    assert client.get("/parts", params={"until": "2000-01-01T00:00+02:00"}).json()["parts"] == []
    wrong = client.get("/parts", params={"since": "yesterday"})
    assert (wrong.status_code, "2026-01-31" in wrong.json()["detail"]) == (422, True)


def test_feedback_is_recorded_and_can_be_taken_back(
    client: TestClient, station: Station, photographs: list[Path]
) -> None:
    number = post(client, photographs[0]).json()["id"]
    said = {"feedback": "good", "reason": "a reflection"}
    assert client.post(f"/parts/{number}/feedback", json=said).json()["feedback"] == "good"
    found = station.record.parts(feedback=True)[0]
    assert (found.feedback, found.feedback_reason) == ("good", "a reflection")
    client.post(f"/parts/{number}/feedback", json={"feedback": ""})
    assert station.record.parts(feedback=True) == []
    assert client.post("/parts/999/feedback", json=said).status_code == 404
    assert client.post(f"/parts/{number}/feedback", json={"feedback": "ok"}).status_code == 422


def test_metrics_count_parts_and_tell_alarms(
    client: TestClient, station: Station, photographs: list[Path]
) -> None:
    decision = post(client, photographs[0]).json()["decision"]
    labels = 'dataset="mine",category="bolt",detector="patchcore"'
    text = client.get("/metrics").text
    assert f'flawline_parts_total{{{labels},decision="{decision}"}} 1\n' in text
    assert f"flawline_drift_alarm{{{labels}}} 0\n" in text
    part = station.record.parts()[0]
    alarm = Alarm(now(), 0, "bolt1", "higher", "Drift.", "bolt", "patchcore")
    station.record.add(replace(part, name="another"), "", (), alarm)
    assert f"flawline_drift_alarm{{{labels}}} 1\n" in client.get("/metrics").text


def test_the_page_needs_no_network_and_runs_no_other_script(client: TestClient) -> None:
    answer = client.get("/")
    assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in answer.text
    assert "default-src 'none'; script-src 'sha256-" in answer.headers["content-security-policy"]


class TestOfSeveralProducts:
    @pytest.fixture
    def station(self, new_station: MakeStation) -> Station:
        return new_station(categories=["bolt", "nut"])

    def test_a_photograph_says_whose_it_is(
        self, client: TestClient, photographs: list[Path]
    ) -> None:
        content = photographs[0].read_bytes()
        refused = client.post("/inspect", content=content)
        assert (refused.status_code, refused.json()["detail"]) == (
            422,
            "product: must say whose photograph it is: one of bolt, nut",
        )
        refused = client.post("/inspect", params={"product": "screw"}, content=content)
        assert "one of bolt, nut; found 'screw'" in refused.json()["detail"]
        for product in ("nut", "bolt"):
            answer = client.post("/inspect", params={"product": product}, content=content).json()
            assert (answer["category"], answer["version"]) == (product, f"{product}1")

    def test_pages_and_programs_can_ask_for_one_of_them(
        self, client: TestClient, photographs: list[Path]
    ) -> None:
        for photograph, product in zip(photographs, ("nut", "bolt", "nut"), strict=False):
            client.post("/inspect", params={"product": product}, content=photograph.read_bytes())
        every = client.get("/parts").json()
        assert [part["category"] for part in every["parts"]] == ["nut", "bolt", "nut"]
        nuts = client.get("/parts", params={"product": "nut"}).json()["parts"]
        assert [part["category"] for part in nuts] == ["nut", "nut"]
        totals = {name: sum(one["counts"].values()) for name, one in every["products"].items()}
        assert totals == {"bolt": 1, "nut": 2}
        metrics = client.get("/metrics").text
        assert metrics.count("# TYPE flawline_drift_alarm gauge") == 1
        assert 'category="nut",detector="patchcore",decision=' in metrics
        assert client.get("/health").json()["versions"] == {"bolt": "bolt1", "nut": "nut1"}

    def test_parts_of_products_that_are_served_elsewhere_are_not_shown(
        self, client: TestClient, photographs: list[Path], new_station: MakeStation
    ) -> None:
        content = photographs[0].read_bytes()
        nut = client.post("/inspect", params={"product": "nut"}, content=content).json()["id"]
        other = TestClient(application(new_station(categories=["bolt"])))
        assert other.get("/parts").json()["parts"] == []
        assert other.get(f"/parts/{nut}").status_code == 404


def test_a_server_that_others_reach_needs_a_token(station: Station) -> None:
    with pytest.raises(FlawlineError, match="FLAWLINE_TOKEN"):
        Server(station, "0.0.0.0", 0)
    with Server(station, "127.0.0.1", 0) as running:
        port = int(running.address.rpartition(":")[2])
        with pytest.raises(FlawlineError, match=f"127.0.0.1:{port}: cannot listen there"):
            Server(station, "127.0.0.1", port)


def test_a_real_server_tells_open_pages_of_new_parts_and_ends_with_a_signal(
    bolts: TrainedCategory, photographs: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copytree(bolts.root / "results", folder / "results")
    root = Path(server.__file__).parents[2]
    code = "from flawline.cli.app import main; main()"
    config = str(bolts.root / "my.yaml")
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", config, "--detector", "patchcore", "--port", "0"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        assert first.startswith("bolt: patchcore, version "), first + running.stdout.read()
        first = running.stdout.readline()
        assert "Serving at" in first, first + running.stdout.read()
        address = first.split()[-1]
        with requests.get(f"{address}/events", stream=True, timeout=LIMIT) as events:
            told = requests.post(
                f"{address}/inspect?name=a.png",
                data=photographs[0].read_bytes(),
                timeout=LIMIT,
            ).json()
            lines = events.iter_lines(chunk_size=1, decode_unicode=True)
            part = next(line for line in lines if line.startswith("data: {") and "a.png" in line)
            assert f'"id": {told["id"]}' in part
            running.send_signal(signal.SIGTERM)
            rest = running.stdout.read()
    assert running.returncode == 0, rest
    assert rest.startswith("Ended. In the record:")
