"""The real engine behind ``mllp-in``: which answers a sender gets, what is stored, and what a resend does."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import hl7
import pytest
from prometheus_client import generate_latest

from bridge.app import Node
from bridge.codecs.ack import acknowledge, read_ack
from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import Framer, wrap
from bridge.store.search import MessageFilter
from tests.rigs.mllp import NOW, Client, message, peer, until
from tests.rigs.site import eventually, port, running

ANYTHING: dict[str, Any] = {"all": {"from": "ris-in", "to": ["out"]}}


def channels(folder: Path, **settings: Any) -> dict[str, Any]:
    (folder / "out").mkdir()
    return {
        "ris-in": {"type": "mllp-in", "listen": "127.0.0.1:0", **settings},
        "out": {"type": "file-out", "folder": str(folder / "out")},
    }


def enhanced(number: int | str, accept: str, application: str, patient: str = "A") -> bytes:
    return (
        f"MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||ORM^O01^ORM_O01|C{number}|P|2.5.1|||{accept}|{application}\r"
        f"PID|||{patient}||Testone^Zoé\r"
    ).encode()


async def connect(node: Node) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port(node, "ris-in")))


async def ask(node: Node, data: bytes) -> bytes:
    """The bytes that answer ``data``, until the engine has nothing more to say and closes."""
    client = await connect(node)
    await client.send(data)
    client.writer.write_eof()
    said = await client.reader.read()
    await client.close()
    return said


def codes(said: bytes) -> list[tuple[str, str]]:
    answers = [read_ack(frame) for frame in Framer(1 << 20).feed(said) if isinstance(frame, bytes)]
    return [(one.code, one.control_id) for one in answers]


def stored(node: Node) -> Counter[str]:
    return Counter(row["status"] for row in node.operations.messages(MessageFilter(limit=1000)))


# enhanced mode


async def test_the_commit_answer_goes_first_and_the_application_answer_follows_on_the_connection(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        said = await ask(node, wrap(enhanced(1, "AL", "AL")) + wrap(message(2)) + wrap(enhanced(3, "AL", "NE")))

    assert codes(said) == [("CA", "C1"), ("AA", "C2"), ("CA", "C3"), ("AA", "C1")]


async def test_a_sender_that_wants_no_answer_gets_not_a_byte_and_its_message_is_stored(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        said = await ask(node, wrap(enhanced(1, "NE", "NE")) + wrap(enhanced(2, "ER", "NE")))
        found = stored(node)

    assert said == b""
    assert found == {"routed": 2}


async def test_what_is_refused_has_one_answer_though_two_were_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        bad = enhanced("", "AL", "AL").replace(b"|C|", b"||")
        test = enhanced(2, "AL", "AL").replace(b"|P|", b"|T|")
        said = await ask(node, wrap(bad) + wrap(test))
        found = stored(node)

    assert codes(said) == [("CE", ""), ("CR", "C2")]
    assert found == {"refused": 2}


async def test_the_application_answer_leaves_over_another_channel_where_the_site_says_so(tmp_path: Path) -> None:
    arrived: list[bytes] = []

    async def ris(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            payload = (await reader.readuntil(b"\x1c\r"))[1:-2]
            arrived.append(payload)
            writer.write(wrap(acknowledge(parse(payload), payload, code="CA", control_id="R", now=NOW)))

    async with peer(ris) as (ris_port, _):
        ends = channels(tmp_path, application_ack="to-ris")
        ends["to-ris"] = {"type": "mllp-out", "connect": f"127.0.0.1:{ris_port}"}
        async with running(tmp_path, ends, ANYTHING) as node:
            said = await ask(node, wrap(enhanced(1, "AL", "AL")) + wrap(enhanced(2, "AL", "NE")) + wrap(message(3)))
            await until(lambda: bool(arrived))
            await eventually(lambda: node.store.lanes() == [])

    assert codes(said) == [("CA", "C1"), ("CA", "C2"), ("AA", "C3")]
    (ack,) = arrived
    assert (read_ack(ack).code, read_ack(ack).control_id) == ("AA", "C1")
    header = parse(ack)
    assert (header.get("MSH-15"), header.get("MSH-16"), header.get("MSH-5")) == ("AL", "NE", "RIS")


async def test_without_a_way_for_application_answers_the_commit_answer_is_the_last_word(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path, application_ack="none"), ANYTHING) as node:
        said = await ask(node, wrap(enhanced(1, "AL", "AL")) + wrap(message(2)))

    assert codes(said) == [("CA", "C1"), ("AA", "C2")]


# once, and the same twice


@pytest.mark.parametrize("modes", [("", ""), ("AL", "AL"), ("NE", "NE")])
async def test_a_resend_gets_the_same_bytes_as_answer_and_nothing_is_owed_twice(
    tmp_path: Path, modes: tuple[str, str]
) -> None:
    first = enhanced(1, *modes)
    again = first.replace(b"|20260102|", b"|20260103|")
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        assert await ask(node, wrap(first)) == await ask(node, wrap(again))
        await eventually(lambda: node.store.lanes() == [])
        found = stored(node)

    assert found == {"routed": 1, "duplicate": 1}
    assert len(list((tmp_path / "out").glob("*.hl7"))) == 1


async def test_the_same_id_with_other_content_is_processed_and_flagged(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        said = await ask(node, wrap(enhanced(1, "", "", "A")) + wrap(enhanced(1, "", "", "B")))
        rows = node.operations.messages(MessageFilter(limit=1000))

    assert codes(said) == [("AA", "C1"), ("AA", "C1")]
    assert [row["status"] for row in rows] == ["routed", "routed"]
    flagged = ["control id was used before with other content" in row["warnings"] for row in rows]
    assert sorted(flagged) == [False, True]


@pytest.mark.parametrize(("policy", "code", "status"), [("refuse", "AR", "refused"), ("accept", "AA", "routed")])
@pytest.mark.parametrize("processing", ["T", "D"])
async def test_a_test_message_reaches_production_only_where_the_site_wants_it(
    tmp_path: Path, policy: str, code: str, status: str, processing: str
) -> None:
    async with running(tmp_path, channels(tmp_path, test_messages=policy), ANYTHING) as node:
        said = await ask(node, wrap(message(1).replace(b"|P|", f"|{processing}|".encode())))
        found = stored(node)

    (answer,) = [read_ack(frame) for frame in Framer(1 << 20).feed(said) if isinstance(frame, bytes)]
    assert answer.code == code
    assert [error.code for error in answer.errors] == (["202"] if code == "AR" else [])
    assert found == {status: 1}


async def test_a_message_no_route_wants_is_stored_and_answered(tmp_path: Path) -> None:
    routes = {"some": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": ["out"]}}
    async with running(tmp_path, channels(tmp_path), routes) as node:
        said = await ask(node, wrap(message(1)))
        found = stored(node)

    assert codes(said) == [("AA", "C1")]
    assert found == {"unrouted": 1}


# batches


def batch(*messages: bytes) -> bytes:
    head = b"BHS|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||||B-1\r"
    return head + b"".join(messages) + f"BTS|{len(messages)}\r".encode()


async def test_each_message_of_a_batch_is_received_for_itself_and_a_bad_one_does_not_sink_the_others(
    tmp_path: Path,
) -> None:
    good = [message(number) for number in range(1, 200)]
    bad = b"MSH|^~\\&|RIS|RADIO|BRIDGE|HUB|20260102||ORM^O01|BAD|P|2.5.1||||||UNICODE UTF-8\rPID|||\xff\xfe\r"
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        said = await ask(node, wrap(batch(good[0], bad, *good[1:])))
        found = stored(node)
        await eventually(lambda: node.store.lanes() == [])

    (frame,) = Framer(1 << 20).feed(said)
    assert isinstance(frame, bytes)
    answers = [(str(one.segment("MSA")(1)), str(one.segment("MSA")(2))) for one in hl7.parse_batch(frame.decode())]
    assert answers == [("AA", "C1"), ("AE", "BAD"), *(("AA", f"C{number}") for number in range(2, 200))]
    assert frame.startswith(b"BHS|^~\\&|BRIDGE|HUB|RIS|RADIO|") and b"|B-1\r" in frame.partition(b"MSH")[0]
    assert found == {"routed": 199, "refused": 1}


@pytest.mark.parametrize("settings", [{}, {"on_error": "reject"}])
async def test_what_follows_a_batch_on_its_connection_is_stored_after_it(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    parts = [wrap(message(0)), wrap(batch(*(message(number) for number in range(1, 150)))), wrap(message(150))]
    async with running(tmp_path, channels(tmp_path, **settings), ANYTHING) as node:
        await ask(node, b"".join(parts))
        positions = [
            (row["position"], number)
            for number in range(101)
            for one in node.store.messages(MessageFilter(control_id=f"C{number}"))
            for row in node.store.message(one["id"])["deliveries"]
        ]

    assert [number for _, number in sorted(positions)] == list(range(101))


async def test_a_resent_batch_gets_the_same_answers_and_owes_nothing_new(tmp_path: Path) -> None:
    data = wrap(batch(message(1), message(2)))
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        first, second = await ask(node, data), await ask(node, data)
        found = stored(node)

    assert first.partition(b"\rMSH")[2] == second.partition(b"\rMSH")[2]
    assert found == {"routed": 2, "duplicate": 2}


async def test_an_empty_batch_is_answered_by_an_empty_one_and_has_its_row(tmp_path: Path) -> None:
    async with running(tmp_path, channels(tmp_path), ANYTHING) as node:
        said = await ask(node, wrap(batch()))
        found = stored(node)

    assert said.startswith(b"\x0bBHS|") and said.endswith(b"\rBTS|0\r\x1c\r")
    assert found == {"refused": 1}


async def test_a_batch_dropped_as_a_file_is_received_message_by_message(tmp_path: Path) -> None:
    ends = channels(tmp_path)
    ends["ris-in"] = {"type": "file-in", "folder": str(tmp_path / "in"), "poll": "10ms", "settle": 0}
    (tmp_path / "in").mkdir()
    async with running(tmp_path, ends, ANYTHING) as node:
        (tmp_path / "in" / "night.hl7").write_bytes(batch(message(1), message(2), message(3)))
        await eventually(lambda: stored(node)["routed"] == 3)


# the way out


async def test_a_receiver_that_never_answers_gets_a_message_no_more_often_than_the_site_allows(tmp_path: Path) -> None:
    arrived: list[bytes] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.append((await reader.readuntil(b"\x1c\r"))[1:-2])
        await reader.read()

    async with peer(silent) as (pacs_port, _):
        ends = channels(tmp_path)
        retry = {"first": "10ms", "max": "20ms", "repeats": 2}
        ends["out"] = {"type": "mllp-out", "connect": f"127.0.0.1:{pacs_port}", "ack_timeout": "50ms", "retry": retry}
        async with running(tmp_path, ends, ANYTHING) as node:
            await ask(node, wrap(message(1)))
            await eventually(lambda: bool(node.operations.dead()))
            (dead,) = node.operations.dead()

    assert arrived == [message(1)] * 3
    assert dead["suspected"] and "may have it" in dead["error"]["what"]


# what is seen of peers


async def test_discarded_bytes_and_refused_connections_are_counted_where_the_console_and_metrics_read_them(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, channels(tmp_path, allow=["127.0.0.1"]), ANYTHING) as node:
        await ask(node, b"junk" + wrap(message(1)) + b"more junk")
        stranger = Client(
            *await asyncio.open_connection("127.0.0.1", port(node, "ris-in"), local_addr=("127.0.0.3", 0))
        )
        with contextlib.suppress(ConnectionError):
            await stranger.reader.read()
        stranger.writer.transport.abort()
        seen = node.runtime.peers()["ris-in"]
        await asyncio.to_thread(node.runtime.refresh_metrics)
        told = generate_latest().decode()

    assert seen["127.0.0.1"].discarded == 13 and bytes.fromhex(seen["127.0.0.1"].sample).startswith(b"junk")
    assert seen["127.0.0.3"].refused == 1
    assert 'radbridge_mllp_discarded_bytes{channel="ris-in"} 13.0' in told
    assert 'radbridge_mllp_refused_connections{channel="ris-in"} 1.0' in told
