"""``mllp-out`` as it is asked, and what it does with answers that are messages: against real sockets."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.errors import Permanent, Uncertain, Unreachable
from bridge.ports import Answer, Inbound, Outgoing, Reply
from channels.mllp import MLLP_OUT
from channels.mllp_client import MllpSink
from tests.rigs.answering import answered_order, answerer, demographics, numbered, order, query
from tests.rigs.mllp import DELIVERY, SERVICES, answering, certificate, listening, peer, port_of, send, until
from tests.rigs.processes import free_port


def sink(port: int, answers: Any = None, **settings: Any) -> MllpSink:
    model = MLLP_OUT.settings.model_validate({"type": "mllp-out", "connect": f"127.0.0.1:{port}", **settings})
    return MllpSink(model, replace(SERVICES, answers=answers))


async def ask(channel: MllpSink, number: int = 1, timeout: float = 20.0) -> Answer:
    return await channel.ask(Outgoing(query(number), DELIVERY, control_id=f"Q{number}"), timeout)


async def deliver(channel: MllpSink) -> Answer:
    return await channel.send(Outgoing(order(1, "NW"), DELIVERY, control_id="O1"))


async def test_questions_come_after_each_other_on_one_connection_that_no_delivery_uses() -> None:
    async with peer(answering()) as (port, connections):
        channel = sink(port, pipeline=8)
        await send(channel, 1)
        answers = [await ask(channel, number) for number in range(3)]
        await send(channel, 2)
        assert len(channel.links) == 1
        await channel.close()

    assert [one.summary for one in answers] == ["AA"] * 3
    assert len(connections) == 2


async def test_each_question_has_a_connection_of_its_own_where_the_receiver_wants_it() -> None:
    async with peer(answering()) as (port, connections):
        channel = sink(port, connection="per_message")
        for number in range(3):
            await ask(channel, number)
        await channel.close()

    assert len(connections) == 3


async def test_a_question_goes_the_encrypted_way_too(tmp_path: Path) -> None:
    certificate(tmp_path, "theirs")

    async def receive(inbound: Inbound) -> Reply:
        return Reply(True, "m1", demographics(inbound.data, 1))

    theirs = {"certificate": str(tmp_path / "theirs.pem"), "key": str(tmp_path / "theirs.key")}
    async with listening(receive, tls=theirs) as source:
        channel = sink(port_of(source), tls={"ca": str(tmp_path / "theirs.pem")})
        answer = await ask(channel)
        await channel.close()

    assert (answer.summary, answer.body) == ("AA RSP^K22", demographics(query(), 1))


async def test_a_question_that_cannot_be_answered_is_told_apart() -> None:
    nobody = sink(free_port())
    with pytest.raises(Unreachable):
        await ask(nobody)
    with pytest.raises(Permanent, match="control character"):
        await nobody.ask(Outgoing(query().replace(b"T1", b"T\x1c1"), DELIVERY, control_id="Q1"), 1.0)

    async with answerer(demographics) as his:
        his.gate.clear()
        channel = sink(his.port)
        with pytest.raises(Uncertain, match=r"no answer within 0\.2 s"):
            await ask(channel, timeout=0.2)
        breaking = asyncio.create_task(ask(channel))
        await until(lambda: len(his.asked) == 2)
        await his.stop()
        with pytest.raises(Uncertain, match="connection broke"):
            await breaking
        await channel.close()


async def test_an_answer_with_content_is_handed_back_before_the_delivery_counts_as_done() -> None:
    taken: list[Inbound] = []
    stored = asyncio.Event()

    async def answers(inbound: Inbound) -> Reply:
        taken.append(inbound)
        await stored.wait()
        return Reply(True, "m2")

    async with answerer(numbered) as his:
        channel = sink(his.port, answers)
        sending = asyncio.create_task(deliver(channel))
        await until(lambda: len(taken) == 1)
        assert not sending.done()
        stored.set()
        answer = await sending
        await channel.close()

    assert answer.summary == "AA ORR^O02 NA"
    assert parse(taken[0].data).get("ORC-3") == "F1"
    assert taken[0].peer == f"127.0.0.1:{his.port}"


async def test_an_answer_that_could_not_be_stored_leaves_its_delivery_uncertain() -> None:
    async def answers(_: Inbound) -> Reply:
        return Reply(False, "")

    async with answerer(numbered) as his:
        channel = sink(his.port, answers)
        with pytest.raises(Uncertain, match="answer could not be stored"):
            await deliver(channel)
        await channel.close()


@pytest.mark.parametrize("code", ["AA", "AE"])
async def test_an_answer_that_declines_an_order_is_handed_back_as_well(code: str) -> None:
    taken: list[Inbound] = []

    async def answers(inbound: Inbound) -> Reply:
        taken.append(inbound)
        return Reply(True, "m2")

    async with answerer(lambda asked, number: answered_order(asked, number, "UA", code)) as his:
        channel = sink(his.port, answers)
        with pytest.raises(Permanent, match=f"answered {code}"):
            await deliver(channel)
        await channel.close()

    assert [parse(one.data).get("ORC-1") for one in taken] == ["UA"]
