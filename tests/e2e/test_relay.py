"""Questions go to the destination that can answer them, and its answer back: the real engine between systems of PyPI's
``hl7``."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.app import Node
from bridge.codecs.ack import acknowledge, read_ack
from bridge.codecs.hl7v2 import parse
from bridge.codecs.mllp import wrap
from bridge.engine.operations import ReplayRequest
from bridge.store.search import MessageFilter
from bridge.store.unmapped import unmapped_codes
from tests.rigs import engine
from tests.rigs.answering import (
    Answerer,
    Asker,
    answered_order,
    answerer,
    ask,
    demographics,
    numbered,
    order,
    query,
)
from tests.rigs.mllp import NOW, peer, until
from tests.rigs.processes import free_port
from tests.rigs.site import eventually, port
from tests.rigs.site import running as running_with

ASKS: dict[str, Any] = {
    "demographics": {"from": "ct-in", "when": {"message": ["QBP^Q22", "QRY^A19"]}, "ask": "his", "timeout": "20s"},
    "numbers": {"from": "ct-in", "when": {"message": "ORM^O01", "ORC-1": "SN"}, "ask": "his", "timeout": "20s"},
    "orders": {"from": "ct-in", "when": {"message": "ORM^O01", "ORC-1": {"not": "SN"}}, "to": "his"},
}


def channels(his: int, **settings: Any) -> dict[str, Any]:
    return {
        "ct-in": {"type": "mllp-in", "listen": "127.0.0.1:0"},
        "his": {"type": "mllp-out", "connect": f"127.0.0.1:{his}", **settings},
    }


def running(
    folder: Path, ends: dict[str, Any], routes: dict[str, Any], mappings: dict[str, Any] | None = None, **more: Any
) -> AbstractAsyncContextManager[Node]:
    """The engine with these mappings and no others."""
    return running_with(folder, ends, routes, mappings=written(folder, mappings or {}), **more)


def written(folder: Path, mappings: dict[str, Any]) -> str:
    (folder / "mappings").mkdir()
    for name, mapping in mappings.items():
        (folder / "mappings" / f"{name}.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    return str(folder / "mappings")


def impatient(timeout: str) -> dict[str, Any]:
    return {name: {**route, "timeout": timeout} if "ask" in route else route for name, route in ASKS.items()}


def rows(node: Node) -> list[dict[str, Any]]:
    """Messages with their deliveries, in the order of arrival."""
    return [node.store.message(row["id"]) for row in reversed(node.store.messages(MessageFilter(limit=100)))]


def verdict(answer: bytes) -> tuple[str, str]:
    read = read_ack(answer)
    return read.code, read.control_id


# the answer and the journal


async def test_the_destinations_answer_goes_back_byte_for_byte_and_the_journal_says_who_was_asked(
    store_url: str, tmp_path: Path
) -> None:
    async with (
        answerer(demographics) as his,
        running(tmp_path, channels(his.port), ASKS, store={"url": store_url}) as node,
    ):
        answer = await ask(port(node, "ct-in"), query())
        (row,) = await asyncio.to_thread(rows, node)
        owed = await asyncio.to_thread(node.store.lanes)

    assert answer.rstrip(b"\r") == demographics(query(), 1).rstrip(b"\r")
    assert his.asked == [query().rstrip(b"\r")] or his.asked == [query()]
    (asked,) = row["deliveries"]
    assert (row["status"], row["type"]) == ("routed", "QBP^Q22")
    assert (asked["destination"], asked["route"], asked["status"]) == ("his", "demographics", "answered")
    assert (asked["answer"], asked["attempts"]) == ("AA RSP^K22", 1)
    assert asked["finished_at"] >= asked["created_at"] == row["received_at"]
    assert owed == []


async def test_what_a_mapping_changed_on_the_way_there_is_turned_back(tmp_path: Path) -> None:
    mappings = {
        "as-bridge": {
            "target": "hl7v2",
            "messages": ["QBP^Q22"],
            "edits": [
                {"set": {"MSH-3": {"value": "RADBRIDGE"}, "MSH-4": {"value": "ENGINE"}, "MSH-10": {"value": "X1"}}}
            ],
        },
        "marked": {"target": "hl7v2", "messages": ["RSP^K22"], "edits": [{"set": {"PID-19": {"value": "seen"}}}]},
    }
    routes = {"all": {"from": "ct-in", "ask": {"his": "as-bridge"}, "answer": "marked"}}
    async with answerer(demographics) as his, running(tmp_path, channels(his.port), routes, mappings=mappings) as node:
        answer = await ask(port(node, "ct-in"), query())

    (asked,) = his.asked
    assert [parse(asked).get(f"MSH-{at}") for at in (3, 4, 10)] == ["RADBRIDGE", "ENGINE", "X1"]
    read = parse(answer)
    assert [read.get(f"MSH-{at}") for at in (3, 4, 5, 6)] == ["HIS", "HOSP", "CT1", "ROOM1"]
    assert (read.get("MSA-1"), read.get("MSA-2"), read.get("PID-19")) == ("AA", "Q1", "seen")
    assert "Zoé".encode("latin-1") in answer


async def test_codes_without_a_row_are_counted_on_the_way_there_and_on_the_way_back(
    store_url: str, tmp_path: Path
) -> None:
    # Given a mapping of the question that passes them, and one of the answer that does not
    there = {"target": "hl7v2", "messages": ["QBP^Q22"], "edits": [{"set": {"MSH-5": looked_up("pass")}}]}
    back = {"target": "hl7v2", "messages": ["RSP^K22"], "edits": [{"set": {"MSH-4": looked_up("refuse")}}]}
    folder = written(tmp_path, {"there": there, "back": back})
    (tmp_path / "mappings" / "tables").mkdir()
    (tmp_path / "mappings" / "tables" / "systems.csv").write_text("code,name\nRIS,Radiology\n")
    routes = {"all": {"from": "ct-in", "ask": {"his": "there"}, "answer": "back"}}

    # When a question goes there, and its answer back
    async with (
        answerer(demographics) as his,
        running_with(tmp_path, channels(his.port), routes, mappings=folder, store={"url": store_url}) as node,
    ):
        answer = await ask(port(node, "ct-in"), query())
        met = await asyncio.to_thread(node.store.read, lambda connection: unmapped_codes(connection, 0))

    # Then both codes are counted
    assert verdict(answer)[0] != "AA"
    assert {(one.table, one.code, one.outcome, one.messages) for one in met} == {
        ("systems", "CT1", "passed", 1),
        ("systems", "BRIDGE", "refused", 1),
    }


def looked_up(unknown: str) -> dict[str, str]:
    return {"from": "MSH-3.1", "table": "systems", "unknown": unknown}


async def test_a_mapping_that_makes_no_hl7_message_is_told_to_the_asker_and_nobody_is_asked(tmp_path: Path) -> None:
    patient: dict[str, Any] = {"resource": "Patient", "write": "create", "identify": {"identifier": {"from": "QPD-2"}}}
    patient["set"] = {"language": {"value": "fr"}}
    mapping = {"target": "fhir", "messages": ["QBP^Q22"], "resources": [patient]}
    routes = {"all": {"from": "ct-in", "ask": {"his": "to-fhir"}}}
    async with (
        answerer(demographics) as his,
        running(tmp_path, channels(his.port), routes, mappings={"to-fhir": mapping}) as node,
    ):
        answer = await ask(port(node, "ct-in"), query())

    assert parse(answer).get("ERR-7") == "the mapping to-fhir makes no HL7 message"
    assert his.asked == []


async def test_an_asker_in_enhanced_mode_gets_its_commit_answer_first(tmp_path: Path) -> None:
    async with answerer(demographics) as his, running(tmp_path, channels(his.port), ASKS) as node:
        asker = await Asker.connect(port(node, "ct-in"))
        answers = [await asker.ask(query(modes="AL|AL")), await asker.answer()]
        asker.close()

    assert [verdict(one) for one in answers] == [("CA", "Q1"), ("AA", "Q1")]
    assert parse(answers[1]).get("MSH-9.2") == "K22"


async def test_a_commit_answer_of_the_destination_is_not_its_answer(tmp_path: Path) -> None:
    async def his(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\x1c\r"))[1:-2]
        writer.write(wrap(acknowledge(None, asked, code="CA", control_id="C", now=NOW)))
        if parse(asked).get("QPD-2") == "T1":
            writer.write(wrap(demographics(asked, 1)))
        await reader.read()

    async with peer(his) as (his_port, _), running(tmp_path, channels(his_port), impatient("1s")) as node:
        both, silent = [await ask(port(node, "ct-in"), query(number)) for number in (1, 2)]

    assert parse(both).get("MSH-9.2") == "K22"
    assert verdict(silent) == ("AR", "Q2")


async def test_a_refusal_of_the_destination_is_its_answer_and_not_kept(tmp_path: Path) -> None:
    async with (
        answerer(lambda asked, number: answered_order(asked, number, "UA", "AE")) as his,
        running(tmp_path, channels(his.port), ASKS) as node,
    ):
        answers = [await ask(port(node, "ct-in"), order()) for _ in range(2)]
        found = await asyncio.to_thread(rows, node)

    assert [parse(one).get("ORC-3") for one in answers] == ["F1", "F2"]
    assert [verdict(one) for one in answers] == [("AE", "O1")] * 2
    assert [row["deliveries"][0]["answer"] for row in found] == ["AE ORR^O02 UA"] * 2


# no answer


async def test_a_destination_that_is_away_is_answered_ar_and_told_in_the_journal(
    store_url: str, tmp_path: Path
) -> None:
    async with running(tmp_path, channels(free_port()), ASKS, store={"url": store_url}) as node:
        answer = await ask(port(node, "ct-in"), query())
        (row,) = await asyncio.to_thread(rows, node)

    read = read_ack(answer)
    assert (read.code, read.control_id, read.errors[0].code) == ("AR", "Q1", "207")
    assert "his gave no answer: cannot connect" in parse(answer).get("ERR-7")
    assert parse(answer).get("ERR-8").startswith("ask again")
    (asked,) = row["deliveries"]
    assert (row["status"], row["error"]["kind"]) == ("refused", "unavailable")
    assert (asked["status"], asked["answer"], asked["error"]) == ("unanswered", "", row["error"])


async def test_an_answer_that_comes_too_late_is_never_the_next_questions(tmp_path: Path) -> None:
    async with answerer(demographics) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port), impatient("300ms")) as node:
            asker = await Asker.connect(port(node, "ct-in"))
            late = await asker.ask(query(1, patient="1111"))
            his.gate.set()
            answer = await asker.ask(query(1, patient="2222"))
            asker.close()

    assert (verdict(late), parse(late).get("ERR-3.1")) == (("AR", "Q1"), "207")
    assert "no answer within 0.3 s" in parse(late).get("ERR-7")
    assert parse(answer).get("PID-3.1") == "2222"


@pytest.mark.parametrize(
    "answer",
    [
        lambda asked: b"MSH|^~\\&|HIS\rMSA|AA|Q1\r",
        lambda asked: demographics(asked, 1).replace(b"Testone", b"Test\x1cone"),
        lambda asked: demographics(asked, 1).replace(b"|8859/1", b"|UNICODE UTF-8"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_told_to_the_asker(answer: Any, tmp_path: Path) -> None:
    async with (
        answerer(lambda asked, number: answer(asked)) as his,
        running(tmp_path, channels(his.port), impatient("2s")) as node,
    ):
        said = await ask(port(node, "ct-in"), query())
        (row,) = await asyncio.to_thread(rows, node)

    assert verdict(said) == ("AE", "Q1")
    assert "the answer of his cannot be passed on" in parse(said).get("ERR-7")
    assert (row["status"], row["deliveries"][0]["status"]) == ("refused", "answered")


# beside other messages


async def test_eight_ask_at_once_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with answerer(demographics) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port), ASKS) as node:
            where = port(node, "ct-in")
            asking = [asyncio.create_task(ask(where, query(patient=f"P{number}"))) for number in range(8)]
            await until(lambda: len(his.asked) == 8)
            his.gate.set()
            answers = await asyncio.gather(*asking)

    assert [parse(one).get("PID-3.1") for one in answers] == [f"P{number}" for number in range(8)]


async def test_no_more_questions_are_under_way_than_the_channel_says(tmp_path: Path) -> None:
    async with answerer(demographics) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port, questions=2), impatient("500ms")) as node:
            answers = await asyncio.gather(*(ask(port(node, "ct-in"), query(number)) for number in range(4)))

    assert len(his.asked) == 2
    assert {verdict(one)[0] for one in answers} == {"AR"}


async def test_neither_deliveries_nor_other_senders_wait_for_a_question(tmp_path: Path) -> None:
    async with answerer(numbered) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port, pipeline=8, parallel=8), ASKS) as node:
            where = port(node, "ct-in")
            waiting = asyncio.create_task(ask(where, order(1, "SN")))
            await until(lambda: len(his.asked) == 1)
            accepted = await ask(where, order(2, "NW"))
            await until(lambda: len(his.asked) == 2)
            assert not waiting.done()
            his.gate.set()
            number = await waiting
            await eventually(lambda: node.store.lanes() == [])

    assert verdict(accepted) == ("AA", "O2")
    assert parse(number).get("ORC-3") == "F1"


async def test_messages_of_the_askers_connection_are_answered_in_the_order_of_arrival(tmp_path: Path) -> None:
    async with answerer(numbered) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port), ASKS) as node:
            asker = await Asker.connect(port(node, "ct-in"))
            asker.send(order(1, "SN"))
            asker.send(order(2, "NW"))
            await until(lambda: len(his.asked) == 2)
            his.gate.set()
            answers = [await asker.answer(), await asker.answer()]
            asker.close()

    assert [verdict(one) for one in answers] == [("AA", "O1"), ("AA", "O2")]
    assert parse(answers[0]).get("MSH-9.1") == "ORR"


# again


async def test_a_query_that_comes_again_is_asked_again(tmp_path: Path) -> None:
    async with answerer(demographics) as his, running(tmp_path, channels(his.port), ASKS) as node:
        answers = [await ask(port(node, "ct-in"), query()) for _ in range(2)]

    assert [parse(one).get("MSH-10") for one in answers] == ["R1", "R2"]


async def test_a_number_is_assigned_once_however_often_and_whenever_it_is_asked_for(
    store_url: str, tmp_path: Path
) -> None:
    async with answerer(numbered) as his:
        his.gate.clear()
        async with running(tmp_path, channels(his.port), ASKS, store={"url": store_url}) as node:
            where = port(node, "ct-in")
            together = [asyncio.create_task(ask(where, order())) for _ in range(3)]
            await until(lambda: len(his.asked) == 1)
            his.gate.set()
            answers = [
                *await asyncio.gather(*together),
                await ask(where, order().replace(b"|20260102|", b"|20260103|")),
            ]
            found = await asyncio.to_thread(rows, node)

    assert {parse(one).get("ORC-3") for one in answers} == {"F1"}
    assert len(his.asked) == 1
    assert sorted(row["status"] for row in found) == ["duplicate", "duplicate", "duplicate", "routed"]


async def test_an_engine_killed_while_it_asks_keeps_nothing_and_one_that_answered_keeps_the_number(
    tmp_path: Path,
) -> None:
    where = free_port()
    async with answerer(numbered) as his:
        ends = channels(his.port)
        ends["ct-in"]["listen"] = f"127.0.0.1:{where}"
        async with engine.Node(engine.write_site(tmp_path, ends, ASKS, mappings=written(tmp_path, {}))) as node:
            node.start()
            await node.ready()
            his.gate.clear()
            unanswered = asyncio.create_task(ask(where, order()))
            await until(lambda: len(his.asked) == 1)
            node.kill()
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await unanswered
            his.gate.set()

            answers = []
            for _ in range(2):
                node.start()
                await node.ready()
                answers.append(await ask(where, order()))
                node.kill()

    assert [parse(one).get("ORC-3") for one in answers] == ["F2", "F2"]
    assert len(his.asked) == 2


# what a destination answers to deliveries


BACK = {"answers": {"from": "his", "when": {"message": "ORR^O02"}, "to": "ris"}}


def with_ris(his: Answerer, ris: Answerer, **settings: Any) -> dict[str, Any]:
    return {**channels(his.port, **settings), "ris": {"type": "mllp-out", "connect": f"127.0.0.1:{ris.port}"}}


def plain(asked: bytes, number: int) -> bytes:
    msa = f"MSA|AA|{parse(asked).header.control_id}"
    return f"MSH|^~\\&|RIS|RADIO|||20260102||ACK|K{number}|P|2.3.1\r{msa}\r".encode()


async def test_an_order_answer_becomes_a_message_where_a_route_wants_it(store_url: str, tmp_path: Path) -> None:
    async with answerer(numbered) as his, answerer(plain) as ris:
        site = with_ris(his, ris)
        async with running(tmp_path, site, ASKS | BACK, store={"url": store_url}) as node:
            await ask(port(node, "ct-in"), order(1, "NW"))
            await until(lambda: len(ris.asked) == 1)
            await eventually(lambda: node.store.lanes() == [])
            sent, back = await asyncio.to_thread(rows, node)

    assert ris.asked[0].rstrip(b"\r") == numbered(order(1, "NW"), 1).rstrip(b"\r")
    assert (sent["channel"], sent["deliveries"][0]["answer"]) == ("ct-in", "AA ORR^O02 NA")
    assert (back["channel"], back["type"], back["status"]) == ("his", "ORR^O02", "routed")


async def test_an_order_answer_that_comes_again_goes_on_once(tmp_path: Path) -> None:
    async with (
        answerer(lambda asked, number: numbered(asked, 1)) as his,
        answerer(plain) as ris,
        running(tmp_path, with_ris(his, ris), ASKS | BACK) as node,
    ):
        await ask(port(node, "ct-in"), order(1, "NW"))
        await eventually(lambda: node.store.lanes() == [] and bool(ris.asked))
        (first, _) = await asyncio.to_thread(rows, node)
        again = ReplayRequest(deliveries=(first["deliveries"][0]["id"],))
        await asyncio.to_thread(node.operations.replay, again, actor="test")
        await eventually(lambda: node.store.lanes() == [] and len(his.asked) == 2)
        found = await asyncio.to_thread(rows, node)

    assert [row["status"] for row in found] == ["routed", "routed", "duplicate"]
    assert len(ris.asked) == 1


@pytest.mark.parametrize(("policy", "status"), [({}, "dead"), ({"AA/UA": "done"}, "done")])
async def test_an_order_that_the_filler_declines_is_seen_and_the_policy_decides(
    policy: dict[str, str], status: str, tmp_path: Path
) -> None:
    async with (
        answerer(lambda asked, number: answered_order(asked, number, "UA")) as his,
        answerer(plain) as ris,
        running(tmp_path, with_ris(his, ris, ack_policy=policy), ASKS | BACK) as node,
    ):
        await ask(port(node, "ct-in"), order(1, "NW"))
        await until(lambda: len(ris.asked) == 1)
        await eventually(lambda: rows(node)[0]["deliveries"][0]["status"] == status)
        delivery = (await asyncio.to_thread(rows, node))[0]["deliveries"][0]

    if status == "dead":
        assert delivery["error"]["what"] == "answered AA (UA unable to accept order)"
    else:
        assert delivery["answer"] == "AA ORR^O02 UA"


async def test_a_general_acknowledgement_is_no_message(tmp_path: Path) -> None:
    async with (
        answerer(plain) as his,
        answerer(plain) as ris,
        running(tmp_path, with_ris(his, ris), ASKS | BACK) as node,
    ):
        await ask(port(node, "ct-in"), order(1, "NW"))
        await eventually(lambda: node.store.lanes() == [])
        found = await asyncio.to_thread(rows, node)

    assert [row["channel"] for row in found] == ["ct-in"]
    assert found[0]["deliveries"][0]["answer"] == "AA"


# beside deliveries of the same message; order answers of our own


async def test_what_is_asked_and_also_sent_is_owed_only_once_it_was_answered(store_url: str, tmp_path: Path) -> None:
    copy = {"copy": {"from": "ct-in", "when": {"ORC-1": "SN"}, "to": "ris"}}
    async with answerer(numbered) as his, answerer(plain) as ris:
        await his.stop()
        async with running(tmp_path, with_ris(his, ris), ASKS | copy, store={"url": store_url}) as node:
            refused = await ask(port(node, "ct-in"), order(1, "SN"))
            await his.start()
            taken = await ask(port(node, "ct-in"), order(1, "SN"))
            await until(lambda: len(ris.asked) == 1)
            await eventually(lambda: node.store.lanes() == [])
            first, second = await asyncio.to_thread(rows, node)

    assert [verdict(one)[0] for one in (refused, taken)] == ["AR", "AA"]
    assert [one["destination"] for one in first["deliveries"]] == ["his"]
    assert [(one["destination"], one["status"]) for one in second["deliveries"]] == [
        ("his", "answered"),
        ("ris", "done"),
    ]


async def test_a_sender_that_expects_order_answers_gets_them_also_when_it_is_refused(tmp_path: Path) -> None:
    async with answerer(plain) as his:
        ends = channels(his.port)
        ends["ct-in"] |= {"order_answers": "order"}
        async with running(tmp_path, ends, ASKS) as node:
            said = [
                await ask(port(node, "ct-in"), data)
                for data in (order(1, "NW"), order(1, "NW"), order(2, "NW").replace(b"|P|", b"|T|"), query())
            ]

    assert [(verdict(one)[0], parse(one).get("MSH-9.1"), parse(one).get("ORC-1")) for one in said] == [
        ("AA", "ORR", "OK"),
        ("AA", "ORR", "OK"),
        ("AR", "ORR", "UA"),
        ("AA", "ACK", ""),
    ]
    assert said[0] == said[1]


async def test_an_order_answer_leaves_over_another_channel_where_the_site_says_so(tmp_path: Path) -> None:
    async with answerer(plain) as his, answerer(plain) as ris:
        ends = with_ris(his, ris)
        ends["ct-in"] |= {"order_answers": "order", "application_ack": "ris"}
        async with running(tmp_path, ends, ASKS) as node:
            said = await ask(port(node, "ct-in"), order(1, "NW").replace(b"|P|2.3.1\r", b"|P|2.3.1|||AL|AL\r"))
            await until(lambda: len(ris.asked) == 1)
            await eventually(lambda: node.store.lanes() == [])

    assert verdict(said) == ("CA", "O1")
    answer = parse(ris.asked[0])
    assert [answer.get(path) for path in ("MSH-9.1", "MSH-15", "MSA-1", "ORC-1")] == ["ORR", "AL", "AA", "OK"]
