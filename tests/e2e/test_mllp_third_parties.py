"""Clients and servers of the npm registry, over plain TCP and TLS, against the real engine and ``mllp-out``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.app import Node
from bridge.codecs.ack import read_ack
from bridge.codecs.hl7v2 import parse
from bridge.errors import Permanent
from bridge.store.search import MessageFilter
from tests.rigs.mllp import certificate, message, send, sink, until
from tests.rigs.mllp_npm import ask, server
from tests.rigs.site import port, running

ROUTES: dict[str, Any] = {"all": {"from": "ris-in", "to": ["out"]}}


def channels(folder: Path, **settings: Any) -> dict[str, Any]:
    (folder / "out").mkdir()
    return {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:0", **settings},
        "out": {"type": "file-out", "folder": str(folder / "out")},
    }


def enhanced(number: int) -> bytes:
    return message(number).replace(b"|2.5.1|||", b"|2.5.1|||AL|AL").replace(b"AL|AL|||", b"AL|AL|")


def verdicts(answers: list[str]) -> list[tuple[str, str]]:
    read = [read_ack(one.encode()) for one in answers]
    return [(one.code, one.control_id) for one in read]


def stored(node: Node) -> list[bytes]:
    rows = reversed(node.store.messages(MessageFilter(limit=1000)))
    return sorted(bytes(node.store.message(row["id"])["raw"]).rstrip(b"\r") for row in rows)


def sent(*messages: bytes) -> list[bytes]:
    return sorted(one.rstrip(b"\r") for one in messages)


@pytest.mark.parametrize("client", ["medplum", "node-hl7"])
async def test_a_client_of_the_npm_registry_is_answered(client: str, tmp_path: Path) -> None:
    messages = [message(number, "Zoé & Søren") for number in range(5)]
    async with running(tmp_path, channels(tmp_path), ROUTES) as node:
        answers = await ask(client, port(node, "ris-in"), messages)
        found = stored(node)

    assert verdicts(answers) == [("AA", f"C{number}") for number in range(5)]
    assert found == sent(*messages)


async def test_a_client_of_the_npm_registry_is_told_what_is_wrong(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path), ROUTES) as node:
        (answer,) = await ask("node-hl7", port(node, "ris-in"), [message(1).replace(b"|P|", b"|T|")])

    assert verdicts([answer]) == [("AR", "C1")]
    assert parse(answer.encode()).get("ERR-3.1") == "202"


async def test_a_client_over_tls_with_a_certificate_of_its_own_is_answered(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        certificate(tmp_path, name)
    ours = {"certificate": str(tmp_path / "ours.pem"), "key": str(tmp_path / "ours.key")}
    theirs = {name: str(tmp_path / file) for name, file in (("cert", "theirs.pem"), ("key", "theirs.key"))}
    secure = {**ours, "ca": str(tmp_path / "theirs.pem")}
    async with running(tmp_path, channels(tmp_path, tls=secure), ROUTES) as node:
        where = port(node, "ris-in")
        answers = await ask("node-hl7", where, [message(1)], tls={**theirs, "ca": str(tmp_path / "ours.pem")})

    assert verdicts(answers) == [("AA", "C1")]


@pytest.mark.parametrize(("wait", "code"), [("first", "CA"), ("application", "AA")])
async def test_a_client_in_enhanced_mode_gets_the_answer_it_waits_for(wait: str, code: str, tmp_path: Path) -> None:
    messages = [enhanced(number) for number in range(3)]
    async with running(tmp_path, channels(tmp_path), ROUTES) as node:
        answers = await ask("medplum", port(node, "ris-in"), messages, wait=wait)

    assert verdicts(answers) == [(code, f"C{number}") for number in range(3)]


async def test_a_client_that_sends_a_batch_reads_an_answer_for_each_message(tmp_path: Path) -> None:
    messages = [message(number) for number in range(3)]
    batch = b"BHS|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||||B-1\r" + b"".join(messages) + b"BTS|3\r"
    async with running(tmp_path, channels(tmp_path), ROUTES) as node:
        answers = await ask("node-hl7", port(node, "ris-in"), [batch], answers=3)
        found = stored(node)

    assert verdicts(answers) == [("AA", f"C{number}") for number in range(3)]
    assert found == sent(*messages)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_server_of_the_npm_registry_takes_what_we_send(secure: bool, tmp_path: Path) -> None:
    certificate(tmp_path, "theirs")
    theirs = {"cert": str(tmp_path / "theirs.pem"), "key": str(tmp_path / "theirs.key")} if secure else None
    trust = {"tls": {"ca": str(tmp_path / "theirs.pem")}} if secure else {}
    async with server(application="AA", tls=theirs) as (where, arrived):
        channel = sink(where, **trust)
        for number in range(5):
            assert (await send(channel, number)).summary == "AA"
        await until(lambda: len(arrived) == 5)
        await channel.close()

    assert [one.encode().rstrip(b"\r") for one in arrived] == [message(number).rstrip(b"\r") for number in range(5)]


@pytest.mark.parametrize(("wait_for", "summary"), [("accept", "CA"), ("application", "AA")])
async def test_a_server_in_enhanced_mode_is_believed_as_far_as_the_channel_says(wait_for: str, summary: str) -> None:
    async with server(enhanced=True, application="AA") as (where, _):
        channel = sink(where, wait_for=wait_for)
        assert [(await send(channel, number)).summary for number in range(3)] == [summary] * 3
        await channel.close()


async def test_a_server_whose_application_refuses_is_understood_after_its_commit_answer() -> None:
    async with server(enhanced=True, application="AE") as (where, _):
        channel = sink(where, wait_for="application")
        with pytest.raises(Permanent):
            await send(channel)
        await channel.close()
