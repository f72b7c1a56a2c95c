"""What every inbound channel promises: law 1 at the transport, and a life of its own whatever comes in."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError, Refused
from bridge.ports import channel_type_names
from tests.contract.ends import SENDERS, Sender
from tests.rigs.ends import Engine, channel

KINDS = [kind for kind in channel_type_names() if kind in SENDERS]
BRINGERS = [kind for kind in KINDS if SENDERS[kind].brings]
ANSWERERS = [kind for kind in BRINGERS if SENDERS[kind].answers]
LISTENERS = [kind for kind in KINDS if SENDERS[kind].listens]

JUNK = [b"\x00", b"\xff" * 5000, b"MSH|^~\\&", b"\x0b\x0b\x1c", b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x7f\xff\xff\xff"]


@asynccontextmanager
async def started(kind: str, sender: Sender, engine: Engine) -> AsyncIterator[Any]:
    source = channel(kind, sender.services, **sender.settings())
    await source.start(engine.receive)
    try:
        yield source
    finally:
        await source.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_it_starts_and_stops_and_starts_again(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    source = channel(kind, sender.services, **sender.settings())

    for _ in range(2):
        await source.start(engine.receive)
        assert await sender.reachable()
        assert "://" in source.endpoint
        await source.stop()

    assert engine.received == []


@pytest.mark.parametrize("kind", KINDS)
async def test_stopping_what_was_not_started_is_fine(kind: str, tmp_path: Path) -> None:
    await channel(kind, **SENDERS[kind](tmp_path).settings()).stop()


@pytest.mark.parametrize("kind", LISTENERS)
async def test_after_stop_nobody_listens(kind: str, tmp_path: Path) -> None:
    sender = SENDERS[kind](tmp_path)

    async with started(kind, sender, Engine()):
        assert await sender.reachable()

    assert not await sender.reachable()


@pytest.mark.parametrize("kind", LISTENERS)
async def test_a_taken_port_is_told_with_place_and_fix(kind: str, tmp_path: Path) -> None:
    sender = SENDERS[kind](tmp_path)
    source = channel(kind, sender.services, **sender.settings())

    with socket.create_server(("127.0.0.1", sender.port)), pytest.raises(BridgeError) as caught:
        await source.start(Engine().receive)

    assert str(sender.port) in caught.value.at
    assert caught.value.fix
    assert caught.value.kind == "settings"

    await source.start(Engine().receive)
    assert await sender.reachable()
    await source.stop()


@pytest.mark.parametrize("kind", LISTENERS)
async def test_an_address_that_is_not_ours_is_told(kind: str, tmp_path: Path) -> None:
    settings = {**SENDERS[kind](tmp_path).settings(), "listen": "192.0.2.1:2575"}

    with pytest.raises(BridgeError) as caught:
        await channel(kind, **settings).start(Engine().receive)

    assert "192.0.2.1:2575" in caught.value.at


@pytest.mark.parametrize("kind", BRINGERS)
async def test_a_message_arrives_as_it_was_sent_and_is_answered(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()

    async with started(kind, sender, engine):
        assert await sender.hand_over(sender.message())

    assert engine.data == [sender.message()]
    assert engine.received[0].peer


@pytest.mark.parametrize("kind", BRINGERS)
async def test_no_positive_answer_before_the_engine_gave_its_own(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    engine.gate.clear()

    async with started(kind, sender, engine):
        answer = asyncio.create_task(sender.hand_over(sender.message()))
        await engine.arrived.wait()
        await asyncio.wait([answer], timeout=0.2)
        assert not answer.done()
        engine.gate.set()
        assert await answer


@pytest.mark.parametrize("kind", ANSWERERS)
async def test_what_the_engine_refuses_is_answered_so(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    engine.error = Refused("type not wanted", at="MSH-9", fix="send ORM^O01")

    async with started(kind, sender, engine):
        assert not await sender.hand_over(sender.message())
        engine.error = None
        assert await sender.hand_over(sender.message())


@pytest.mark.parametrize("kind", BRINGERS)
async def test_a_bug_in_the_engine_is_no_positive_answer_and_the_channel_lives_on(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    engine.bug = RuntimeError("boom")

    async with started(kind, sender, engine):
        answer = asyncio.create_task(sender.hand_over(sender.message()))
        await engine.arrived.wait()
        await asyncio.wait([answer], timeout=0.2)
        assert not answer.done() or not answer.result()
        engine.bug = None
        assert await sender.hand_over(sender.message())
        await answer


@pytest.mark.parametrize("kind", BRINGERS)
async def test_messages_of_several_senders_all_arrive(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    messages = [sender.message(number) for number in range(8)]

    async with started(kind, sender, engine):
        answers = await asyncio.gather(*(sender.hand_over(message) for message in messages))

    assert all(answers)
    assert sorted(engine.data) == sorted(messages)


@pytest.mark.parametrize("kind", BRINGERS)
async def test_stopping_waits_for_the_message_under_way(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()
    engine.gate.clear()
    source = channel(kind, sender.services, **sender.settings())
    await source.start(engine.receive)
    answer = asyncio.create_task(sender.hand_over(sender.message()))
    await engine.arrived.wait()

    stopping = asyncio.create_task(source.stop())
    await asyncio.wait([stopping], timeout=0.1)
    engine.gate.set()
    await stopping

    assert await answer


@pytest.mark.parametrize("kind", KINDS)
async def test_junk_does_no_harm(kind: str, tmp_path: Path) -> None:
    sender, engine = SENDERS[kind](tmp_path), Engine()

    async with started(kind, sender, engine):
        for junk in JUNK:
            await sender.junk(junk)
        assert await sender.reachable()
        assert not sender.brings or await sender.hand_over(sender.message())

    assert not sender.brings or engine.data[-1] == sender.message()
