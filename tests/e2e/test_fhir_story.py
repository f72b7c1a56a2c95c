"""A day at the FHIR facade, told by real ends: RIS and HIS by MLLP, a modality by MPPS (npm's dcmjs-dimse), DCMTK's
findscu at the worklist, and a portal that reads and writes FHIR."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import dicom_npm
from tests.rigs.command import send_with_hl7
from tests.rigs.engine import Node, until, write_site
from tests.rigs.facade import Client
from tests.rigs.modality import worklist
from tests.rigs.performed import created, ended
from tests.rigs.performed import order as scheduled
from tests.rigs.processes import free_port
from tests.rigs.radiology import hl7, merge, order, pid, report, segment, stamped
from tests.rigs.receiver import receiving
from tests.rigs.subscriptions import topical

UTF8 = {"SpecificCharacterSet": "ISO_IR 192"}


@dataclass
class Site:
    config: Path
    ris: int
    his: int
    mpps: int
    dicom: int
    base: str
    hook: int
    """Where the portal is told of what changes."""

    def node(self) -> Node:
        return Node(self.config, roles="receive,deliver,dicom,web")

    async def tell(self, port: int, *messages: bytes) -> None:
        for message in messages:
            assert await send_with_hl7(port, message) == ["AA"]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    ris, his, mpps, dicom, web, hook = (free_port() for _ in range(6))
    channels: dict[str, Any] = {
        "ris-in": {"type": "mllp-in", "listen": f"127.0.0.1:{ris}"},
        "his-in": {"type": "mllp-in", "listen": f"127.0.0.1:{his}", "identity": True},
        "modalities": {"type": "dicom-mpps-in", "listen": f"127.0.0.1:{mpps}"},
        "worklist": {"type": "dicom-worklist", "listen": f"127.0.0.1:{dicom}"},
        "fhir": {"type": "fhir-server", "subscriptions": {"endpoints": [f"http://127.0.0.1:{hook}/*"]}},
    }
    to_worklist = {"message": ["ServiceRequest", "Bundle"]}
    routes = {
        "orders": {"from": "ris-in", "when": {"message": "ORM^O01"}, "to": _to("order")},
        "reports": {"from": "ris-in", "when": {"message": "ORU^R01"}, "to": [{"fhir": "report-to-fhir"}]},
        "patients": {"from": "his-in", "to": _to("adt")},
        "steps": {"from": "modalities", "to": _to("mpps")},
        "requests": {"from": "fhir", "when": to_worklist, "to": [{"worklist": "servicerequest-to-worklist"}]},
    }
    config = write_site(tmp_path, channels, routes, web={"listen": f"127.0.0.1:{web}", "token": "secret-token"})
    yield Site(config, ris, his, mpps, dicom, f"http://127.0.0.1:{web}/fhir", hook)


def _to(kind: str) -> list[dict[str, str]]:
    return [{"worklist": f"{kind}-to-worklist"}, {"fhir": f"{kind}-to-fhir"}]


def admitted(control: str, patient: str) -> bytes:
    event, visit = segment("EVN", {2: "20260105080000"}), segment("PV1", {2: "O", 19: f"V{patient}^^^HOSP"})
    return hl7("ADT^A01", control, event, pid(patient), visit)


def placed(control: str, *steps: int) -> bytes:
    """An order F1 of patient P1, with the numbers that a modality repeats of each of its steps."""
    numbers = {2: "1^RIS", 3: "F1^RIS"}
    orc = segment("ORC", {1: "NW", **numbers, 5: "SC", 7: "^^^20260105093000", 18: "CT1"})
    exams = [
        {1: "1", **numbers, 4: "CTHEAD^CT head^99DEMO", 18: "A1", 19: "R1", 20: f"S{step}", 24: "CT"} for step in steps
    ]
    groups = [line for exam in exams for line in (orc, segment("OBR", exam))]
    return hl7("ORM^O01", control, pid("P1"), *groups, segment("ZDS", {1: "1.2.826.0.1.1^^Application^DICOM"}))


def found(client: Client, search: str) -> list[dict[str, Any]]:
    answer = client.get(search)
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", []) if entry["search"]["mode"] == "match"]


async def comes(client: Client, search: str, node: Node) -> dict[str, Any]:
    """The one resource that a search finds, once it does."""
    await until(lambda: len(found(client, search)) == 1, search, node)
    (one,) = found(client, search)
    return one


async def test_an_order_is_followed_from_its_placing_to_the_signed_report(site: Site, tmp_path: Path) -> None:
    async with site.node() as node, receiving(site.hook) as receiver:
        node.start()
        await node.says("Stop with Ctrl+C")
        with Client(site.base) as portal:
            portal.made(topical("report-final", f"{receiver.url}/hook"))
            await comes(portal, "/Subscription?status=active", node)

            # Given a patient of the HIS and an order of the RIS
            await site.tell(site.his, admitted("A1", "P1"))
            await site.tell(site.ris, placed("O1", 1))

            # Then the portal finds the order by accession, patient, status and date, and the modality sees it
            for search in ("identifier=A1", "subject:Patient.identifier=P1", "status=active", "occurrence=2026-01-05"):
                asked = await comes(portal, f"/ServiceRequest?{search}", node)
            patient = portal.get(f"/{asked['subject']['reference']}").json()
            assert patient["name"][0]["family"] == "TEST1"
            assert await worklist(site.dicom, tmp_path) == {"A1": "202601050930"}

            # When the modality begins and completes the step
            await dicom_npm.tell(site.mpps, ("create", "1.2.9", created(scheduled(1), **UTF8)))
            await comes(portal, "/Procedure?status=in-progress", node)
            await dicom_npm.tell(site.mpps, ("set", "1.2.9", ended(**UTF8)))

            # Then the procedure and the study are there, and the order is done
            await comes(portal, "/Procedure?status=completed", node)
            await comes(portal, "/ServiceRequest?identifier=A1&status=completed", node)
            await comes(portal, "/ImagingStudy?identifier=urn:oid:1.2.826.0.1.1", node)
            assert await worklist(site.dicom, tmp_path) == {}

            # When the report is signed, then it is found from the order and from the patient
            await site.tell(site.ris, report("R1", "P1", 1).data.replace(b"P1^RIS", b"1^RIS"))
            signed = await comes(portal, "/DiagnosticReport?based-on.identifier=A1&status=final", node)
            assert signed["subject"] == asked["subject"]
            assert "as R1 says" in signed["conclusion"]
            await until(lambda: receiver.numbers() == [1], "the notification", node)
            (told,) = receiver.taken()
            assert told.parameters["events"][0]["focus"].endswith(f"DiagnosticReport/{signed['id']}")
            everything = portal.get(f"/{asked['subject']['reference']}/$everything").json()
            kinds = {entry["resource"]["resourceType"] for entry in everything["entry"]}
            assert kinds >= {"Patient", "Encounter", "ServiceRequest", "Procedure", "ImagingStudy", "DiagnosticReport"}


async def test_an_order_of_two_steps_is_done_with_the_second(site: Site) -> None:
    async with site.node() as node:
        node.start()
        await node.says("Stop with Ctrl+C")
        with Client(site.base) as portal:
            await site.tell(site.ris, placed("O1", 1, 2))
            await comes(portal, "/ServiceRequest?identifier=A1&status=active", node)

            async def begin(step: int) -> None:
                of = scheduled(1, ScheduledProcedureStepID=f"S{step}")
                await dicom_npm.tell(site.mpps, ("create", f"1.2.{step}", created(of, **UTF8)))

            await begin(1)
            await dicom_npm.tell(site.mpps, ("set", "1.2.1", ended(**UTF8)))
            await comes(portal, "/Task?status=completed", node)
            assert len(found(portal, "/ServiceRequest?identifier=A1&status=active")) == 1

            await begin(2)
            await dicom_npm.tell(site.mpps, ("set", "1.2.2", ended(**UTF8)))
            await comes(portal, "/ServiceRequest?identifier=A1&status=completed", node)


async def test_a_cancelled_order_is_revoked_and_never_comes_back(site: Site, tmp_path: Path) -> None:
    async with site.node() as node:
        node.start()
        await node.says("Stop with Ctrl+C")
        with Client(site.base) as portal:
            await site.tell(site.ris, order("O1", "P1", 1).data, order("O2", "P1", 1, "CA").data)
            revoked = await comes(portal, "/ServiceRequest?identifier=A1&status=revoked", node)

            # When the same messages come again after a restart, in another second and with other control ids
            node.kill()
            node.start()
            await node.says("Stop with Ctrl+C")
            late = order("O3", "P1", 1).data
            await site.tell(site.ris, stamped(order("O2", "P1", 1, "CA").data, 7), late)
            await site.tell(site.ris, order("O4", "P2", 2).data)
            await comes(portal, "/ServiceRequest?identifier=A2", node)

            # Then nothing was made twice, and nothing was revived
            again = await comes(portal, "/ServiceRequest?identifier=A1", node)
            assert (again["id"], again["status"]) == (revoked["id"], "revoked")
            assert len(found(portal, "/Patient?identifier=P1")) == 1


async def test_eight_writers_of_one_order_at_once_make_one_of_each(site: Site) -> None:
    async with site.node() as node:
        node.start()
        await node.says("Stop with Ctrl+C")
        # Given an order of a patient that nobody knows, told by eight at once, each under a number of its own
        orders = [order(f"O{number}", "P1", 1).data for number in range(8)]
        await asyncio.gather(*(site.tell(site.ris, one) for one in orders))
        await site.tell(site.ris, order("O9", "P2", 2).data)

        with Client(site.base) as portal:
            await comes(portal, "/ServiceRequest?identifier=A2", node)
            assert len(found(portal, "/ServiceRequest?identifier=A1")) == 1
            assert len(found(portal, "/Patient?identifier=P1")) == 1


async def test_a_merge_moves_what_the_retired_patient_had(site: Site) -> None:
    async with site.node() as node:
        node.start()
        await node.says("Stop with Ctrl+C")
        with Client(site.base) as portal:
            await site.tell(site.his, admitted("A1", "P1"), admitted("A2", "P2"))
            await site.tell(site.ris, order("O1", "P2", 1).data)
            await comes(portal, "/ServiceRequest?identifier=A1", node)

            # When P2 turns out to be P1, and the RIS still says P2
            await site.tell(site.his, merge("M1", "P1", "P2").data)
            await comes(portal, "/Patient?identifier=P2&active=false", node)
            (survivor,) = found(portal, "/Patient?identifier=P1")
            await site.tell(site.ris, report("R1", "P2", 1).data)

            # Then the report is the survivor's, and the retired number is not revived
            signed = await comes(portal, "/DiagnosticReport?status=final", node)
            assert signed["subject"]["reference"] == f"Patient/{survivor['id']}"
            (retired,) = found(portal, "/Patient?identifier=P2")
            assert retired["link"] == [{"other": {"reference": f"Patient/{survivor['id']}"}, "type": "replaced-by"}]


async def test_what_the_portal_orders_is_on_the_worklist(site: Site, tmp_path: Path) -> None:
    async with site.node() as node:
        node.start()
        await node.says("Stop with Ctrl+C")
        with Client(site.base) as portal:
            await site.tell(site.his, admitted("A1", "P1"))
            patient = await comes(portal, "/Patient?identifier=P1", node)
            request = {
                "resourceType": "ServiceRequest",
                "identifier": [
                    _number("PLAC", "placer", "HIS", "X7"),
                    _number("ACSN", "accession", "RIS", "A7"),
                ],
                "status": "active",
                "intent": "order",
                "category": [_concept("http://dicom.nema.org/resources/ontology/DCM", "CT")],
                "code": _concept("urn:example:procedures", "CTHEAD", "CT head"),
                "subject": {"reference": f"Patient/{patient['id']}"},
                "occurrenceDateTime": "2026-01-05T10:15:00+01:00",
            }
            placed = portal.made(request)
            assert await listed(site, tmp_path, {"A7": "202601051015"})

            # When it is revoked, then it leaves
            revoked = portal.write("PUT", f"/ServiceRequest/{placed['id']}", {**placed, "status": "revoked"})
            assert revoked.status_code == 200, revoked.text
            assert await listed(site, tmp_path, {})


async def listed(site: Site, folder: Path, wanted: dict[str, str]) -> bool:
    """Whether the modality comes to see exactly this."""
    for _ in range(100):
        if await worklist(site.dicom, folder) == wanted:
            return True
        await asyncio.sleep(0.1)
    return False


def _number(kind: str, form: str, authority: str, value: str) -> dict[str, Any]:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": kind}
    return {"type": {"coding": [coding]}, "system": f"urn:radbridge:demo-hospital:{authority}", "value": value}


def _concept(system: str, code: str, display: str = "") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, **({"display": display} if display else {})}]}
