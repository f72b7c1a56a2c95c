"""What every outbound channel promises: the bytes arrive, and its errors say what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import Permanent, Temporary, Uncertain, Unreachable
from bridge.ports import Outgoing, channel_type, channel_type_names
from tests.contract.ends import RECEIVERS, SENDERS, Receiver
from tests.rigs.ends import channel, outgoing

KINDS = [kind for kind in channel_type_names() if kind in RECEIVERS]
PROJECTIONS = [kind for kind in channel_type_names() if channel_type(kind).direction == "both"]


def delivery(receiver: Receiver, number: int = 1) -> Outgoing:
    return outgoing(receiver.data, number, control_id="c1", format=receiver.format)


@asynccontextmanager
async def sink_to(kind: str, receiver: Receiver) -> AsyncIterator[Any]:
    sink = channel(kind, **receiver.settings())
    try:
        yield sink
    finally:
        await sink.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_delivery_arrives_as_it_is(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    await receiver.open()

    async with sink_to(kind, receiver) as sink:
        answer = await sink.send(delivery(receiver))

    assert answer.summary
    assert receiver.received() == [receiver.data]
    await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_deliveries_arrive_in_the_sequence_they_are_sent(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    await receiver.open()
    bodies = [receiver.data.replace(b"1", b"%d" % number) for number in (1, 2, 3)]

    async with sink_to(kind, receiver) as sink:
        for number, body in enumerate(bodies, 1):
            await sink.send(outgoing(body, number, format=receiver.format))

    assert receiver.received() == bodies
    await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_repeat_is_the_same(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    await receiver.open()

    async with sink_to(kind, receiver) as sink:
        await sink.send(delivery(receiver))
        await sink.send(delivery(receiver))

    assert set(receiver.received()) == {receiver.data}
    await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_deliveries_of_several_lanes_go_side_by_side(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    await receiver.open()

    async with sink_to(kind, receiver) as sink:
        await asyncio.gather(*(sink.send(delivery(receiver, number)) for number in range(1, 9)))

    assert receiver.received() == [receiver.data] * 8
    await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_there_is_unreachable(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)

    async with sink_to(kind, receiver) as sink:
        with pytest.raises(Unreachable) as caught:
            await sink.send(delivery(receiver))

    assert caught.value.at
    assert caught.value.what


@pytest.mark.parametrize("kind", [kind for kind in KINDS if RECEIVERS[kind].can_be_silent])
async def test_no_answer_is_uncertain(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    receiver.silent = True
    await receiver.open()

    async with sink_to(kind, receiver) as sink:
        with pytest.raises(Uncertain):
            await sink.send(delivery(receiver))

    assert receiver.received() == [receiver.data]
    await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_receiver_that_was_away_is_found_again(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)

    async with sink_to(kind, receiver) as sink:
        for _ in range(2):
            with pytest.raises((Unreachable, Uncertain)):
                await sink.send(delivery(receiver))
            await receiver.open()
            assert (await sink.send(delivery(receiver))).summary
            await receiver.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_errors_carry_nothing_of_the_message(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)

    async with sink_to(kind, receiver) as sink:
        with pytest.raises(Temporary) as caught:
            await sink.send(delivery(receiver))

    assert not any(content in str(caught.value) for content in ("ller", "PID", "2.25.1"))


@pytest.mark.parametrize("kind", KINDS)
async def test_closing_twice_or_unused_is_fine(kind: str, tmp_path: Path) -> None:
    receiver = RECEIVERS[kind](tmp_path)
    await receiver.open()
    used, unused = channel(kind, **receiver.settings()), channel(kind, **receiver.settings())
    await used.send(delivery(receiver))

    for sink in (used, used, unused, unused):
        await sink.close()

    assert "://" in used.endpoint
    await receiver.close()


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_a_projection_refuses_for_good_what_it_can_never_apply(kind: str, tmp_path: Path) -> None:
    projection = channel(kind, **SENDERS[kind](tmp_path).settings())

    for junk in (b"", b"junk", b"{}", b"[]", b"\xff"):
        with pytest.raises(Permanent):
            projection.apply(None, outgoing(junk))
