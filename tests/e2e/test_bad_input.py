"""Whatever comes in at any port, and whatever is wrong around it: a clear error, a kept row, an engine that lives on
(laws 2, 7)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rigs import laws
from tests.rigs.command import radbridge
from tests.rigs.disk import small_disk
from tests.rigs.engine import Node, until, write_site
from tests.rigs.modality import worklist
from tests.rigs.processes import free_port, listening
from tests.rigs.radiology import Said, hl7, order, report
from tests.rigs.recorders import Pacs
from tests.rigs.sender import END, VT, Journal, Sender, acknowledgement, send_raw

QUICK = {"first": "100ms", "max": "500ms"}


@dataclass
class Hospital:
    """An engine with every kind of port, and a PACS."""

    node: Node
    config: Path
    mllp: int
    http: int
    dicom: int
    web: int
    pacs: Pacs
    journal: Journal = field(default_factory=Journal)

    @property
    def ports(self) -> dict[str, int]:
        return {"mllp": self.mllp, "http": self.http, "dicom": self.dicom, "web": self.web}

    async def ask(self, data: bytes) -> tuple[str, bytes]:
        """MSA-1 of the answer to these bytes in a frame, and the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.mllp)
        async with asyncio.timeout(60):
            writer.write(VT + data + END)
            await writer.drain()
            answer = (await reader.readuntil(END)).strip(VT + END)
        writer.close()
        return acknowledgement(answer)[0], answer

    async def rows(self, **wanted: str) -> list[dict[str, Any]]:
        """What ``radbridge messages`` lists."""
        options = [part for name, value in wanted.items() for part in (f"--{name.replace('_', '-')}", value)]
        ran = await radbridge("messages", "--config", self.config, "--json", *options)
        found: list[dict[str, Any]] = ran.json
        return found

    async def works(self, name: str) -> None:
        """A good message goes through each port, and the worklist answers."""
        sender = Sender(self.journal, self.mllp)
        assert acknowledgement(await sender.send(order(f"{name}M", "P1", 1, "XO"))) == ("AA", f"{name}M")
        sender.close()
        async with httpx.AsyncClient(trust_env=False) as client:
            posted = await client.post(f"http://127.0.0.1:{self.http}/hl7", content=order(f"{name}H", "P1", 1).data)
            assert posted.status_code == 201
            assert (await client.get(f"http://127.0.0.1:{self.web}/readyz")).status_code == 200
        await until(lambda: {f"{name}M", f"{name}H"} <= self.pacs.ids, "both at the PACS", self.node)
        assert "A1" in await worklist(self.dicom, self.config.parent)


def channels(mllp: int, http: int, dicom: int, pacs: int) -> dict[str, Any]:
    return {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{mllp}"},
        "web-in": {"type": "http-in", "listen": f"127.0.0.1:{http}"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}", "ae_title": "RADBRIDGE"},
        "pacs": {"type": "mllp-out", "connect": f"127.0.0.1:{pacs}", "retry": QUICK},
    }


ROUTES = {
    "orders": {
        "from": ["ris-in", "web-in"],
        "when": {"message": "ORM^O01"},
        "to": [{"worklist": "order-to-worklist"}, "pacs"],
    },
    "reports": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": "pacs"},
}


@asynccontextmanager
async def opened(folder: Path, data: Path | None = None) -> AsyncIterator[Hospital]:
    pacs = Pacs()
    await pacs.start()
    ports = [free_port() for _ in range(4)]
    more = {"data": str(data)} if data else {}
    web = {"listen": f"127.0.0.1:{ports[3]}"}
    config = write_site(folder, channels(*ports[:3], pacs.port), ROUTES, web=web, **more)
    async with Node(config, roles="receive,deliver,dicom,web") as node:
        node.start()
        await node.ready()
        await until(lambda: listening(ports[3]), "the web end", node)
        yield Hospital(node, config, *ports, pacs)
    await pacs.stop()


@pytest.fixture
async def hospital(tmp_path: Path) -> AsyncIterator[Hospital]:
    async with opened(tmp_path) as made:
        yield made


def junk() -> list[bytes]:
    """What strangers send: nothing, noise, other protocols, beginnings of ours, and very long lines."""
    chance = random.Random(20260108)
    mllp = VT + order("J1", "P1", 1).data + END
    associate = bytes.fromhex("010000000068000100005241444252494447452020202020202043543120202020202020202020202020")
    return [
        b"",
        *(chance.randbytes(size) for size in (1, 7, 512, 70_000)),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /hl7 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nMSH",
        b"POST /hl7 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(200),
        mllp[:-30],
        mllp[:1],
        VT * 1000,
        END * 1000,
        associate,
        associate + b"\xff" * 64,
        b"\x01\x00\xff\xff\xff\xff" + chance.randbytes(100),
        b"A" * 1_000_000,
    ]


