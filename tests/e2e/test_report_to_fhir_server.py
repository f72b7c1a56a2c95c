"""The life of a report, from ORU^R01 through ``report-to-fhir`` and ``fhir-out`` to a third-party FHIR server."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bridge.codecs.hl7v2 import parse
from bridge.mapping.compile import CompiledMapping, compile_all
from bridge.message import Delivery
from bridge.ports import Outgoing, Services, channel_type
from tests.rigs.fhir_server import FhirServer, fhir_server, fhir_server_process
from tests.rigs.need import REPOSITORY

__all__ = ["fhir_server", "fhir_server_process"]

MAPPINGS = REPOSITORY / "mappings"
SAMPLES = sorted(path.name for path in (MAPPINGS / "samples").glob("oru_*.hl7"))
SITE = {"site": {"name": "demo-hospital", "timezone": "Europe/Paris"}}
Send = Callable[[bytes | str], Awaitable[str]]


@pytest.fixture(scope="module")
def mapping() -> CompiledMapping:
    files = [MAPPINGS / "report-to-fhir.yaml", *sorted((MAPPINGS / "tables").glob("*.csv"))]
    return compile_all({str(file.relative_to(MAPPINGS)): file.read_text("utf-8") for file in files}).mappings[
        "report-to-fhir"
    ]


def sample(name: str) -> bytes:
    return (MAPPINGS / "samples" / name).read_bytes()


def resent(raw: bytes) -> bytes:
    """The message as an interface that starts anew sends it again: another time and control id."""
    fields = raw.split(b"|")
    fields[6], fields[9] = b"20270101000000", b"ANOTHER-1"
    return b"|".join(fields)


@pytest.fixture
async def send(fhir_server: FhirServer, mapping: CompiledMapping) -> AsyncIterator[Send]:
    """Render and send a message, given as bytes or by the name of its sample."""
    kind = channel_type("fhir-out")
    settings = kind.settings(type="fhir-out", base_url=fhir_server.base_url, max_entries=8)
    out = kind.build(settings, Services(name="his-fhir", site=None))
    delivery = Delivery("d1", "m1", 20260106, "reports", "his-fhir", "report-to-fhir", "r1", ("patient:P1001",))

    async def bring(message: bytes | str) -> str:
        rendered = mapping.render(parse(sample(message) if isinstance(message, str) else message), SITE)
        answer = await out.send(Outgoing(rendered.data, delivery, rendered.control_id, rendered.format))
        return answer.summary

    yield bring
    await out.close()


def text_of(report: dict[str, Any]) -> str:
    return base64.b64decode(report["presentedForm"][0]["data"]).decode()


@pytest.mark.parametrize("name", SAMPLES)
async def test_every_kind_of_report_is_valid_for_the_server_and_sent_again_changes_nothing(
    fhir_server: FhirServer, send: Send, name: str
) -> None:
    await send(name)
    state, history = fhir_server.state(), fhir_server.history()

    answer = await send(resent(sample(name)))

    assert state["Patient"]
    assert answer.startswith("nothing to write")
    assert (fhir_server.state(), fhir_server.history()) == (state, history)


async def test_a_report_grows_up_and_what_comes_late_changes_nothing(fhir_server: FhirServer, send: Send) -> None:
    await send("oru_preliminary.hl7")
    assert fhir_server.one("DiagnosticReport")["status"] == "preliminary"

    await send("oru_final.hl7")
    final = fhir_server.state()
    assert fhir_server.one("DiagnosticReport")["status"] == "final"
    await send(resent(sample("oru_preliminary.hl7")))
    assert fhir_server.state() == final

    await send("oru_corrected.hl7")
    corrected = fhir_server.state()
    report = fhir_server.one("DiagnosticReport")
    assert report["status"] == "corrected" and "on the right" in text_of(report)
    await send(resent(sample("oru_final.hl7")))
    await send(resent(sample("oru_preliminary.hl7")))
    assert fhir_server.state() == corrected

    assert {
        len(fhir_server.all(kind)) for kind in ("Patient", "ServiceRequest", "ImagingStudy", "DiagnosticReport")
    } == {1}
    assert len(fhir_server.all("Observation")) == 2


async def test_a_report_that_is_signed_without_being_sent_again_keeps_its_text(
    fhir_server: FhirServer, send: Send
) -> None:
    await send("oru_preliminary.hl7")

    await send("oru_signed_without_text.hl7")

    report, observation = fhir_server.one("DiagnosticReport"), fhir_server.one("Observation")
    assert report["status"] == "final" and "No bleeding" in text_of(report)
    assert observation["status"] == "final" and observation["valueQuantity"]["value"] == 12


@pytest.mark.parametrize(
    ("name", "status"), [("oru_wrong_patient.hl7", "entered-in-error"), ("oru_cancelled.hl7", "cancelled")]
)
async def test_a_withdrawn_report_leaves_no_text_and_no_finding_in_force(
    fhir_server: FhirServer, send: Send, name: str, status: str
) -> None:
    await send("oru_final.hl7")

    await send(name)

    report = fhir_server.one("DiagnosticReport")
    assert report["status"] == status
    assert "presentedForm" not in report and "conclusion" not in report
    assert {one["status"] for one in fhir_server.all("Observation")} == {"entered-in-error"}


async def test_a_finding_that_a_correction_drops_is_withdrawn(fhir_server: FhirServer, send: Send) -> None:
    await send("oru_final.hl7")
    shorter = b"\r".join(line for line in sample("oru_corrected.hl7").split(b"\r") if b"|SIDE^" not in line)

    await send(shorter)

    statuses = {one["code"]["coding"][0]["code"]: one["status"] for one in fhir_server.all("Observation")}
    assert statuses == {"LESION-SIZE": "corrected", "SIDE": "entered-in-error"}


async def test_an_ai_result_never_overwrites_a_signed_report_nor_its_findings(
    fhir_server: FhirServer, send: Send
) -> None:
    await send("oru_final.hl7")
    signed = fhir_server.state()

    await send("oru_ai.hl7")

    state = fhir_server.state()
    labelled = {id: one for id, one in state["Observation"].items() if id not in signed["Observation"]}
    assert len(labelled) == 3 and all(one["note"] for one in labelled.values())
    assert state["DiagnosticReport"] == signed["DiagnosticReport"]
    assert {id: state["Observation"][id] for id in signed["Observation"]} == signed["Observation"]


async def test_an_order_that_the_hospital_placed_is_found_and_keeps_its_status(
    fhir_server: FhirServer, send: Send
) -> None:
    order = fhir_server.post(
        {
            "resourceType": "ServiceRequest",
            "identifier": [{"system": "urn:radbridge:demo-hospital:RIS", "value": "PL1001"}],
            "status": "on-hold",
            "intent": "order",
            "subject": {"display": "TESTPATIENT"},
        }
    )

    await send("oru_final.hl7")

    assert fhir_server.one("ServiceRequest") == order
    assert fhir_server.one("DiagnosticReport")["basedOn"] == [{"reference": f"ServiceRequest/{order['id']}"}]
