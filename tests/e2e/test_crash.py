"""A killed engine loses nothing that it acknowledged: at the ends, on SQLite and PostgreSQL (laws 1, 3, 4, 5)."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import laws
from tests.rigs.engine import CRASHING, Node, until, write_site
from tests.rigs.modality import worklist
from tests.rigs.processes import free_port
from tests.rigs.radiology import Desk, Said, order, report
from tests.rigs.recorders import Fhir, Pacs, Recorder
from tests.rigs.sender import Journal, Sender

DESKS, MESSAGES, CRASHES, SEED = 20, 5000, 20, 20260105
PACS_REPEAT, VNA_REPEAT, FHIR_REPEAT = 16, 1, 8


@dataclass
class Site:
    """An engine with a RIS of many desks, and every end that it serves."""

    config: Path
    ris: int
    dicom: int
    pacs: Pacs
    vna: Pacs
    his: Fhir
    journal: Journal = field(default_factory=Journal)

    @property
    def recorders(self) -> tuple[Recorder, ...]:
        return self.pacs, self.vna, self.his

    def happened(self) -> int:
        """How far the load is, in things seen from outside: acknowledgements and arrivals."""
        return len(self.journal.acknowledged) + sum(len(end.arrivals) for end in self.recorders)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The `store` section: embedded by default, or a PostgreSQL database."""
    return {} if request.param == "sqlite" else {"store": {"url": request.getfixturevalue("postgres_url")}}


@pytest.fixture
async def site(tmp_path: Path, store: dict[str, Any]) -> AsyncIterator[Site]:
    pacs, vna, his = Pacs(), Pacs(), Fhir()
    for end in (pacs, vna, his):
        await end.start()
    ris, dicom = free_port(), free_port()
    quick = {"first": "50ms", "max": "500ms"}
    channels = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{ris}"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}", "ae_title": "RADBRIDGE", "parallel": 16},
        "pacs": mllp_out(pacs, lane="patient", parallel=4, repeat=PACS_REPEAT, retry=quick),
        "vna": mllp_out(vna, lane="destination", repeat=VNA_REPEAT, retry=quick),
        "his": {
            "type": "fhir-out",
            "base_url": f"http://127.0.0.1:{his.port}/fhir",
            "lane": "destination",
            "repeat": FHIR_REPEAT,
            "retry": quick,
        },
    }
    routes = {
        "all": {"from": "ris-in", "to": ["pacs"]},
        "orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": [{"worklist": "order-to-worklist"}]},
        "cancels": {"from": "ris-in", "when": {"message": "ORM^O01", "ORC-1": "CA"}, "to": ["vna"]},
        "reports": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": [{"his": "report-to-fhir"}]},
    }
    yield Site(write_site(tmp_path, channels, routes, **store), ris, dicom, pacs, vna, his)
    for end in (pacs, vna, his):
        await end.stop()


def mllp_out(end: Recorder, **more: Any) -> dict[str, Any]:
    return {"type": "mllp-out", "connect": f"127.0.0.1:{end.port}", **more}


async def crash_and_restart(node: Node, site: Site) -> None:
    """``kill -9``, and the next life on the same data; what the old life had sent is kept as its own."""
    node.kill()
    for end in site.recorders:
        await end.quiet()
        end.life += 1
    node.start()


