"""The station over HTTP: photographs in, verdicts out, a live page, and metrics."""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import re
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel, ConfigDict, Field

from flawline.errors import FlawlineError
from flawline.inspection.folder import UNREADABLE
from flawline.station.drift import WINDOW
from flawline.station.pictures import suffix_of
from flawline.station.products import Product
from flawline.station.record import Part, told_time
from flawline.station.station import Station, StoreError

TEMPLATE = Path(__file__).parent / "templates" / "page.html"
AT_ONCE = 8  # photographs that wait; more are told to come again
LISTENERS = 32  # open pages
LOOK = 0.3  # seconds between two looks for new parts
COOKIE = "flawline_token"
TOKEN = "FLAWLINE_TOKEN"
GAUGES = {
    "drift_alarm": "1 while the drift alarm is on",
    "messages_waiting": "messages that are not delivered",
    "last_part_timestamp_seconds": "when the last part was judged",
    "last_part_milliseconds": "time that judging the last part took",
}
LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "testserver")


class Feedback(BaseModel):
    """What a person says about a part; nothing takes it back."""

    model_config = ConfigDict(extra="forbid")
    feedback: Literal["good", "defective", ""]
    reason: str = Field("", max_length=500)


def application(
    station: Station,
    *,
    token: str = "",
    max_megabytes: float = 50,
    at_once: int = AT_ONCE,
    stopping: Event | None = None,
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    token : that every request but ``/health`` must have; without one, only this machine's own
        pages and programs are answered.
    max_megabytes : of a photograph.
    at_once : photographs that may wait for their verdict.
    stopping : ends open event streams, when set.
    """
    app = FastAPI(title="flawline", docs_url=None, redoc_url=None, openapi_url=None)
    stopping = stopping or Event()
    record, about, categories = station.record, station.record.about, station.categories
    page, policy = _page(station)
    busy = {"judging": 0, "listening": 0}
    judging = ThreadPoolExecutor(1)

    @app.middleware("http")
    async def guard(
        request: Request, forward: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        refused = None if request.url.path == "/health" else _refused(request, token)
        answer = refused or await forward(request)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Content-Security-Policy"] = policy
        return answer

    @app.exception_handler(StoreError)
    async def full(request: Request, error: StoreError) -> Response:
        return JSONResponse({"detail": f"nothing can be stored: {error}"}, 507)

    @app.get("/")
    def shown(given: str = Query("", alias="token")) -> Response:
        if not given:
            return HTMLResponse(page)
        answer = RedirectResponse("/", 303)  # so that the token does not stay in the address
        answer.set_cookie(COOKIE, given, httponly=True, samesite="strict", max_age=10**7)
        return answer

    @app.get("/health")
    def health() -> dict[str, Any]:
        versions = {one.category: one.version for one in station.products.values()}
        return {"status": "ok", "versions": versions, **about}

    @app.get("/metrics")
    def metrics() -> Response:
        return PlainTextResponse(_metrics(station), media_type="text/plain; version=0.0.4")

    @app.post("/inspect")
    async def inspect(
        request: Request,
        name: str = Query("", max_length=200),
        product: str = Query("", max_length=200),
    ) -> dict[str, Any]:
        whose = _product(station, product)
        if name and not name.isprintable():
            raise HTTPException(422, "name: has characters that do not print")
        if busy["judging"] >= at_once:
            raise HTTPException(
                503,
                f"{at_once} photographs are waiting already; send it again in a second",
                {"Retry-After": "1"},
            )
        busy["judging"] += 1
        try:
            content = await _body(request, max_megabytes)
            # in one thread, because each that calls torch would start threads of its own
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(judging, _inspect, station, whose, content, name)
        finally:
            busy["judging"] -= 1

    @app.get("/parts")
    def parts(
        product: str = "",
        before: int | None = Query(None, ge=1),
        since: str = "",
        until: str = "",
        decision: Literal["good", "defective", "unreadable", ""] = "",
        limit: int = Query(50, ge=1, le=500),
    ) -> dict[str, Any]:
        some = [_product(station, product).category] if product else categories
        found = record.parts(
            categories=some,
            before=before,
            since=_time("since", since),
            until=_time("until", until),
            decision=decision,
            limit=limit,
        )
        return {
            "parts": [_shown(station, part) for part in found],
            "alarms": [alarm.message() for alarm in record.alarms(categories=some)],
            **_state(station),
        }

    @app.get("/parts/{number}")
    def part(number: int) -> dict[str, Any]:
        return _shown(station, _found(station, number))

    @app.post("/parts/{number}/feedback")
    def feedback(number: int, said: Feedback) -> dict[str, Any]:
        _found(station, number)
        station.say(number, said.feedback, said.reason)
        return _shown(station, _found(station, number))

    @app.get("/pictures/{name}")
    def picture(name: str) -> Response:
        path = station.pictures.folder / name
        if not re.fullmatch(r"[0-9]+-[0-9a-f]*\.jpg", name) or not path.is_file():
            raise HTTPException(404, "this picture is not kept")
        headers = {"Cache-Control": "private, max-age=86400"}
        return FileResponse(path, media_type="image/jpeg", headers=headers)

    @app.get("/events")
    async def events(request: Request, after: int = Query(0, ge=0)) -> Response:
        if busy["listening"] >= LISTENERS:
            raise HTTPException(503, f"{LISTENERS} pages are open already", {"Retry-After": "9"})
        last = request.headers.get("last-event-id", "")
        start = int(last) if last.isdecimal() else after

        async def stream() -> AsyncIterator[str]:
            busy["listening"] += 1
            try:
                async for text in _events(station, start, stopping):
                    yield text
            finally:
                busy["listening"] -= 1

        return StreamingResponse(stream(), media_type="text/event-stream")

    return app


def _inspect(station: Station, product: Product, content: bytes, name: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    suffix = suffix_of(content)
    name = name or f"{sha256[:16]}{suffix}"
    if known := station.record.find(product.category, name, sha256, product.version):
        return _shown(station, known)
    with tempfile.TemporaryDirectory(prefix="flawline-") as folder:
        path = Path(folder, f"photograph{suffix}")
        path.write_bytes(content)
        looked = station.look(product, path, name, sha256)
    if looked.part.decision == UNREADABLE:
        raise HTTPException(422, f"not a photograph that can be judged: {looked.part.reason}")
    kept = station.keep(looked.part, content, suffix)
    part, _ = station.take(replace(looked, part=replace(looked.part, path=kept)))
    return _shown(station, part)


def _product(station: Station, name: str) -> Product:
    """Return the product of a request; an HTTPException if it names none of the station's."""
    known = ", ".join(station.categories)
    if not name and len(station.products) > 1:
        raise HTTPException(422, f"product: must say whose photograph it is: one of {known}")
    if name and name not in station.products:
        raise HTTPException(422, f"product: must be one of {known}; found {name!r}")
    return station.products[name or known]


async def _body(request: Request, max_megabytes: float) -> bytes:
    """Read a request's content; an HTTPException if it is too large or empty."""
    most = int(max_megabytes * 1e6)
    too_large = HTTPException(413, f"larger than {max_megabytes:g} MB (--max-mb)")
    given = request.headers.get("content-length", "")
    if given.isdecimal() and int(given) > most:
        raise too_large
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > most:
            raise too_large
    if not content:
        raise HTTPException(400, "no photograph: send the file's bytes as the request's content")
    return bytes(content)


async def _events(station: Station, after: int, stopping: Event) -> AsyncIterator[str]:
    """Yield every new part and the state, as server-sent events."""
    yield "retry: 2000\n\n"
    before = None
    while not stopping.is_set():
        parts = await run_in_threadpool(
            station.record.parts, categories=station.categories, after=after, limit=200
        )
        state = await run_in_threadpool(_state, station)
        for part in reversed(parts):
            after = part.id
            content = json.dumps(_shown(station, part))
            yield f"id: {part.id}\nevent: part\ndata: {content}\n\n"
        if state != before:
            yield f"event: state\ndata: {json.dumps(state)}\n\n"
            before = state
        await asyncio.sleep(LOOK)


def _refused(request: Request, token: str) -> Response | None:
    """Return why a request is not answered; None if it is."""
    host = request.headers.get("host", "")
    origin = request.headers.get("origin")
    # no page of another site may use the browser of somebody here
    if origin and origin.partition("://")[2] != host:
        return JSONResponse({"detail": "requests from pages of other sites are refused"}, 403)
    if not token:
        name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
        if name not in LOOPBACK:
            return JSONResponse({"detail": f"the host {host!r} is not this machine's own"}, 403)
        return None
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    given = given if kind.lower() == "bearer" else request.cookies.get(COOKIE, "")
    if request.url.path == "/":
        given = request.query_params.get("token", given)
    if hmac.compare_digest(given.encode(), token.encode()):
        return None
    told = "send `Authorization: Bearer TOKEN`, or open the page once with ?token=TOKEN"
    headers = {"WWW-Authenticate": "Bearer"}
    missing = "wrong token" if given else "no token"
    return JSONResponse({"detail": f"{missing}: {told}"}, 401, headers)


def _time(key: str, value: str) -> str:
    """Return a time as the record has it."""
    if not value:
        return ""
    try:
        given = datetime.fromisoformat(value)
        return told_time(given if given.tzinfo else given.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise HTTPException(
            422, f"{key}: must be a date or time as 2026-01-31 or 2026-01-31T08:00; found {value!r}"
        ) from None


def _found(station: Station, number: int) -> Part:
    found = station.record.part(number) if number < 2**63 else None
    if found is None or found.category not in station.products:
        raise HTTPException(404, f"there is no part {number} in the record")
    return found


def _shown(station: Station, part: Part) -> dict[str, Any]:
    """Return a part for clients: without the path, with the address of its picture."""
    told = part.message()
    del told["path"], told["kind"], told["overlay"]
    kept = part.overlay and (station.pictures.folder / part.overlay).is_file()
    threshold = float(station.products[part.category].judge.threshold["value"])
    picture = f"/pictures/{part.overlay}" if kept else None
    return told | {"threshold": threshold, "picture": picture}


def _state(station: Station) -> dict[str, Any]:
    """Return counts and the alarm that is on, if any, by product, and the messages that wait."""
    products = {}
    for category in station.categories:
        alarms = station.record.alarms(1, [category])
        products[category] = {
            "counts": station.record.counts([category]),
            "alarm": alarms[0].message() if alarms and alarms[0].word != "none" else None,
        }
    return {"products": products, "waiting": station.record.waiting()}


def _metrics(station: Station) -> str:
    """Return what Prometheus reads."""
    state = _state(station)
    parts, found = [], dict[str, list[str]]()
    for product in station.products.values():
        own = state["products"][product.category]
        about = station.record.about | {"category": product.category, "detector": product.detector}
        labels = ",".join(f"{key}={json.dumps(value)}" for key, value in about.items())
        parts += [
            f'flawline_parts_total{{{labels},decision="{decision}"}} {count}'
            for decision, count in own["counts"].items()
        ]
        last = station.record.parts(categories=[product.category], limit=1)
        seen = datetime.fromisoformat(last[0].time).timestamp() if last else 0
        took = (last[0].milliseconds or 0) if last else 0
        for name, value in (
            ("drift_alarm", int(own["alarm"] is not None)),
            ("last_part_timestamp_seconds", seen),
            ("last_part_milliseconds", took),
        ):
            found.setdefault(name, []).append(f"flawline_{name}{{{labels}}} {value}")
    labels = ",".join(f"{key}={json.dumps(value)}" for key, value in station.record.about.items())
    found["messages_waiting"] = [f"flawline_messages_waiting{{{labels}}} {state['waiting']}"]
    lines = [
        "# HELP flawline_parts_total parts in the record",
        "# TYPE flawline_parts_total counter",
        *parts,
    ]
    for name, values in found.items():
        head = f"flawline_{name}"
        lines += [f"# HELP {head} {GAUGES[name]}", f"# TYPE {head} gauge", *values]
    return "\n".join(lines) + "\n"


def _page(station: Station) -> tuple[str, str]:
    """Return the page, and the policy that allows its own script alone."""
    facts = {
        **station.record.about,
        "products": [_facts(product) for product in station.products.values()],
        "window": WINDOW,
    }
    # in a script, `</script>` would end it
    given = json.dumps(facts).replace("<", "\\u003c")
    text = TEMPLATE.read_text(encoding="utf-8").replace("{{ facts }}", given)
    script = text.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return text, policy


def _facts(product: Product) -> dict[str, Any]:
    judge = product.judge
    return {
        "category": product.category,
        "detector": product.detector,
        "version": product.version,
        "note": product.note,
        "threshold": float(judge.threshold["value"]),
        "calibration": [float(score) for score in judge.calibration],
    }


class Server:
    """Serves an application in a thread, on a socket that is open once this is made.

    Raises
    ------
    FlawlineError
        If the address cannot be had, or is no loopback and there is no token.
    """

    def __init__(self, station: Station, host: str, port: int, *, token: str = "", **more: Any):
        import uvicorn

        if not is_loopback(host) and not token:
            raise FlawlineError(
                f"--host {host}: others could reach it, so it needs a token that they must give: "
                f"set the environment variable {TOKEN}, for example to the output of `openssl "
                "rand -hex 16`"
            )
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise FlawlineError(f"{host}:{port}: cannot listen there ({error.strerror})") from None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._stopping = Event()
        app = application(station, token=token, stopping=self._stopping, **more)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=5, lifespan="off", access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> "Server":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End, once requests that are being answered are."""
        self._stopping.set()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


def is_loopback(host: str) -> bool:
    """Check whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
