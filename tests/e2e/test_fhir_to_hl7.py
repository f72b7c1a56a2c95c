"""What clients write to the facade, on its way to who speaks HL7, and to the worklist."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.app import Node
from bridge.codecs.hl7v2 import Hl7Message, parse
from bridge.engine.operations import ReplayRequest
from bridge.store.search import MessageFilter
from tests.rigs.facade import Client
from tests.rigs.site import eventually, running
from tests.rigs.worklist import query

U = "urn:radbridge:demo-hospital:"
ORDERS = {"message": "ServiceRequest", "ServiceRequest.intent": "order"}
Json = dict[str, Any]


class Hospital:
    """A running node, a client of its facade, and the messages that left."""

    def __init__(self, node: Node, client: Client, folder: Path) -> None:
        self.node, self.client, self.folder = node, client, folder

    async def write(self, method: str, path: str, body: Json) -> Json:
        response = await asyncio.to_thread(self.client.write, method, path, body)
        assert response.status_code in (200, 201), response.text
        made: Json = response.json()
        return made

    async def made(self, resource: Json) -> Json:
        return await self.write("POST", f"/{resource['resourceType']}", resource)

    def listed(self) -> list[tuple[str, str, str]]:
        """Accession number, date and time of what a modality may see."""
        found = []
        for item in self.node.store.worklist.find(query()):
            (step,) = item.attributes["ScheduledProcedureStepSequence"]
            when = (step["ScheduledProcedureStepStartDate"], step["ScheduledProcedureStepStartTime"])
            found.append((item.attributes["AccessionNumber"], *when))
        return found

    async def left(self, count: int) -> list[Hl7Message]:
        """The messages that left, in their sequence, once there are ``count``."""
        await eventually(lambda: len(list(self.folder.glob("*.hl7"))) >= count)
        found = [parse(path.read_bytes()) for path in sorted(self.folder.glob("*.hl7"))]
        assert len(found) == count
        return found


@asynccontextmanager
async def hospital(folder: Path) -> AsyncIterator[Hospital]:
    out = folder / "out"
    out.mkdir()
    channels = {
        "fhir": {"type": "fhir-server", "listen": "127.0.0.1:0"},
        "files": {"type": "file-out", "folder": str(out), "name": "{position}-{delivery}.hl7"},
        "worklist": {"type": "dicom-worklist", "listen": "127.0.0.1:0", "ae_title": "RADBRIDGE"},
    }
    orders = [{"files": "servicerequest-to-orm"}, {"worklist": "servicerequest-to-worklist"}]
    bookings = [{"worklist": "appointment-to-worklist"}]
    routes = {
        "orders": {"from": "fhir", "when": ORDERS, "to": orders},
        "bookings": {"from": "fhir", "when": {"message": "Appointment"}, "to": bookings},
        "reports": {"from": "fhir", "when": {"report": "final"}, "to": [{"files": "diagnosticreport-to-oru"}]},
    }
    async with running(folder, channels, routes, "web") as node:
        with Client(node.runtime.endpoints()["fhir"]) as client:
            yield Hospital(node, client, out)


def patient(number: str) -> Json:
    numbers = [{"system": f"{U}DEMO", "value": number}]
    return {"resourceType": "Patient", "identifier": numbers, "name": [{"use": "official", "family": "TESTPATIENT"}]}


def order(number: str, subject: str, **more: Any) -> Json:
    return {
        "resourceType": "ServiceRequest",
        "identifier": [
            {"type": {"coding": [{"code": "PLAC"}]}, "system": f"{U}HIS", "value": number},
            {"type": {"coding": [{"code": "ACSN"}]}, "system": f"{U}accession", "value": f"A{number}"},
        ],
        "status": "active",
        "intent": "order",
        "code": {"coding": [{"system": "http://loinc.org", "code": "24725-4", "display": "CT Head"}]},
        "subject": {"reference": subject},
        "authoredOn": "2026-01-05T08:00:00+01:00",
        **more,
    }


async def test_an_order_of_one_resource_leaves_with_its_patient_and_every_change_follows(tmp_path: Path) -> None:
    """Given a patient who is known, an order that only refers to her, its appointment, and its end."""
    async with hospital(tmp_path) as his:
        who = f"Patient/{(await his.made(patient('P1')))['id']}"
        made = await his.made(order("PL1", who))
        await his.left(1)
        booked = {"status": "accepted", "actor": {"reference": who}}
        this = [{"reference": f"ServiceRequest/{made['id']}"}]
        times = {"start": "2026-01-06T09:45:00+01:00", "end": "2026-01-06T10:15:00+01:00"}
        await his.made(
            {"resourceType": "Appointment", "status": "booked", "basedOn": this, "participant": [booked], **times}
            | {"identifier": [{"system": "urn:his:bookings", "value": "AP1"}]}
        )

        for status in ("active", "on-hold", "active", "revoked"):
            await his.write(
                "PUT", f"/ServiceRequest/{made['id']}", {**made, "status": status, "note": [{"text": status}]}
            )

        left = await his.left(5)
        assert [one.get("ORC-1") for one in left] == ["NW", "XO", "HD", "XO", "CA"]
        assert [one.get("ORC-7.4") for one in left] == ["", *["20260106094500"] * 4]
        assert {one.get("PID-3") for one in left} == {"P1^^^DEMO"}
        assert {one.get("PID-5.1") for one in left} == {"TESTPATIENT"}
        assert len({one.get("MSH-10") for one in left}) == 5


async def test_an_order_is_on_the_worklist_when_it_is_booked_and_off_it_when_it_is_revoked(tmp_path: Path) -> None:
    async with hospital(tmp_path) as his:
        who = f"Patient/{(await his.made(patient('P4')))['id']}"
        made = await his.made(order("PL4", who))
        await eventually(lambda: his.listed() == [("APL4", "20260105", "080000")])
        booked = {"status": "accepted", "actor": {"reference": who}}
        this = [{"reference": f"ServiceRequest/{made['id']}"}]
        times = {"start": "2026-01-06T09:45:00+01:00", "end": "2026-01-06T10:15:00+01:00"}

        await his.made(
            {"resourceType": "Appointment", "status": "booked", "basedOn": this, "participant": [booked], **times}
            | {"identifier": [{"system": "urn:his:bookings", "value": "AP1"}]}
        )
        await eventually(lambda: his.listed() == [("APL4", "20260106", "094500")])

        await his.write("PUT", f"/ServiceRequest/{made['id']}", {**made, "status": "revoked"})
        await eventually(lambda: his.listed() == [])


async def test_a_replay_sends_the_patient_as_she_is_known_now_and_what_left_stays_as_it_left(tmp_path: Path) -> None:
    async with hospital(tmp_path) as his:
        who = await his.made(patient("P2"))
        await his.made(order("PL2", f"Patient/{who['id']}"))
        (first,) = await his.left(1)
        await his.write("PUT", f"/Patient/{who['id']}", {**who, "name": [{"family": "TESTMARRIED"}]})

        (sent,) = his.node.store.messages(MessageFilter(order_number="placer:PL2^HIS"))
        (preview,) = his.node.operations.preview(
            ReplayRequest(messages=(sent["id"],), destinations=("files",)), actor="test"
        )

        assert (sent["patient"], first.get("PID-5.1")) == ("P2^DEMO", "TESTPATIENT")
        assert parse(preview.data).get("PID-5.1") == "TESTMARRIED"
        assert parse(preview.data).get("MSH-10") == first.get("MSH-10")


async def test_a_report_leaves_when_it_is_final_with_what_it_stands_on(tmp_path: Path) -> None:
    async with hospital(tmp_path) as his:
        who = f"Patient/{(await his.made(patient('P3')))['id']}"
        based = await his.made(order("PL3", who, intent="plan"))
        code = {"coding": [{"system": "http://loinc.org", "code": "21889-1", "display": "Size of lesion"}]}
        size = {"value": 12, "unit": "mm"}
        found = await his.made(
            {
                "resourceType": "Observation",
                "status": "final",
                "code": code,
                "subject": {"reference": who},
                "valueQuantity": size,
            }
        )
        report = {
            "resourceType": "DiagnosticReport",
            "status": "preliminary",
            "code": based["code"],
            "subject": {"reference": who},
            "basedOn": [{"reference": f"ServiceRequest/{based['id']}"}],
            "result": [{"reference": f"Observation/{found['id']}"}],
            "issued": "2026-01-06T11:00:00+01:00",
        }
        made = await his.made(report)
        await his.write("PUT", f"/DiagnosticReport/{made['id']}", {**made, "status": "final", "conclusion": "Normal."})

        (left,) = await his.left(1)
        assert left.get("OBR-25") == "F"
        assert [left.get("PID-3"), left.get("OBR-2"), left.get("OBR-18")] == ["P3^^^DEMO", "PL3^HIS", "APL3"]
        assert left.all("OBX-5") == ["Normal.", "12"]