async def test_twenty_kills_under_load_lose_nothing_and_keep_every_sequence(site: Site, tmp_path: Path) -> None:
    # Given a RIS of many desks, each with its own patients and connection, ends that are busy now and then, and
    # twenty moments spread over the load
    days = [Desk(number, SEED).day(MESSAGES // DESKS) for number in range(DESKS)]
    said = {message.id: message for day in days for message in day}
    owed = {
        site.pacs: set(said),
        site.vna: {message.id for message in said.values() if message.type == "ORM" and message.minute < 0},
        site.his: {message.id for message in said.values() if message.type == "ORU"},
    }
    total = len(said) + sum(len(messages) for messages in owed.values())
    chance = random.Random(SEED)
    for end in site.recorders:
        end.busy = frozenset(chance.sample(sorted(owed[end]), len(owed[end]) // 50))
    moments = [round(total * (crash + chance.random()) / (CRASHES + 1)) for crash in range(CRASHES)]

    # When the engine is killed at each of them, and started again on the same data
    async with Node(site.config) as node:
        node.start()
        senders = [asyncio.create_task(Sender(site.journal, site.ris).send_all(day)) for day in days]
        for moment in moments:
            await until(lambda moment=moment: site.happened() >= moment, f"{moment} of {total}", node)
            await asyncio.sleep(chance.random() * 0.05)
            await crash_and_restart(node, site)
        await asyncio.gather(*senders)

        # Then every acknowledged message arrives at each end it was routed to
        assert site.journal.acknowledged == set(said)
        for end in site.recorders:
            await until(lambda end=end: not laws.lost(end.arrivals, owed[end]), "all that was acknowledged", node)
            assert not laws.strangers(end.arrivals, owed[end])
        wanted = on_the_worklist(days)
        await until_worklist(site.dicom, tmp_path, wanted)
        # And no process of a killed life stays behind
        await until(lambda: not any(child.is_running() for child in node.children), "the workers' end")

    # And it arrives in sequence, with the same ids and bytes if twice, and no more often than configured
    bounds = (site.pacs, True, PACS_REPEAT), (site.vna, False, VNA_REPEAT), (site.his, False, FHIR_REPEAT)
    for end, keyed, most in bounds:
        assert laws.overtaken(end.arrivals, site.journal.sent, keyed=keyed) == []
        assert laws.left_behind(end.arrivals, keyed=keyed) == {}
        assert laws.changed(end.arrivals) == set()
        assert laws.twice_in_a_life(end.arrivals) == []
        assert max(laws.unmarked(end.arrivals).values(), default=0) <= most
    for end in (site.pacs, site.vna):
        assert all(arrival.data in site.journal.sent[arrival.id].versions for arrival in end.arrivals)
    # And the kills hit it at work: some of what was sent before one had to be sent again after it
    assert any(laws.repeats(end.arrivals) for end in site.recorders)


def on_the_worklist(days: list[list[Said]]) -> dict[str, str]:
    """What the last word on each order leaves on the list."""
    last = {message.accession: message.minute for day in days for message in day if message.accession}
    return {number: f"20260105{minute // 60:02}{minute % 60:02}" for number, minute in last.items() if minute >= 0}


async def until_worklist(port: int, folder: Path, wanted: dict[str, str]) -> None:
    """A modality that asks again and again finds ``wanted`` on its worklist."""
    end = time.monotonic() + 60
    while True:
        found = await worklist(port, folder)
        missing, wrong = wanted.keys() - found.keys(), {name for name in found if wanted.get(name) != found[name]}
        if not missing and not wrong:
            return
        assert time.monotonic() < end, f"missing on the worklist: {sorted(missing)}, wrong: {sorted(wrong)}"
        await asyncio.sleep(1)


async def test_what_was_committed_and_not_answered_is_answered_when_sent_again_and_delivered_once(site: Site) -> None:
    # Given a PACS that is away, so that nothing leaves before the crash
    await site.pacs.stop()
    days = [Desk(number, SEED).day(20) for number in range(8)]

    # When the engine dies with its 77th message committed and not answered
    async with Node(site.config, command=CRASHING) as node:
        node.start("--die-after-accepts", "77")
        senders = [asyncio.create_task(Sender(site.journal, site.ris).send_all(day)) for day in days]
        assert await node.dies() == -signal.SIGKILL
        unanswered = {name for name, sent in site.journal.sent.items() if not sent.answers}
        # And starts again, and the senders repeat what was not answered
        node.start()
        await asyncio.gather(*senders)
        assert unanswered and unanswered <= site.journal.acknowledged

        # Then each gets the answer that it gets however often it comes
        again = Sender(site.journal, site.ris)
        said = {message.id: message for day in days for message in day}
        for name in sorted(unanswered):
            former = site.journal.sent[name].answers[-1]
            assert await again.once(said[name]) == former
        again.close()
        # And each of all messages arrives once
        await site.pacs.start()
        await until(lambda: not laws.lost(site.pacs.arrivals, said), "all that was acknowledged", node)
        await until(lambda: not laws.lost(site.his.arrivals, reports(said)), "all reports", node)
    assert len(site.pacs.arrivals) == len(said)
    assert laws.overtaken(site.pacs.arrivals, site.journal.sent, keyed=True) == []


def reports(said: dict[str, Said]) -> set[str]:
    return {message.id for message in said.values() if message.type == "ORU"}


@pytest.mark.parametrize("channel", ["pacs", "vna", "his"])
async def test_what_was_sent_and_not_marked_is_sent_again_with_the_same_bytes(site: Site, channel: str) -> None:
    # Given an engine that dies when the channel's 12th message was taken by its receiver, and is not marked as done
    end, most = {
        "pacs": (site.pacs, PACS_REPEAT),
        "vna": (site.vna, VNA_REPEAT),
        "his": (site.his, FHIR_REPEAT),
    }[channel]
    make: Callable[[str], Said] = {
        "pacs": lambda name: order(name, "P1", 1, "XO"),
        "vna": lambda name: order(name, "P1", 1, "CA"),
        "his": lambda name: report(name, "P1", 1),
    }[channel]
    day = [make(f"C{number:05}") for number in range(30)]

    async with Node(site.config, command=CRASHING) as node:
        node.start("--die-after-sends", channel, "12")
        sender = asyncio.create_task(Sender(site.journal, site.ris).send_all(day))
        assert await node.dies() == -signal.SIGKILL
        for recorder in site.recorders:
            await recorder.quiet()
            recorder.life += 1
        last = end.arrivals[-1].id

        # When it starts again
        node.start()
        await sender
        await until(lambda: not laws.lost(end.arrivals, site.journal.acknowledged), "all that was acknowledged", node)

    # Then that one comes again, and before anything new; with it no more than configured
    again = [arrival.id for arrival in end.arrivals if arrival.life == 1]
    repeated = laws.repeats(end.arrivals)[1]
    assert last in again[:repeated]
    assert 1 <= repeated <= most
    # And with the same bytes, and in sequence
    assert laws.changed(end.arrivals) == set()
    assert laws.overtaken(end.arrivals, site.journal.sent, keyed=False) == []
    assert laws.left_behind(end.arrivals, keyed=False) == {}


async def test_a_pause_longer_than_a_lease_is_no_crash(site: Site) -> None:
    days = [Desk(number, SEED).day(150) for number in range(8)]
    said = {message.id: message for day in days for message in day}
    owed = {message.id for message in said.values() if message.type == "ORM" and message.minute < 0}

    # When the only engine is frozen under load, for longer than its leases last
    async with Node(site.config) as node:
        node.start()
        senders = [asyncio.create_task(Sender(site.journal, site.ris).send_all(day)) for day in days]
        for moment in 500, 1500:
            await until(lambda moment=moment: site.happened() >= moment, f"{moment} things", node)
            node.process.send(signal.SIGSTOP)
            await asyncio.sleep(3.5)
            node.process.send(signal.SIGCONT)
        await asyncio.gather(*senders)
        await until(lambda: not laws.lost(site.pacs.arrivals, said), "all that was acknowledged", node)
        await until(lambda: not laws.lost(site.vna.arrivals, owed), "all that was acknowledged", node)

    # Then everything arrives once, and in sequence
    assert len(site.pacs.arrivals) == len(said) and len(site.vna.arrivals) == len(owed)
    assert laws.overtaken(site.pacs.arrivals, site.journal.sent, keyed=True) == []
    assert laws.overtaken(site.vna.arrivals, site.journal.sent, keyed=False) == []
