from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.errors import BridgeError, Overloaded, Permanent, Refused, Temporary, Uncertain, Unreachable
from bridge.ports import HostPort, Inbound, Reply
from tests.rigs.ends import Engine, channel, outgoing
from tests.rigs.processes import free_port

ORDER = b"MSH|^~\\&|RIS|A|B|C|20240301||ORM^O01|1|P|2.5\rPID|1||1\r"


@asynccontextmanager
async def listening(engine: Engine, **settings: Any) -> AsyncIterator[str]:
    source = channel("http-in", **{"listen": "127.0.0.1:0", **settings})
    await source.start(engine.receive)
    try:
        yield source.endpoint
    finally:
        await source.stop()


async def post(url: str, data: bytes = ORDER, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.post(url, content=data, **more)


async def test_a_committed_message_is_answered_201_with_its_acknowledgement() -> None:
    engine = Engine()

    async with listening(engine) as url:
        response = await post(url)

    assert response.status_code == 201
    assert response.headers["content-type"] == "application/hl7-v2; charset=utf-8"
    assert b"\rMSA|AA|1\r" in response.content
    assert engine.data == [ORDER]
    assert engine.received[0].peer.startswith("127.0.0.1:")


async def test_a_message_that_was_known_is_answered_200() -> None:
    engine = Engine()
    engine.duplicate = True

    async with listening(engine) as url:
        assert (await post(url)).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused("type not wanted"), 422, b"AR"),
        (Overloaded("the queue is full"), 503, b"AR"),
        (BridgeError("required", kind="required"), 422, b"AE"),
    ],
)
async def test_a_refusal_has_the_status_of_its_kind(error: BridgeError, status: int, code: bytes) -> None:
    engine = Engine()
    engine.error = error

    async with listening(engine) as url:
        response = await post(url)

    assert response.status_code == status
    assert b"\rMSA|" + code in response.content
    assert ("retry-after" in response.headers) is (status == 503)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/other", 404), ("GET", "/hl7", 405), ("PUT", "/hl7", 405)]
)
async def test_what_is_no_message_is_turned_away(method: str, path: str, status: int) -> None:
    engine = Engine()

    async with listening(engine) as url, httpx.AsyncClient(trust_env=False) as client:
        response = await client.request(method, url.removesuffix("/hl7") + path)

    assert response.status_code == status
    assert set(response.json()) == {"kind", "what", "at", "fix"}
    assert engine.received == []


async def test_an_empty_body_is_no_message() -> None:
    engine = Engine()

    async with listening(engine) as url:
        assert (await post(url, b"")).status_code == 400

    assert engine.received == []


@pytest.mark.parametrize(
    ("shown", "status"), [(None, 401), ("Bearer wrong", 401), ("s3cret", 401), ("Bearer s3cret", 201)]
)
async def test_a_token_is_asked_for_where_one_is_set(shown: str | None, status: int) -> None:
    engine = Engine()

    async with listening(engine, token="s3cret") as url:
        response = await post(url, headers={"authorization": shown} if shown else {})

    assert response.status_code == status
    assert len(engine.received) == (status == 201)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_message_too_large_is_answered_413_and_the_listener_lives_on(chunked: bool) -> None:
    engine = Engine()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    async with listening(engine, max_size="10kB") as url:
        response = await post(url, chunks() if chunked else b"x" * 20_000)  # type: ignore[arg-type]
        assert response.status_code == 413
        assert response.json()["fix"] == "send less, or raise max_size"
        assert (await post(url)).status_code == 201

    assert engine.data == [ORDER]


async def test_twenty_megabytes_arrive_whole() -> None:
    engine = Engine()
    large = ORDER + b"OBX|1|ED|||^^^Base64^" + b"QUJD" * 5_000_000 + b"\r"

    async with listening(engine) as url:
        assert (await post(url, large)).status_code == 201

    assert engine.data == [large]


async def test_a_sender_that_hangs_up_half_way_leaves_nothing() -> None:
    engine = Engine()

    async with listening(engine) as url:
        port = httpx.URL(url).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /hl7 HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nMSH|")
        await writer.drain()
        writer.close()
        assert (await post(url)).status_code == 201

    assert engine.data == [ORDER]


async def test_a_bug_is_answered_500_and_the_listener_lives_on() -> None:
    engine = Engine()
    engine.bug = RuntimeError("boom")

    async with listening(engine) as url:
        response = await post(url)
        assert response.status_code == 500
        assert b"boom" not in response.content
        engine.bug = None
        assert (await post(url)).status_code == 201


async def test_signals_stay_with_the_process() -> None:
    engine = Engine()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    async with listening(engine):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_stopping_waits_for_the_message_under_way() -> None:
    engine = Engine()
    engine.gate.clear()
    source = channel("http-in", listen="127.0.0.1:0")
    await source.start(engine.receive)
    sending = asyncio.create_task(post(source.endpoint))
    await engine.arrived.wait()

    stopping = asyncio.create_task(source.stop())
    await asyncio.sleep(0.05)
    engine.gate.set()
    await stopping

    assert (await sending).status_code == 201


class Server:
    """A web server that answers as told and keeps what it got."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, {}, b""
        self.hangs_up = False
        self.silent = threading.Event()
        self.silent.set()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["content-length"]))
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, data))
                outer.silent.wait(20)
                if outer.hangs_up:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                """Nothing to standard error."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/in?key=s3cret"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.silent.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@asynccontextmanager
async def sink(url: str, **settings: Any) -> AsyncIterator[Any]:
    made = channel("http-out", url=url, **settings)
    try:
        yield made
    finally:
        await made.close()