async def test_junk_on_every_port_does_no_harm(hospital: Hospital) -> None:
    await hospital.works("A")

    for name, port in hospital.ports.items():
        # What is well-formed on its own port is no junk there.
        whole = () if name == "mllp" else (VT + order("J2", "P1", 1).data + END,)
        await asyncio.gather(*(send_raw(port, data, 5) for data in (*junk(), *whole)))
        assert hospital.node.process.running(), name

    await hospital.works("B")
    assert hospital.pacs.ids == {"AM", "AH", "BM", "BH"}
    # What came as a message and was none is kept, all the same
    refused = await hospital.rows(status="refused")
    assert refused
    for row in refused:
        assert row["control_id"] == "" and row["error"]["what"] and row["error"]["fix"]


async def test_bytes_of_a_truncated_frame_are_counted_and_never_taken_for_a_message(hospital: Hospital) -> None:
    whole = VT + order("C1", "P1", 1).data + END

    # A frame that was cut, and one that begins anew inside
    assert await send_raw(hospital.mllp, whole[:200]) == b""
    await hospital.node.says("discarded=200")
    answer = await send_raw(hospital.mllp, whole[:200] + whole)
    assert acknowledgement(answer.strip(VT + END)) == ("AA", "C1")
    # One that comes in pieces is a whole one
    reader, writer = await asyncio.open_connection("127.0.0.1", hospital.mllp)
    for place in range(0, len(whole), 40):
        writer.write(whole[place : place + 40].replace(b"|C1|", b"|C2|"))
        await writer.drain()
        await asyncio.sleep(0.01)
    assert acknowledgement((await reader.readuntil(END)).strip(VT + END)) == ("AA", "C2")
    writer.close()

    await until(lambda: hospital.pacs.ids == {"C1", "C2"}, "both at the PACS", hospital.node)
    assert [row["control_id"] for row in await hospital.rows()] == ["C2", "C1"]


async def test_a_message_of_twenty_megabytes_arrives_whole(hospital: Hospital) -> None:
    words = random.Random(1).randbytes(7_500_000).hex()
    line = f"OBX|1|ED|PDF||^application^pdf^Base64^{words}{words[:5_000_000]}||||||F"
    big = report("C1", "P1", 1).data + line.encode() + b"\r"
    assert len(big) > 20_000_000

    code, _ = await hospital.ask(big)

    assert code == "AA"
    await until(lambda: bool(hospital.pacs.arrivals), "the message at the PACS", hospital.node)
    assert hospital.pacs.arrivals[0].data == big


async def test_other_delimiters_are_read_from_the_message_and_wrong_ones_refused_with_their_place(
    hospital: Hospital,
) -> None:
    usual = order("C1", "P1", 1).data

    # Given delimiters that are unusual, but declared
    other = usual.translate(bytes.maketrans(b"|^~\\&", b"$%!/@"))
    assert (await hospital.ask(other))[0] == "AA"

    # And some that cannot be
    wrong = {
        "no MSH": b"PID|||P1\r",
        "too few": b"MSH|\rPID|||P1\r",
        "the same twice": usual.replace(b"MSH|^~\\&|", b"MSH|^^\\&|", 1),
        "letters": usual.replace(b"MSH|^~\\&|", b"MSHABCDE|", 1),
    }
    for fault, data in wrong.items():
        code, answer = await hospital.ask(data)
        assert code in ("AE", "AR"), fault
        assert b"MSH" in answer.partition(b"ERR|")[2], fault

    # Then the first is passed on as it came, the others are kept as refused, with place and fix
    await until(lambda: bool(hospital.pacs.arrivals), "the message at the PACS", hospital.node)
    assert hospital.pacs.arrivals[0].data == other
    refused = await hospital.rows(status="refused")
    assert len(refused) == len(wrong)
    assert all(row["error"]["at"].startswith("MSH") and row["error"]["fix"] for row in refused)


async def test_a_type_that_no_route_wants_is_kept_and_shown(hospital: Hospital) -> None:
    code, _ = await hospital.ask(hl7("MFN^M02", "U1", "MFI|STF"))

    assert code == "AA"
    (row,) = await hospital.rows(status="unrouted")
    assert (row["control_id"], row["type"]) == ("U1", "MFN^M02")


