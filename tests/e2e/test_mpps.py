"""Modalities tell a real engine of their work: npm's dcmjs-dimse and pynetdicom as modalities, a RIS made of the
package ``hl7``, DCMTK's findscu at the worklist, and dcmjs-dimse as the PACS that the steps are passed on to."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hl7
import pytest

from tests.contract.ends import FhirReceiver
from tests.rigs import dicom_npm
from tests.rigs.command import Hl7Pacs, send_with_hl7
from tests.rigs.engine import CRASHING, Node, until, write_site
from tests.rigs.mllp import certificate
from tests.rigs.modality import worklist
from tests.rigs.need import require
from tests.rigs.performed import Modality, created, ended, order
from tests.rigs.processes import free_port
from tests.rigs.radiology import hl7 as message
from tests.rigs.radiology import pid, segment

UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}


@dataclass
class Site:
    config: Path
    ris_in: int
    mpps: int
    dicom: int
    pacs: int
    ris: Hl7Pacs
    his: FhirReceiver

    async def order(self, number: int) -> None:
        numbers = {2: f"P{number}^HIS", 3: f"F{number}^RIS"}
        exam = {1: "1", **numbers, 4: "CTHEAD^CT head^99DEMO", 18: f"A{number}", 19: f"R{number}", 20: f"S{number}"}
        orc = {1: "NW", **numbers, 5: "SC", 7: "^^^20260105093000", 9: "20260101120000", 18: "CT1"}
        study = segment("ZDS", {1: f"1.2.826.0.1.{number}^^Application^DICOM"})
        groups = [segment("ORC", orc), segment("OBR", {**exam, 24: "CT"}), study]
        said = message("ORM^O01", f"o{number}", pid("P1"), *groups)
        assert await send_with_hl7(self.ris_in, said) == ["AA"]

    async def comes_to(self, node: Node, **listed: str) -> None:
        """Return when this is what the modality sees."""
        modality = Modality(self.dicom)
        for _ in range(200):
            if await asyncio.to_thread(modality.listed, self.dicom) == listed:
                return
            await asyncio.sleep(0.05)
        raise AssertionError(
            f"wanted {listed}, the modality sees {await asyncio.to_thread(modality.listed, self.dicom)}"
        )

    def told(self) -> list[tuple[str, str]]:
        """Filler number and order status of what the RIS was told, in sequence."""
        orcs = [hl7.parse(text).segment("ORC") for text in self.ris.received]
        return [(str(orc[3]).partition("^")[0], str(orc[5])) for orc in orcs]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    ris_in, mpps, dicom, pacs, ris = (free_port() for _ in range(5))
    quick = {"first": "100ms", "max": "500ms"}
    channels: dict[str, Any] = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{ris_in}"},
        "modalities": {"type": "dicom-mpps-in", "listen": f"127.0.0.1:{mpps}"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}"},
        "ris": {"type": "mllp-out", "connect": f"127.0.0.1:{ris}", "lane": "order", "retry": quick},
        "pacs": {
            "type": "dicom-mpps-out",
            "connect": f"127.0.0.1:{pacs}",
            "called_ae_title": "PACS",
            "retry": quick,
        },
    }
    his = FhirReceiver(tmp_path)
    channels["his"] = {"type": "fhir-out", **his.settings()}
    ordered = {"ScheduledStepAttributesSequence.AccessionNumber": "present"}
    routes = {
        "orders": {"from": "ris-in", "to": [{"worklist": "order-to-worklist"}]},
        "steps": {"from": "modalities", "to": [{"worklist": "mpps-to-worklist"}, "pacs", {"his": "mpps-to-fhir"}]},
        "status": {"from": "modalities", "when": ordered, "to": [{"ris": "mpps-to-orm"}]},
    }
    yield Site(write_site(tmp_path, channels, routes), ris_in, mpps, dicom, pacs, Hl7Pacs(ris), his)


async def test_what_a_modality_tells_moves_the_worklist_and_reaches_the_ris_and_the_pacs(
    site: Site, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        # Given three orders on the worklist, a RIS, and a PACS that is away
        node = await stack.enter_async_context(Node(site.config))
        node.start()
        await node.ready()
        await stack.enter_async_context(site.ris.up())
        await site.his.open()
        stack.push_async_callback(site.his.close)
        for number in (1, 2, 3):
            await site.order(number)
        await site.comes_to(node, A1="SCHEDULED", A2="SCHEDULED", A3="SCHEDULED")

        # When a modality begins two of them as one group, and the third by mistake
        group = created(order(1), order(2), **UTF8)
        begun = await dicom_npm.tell(
            site.mpps, ("create", "1.2.9", group), ("create", "1.2.10", created(order(3), **UTF8))
        )
        assert [one["status"] for one in begun] == [0, 0]

        # Then they show as started
        await site.comes_to(node, A1="STARTED", A2="STARTED", A3="STARTED")
        await site.ris.has(2)

        # When the group is completed, and the third is given back
        wrong = ended("DISCONTINUED", "110514", **UTF8)
        done = await dicom_npm.tell(site.mpps, ("set", "1.2.9", ended(**UTF8)), ("set", "1.2.10", wrong))
        assert [one["status"] for one in done] == [0, 0]

        # Then what is done is gone, and the third waits for its patient
        await site.comes_to(node, A3="SCHEDULED")
        assert await worklist(site.dicom, tmp_path) == {"A3": "202601050930"}

        # And work that was not scheduled is kept, passed on, and changes nothing
        unscheduled = {"StudyInstanceUID": "1.2.826.0.1.77", "AccessionNumber": "", "ScheduledProcedureStepID": ""}
        (kept,) = await dicom_npm.tell(site.mpps, ("create", "1.2.11", created(unscheduled, **UTF8)))
        assert kept["status"] == 0

        # And the RIS was told of each order, in sequence
        await site.ris.has(4)
        assert [status for number, status in site.told() if number == "F1"] == ["IP", "CM"]
        assert [status for number, status in site.told() if number == "F3"] == ["IP", "SC"]
        completed = hl7.parse(site.ris.received[[one[1] for one in site.told()].index("CM")])
        assert [str(obr[18]) for obr in completed.segments("OBR")] == ["A1", "A2"]

        # And with the issuers that the modality left out
        assert str(completed.segment("ORC")[3]).endswith("^RIS")
        assert str(completed.segment("PID")[3]).startswith("P1^^^")

        # And the HIS follows each procedure
        await until(lambda: len(site.his.received()) == 5, "five bundles at the HIS", node)
        resources = [entry["resource"] for data in site.his.received() for entry in json.loads(data)["entry"]]
        followed = [(one["identifier"][0]["value"], one["status"]) for one in resources if "performedPeriod" in one]
        assert [status for uid, status in followed if uid == "urn:oid:1.2.9"] == ["in-progress", "completed"]
        assert [status for uid, status in followed if uid == "urn:oid:1.2.10"] == ["in-progress", "entered-in-error"]

        # And the PACS gets every event once it is back, those of the patient in sequence
        told = await stack.enter_async_context(dicom_npm.receiver(site.pacs))
        await until(lambda: len(told) == 5, "five events at the PACS", node)
        sequence = [(one["command"], one["instance"]) for one in told]
        assert ("create", "1.2.11") in sequence
        assert [one for one in sequence if one[1] != "1.2.11"] == [
            ("create", "1.2.9"), ("create", "1.2.10"), ("set", "1.2.9"), ("set", "1.2.10"),
        ]  # fmt: skip
        (first,) = [one for one in told if (one["command"], one["instance"]) == ("create", "1.2.9")]
        assert first["values"]["ScheduledStepAttributesSequence"][1]["AccessionNumber"] == "A2"


async def test_an_n_set_that_was_committed_and_not_answered_is_answered_when_it_comes_again_and_counts_once(
    site: Site,
) -> None:
    async with AsyncExitStack() as stack:
        # Given a step that was begun, and an engine that dies with its end committed and not answered
        node = await stack.enter_async_context(Node(site.config, command=CRASHING))
        node.start("--die-after-accepts", "3")
        await node.ready()
        await site.order(1)
        modality = Modality(site.mpps)
        assert (await asyncio.to_thread(modality.create, "1.2.9", created(order(1)))).Status == 0
        assert "Status" not in await asyncio.to_thread(modality.set, "1.2.9", ended())
        assert await node.dies() == -signal.SIGKILL

        # When it is back, and the modality tries again, twice
        node.start()
        await node.ready()
        await stack.enter_async_context(site.ris.up())
        again = [await asyncio.to_thread(modality.set, "1.2.9", ended()) for _ in range(2)]

        # Then it is told that all is well, another end is not taken, and all who wait for it hear of it once
        assert [one.Status for one in again] == [0, 0]
        other = await asyncio.to_thread(modality.set, "1.2.9", ended("DISCONTINUED"))
        assert (other.Status, other.ErrorID) == (0x0110, 0xA710)
        told = await stack.enter_async_context(dicom_npm.receiver(site.pacs))
        await until(lambda: len(told) == 2 and len(site.ris.received) == 2, "both events at RIS and PACS", node)
        await site.comes_to(node)
        assert [one[1] for one in site.told()] == ["IP", "CM"]


async def test_each_refusal_has_the_status_that_the_standard_gives_it(site: Site) -> None:
    async with Node(site.config) as node:
        node.start()
        await node.ready()
        modality = Modality(site.mpps)

        def ask() -> list[Any]:
            return [
                modality.set("1.2.9", ended()),
                modality.create("1.2.9", created(Modality="")),
                modality.create("1.2.9", created(PerformedProcedureStepStatus="COMPLETED")),
                modality.create("1.2.9", created()),
                modality.create("1.2.9", created()),
                modality.create("1.2.9", created(StudyID="7")),
                modality.set("1.2.9", ended(PerformedSeriesSequence=[])),
                modality.set("1.2.9", ended()),
                modality.set("1.2.9", ended()),
                modality.set("1.2.9", ended("DISCONTINUED")),
            ]

        answers = await asyncio.to_thread(ask)
        echo = await asyncio.create_subprocess_exec(require("echoscu", "dcmtk"), "127.0.0.1", str(site.mpps))
        assert await echo.wait() == 0

    assert [one.Status for one in answers] == [
        0x0112, 0x0120, 0x0106, 0x0000, 0x0000, 0x0111, 0x0120, 0x0000, 0x0000, 0x0110,
    ]  # fmt: skip
    assert answers[-1].ErrorID == 0xA710
    assert not any("ErrorID" in one for one in answers[:-1])
    assert "ÉLODIE" not in node.output()


async def test_modality_and_pacs_are_served_over_tls_where_both_sides_show_who_they_are(tmp_path: Path) -> None:
    # Given an engine that knows the certificates of a modality and of a PACS
    for name in ("engine", "ct1", "pacs"):
        certificate(tmp_path, name)

    def tls(own: str, other: str) -> dict[str, str]:
        files = {"certificate": f"{own}.pem", "key": f"{own}.key", "ca": f"{other}.pem"}
        return {setting: str(tmp_path / file) for setting, file in files.items()}

    mpps, pacs = free_port(), free_port()
    channels: dict[str, Any] = {
        "modalities": {"type": "dicom-mpps-in", "listen": f"127.0.0.1:{mpps}", "tls": tls("engine", "ct1")},
        "pacs": {
            "type": "dicom-mpps-out",
            "connect": f"127.0.0.1:{pacs}",
            "called_ae_title": "PACS",
            "tls": tls("engine", "pacs"),
        },
    }
    config = write_site(tmp_path, channels, {"steps": {"from": "modalities", "to": ["pacs"]}})
    async with AsyncExitStack() as stack:
        told = await stack.enter_async_context(dicom_npm.receiver(pacs, **tls("pacs", "engine")))
        node = await stack.enter_async_context(Node(config))
        node.start()
        await node.ready()

        # When the modality tells of its work
        event = ("create", "1.2.9", created(**UTF8))
        (answer,) = await dicom_npm.tell(mpps, event, **tls("ct1", "engine"))

        # Then it is taken and passed on; who shows no certificate gets nowhere
        assert answer["status"] == 0
        await until(lambda: len(told) == 1, "the event at the PACS", node)
        assert "Status" not in await asyncio.to_thread(Modality(mpps).create, "1.2.10", created())
