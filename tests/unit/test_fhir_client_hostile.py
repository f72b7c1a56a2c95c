"""``fhir-out`` and its token endpoint where the other end lies, drips, or never ends: one delivery fails, for a reason
that is known, and nothing else does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.codecs import fhir
from bridge.errors import BridgeError, Temporary, Uncertain, Unreachable
from tests.rigs.ends import channel, outgoing
from tests.rigs.processes import free_port

BUNDLE = fhir.encode(
    {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:7f3c0c6e-0000-4000-8000-000000000001",
                "resource": {"resourceType": "Basic", "identifier": [{"system": "urn:a", "value": "1"}]},
                "request": {"method": "POST", "url": "Basic", "ifNoneExist": "identifier=urn:a|1"},
            }
        ],
    }
)
DEEP = b"[" * 100_000
ENDLESS = b" "


@dataclass
class Liar:
    """Answers each path with a status, headers and a body; :data:`ENDLESS` never ends."""

    port: int = field(default_factory=free_port)
    answers: dict[str, tuple[int, Mapping[str, str], bytes]] = field(default_factory=dict)
    pause: float = 0
    """Between two bytes of an endless body; 0: as fast as it goes."""
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        self.asked.append(path)
        status, headers, body = self.answers[path]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} X\r\nconnection: close\r\n{lines}\r\n".encode() + body)
        try:
            while body == ENDLESS:
                writer.write(b" " if self.pause else b" " * 1_000_000)
                await writer.drain()
                await asyncio.sleep(self.pause)
        except ConnectionError:
            pass
        writer.close()


@asynccontextmanager
async def lying(**answers: Any) -> AsyncIterator[Liar]:
    """``token`` and ``fhir``: what is said there."""
    liar = Liar(answers={f"/{name}": answer for name, answer in answers.items()})
    async with await asyncio.start_server(liar.serve, "127.0.0.1", liar.port):
        yield liar


async def sent(liar: Liar, **settings: Any) -> BridgeError:
    """How a delivery to it fails."""
    sink = channel("fhir-out", base_url=f"{liar.url}/fhir", **settings)
    try:
        with pytest.raises(BridgeError) as failed:
            await sink.send(outgoing(BUNDLE, format="fhir"))
    finally:
        await sink.close()
    return failed.value


def oauth(liar: Liar) -> dict[str, Any]:
    return {"client_id": "bridge", "client_secret": "s3cret", "token_url": f"{liar.url}/token"}


def said(**token: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(token).encode()


@pytest.mark.parametrize(
    "answer",
    [
        said(access_token="tök€n"),
        said(access_token="one\r\nX-Other: two"),
        said(access_token=["t"]),
        said(access_token="t", token_type="mac"),
        (200, {}, DEEP),
        (200, {}, b"[]"),
        (302, {"location": "http://127.0.0.1:1/other"}, b""),
    ],
    ids=["no-ascii", "lines", "list", "other-type", "deep", "no-object", "redirect"],
)
async def test_a_token_endpoint_that_lies_is_as_good_as_away(answer: Any) -> None:
    async with lying(token=answer, fhir=(500, {}, b"")) as liar:
        failed = await sent(liar, oauth=oauth(liar))

    assert isinstance(failed, Unreachable)
    assert "s3cret" not in str(failed.as_dict()) and "Other" not in str(failed.as_dict())
    assert liar.asked == ["/token"]


@pytest.mark.parametrize("life", [10**400, float("nan"), float("inf"), -5, "soon", None, [1], 10**18, "9" * 400])
async def test_a_token_whose_life_makes_no_sense_is_used_all_the_same(life: Any) -> None:
    answer = said(access_token="t", expires_in=life)

    async with lying(token=answer, fhir=(503, {}, b"")) as liar:
        failed = await sent(liar, oauth=oauth(liar))

    assert failed.what == "HTTP 503"
    assert liar.asked == ["/token", "/fhir"]


async def test_a_token_endpoint_that_is_no_address_is_named() -> None:
    discovered = (200, {}, b'{"token_endpoint": "http://[::1:99999999/x"}')
    liar = Liar(answers={"/fhir/.well-known/smart-configuration": discovered})

    async with await asyncio.start_server(liar.serve, "127.0.0.1", liar.port):
        failed = await sent(liar, oauth={"client_id": "bridge", "client_secret": "s"})

    assert (type(failed), failed.fix) == (Unreachable, "set `token_url`")


@pytest.mark.parametrize(
    "asked",
    ["315360000", "9" * 400, "Mon, 01 Jan 2400 00:00:00 GMT"],
)
async def test_a_server_that_asks_to_wait_for_years_is_asked_again_within_the_hour(asked: str) -> None:
    async with lying(fhir=(503, {"retry-after": asked}, b"")) as liar:
        failed = await sent(liar)

    assert isinstance(failed, Unreachable)
    assert failed.retry_after == 3600


async def test_a_retry_after_that_is_none_is_as_if_it_were_not_there() -> None:
    asked = {"retry-after": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"}

    async with lying(fhir=(503, asked, b"")) as liar:
        failed = await sent(liar)

    assert isinstance(failed, Unreachable)
    assert failed.retry_after is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"issue": {"code": "invalid"}}',
        b'{"issue": ["invalid", null, {"code": 7, "expression": 5}, {"code": "x", "expression": {"a": 1}}]}',
        b'{"issue": 1}',
        DEEP,
        b'{"a":' * 100_000,
    ],
)
async def test_an_outcome_that_is_none_leaves_the_status(body: bytes) -> None:
    async with lying(fhir=(500, {}, body)) as liar:
        failed = await sent(liar)

    assert isinstance(failed, Temporary)
    assert failed.what.startswith("HTTP 500")


@pytest.mark.parametrize(
    "entry",
    [
        {"resource": "x"},
        {"resource": {"entry": 7}},
        {"resource": {"entry": ["x", None]}},
        {"resource": {"entry": [{"resource": "x"}]}},
        {"resource": {"entry": [{"resource": {"resourceType": "Basic", "identifier": "x"}}]}},
        {"resource": {"entry": [{"resource": {"resourceType": "Basic", "identifier": [7]}}]}},
    ],
)
async def test_what_is_found_in_no_shape_is_no_answer(entry: dict[str, Any]) -> None:
    answer = {"resourceType": "Bundle", "entry": [{"response": {"status": "200"}, **entry}]}

    async with lying(fhir=(200, {}, json.dumps(answer).encode())) as liar:
        await sent(liar)

    assert liar.asked[0] == "/fhir"


async def test_an_answer_without_an_end_is_left() -> None:
    async with asyncio.timeout(60), lying(fhir=(200, {}, ENDLESS)) as liar:
        failed = await sent(liar)

    assert isinstance(failed, Unreachable)
    assert failed.what == "the answer is larger than 64 MiB"


async def test_an_answer_that_drips_is_left_after_ten_times_the_timeout() -> None:
    async with asyncio.timeout(60), lying(fhir=(200, {}, ENDLESS)) as liar:
        liar.pause = 0.02
        failed = await sent(liar, timeout="50ms", read_first=False)

    assert isinstance(failed, Uncertain)
    assert failed.what == "no answer (it takes too long)"