async def test_a_delivery_is_posted_with_its_id_and_charset(server: Server) -> None:
    server.status, server.body = 201, b"MSH|^~\\&|\rMSA|AA|1\r"

    async with sink(server.url, token="t0ken") as out:
        answer = await out.send(outgoing(ORDER, charset="iso8859-15"))

    assert (answer.summary, answer.body) == ("HTTP 201 AA", server.body)
    path, headers, data = server.requests[0]
    assert (path, data) == ("/in?key=s3cret", ORDER)
    assert headers["content-type"] == "application/hl7-v2; charset=iso-8859-15"
    assert headers["authorization"] == "Bearer t0ken"
    assert headers["idempotency-key"] == "delivery0001"


async def test_a_repeat_is_the_same_request(server: Server) -> None:
    async with sink(server.url) as out:
        await out.send(outgoing(ORDER))
        await out.send(outgoing(ORDER))

    assert server.requests[0] == server.requests[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Permanent),
        (400, Permanent),
        (401, Unreachable),
        (403, Permanent),
        (404, Permanent),
        (408, Temporary),
        (409, Temporary),
        (422, Permanent),
        (425, Temporary),
        (429, Unreachable),
        (500, Temporary),
        (502, Unreachable),
        (503, Unreachable),
        (504, Uncertain),
    ],
)
async def test_each_status_says_what_becomes_of_the_delivery(
    server: Server, status: int, kind: type[BridgeError]
) -> None:
    server.status = status

    async with sink(server.url) as out:
        with pytest.raises(BridgeError) as caught:
            await out.send(outgoing(ORDER))

    assert type(caught.value) is kind
    assert caught.value.what == f"HTTP {status}"
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "policy", "kind"),
    [
        (200, b"AE", {}, Permanent),
        (200, b"AR", {}, Temporary),
        (500, b"AE", {}, Permanent),
        (500, b"AE", {"AE": "retry"}, Temporary),
        (503, b"AR", {}, Unreachable),
    ],
)
async def test_an_acknowledgement_in_the_answer_decides(
    server: Server, status: int, code: bytes, policy: dict[str, str], kind: type[BridgeError]
) -> None:
    server.status, server.body = status, b"MSH|^~\\&|\rMSA|" + code + b"|1\r"

    async with sink(server.url, ack_policy=policy) as out:
        with pytest.raises(BridgeError) as caught:
            await out.send(outgoing(ORDER))

    assert type(caught.value) is kind


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None)])
async def test_the_server_says_when_to_come_again(server: Server, value: str, seconds: float | None) -> None:
    server.status, server.headers = 503, {"Retry-After": value}

    async with sink(server.url) as out:
        with pytest.raises(Unreachable) as caught:
            await out.send(outgoing(ORDER))

    assert caught.value.retry_after == seconds


async def test_nobody_listening_is_unreachable() -> None:
    async with sink(f"http://127.0.0.1:{free_port()}/") as out:
        with pytest.raises(Unreachable, match="no connection"):
            await out.send(outgoing(ORDER))


async def test_no_answer_is_uncertain(server: Server) -> None:
    server.silent.clear()

    async with sink(server.url, timeout="200ms") as out:
        with pytest.raises(Uncertain, match="no answer"):
            await out.send(outgoing(ORDER))

    assert len(server.requests) == 1


async def test_a_connection_lost_before_the_answer_is_uncertain(server: Server) -> None:
    server.hangs_up = True

    async with sink(server.url) as out:
        with pytest.raises(Uncertain, match="no answer"):
            await out.send(outgoing(ORDER))


async def test_what_http_out_sends_http_in_takes() -> None:
    engine = Engine()

    async with listening(engine, token="both") as url, sink(url, token="both") as out:
        answer = await out.send(outgoing(ORDER))

    assert answer.summary == "HTTP 201 AA"
    assert engine.data == [ORDER]


def test_a_taken_port_is_told_with_the_fix() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = HostPort("127.0.0.1", taken.getsockname()[1])
            with pytest.raises(BridgeError) as caught:
                await channel("http-in", listen=str(address)).start(Engine().receive)
        assert caught.value.what == "cannot listen: Address already in use"
        assert caught.value.at == str(address)
        assert "choose another port" in caught.value.fix

    asyncio.run(run())


async def test_junk_on_the_port_is_answered_400() -> None:
    engine = Engine()

    async with listening(engine) as url:
        port = httpx.URL(url).port or 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x0bMSH|^~\\&|\x1c\r\n\r\n")
        status = (await reader.read(64)).split(b"\r\n")[0]
        writer.close()
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        await asyncio.to_thread(plain.request, "POST", "/hl7", ORDER)
        response = await asyncio.to_thread(plain.getresponse)
        assert response.status == 201
        plain.close()

    assert status == b"HTTP/1.1 400 Bad Request"
    assert engine.data == [ORDER]


async def test_an_answer_without_a_body_names_the_message() -> None:
    async def receive(inbound: Inbound) -> Reply:
        return Reply(True, "m1")

    source = channel("http-in", listen="127.0.0.1:0", format="bytes")
    await source.start(receive)
    response = await post(source.endpoint, b"\x00\xff")
    await source.stop()

    assert (response.status_code, json.loads(response.content)) == (201, {"message": "m1"})


def test_authorities_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")

    for name in ("bad.pem", "missing.pem"):
        with pytest.raises(BridgeError) as caught:
            channel("http-out", url="https://127.0.0.1:1/", verify=tmp_path / name)
        assert caught.value.at == str(tmp_path / name)
        assert caught.value.kind == "settings"