async def test_a_mapping_that_fails_parks_its_patient_with_place_and_fix_and_others_go_on(hospital: Hospital) -> None:
    # Given an order whose accession number is too long for DICOM, and a good one of the same patient after it
    bad = order("C1", "P1", 1).data.replace(b"|A1|", b"|A12345678901234567|")
    sender = Sender(hospital.journal, hospital.mllp)
    for message in (Said("C1", "ORM", bad), order("C2", "P1", 2), order("C3", "P2", 3)):
        assert acknowledgement(await sender.send(message)) == ("AA", message.id)
    sender.close()
    await until(lambda: hospital.pacs.ids == {"C1", "C2", "C3"}, "all at the PACS", hospital.node)
    await hospital.node.says("delivery_died")

    # Then another patient's order is on the worklist, and it tells what stands in the way of this one's
    for _ in range(50):
        if listed := await worklist(hospital.dicom, hospital.config.parent):
            break
    assert set(listed) == {"A3"}
    told = (await radbridge("dead", "--config", hospital.config, "--json")).json
    (dead,) = told["dead"]
    (message,) = await hospital.rows(control_id="C1")
    assert (dead["destination"], dead["message"]) == ("worklist", message["id"])
    assert "AccessionNumber" in dead["error"]["at"] + dead["error"]["what"]
    assert dead["error"]["fix"]

    # And when a person gives it up, the next one goes
    done = await radbridge("skip", dead["id"], "--reason", "entered twice", "--config", hospital.config)
    assert done.code == 0, done.err
    for _ in range(50):
        if "A2" in (listed := await worklist(hospital.dicom, hospital.config.parent)):
            break
    assert set(listed) == {"A2", "A3"}


async def test_a_site_file_with_mistakes_starts_nothing_and_tells_them_all(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    faulty = channels(*ports, pacs=9)
    faulty["ris-in"]["on_error"] = "ignore"
    faulty["pacs"]["lanes"] = "patient"
    config = write_site(tmp_path, faulty, {"orders": {"from": "ris", "to": [{"worklist": "order-to-worklists"}]}})
    async with Node(config) as node:
        node.start()
        assert await node.dies() == 2
    said = node.output()
    for mistake in ("`on_error`", "`lanes`", "`ris`", "`order-to-worklists`"):
        assert mistake in said
    assert said.count("config/bridge.yaml:") >= 4
    assert "channel_listening" not in said


async def test_ports_that_are_taken_are_all_named(tmp_path: Path) -> None:
    with ExitStack() as taken:
        holders = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [holder.getsockname()[1] for holder in holders]
        async with Node(write_site(tmp_path, channels(*ports, pacs=9), ROUTES)) as node:
            node.start()
            assert await node.dies() == 2
    for name, port in zip(("ris-in", "web-in", "worklist"), ports, strict=True):
        assert f"channel {name}" in node.output()
        assert f"127.0.0.1:{port}" in node.output()


@pytest.mark.parametrize("mount", [True, False], ids=["file-system", "file-size"])
async def test_a_full_disk_is_answered_ar_and_nothing_acknowledged_is_lost(tmp_path: Path, mount: bool) -> None:
    refused, numbers = set[str](), iter(range(100_000))
    with small_disk(tmp_path / "disk", mount=mount) as disk:
        async with opened(tmp_path, data=disk.folder) as hospital:
            pid_, sender = hospital.node.process.pid, Sender(hospital.journal, hospital.mllp)

            async def send() -> str:
                name = f"C{next(numbers):05}"
                code, about = acknowledgement(await sender.once(order(name, "P1", 1, "XO")))
                assert about == name
                if code == "AA":
                    hospital.journal.sent[name].answered = 0.0
                else:
                    refused.add(name)
                return code

            for _ in range(20):
                assert await send() == "AA"

            # When the disk is full, messages are answered AR once there is no room, also none that a checkpoint frees
            disk.fill(pid_)
            codes = [await send()]
            while codes[-5:] != ["AR"] * 5:
                assert len(codes) < 5000
                codes.append(await send())
            assert hospital.node.process.running()

            # And when there is room again, they are taken again
            disk.free(pid_)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60):
                    while await send() != "AA":
                        await asyncio.sleep(0.1)
            assert [await send() for _ in range(20)] == ["AA"] * 20
            sender.close()
            taken = hospital.journal.acknowledged
            await until(lambda: not laws.lost(hospital.pacs.arrivals, taken), "all acknowledged", hospital.node)
    # Then all that was acknowledged arrived, in sequence, and nothing else
    assert laws.strangers(hospital.pacs.arrivals, taken) == set()
    assert refused and not refused & taken
    firsts = list(dict.fromkeys(arrival.id for arrival in hospital.pacs.arrivals))
    assert firsts == sorted(firsts)
    assert laws.changed(hospital.pacs.arrivals) == set()
